"""Writes cases.json: questions about AppLocker that only a real PC can settle, with what our engine assumes.

    python conformance/make_cases.py            # after a change of the engine; a test compares

Each case is in the form of `wayleave policy test --cases`. A `make` beside it tells the script how to lay the file out:
`plain`, `junction`, `hardlink`, or `copied` from Windows itself; how to start it: by its `short` name, with a `slash`,
with the `long` prefix, or as a `limited` administrator; or that it is a `library` to load, a `script` to ask about, or
to be tried under a policy of `device` management as well.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path

from agent.canary import (
    LIBRARY_AUTHENTICODE_SHA256,
    LIBRARY_SHA256,
    SCRIPT_SHA256,
    WINDOWS_AUTHENTICODE_SHA256,
    WINDOWS_CANARY,
    WINDOWS_LIBRARY,
    WINDOWS_SCRIPT,
    WINDOWS_SHA256,
)
from app.applocker.cases import case_of
from app.applocker.evaluate import compile_policy
from app.applocker.model import STANDARD_USER, File, Policy, Token, Verdict
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
    ("hard-link-rule-for-first", rf"{ROOT}\first\*", rf"{ROOT}\second\canary.exe", "hardlink", None),
    ("started-suspended", rf"{ROOT}\a\*", rf"{ROOT}\b\canary.exe", "plain", None),
)
# Libraries and scripts: collection, id, the path in the rule, the file. Windows' own are allowed besides, or the
# machine would not go on working while its answer is waited for.
OTHERS: tuple[tuple[str, str, str, str], ...] = (
    ("Dll", "library-in-the-rule", rf"{ROOT}\a\*", rf"{ROOT}\a\canary.dll"),
    ("Dll", "library-outside", rf"{ROOT}\a\*", rf"{ROOT}\b\canary.dll"),
    ("Dll", "library-of-another-name", rf"{ROOT}\a\*", rf"{ROOT}\b\canary.pyd"),
    ("Script", "script-in-the-rule", rf"{ROOT}\a\*", rf"{ROOT}\a\canary.ps1"),
    ("Script", "script-outside", rf"{ROOT}\a\*", rf"{ROOT}\b\canary.ps1"),
)
# A program of Windows that its catalogue signs, copied: the publisher is known, whatever the build.
SIGNED = r"System32\WindowsPowerShell\v1.0\powershell.exe"
MICROSOFT = "O=MICROSOFT CORPORATION, L=REDMOND, S=WASHINGTON, C=US"
PRODUCT, BINARY = "MICROSOFT® WINDOWS® OPERATING SYSTEM", "POWERSHELL.EXE"
PUBLISHERS = (
    ("publisher-exact", MICROSOFT, PRODUCT, BINARY),
    ("publisher-any-product", MICROSOFT, "*", "*"),
    ("publisher-other", "O=SOMEBODY ELSE, L=ELSEWHERE, S=NOWHERE, C=US", "*", "*"),
    ("publisher-other-product", MICROSOFT, "ANOTHER PRODUCT", "*"),
)
ADMINISTRATORS = "S-1-5-32-544"
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
    cases += [_other_case(*question) for question in OTHERS]
    cases += [_publisher_case(*question) for question in PUBLISHERS]
    cases += [_linked_case(), _device_case()]
    content = {
        "about": "Questions for a real PC; see docs/verified.md. Made by make_cases.py.",
        "root": ROOT,
        "specimen": {"sha256": WINDOWS_SHA256, "base64": base64.b64encode(WINDOWS_CANARY).decode()},
        "library": {"sha256": LIBRARY_SHA256, "base64": base64.b64encode(WINDOWS_LIBRARY).decode()},
        "script": {"sha256": SCRIPT_SHA256, "base64": base64.b64encode(WINDOWS_SCRIPT).decode()},
        "cases": cases,
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _head(name: str) -> str:
    number = sum(ord(letter) * 31**place for place, letter in enumerate(name)) % 16**12
    rule_id = f"00000000-0000-4000-8000-{number:012x}"
    return f'Id="{rule_id}" Name="{name}" Description="" UserOrGroupSid="S-1-1-0" Action="Allow"'


def _path_rule(name: str, path: str, sid: str = "S-1-1-0") -> str:
    head = _head(name).replace("S-1-1-0", sid)
    return f'<FilePathRule {head}><Conditions><FilePathCondition Path="{path}"/></Conditions></FilePathRule>'


def _collection(kind: str, *rules: str) -> str:
    return f'<RuleCollection Type="{kind}" EnforcementMode="Enabled">{"".join(rules)}</RuleCollection>'


def _policy(collection: str) -> Policy:
    return parse_policy(f'<AppLockerPolicy Version="1">{collection}</AppLockerPolicy>')


def _windows_too(name: str) -> tuple[str, ...]:
    return tuple(_path_rule(f"{name} {place}", rf"%{place}%\*") for place in ("WINDIR", "PROGRAMFILES"))


def _other_case(kind: str, name: str, place: str, path: str) -> dict[str, object]:
    policy = _policy(_collection(kind, _path_rule(name, place), *_windows_too(name)))
    is_library = kind == "Dll"
    file = File(
        path=path,
        authenticode_sha256=LIBRARY_AUTHENTICODE_SHA256 if is_library else None,
        flat_sha256=LIBRARY_SHA256 if is_library else SCRIPT_SHA256,
        size_bytes=len(WINDOWS_LIBRARY if is_library else WINDOWS_SCRIPT),
    )
    decision = compile_policy(policy).decide(file, STANDARD_USER, kind)
    made = case_of(name, policy, file, STANDARD_USER, kind, decision)
    return {**made, "make": {"how": "library" if is_library else "script", "target": None}}


def _publisher_case(name: str, publisher: str, product: str, binary: str) -> dict[str, object]:
    condition = (
        f'<FilePublisherCondition PublisherName="{publisher}" ProductName="{product}" BinaryName="{binary}">'
        '<BinaryVersionRange LowSection="*" HighSection="*"/></FilePublisherCondition>'
    )
    rule = f"<FilePublisherRule {_head(name)}><Conditions>{condition}</Conditions></FilePublisherRule>"
    policy = _policy(_collection("Exe", rule))
    path = rf"{ROOT}\a\signed.exe"
    file = File(path=path, publisher=MICROSOFT, product=PRODUCT, binary=BINARY, version=(10, 0, 0, 0))
    decision = compile_policy(policy).decide(file, STANDARD_USER, "Exe")
    made = case_of(name, policy, file, STANDARD_USER, "Exe", decision)
    return {**made, "make": {"how": "copied", "target": SIGNED}}


def _linked_case() -> dict[str, object]:
    """An administrator who is not elevated, under a rule for administrators: programs are judged by the full token."""
    name = "administrators-by-linked-token"
    policy = _policy(_collection("Exe", _path_rule(name, "*", ADMINISTRATORS)))
    token = Token(
        sids=STANDARD_USER.sids,
        deny_only=frozenset((ADMINISTRATORS,)),
        linked=STANDARD_USER.sids | {ADMINISTRATORS},
    )
    file = _canary(rf"{ROOT}\a\canary.exe", None)
    decision = compile_policy(policy).decide(file, token, "Exe")
    return {**case_of(name, policy, file, token, "Exe", decision), "make": {"how": "limited", "target": None}}


def _device_case() -> dict[str, object]:
    """Group policy allows the file, device management's policy does not: they are ANDed."""
    name = "device-management-and-group-policy"
    ours = _collection("Exe", _path_rule(name, rf"{ROOT}\*"), *_windows_too(name))
    theirs = f"{name} device"
    device = _collection("Exe", _path_rule(theirs, rf"{ROOT}\other\*"), *_windows_too(theirs))
    file = _canary(rf"{ROOT}\a\canary.exe", None)
    decisions = [compile_policy(_policy(each)).decide(file, STANDARD_USER, "Exe") for each in (ours, device)]
    refused = [one for one in decisions if one.verdict not in (Verdict.ALLOWED, Verdict.ALLOWED_BY_DEFAULT)]
    return {
        **case_of(name, _policy(ours), file, STANDARD_USER, "Exe", (*refused, decisions[0])[0]),
        "also_policies_xml": [f'<AppLockerPolicy Version="1">{device}</AppLockerPolicy>'],
        "make": {"how": "device", "target": device},
    }


def _canary(path: str, real: str | None) -> File:
    return File(
        path=path,
        resolves_to=real,
        authenticode_sha256=WINDOWS_AUTHENTICODE_SHA256,
        flat_sha256=WINDOWS_SHA256,
        size_bytes=len(WINDOWS_CANARY),
    )


def _case(name: str, rule: str, path: str, how: str, real: str | None) -> dict[str, object]:
    policy = _policy(_collection("Exe", rule))
    file = _canary(path, real)
    decision = compile_policy(policy).decide(file, STANDARD_USER, "Exe")
    return {**case_of(name, policy, file, STANDARD_USER, "Exe", decision), "make": {"how": how, "target": real}}


if __name__ == "__main__":
    FILE.write_text(make_cases(), encoding="utf-8", newline="\n")
