r"""Where folders really are decides what rules reach: a profile on a share is not below `%OSDRIVE%\Users`."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from agent.catalogue import Machine, load, roots
from agent.contract.facts import (
    CollectionInForce,
    EnvironmentSet,
    Method,
    Outcome,
    PolicySet,
    Probe,
    ProbeSet,
    Specimen,
    TokenSet,
)
from agent.contract.facts import Engine as Blocker
from agent.discover import Discovery
from agent.report import build_environment
from agent.where import DriveKind, Opened
from app.applocker.evaluate import compile_policy
from app.applocker.model import STANDARD_USER, Collection, Policy, Verdict
from app.applocker.read import parse_policy
from app.audit.record import Actor
from app.db.session import session_scope
from app.fleet.tables import Subject
from app.policies.base_policies import Origin, add_base_policy
from app.policies.coverage import TYPICAL_ENVIRONMENT
from app.policies.drafts import Draft, build_draft
from app.policies.export import plan_export
from app.policies.profiles import read_profiles, read_told
from app.policies.queries_rule_sets import RuleSet, get_rule_set
from app.policies.roots import UNKNOWN_PLACE, file_at, machine_at, on_disk, places_of
from app.policies.rule_sets import Group, add_to_rule_set, choose_for_item, set_terms
from app.policies.simulate import CATEGORIES, Simulator, categories, simulate
from app.policies.whatif import simulate_export
from tests.app.policies import naive_simulation as naive

ADA = Actor(kind="account", name="ada@example.com")
SID = "S-1-5-21-1004336348-1177238915-682003330-1234"
BUILD = "cache-builds-venv-python"
TEMP_BUILD = "temp-build-env-python"
EVERYBODY = "S-1-1-0"
USUAL = {
    "cache": r"%OSDRIVE%\Users\*\AppData\Local\uv\cache",
    "data": r"%OSDRIVE%\Users\*\AppData\Roaming\uv",
    "home": r"%OSDRIVE%\Users\*",
    "python": r"%OSDRIVE%\Users\*\AppData\Roaming\uv\python",
    "python_bin": r"%OSDRIVE%\Users\*\.local\bin",
    "temp": r"%OSDRIVE%\Users\*\AppData\Local\Temp",
    "tool_bin": r"%OSDRIVE%\Users\*\.local\bin",
    "tools": r"%OSDRIVE%\Users\*\AppData\Roaming\uv\tools",
}


def beginning(with_: str) -> dict[str, str]:
    """All roots of a profile that lies elsewhere."""
    return {name: text.replace(USUAL["home"], with_) for name, text in USUAL.items()}


SHARE = beginning("\\\\*\\*\\*")
VOLUME = beginning("\\\\?\\Volume{*}")
STICK = beginning("%HOT%\\*")
DISC = beginning("%REMOVABLE%\\*")
DRIVE = beginning(r"D:\Users\*")
PACKAGED = USUAL | {"cache": r"%OSDRIVE%\Users\*\AppData\Local\*\*\*\Local\uv\cache"}
MOVED_CACHE = USUAL | {"cache": r"D:\*\uv\cache"}
ELSEWHERE = (SHARE, VOLUME, STICK, DISC, DRIVE, PACKAGED, MOVED_CACHE)


def environment(told: dict[str, str]) -> EnvironmentSet:
    return EnvironmentSet(roots=told)


def allows(path: str, told: dict[str, str], place: str) -> bool:
    """Whether one Allow rule for everybody admits a file of the place's folder, where a report says that it is."""
    rule = (
        '<FilePathRule Id="00000000-0000-4000-8000-000000000001" Name="x" Description="" UserOrGroupSid="S-1-1-0" '
        f'Action="Allow"><Conditions><FilePathCondition Path="{path}"/></Conditions></FilePathRule>'
    )
    policy = parse_policy(f'<RuleCollection Type="Exe" EnforcementMode="Enabled">{rule}</RuleCollection>')
    where = roots(machine_at(places_of({"roots": told})))[place]
    return compile_policy(policy).decide(file_at(where + "\\x.exe"), STANDARD_USER, "Exe").verdict is Verdict.ALLOWED


def test_the_usual_places_are_nothing_of_their_own() -> None:
    """So that users of usual machines are one kind, whatever their agents tell."""
    answers = {"cache_dir": r"%LOCALAPPDATA%\uv\cache", "tool_bin_dir": r"%USERPROFILE%\.local\bin"}
    assert places_of({"roots": USUAL}) == places_of({"roots": USUAL, "answers": answers}) == places_of({}) == ()
    upper = {name: text.upper() for name, text in USUAL.items()}
    assert places_of({"roots": upper}) == ()


@pytest.mark.parametrize("place", ["cache", "temp", "python", "home", "tool_bin", "data"])
def test_a_rule_reaches_a_folder_where_it_really_is(place: str) -> None:
    users = r"%OSDRIVE%\Users\*"
    assert allows(users, USUAL, place)
    for told in (SHARE, VOLUME, STICK, DISC, DRIVE):
        assert not allows(users, told, place), told
        assert allows("*", told, place), told
    assert allows(r"D:\Users\*", DRIVE, place)
    assert allows(r"%HOT%\*", STICK, place)
    assert allows(r"%REMOVABLE%\*", DISC, place)
    assert not allows(r"%HOT%\*", DISC, place)
    assert not allows(r"%OSDRIVE%\*", VOLUME, place)


def test_one_folder_elsewhere_moves_no_other() -> None:
    assert not allows(r"%OSDRIVE%\Users\*", MOVED_CACHE, "cache")
    assert all(allows(r"%OSDRIVE%\Users\*", MOVED_CACHE, place) for place in ("temp", "python", "home"))
    # A package sees a copy of its own of AppData; a rule for uv's folder does not reach it, one for all of it does.
    assert not allows(r"%OSDRIVE%\Users\*\AppData\Local\uv\cache\*", PACKAGED, "cache")
    assert allows(r"%OSDRIVE%\Users\*\AppData\Local\*", PACKAGED, "cache")
    assert machine_at(places_of({"roots": PACKAGED})).env["LOCALAPPDATA"] == TYPICAL_ENVIRONMENT["LOCALAPPDATA"]


def test_uvs_answers_count_where_no_root_was_told() -> None:
    answers = {"cache_dir": r"D:\*\uv", "python_dir": r"%OSDRIVE%\uv\python", "tool_dir": r"%APPDATA%\uv\tools"}
    assert dict(places_of({"answers": answers})) == {"cache_dir": r"D:\x\uv", "python_dir": r"C:\uv\python"}
    told = places_of({"answers": answers, "roots": {"cache": r"E:\uv"}})
    assert dict(told)["cache_dir"] == r"E:\uv"


@pytest.mark.parametrize(
    "told",
    [
        "",
        "*",
        "(relative)",
        "C:",
        "CC:\\x",
        r"%NOTHING%\uv",
        r"%OSDRIVE%\Users\..\Windows",
        "%OSDRIVE%\\Users\\\x00",
        "%OSDRIVE%\\" + "x" * 5000,
        r"C:\Users\a|b",
        r"C:\a\%WINDIR%\b",
        r"\\",
        "\\\\\\",
        r"\\server",
        r"\\?\C:\Users\a",
        r"\\.\C:\Users\a",
        "\\\\?\\Volume{*}..\\Users",
    ],
)
def test_what_is_not_understood_is_reached_by_no_folders_rule(told: str) -> None:
    """A report that says nonsense may make a place look closed, never open."""
    for path in (r"%OSDRIVE%\Users\*", r"%WINDIR%\*", r"%PROGRAMFILES%\*"):
        for place in ("cache", "home", "temp", "python"):
            assert not allows(path, USUAL | {place: told}, place)


@pytest.mark.parametrize(
    "value", [{"roots": None}, {"roots": []}, {"roots": {"cache": 1}, "answers": "x"}, {"answers": {"cache_dir": []}}]
)
def test_a_hostile_shape_is_as_nothing(value: dict[str, Any]) -> None:
    assert places_of(value) == ()


def test_other_systems_have_no_windows_places() -> None:
    assert places_of({"roots": {"cache": "/var/cache/uv", "home": "%HOME%"}}) == ()


def test_what_agents_tell_is_understood() -> None:
    """Each kind of place, from Windows' answer through the agent's report to what a rule reaches."""
    machine = Machine(env={**TYPICAL_ENVIRONMENT, "SYSTEMDRIVE": "C:"})
    volume = "\\\\?\\Volume{11111111-0000-0000-0000-000000000000}\\"

    def told(opened: Callable[[str], Opened]) -> dict[str, str]:
        return dict(build_environment(Discovery(uvs=(), machine=machine), {}, open_place=opened).roots)

    here = told(lambda path: Opened(dos=f"\\\\?\\{path}", guid=volume + path[3:], drive_guid=volume))
    assert here == USUAL
    mounted = told(lambda path: Opened(dos=f"\\\\?\\{path}", guid=volume + path[16:], drive_guid=volume[:-2] + "9}\\"))
    share = told(lambda path: Opened(dos=f"\\\\?\\UNC\\nas\\home$\\{path[9:]}", kind=DriveKind.REMOTE))
    stick = told(lambda path: Opened(dos=f"\\\\?\\E:{path[2:]}", kind=DriveKind.REMOVABLE))
    for elsewhere in (mounted, share, stick):
        for place in elsewhere:
            assert on_disk(elsewhere[place]) != UNKNOWN_PLACE
            assert not allows(r"%OSDRIVE%\Users\*", elsewhere, place)


def rule(number: int, path: str, *, action: str = "Allow", sid: str = EVERYBODY) -> str:
    return (
        f'<FilePathRule Action="{action}" Description="" Id="00000000-0000-4000-8000-{number:012d}" Name="r{number}" '
        f'UserOrGroupSid="{sid}"><Conditions><FilePathCondition Path="{path}"/></Conditions></FilePathRule>'
    )


def in_force(*rules: str) -> PolicySet:
    return PolicySet(collections={"Exe": CollectionInForce(mode="Enabled", rules=(rule(1, "%WINDIR%\\*"), *rules))})


def blocked(*patterns: str) -> ProbeSet:
    return ProbeSet(
        catalogue=load().etag,
        probes=tuple(
            Probe(
                pattern=pattern,
                specimen=Specimen.CANARY,
                method=Method.START,
                outcome=Outcome.BLOCKED,
                engine=Blocker.APPLOCKER,
                error=1260,
                collection="Exe",
            )
            for pattern in patterns
        ),
    )


def drafted(session: Session, base: str, *patterns: str, kinds: dict[str, str] | None = None) -> tuple[RuleSet, Draft]:
    added = add_to_rule_set(session, patterns=patterns, actor=ADA)
    row = add_base_policy(session, base.encode(), name="base", origin=Origin.GPO, actor=ADA)
    set_terms(session, added.rule_set_id, base_id=row.id, groups=[Group(sid=SID, name="Devs")], actor=ADA)
    for pattern, kind in (kinds or {}).items():
        choose_for_item(session, added.rule_set_id, pattern, kind=kind, actor=ADA)
    rule_set = get_rule_set(session, added.rule_set_id)
    return rule_set, build_draft(rule_set, ())


def test_a_simulation_opens_nothing_in_a_profile_elsewhere(
    database: Engine, base_policy: str, make_fleet: type
) -> None:
    with session_scope(database) as session:
        fleet = make_fleet(session)
        for told in (USUAL, USUAL, *ELSEWHERE):
            fleet.add(in_force(), blocked(BUILD), TokenSet(sids=(SID,)), environment=environment(told))
        fleet.add(in_force(), blocked(BUILD), TokenSet(sids=(SID,)))
        rule_set, draft = drafted(session, base_policy, BUILD)
        found = simulate(session, rule_set, draft)
    line = next(one for one in found.patterns if one.pattern == BUILD)
    assert (line.newly, line.still) == (3, len(ELSEWHERE))
    assert line.closed_by == (("no rule matches", len(ELSEWHERE)),)
    assert found.base == 3 + len(ELSEWHERE)


def test_a_simulation_with_places_says_what_the_naive_way_says(
    database: Engine, base_policy: str, make_fleet: type
) -> None:
    """Random policies over random places, user by user, pattern by pattern."""
    chance = random.Random(11)
    catalogue = load()
    executed = [one.id for one in catalogue.patterns if one.is_executed and one.collections]
    begins = ("%OSDRIVE%\\Users\\*", "D:\\*", "%HOT%\\*", "%REMOVABLE%\\*", "*\\uv\\*", "\\\\*\\uv\\*", "*")
    paths = [path for one in catalogue.patterns for path in one.applocker_paths if not path.startswith("<")]
    with session_scope(database) as session:
        fleet = make_fleet(session)
        for number in range(40):
            mixed = {name: chance.choice((USUAL, *ELSEWHERE))[name] for name in USUAL}
            told = chance.choice((*ELSEWHERE, mixed, mixed))
            answers = {"cache_dir": r"%LOCALAPPDATA%\uv\cache"} if chance.random() < 0.5 else {}
            rules = [
                rule(
                    100 * number + place,
                    chance.choice([*begins, *chance.sample(paths, 3)]),
                    action=chance.choice(["Allow", "Allow", "Deny"]),
                )
                for place in range(2, chance.randrange(3, 6))
            ]
            fleet.add(
                in_force(*rules),
                blocked(*chance.sample(executed, 25)),
                TokenSet(sids=tuple(chance.sample([SID], chance.randrange(2)))),
                environment=EnvironmentSet(roots=told, answers=answers),
            )
        kinds = {BUILD: "path", "venv-python": "path"}
        rule_set, draft = drafted(session, base_policy, BUILD, "venv-python", "uv-exe-standalone", kinds=kinds)
        simulator = Simulator(session, rule_set, draft)
        seen = set()
        for subject in session.scalars(select(Subject)):
            slow = naive.judge_naively(session, subject, rule_set, draft)
            assert slow
            (profile,) = read_profiles(session, simulator.named, subject_ids=[subject.id])
            told_by = read_told(session, [profile.probes_id], catalogue)[profile.probes_id]
            where = simulator.places[profile.environment_id]
            found = simulator.masks_of(profile.policy_id or 0, profile.sids, profile.deny_only, where)
            assert found is not None
            quick = {
                pattern.id: category
                for place, pattern in enumerate(catalogue.patterns)
                for category, mask in zip(CATEGORIES, categories(found[0], told_by), strict=True)
                if mask >> place & 1
            }
            assert quick == slow, where
            seen |= set(slow.values())
    assert seen >= {"newly", "still", "unexplained"}


def test_an_export_opens_nothing_in_a_profile_elsewhere(
    database: Engine, base_policy: str, make_fleet: type, developers: str
) -> None:
    with session_scope(database) as session:
        fleet = make_fleet(session)
        export = plan_export([f"{BUILD}=path"], developers)
        for told in (USUAL, *ELSEWHERE):
            fleet.add(in_force(), environment=environment(told))
        fleet.add(in_force(rule(7, r"D:\*")), environment=environment(DRIVE))
        (line,) = simulate_export(session, export).patterns
    assert (line.open_already, line.newly_open, line.still_closed) == (1, 1, len(ELSEWHERE))


def test_an_export_that_moves_a_folder_is_judged_where_it_moves_it(
    database: Engine, make_fleet: type, developers: str
) -> None:
    with session_scope(database) as session:
        fleet = make_fleet(session)
        moved = {"python": r"%PROGRAMFILES%\uv\python"}
        export = plan_export(["managed-python-exe=path"], developers, roots=moved)
        for told in (USUAL, SHARE, DRIVE):
            fleet.add(in_force(), environment=environment(told))
        (line,) = simulate_export(session, export).patterns
    assert (line.newly_open, line.still_closed) == (3, 0)


def test_a_policy_without_rules_is_open_anywhere() -> None:
    compiled = compile_policy(Policy(collections=(Collection(type="Exe"),)))
    for told in ELSEWHERE:
        where = roots(machine_at(places_of({"roots": told})))["cache"]
        assert compiled.decide(file_at(where + "\\x.exe"), STANDARD_USER, "Exe").verdict is Verdict.ALLOWED_BY_DEFAULT
