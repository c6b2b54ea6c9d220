"""Writes cases.json: questions about AppLocker that only a real PC can settle, with what our engine assumes.

    python conformance/make_cases.py            # after a change of the engine; a test compares

Each case is in the form of `wayleave policy test --cases`. A `make` beside it tells the script how to lay the file out:
`plain`, `junction` or `hardlink`; or how to start it: by its `short` name, with a `slash`, or with the `long` prefix.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path

from agent.canary import WINDOWS_AUTHENTICODE_SHA256, WINDOWS_CANARY, WINDOWS_SHA256
from app.applocker.cases import case_of
from app.applocker.evaluate import compile_policy
from app.applocker.model import STANDARD_USER, File
from app.applocker.read import parse_policy

ROOT = r"C:\WayleaveConformance"
FILE = Path(__file__).parent / "cases.json"

# Id, the path in the rule, the file's path, how it is laid out, and the real path behind it where that is another.
QUESTIONS: tuple[tuple[str, str, str, str, str | None], ...] = (
    ("star-crosses-folders", rf"{ROOT}\a\*", rf"{ROOT}\a\b\c\canary.exe", "plain", None),
    ("star-within-a-name", rf"{ROOT}\a\c*y.exe", rf"{ROOT}\a\canary.exe", "plain", None),
    ("star-in-the-middle", rf"{ROOT}\*\end\canary.exe", rf"{ROOT}\x\y\end\canary.exe", "plain", None),
    ("osdrive", r"%OSDRIVE%\WayleaveConformance\a\*", rf"{ROOT}\a\canary.exe", "plain", None),
    ("case", rf"{ROOT.upper()}\A\*", rf"{ROOT}\a\canary.exe", "plain", None),
    ("other-folder", rf"{ROOT}\a\*", rf"{ROOT}\b\canary.exe", "plain", None),
    ("question-mark-one", rf"{ROOT}\a\canar?.exe", rf"{ROOT}\a\canary.exe", "plain", None),
    ("question-mark-none", rf"{ROOT}\a\canary?.exe", rf"{ROOT}\a\canary.exe", "plain", None),
    ("folder-without-star", rf"{ROOT}\a", rf"{ROOT}\a\canary.exe", "plain", None),
    ("folder-with-backslash", rf"{ROOT}\a" + "\\", rf"{ROOT}\a\canary.exe", "plain", None),
    ("slash-in-the-rule", "C:/WayleaveConformance/a/*", rf"{ROOT}\a\canary.exe", "plain", None),
    ("dots-in-the-rule", rf"{ROOT}\b\..\a\*", rf"{ROOT}\a\canary.exe", "plain", None),
    ("long-prefix-in-the-rule", rf"\\?\{ROOT}\a\*", rf"{ROOT}\a\canary.exe", "plain", None),
    ("short-name-in-the-rule", r"C:\WAYLEA~1\a\*", rf"{ROOT}\a\canary.exe", "plain", None),
    ("started-by-short-name", rf"{ROOT}\*", rf"{ROOT}\a folder\canary.exe", "short", None),
    ("started-with-slashes", rf"{ROOT}\a\*", rf"{ROOT}\a\canary.exe", "slash", None),
    ("started-with-long-prefix", rf"{ROOT}\a\*", rf"{ROOT}\a\canary.exe", "long", None),
    ("junction-rule-for-target", rf"{ROOT}\real\*", rf"{ROOT}\link\canary.exe", "junction", rf"{ROOT}\real\canary.exe"),
    ("junction-rule-for-link", rf"{ROOT}\link\*", rf"{ROOT}\link\canary.exe", "junction", rf"{ROOT}\real\canary.exe"),
    ("hard-link", rf"{ROOT}\second\*", rf"{ROOT}\second\canary.exe", "hardlink", None),
)
HASH_RULES = (("hash-authenticode", WINDOWS_AUTHENTICODE_SHA256, "SHA256"), ("hash-flat", WINDOWS_SHA256, "SHA256Flat"))


def make_cases() -> str:
    """The file's text."""
    cases = []
    for name, place, path, how, real in QUESTIONS:
        condition = f'<FilePathCondition Path="{place}"/>'
        rule = f"<FilePathRule {_head(name)}><Conditions>{condition}</Conditions></FilePathRule>"
        cases.append(_case(name, rule, path, how, real))
    for name, digest, kind in HASH_RULES:
        condition = (
            f'<FileHashCondition><FileHash Type="{kind}" Data="0x{digest.upper()}" SourceFileName="canary.exe"'
            f' SourceFileLength="{len(WINDOWS_CANARY)}"/></FileHashCondition>'
        )
        rule = f"<FileHashRule {_head(name)}><Conditions>{condition}</Conditions></FileHashRule>"
        cases.append(_case(name, rule, rf"{ROOT}\a\canary.exe", "plain", None))
    content = {
        "about": "Questions for a real PC; see docs/verified.md. Made by make_cases.py.",
        "root": ROOT,
        "specimen": {"sha256": WINDOWS_SHA256, "base64": base64.b64encode(WINDOWS_CANARY).decode()},
        "cases": cases,
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _head(name: str) -> str:
    number = sum(ord(letter) * 31**place for place, letter in enumerate(name)) % 16**12
    rule_id = f"00000000-0000-4000-8000-{number:012x}"
    return f'Id="{rule_id}" Name="{name}" Description="" UserOrGroupSid="S-1-1-0" Action="Allow"'


def _case(name: str, rule: str, path: str, how: str, real: str | None) -> dict[str, object]:
    policy = parse_policy(
        f'<AppLockerPolicy Version="1"><RuleCollection Type="Exe" EnforcementMode="Enabled">{rule}</RuleCollection>'
        "</AppLockerPolicy>"
    )
    file = File(
        path=path,
        resolves_to=real,
        authenticode_sha256=WINDOWS_AUTHENTICODE_SHA256,
        flat_sha256=WINDOWS_SHA256,
        size_bytes=len(WINDOWS_CANARY),
    )
    decision = compile_policy(policy).decide(file, STANDARD_USER, "Exe")
    return {**case_of(name, policy, file, STANDARD_USER, "Exe", decision), "make": {"how": how, "target": real}}


if __name__ == "__main__":
    FILE.write_text(make_cases(), encoding="utf-8", newline="\n")
