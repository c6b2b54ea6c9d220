"""The files of a relocation plan: Group Policy preferences, a registry file, uv.toml, PowerShell, an Intune script.

The same plan gives the same bytes: ids come from the content, and nothing says when or by whom a file was made.
"""

from __future__ import annotations

import hashlib
import io
import json
import uuid
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import quoteattr

from app.applocker.identify import NAMESPACE
from app.relocation.plan import SYSTEM_FILE, PlannedSetting, RelocationPlan

SCRIPT = Path(__file__).with_name("scripts") / "relocate.ps1"
# A date that Group Policy takes; the content alone decides the bytes.
_CHANGED = "2000-01-01 00:00:00"
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)
_COLLECTION = "{BF141A63-327B-438a-B9BF-2C188F13B7AD}"
_ITEM = "{78570023-8373-4a19-BA80-2F150738EA19}"
_CORE = "{00000000-0000-0000-0000-000000000000}"
_ENVIRONMENT_CSE = "{0E28E245-9368-4853-AD84-6DA3BA35BB75}"
_ENVIRONMENT_TOOL = "{35141B6B-498A-4CC7-AD59-CEF93D89B2CE}"
EXTENSION_NAMES = f"[{_CORE}{_ENVIRONMENT_TOOL}][{_ENVIRONMENT_CSE}{_ENVIRONMENT_TOOL}]"
"""What gPCMachineExtensionNames (or gPCUserExtensionNames) must hold besides, or nothing is applied, silently.

source: [MS-GPPREF], and the pairs read off objects that Windows made: two groups, in the order of their first GUID.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanFile:
    """One file: its name, bytes, and what it is for in one sentence."""

    name: str
    content: bytes
    sentence: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


def write_files(plan: RelocationPlan) -> tuple[PlanFile, ...]:
    """All files of a plan, by name."""
    machine = [one for one in plan.settings if not one.is_user]
    user = [one for one in plan.settings if one.is_user]
    files = [
        PlanFile(
            name="machine-environment.xml",
            content=render_preferences(machine, path_folders=plan.path_folders).encode(),
            sentence="Group Policy preferences: paste onto Computer Configuration, Preferences, Windows Settings, "
            "Environment.",
        ),
        PlanFile(
            name="relocate.reg",
            content=render_registry(plan.settings),
            sentence="A registry file, for one machine or an image. It does not change PATH, and makes no folder.",
        ),
        PlanFile(
            name="uv.toml",
            content=render_uv_toml(plan.settings).encode(),
            sentence=f"uv's file for the machine, {SYSTEM_FILE}: the few settings that it can hold.",
        ),
        PlanFile(
            name="relocate.ps1",
            content=render_script(plan),
            sentence="PowerShell 5.1, run as administrator: makes the folders with their rights, sets the variables "
            "and PATH, writes uv.toml. Has -WhatIf.",
        ),
        PlanFile(
            name="intune-script.ps1",
            content=render_script(plan, intune=True),
            sentence="The same as an Intune platform script: run with the system's rights, in 64-bit PowerShell.",
        ),
        PlanFile(
            name="plan.json",
            content=(json.dumps(describe_plan(plan), indent=1, sort_keys=True) + "\n").encode(),
            sentence="The plan for programs.",
        ),
    ]
    if user:
        files.append(
            PlanFile(
                name="user-environment.xml",
                content=render_preferences(user, user=True).encode(),
                sentence="The same for users: User Configuration, Preferences, Windows Settings, Environment. Intune's "
                "script cannot set these: deploy relocate.reg or a script in the user's context.",
            )
        )
    if plan.rules is not None:
        files.append(
            PlanFile(
                name="rules.xml",
                content=plan.rules.xml.encode(),
                sentence="The AppLocker rules that remain, to be added to a policy (Set-AppLockerPolicy -Merge).",
            )
        )
    files.append(PlanFile(name="README.txt", content=_readme(plan, files).encode(), sentence="What to do with each."))
    return tuple(sorted(files, key=lambda one: one.name))


def write_zip(plan: RelocationPlan) -> bytes:
    """All files in one zip, with their checksums."""
    files = write_files(plan)
    sums = "".join(f"{one.sha256}  {one.name}\n" for one in files).encode()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as package:
        for name, content in (*((one.name, one.content) for one in files), ("SHA256SUMS", sums)):
            entry = zipfile.ZipInfo(name, _ZIP_TIME)
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            package.writestr(entry, content)
    return out.getvalue()


def render_preferences(
    settings: Iterable[PlannedSetting], *, path_folders: Iterable[str] = (), user: bool = False
) -> str:
    """Environment variables as Group Policy preferences, as the editor writes them.

    source: [MS-GPPREF] 2.2.1.5, and a file that GPMC wrote
    """
    items = [_item(one.name, one.value, user=user, partial=False) for one in settings]
    # A part of PATH is added, never the whole replaced.
    items += [_item("PATH", folder, user=user, partial=True) for folder in path_folders]
    return (
        '<?xml version="1.0" encoding="utf-8"?>\r\n'
        f'<EnvironmentVariables clsid="{_COLLECTION}">' + "\r\n\t".join(items) + "\r\n</EnvironmentVariables>\r\n"
    )


def _item(name: str, value: str, *, user: bool, partial: bool) -> str:
    uid = "{" + str(uuid.uuid5(NAMESPACE, f"environment\n{name}\n{value}\n{user}")).upper() + "}"
    status = quoteattr(f"{name} = {value}")
    return (
        f'<EnvironmentVariable clsid="{_ITEM}" name={quoteattr(name)} status={status} image="2" changed="{_CHANGED}" '
        f'uid="{uid}"><Properties action="U" name={quoteattr(name)} value={quoteattr(value)} user="{int(user)}" '
        f'partial="{int(partial)}"/></EnvironmentVariable>'
    )


def render_registry(settings: Iterable[PlannedSetting]) -> bytes:
    """A .reg file in UTF-16, as the registry editor writes it; what holds a variable is REG_EXPAND_SZ."""
    lines = ["Windows Registry Editor Version 5.00", ""]
    known = tuple(settings)
    for is_user, key in (
        (False, r"HKEY_LOCAL_MACHINE\SYSTEM\CurrentControlSet\Control\Session Manager\Environment"),
        (True, r"HKEY_CURRENT_USER\Environment"),
    ):
        some = [one for one in known if one.is_user is is_user]
        if some:
            lines += [f"[{key}]", *(f'"{one.name}"={_registry_value(one)}' for one in some), ""]
    return b"\xff\xfe" + "".join(f"{line}\r\n" for line in lines).encode("utf-16-le")


def _registry_value(setting: PlannedSetting) -> str:
    if not setting.expands:
        return '"' + setting.value.replace("\\", "\\\\") + '"'
    data = (setting.value + "\0").encode("utf-16-le")
    return "hex(2):" + ",".join(f"{byte:02x}" for byte in data)


def render_uv_toml(settings: Iterable[PlannedSetting]) -> str:
    """uv's file for the machine: literal strings, so that a backslash is a backslash."""
    keyed = [one for one in settings if one.key]
    lines = [f"# {SYSTEM_FILE}: read by uv for every user, after the user's and the project's own files."]
    for one in keyed:
        lines += [f"# {one.why} Since uv {one.key_since}; {one.name} wins over it.", str(one.key)]
    if not keyed:
        lines.append("# None of the chosen settings can stand here: uv reads them from variables alone.")
    return "\n".join(lines) + "\n"


def render_script(plan: RelocationPlan, *, intune: bool = False) -> bytes:
    """The PowerShell script, CRLF and with a byte order mark, as Windows PowerShell 5.1 takes it."""
    machine = [one for one in plan.settings if not one.is_user]
    user = [one for one in plan.settings if one.is_user]
    text = SCRIPT.read_text(encoding="utf-8")
    values = {
        "ADMIN_FOLDERS": _list(one.folder for one in plan.folders if one.kind == "admin"),
        "OWN_FOLDERS": _list(one.folder for one in plan.folders if one.kind == "own"),
        "SHARED_FOLDERS": _list(one.folder for one in plan.folders if one.kind == "shared"),
        "TOOLS_FOLDER": _quoted(plan.choice.tools),
        "MACHINE_VARIABLES": _table(machine),
        "USER_VARIABLES": _table(user),
        "PATH_FOLDERS": _list(plan.path_folders),
        "UV_TOML": _list(render_uv_toml(plan.settings).splitlines()),
        "IS_INTUNE": "$true" if intune else "$false",
    }
    for name, value in values.items():
        text = text.replace(f"@@{name}@@", value)
    return b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode()


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _list(texts: Iterable[str]) -> str:
    lines = ",\n".join(f"    {_quoted(text)}" for text in texts)
    return f"@(\n{lines}\n)" if lines else "@()"


def _table(settings: Iterable[PlannedSetting]) -> str:
    lines = "\n".join(f"    {_quoted(one.name)} = {_quoted(one.value)}" for one in settings)
    return f"[ordered]@{{\n{lines}\n}}" if lines else "[ordered]@{}"


def describe_plan(plan: RelocationPlan) -> dict[str, object]:
    """The plan as JSON values."""
    return {
        "settings": [
            {
                "name": one.name,
                "value": one.value,
                "scope": "user" if one.is_user else "machine",
                "honoured_since_uv": one.since,
                "uv_toml": one.key,
                "uv_toml_since_uv": one.key_since,
                "why": one.why,
            }
            for one in plan.settings
        ],
        "path": list(plan.path_folders),
        "folders": [{"folder": one.folder, "kind": one.kind, "rights": one.sentence} for one in plan.folders],
        "moved": list(plan.moved),
        "need_no_rule": list(plan.need_no_rule),
        "staying": [{"place": one.place, "why": one.why, "patterns": list(one.patterns)} for one in plan.staying],
        "rules": [
            {"id": one.id, "name": one.name, "collection": one.collection, "patterns": list(one.patterns)}
            for one in (plan.rules.rules if plan.rules else ())
        ],
        "unopened": [{"pattern": pattern, "why": why} for pattern, why in plan.unopened],
        "risks": list(plan.risks),
        "consequences": list(plan.consequences),
        "extension_names": EXTENSION_NAMES,
    }


def _readme(plan: RelocationPlan, files: Iterable[PlanFile]) -> str:
    lines = ["Moving uv's directories. No file of this folder was yet run on a real Windows.", ""]
    for one in files:
        lines += [one.name, f"  {one.sentence}"]
    lines += [
        "",
        "Choose one way of setting the variables. By Group Policy, paste the XML in the editor, which registers the",
        "extension by itself. Whoever writes the file into SYSVOL must add to gPCMachineExtensionNames (for users to",
        "gPCUserExtensionNames), with all groups sorted by their first GUID, and raise the version in AD and gpt.ini:",
        f"  {EXTENSION_NAMES}",
        "",
        "Risks that remain:",
        *(f"- {one}" for one in plan.risks),
        "",
        "What follows:",
        *(f"- {one}" for one in plan.consequences),
        "",
    ]
    return "\r\n".join(lines)
