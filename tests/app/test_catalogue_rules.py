"""The catalogue's path rules under the AppLocker engine: each opens its own canaries, and little else."""

from __future__ import annotations

import pytest

from agent.catalogue import Machine, Pattern, canary_paths, load
from app.applocker.evaluate import CompiledPolicy, compile_policy
from app.applocker.model import STANDARD_USER, File, Verdict
from app.applocker.read import parse_policy
from app.applocker.suggest import path_rule

WORKSTATION = Machine(
    env={
        "USERPROFILE": r"C:\Users\jdoe",
        "LOCALAPPDATA": r"C:\Users\jdoe\AppData\Local",
        "APPDATA": r"C:\Users\jdoe\AppData\Roaming",
        "TMP": r"C:\Users\jdoe\AppData\Local\Temp",
    },
    project_roots=(r"C:\src",),
)
PATTERNS = [pattern for pattern in load().patterns if pattern.probe.canary]
FOREIGN = [
    r"C:\Users\jdoe\Downloads\setup.exe",
    r"C:\Users\jdoe\AppData\Local\Temp\setup.exe",
    r"C:\Users\jdoe\AppData\Local\Microsoft\Teams\current\Teams.exe",
    r"C:\Users\jdoe\AppData\Local\uv\evil.exe",
    r"C:\Users\jdoe\AppData\Roaming\evil.exe",
    r"C:\src\evil.exe",
    r"D:\evil.exe",
]


def _policy(rules: list[str], kind: str) -> CompiledPolicy:
    written = "".join(
        f'<FilePathRule Id="00000000-0000-4000-8000-{number:012}" Name="uv" Description="" UserOrGroupSid="S-1-1-0" '
        f'Action="Allow"><Conditions><FilePathCondition Path="{rule}"/></Conditions></FilePathRule>'
        for number, rule in enumerate(rules)
    )
    text = (
        f'<AppLockerPolicy Version="1"><RuleCollection Type="{kind}" EnforcementMode="Enabled">{written}'
        "</RuleCollection>"
        "</AppLockerPolicy>"
    )
    return compile_policy(parse_policy(text))


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.id)
def test_a_pattern_s_rules_admit_its_canaries_alone(pattern: Pattern) -> None:
    project = [rule.replace("<project>", r"C:\src") for rule in pattern.project_paths]
    for rules in (list(pattern.applocker_paths), project):
        if not rules:
            continue
        collection = "Exe" if "Exe" in pattern.collections else pattern.collections[0]
        policy = _policy(rules, collection)
        places = canary_paths(pattern, WORKSTATION, "abc")
        assert places
        for place in places:
            assert policy.decide(File(path=place), STANDARD_USER, collection).verdict is Verdict.ALLOWED, (place, rules)
            assert policy.decide(File(path=place.upper()), STANDARD_USER, collection).verdict is Verdict.ALLOWED
        for path in FOREIGN:
            assert policy.decide(File(path=path), STANDARD_USER, collection).verdict is Verdict.DENIED_BY_DEFAULT, (
                path,
                rules,
            )


def test_every_path_of_the_catalogue_makes_a_rule() -> None:
    for pattern in load().patterns:
        for path in pattern.applocker_paths:
            for collection in pattern.collections:
                path_rule(collection, path, name=pattern.title, risk=pattern.risk)
