"""What the columns of exports are called: Sentinel's, Defender's, Splunk's, Elastic's and others', as event values.

Names are compared without case, spaces and signs; of a nested name its last part counts, or its last two. An event's
own XML in a column is read as such, and values within values (JSON or XML in a column) are taken out.
source: Defender advanced hunting, DeviceEvents (ActionType and the events behind it); Azure Monitor, tables Event and
WindowsEvent; Splunk Add-on for Microsoft Windows, XmlWinEventLog; Elastic, winlog fields
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from xml.etree import ElementTree

from app.imports.events import look_at_event, look_at_values, parse_event, read_time
from app.imports.model import Part
from app.imports.uv_files import UvFiles

MAX_DEPTH = 12
MAX_VALUES = 2_000

_NAMES: dict[str, tuple[str, ...]] = {
    "EventID": ("eventid", "eventcode", "windowseventid", "eventidentifier", "id"),
    "SystemTime": (
        *("systemtime", "timecreated", "timecreatedutc", "eventtime", "timestamp", "timestamputc", "time"),
        *("timegenerated", "timegeneratedutc", "datetime"),
    ),
    "Computer": ("computer", "computername", "devicename", "machinename", "hostname", "host", "dvc", "dest"),
    "EventRecordID": ("eventrecordid", "recordid", "recordnumber", "eventrecordnumber"),
    "Provider": ("provider", "providername", "sourcename", "eventsource", "channel", "eventlog", "logname", "source"),
    "PolicyName": ("policyname",),
    "RuleId": ("ruleid",),
    "Fqbn": ("fqbn",),
}
_PATHS = ("fullfilepath", "filepath", "filename", "folderpath", "targetfilename")
_USERS = ("targetuser", "accountsid", "initiatingprocessaccountsid", "usersid", "userid", "systemuserid")
_USERS_TOO = ("securityuserid", "useridentifier", "sid")
_ACTIONS = {
    "appcontrolexecutableaudited": "8003",
    "appcontrolexecutableblocked": "8004",
    "applockerblockexecutable": "8004",
    "appcontrolscriptaudited": "8006",
    "appcontrolscriptblocked": "8007",
    "applockerblockscript": "8007",
    "appcontrolcodeintegritypolicyaudited": "3076",
    "appcontrolcodeintegritypolicyblocked": "3077",
}
_SIGNS = re.compile(r"[^a-z0-9]")
_SID = re.compile(r"S-1-[0-9]{1,15}(?:-[0-9]{1,10}){1,15}", re.IGNORECASE)
_AMERICAN = re.compile(
    r"(\d{1,2})/(\d{1,2})/(\d{4}),? (\d{1,2}):(\d{2}):(\d{2})(?:\.(\d{1,9}))? ?(AM|PM)?", re.IGNORECASE | re.ASCII
)
_SECONDS = re.compile(r"(\d{10})(?:\.(\d{1,9}))?|(\d{13})", re.ASCII)


def look_at_row(row: Mapping[str, str], files: UvFiles, part: Part, place: str) -> None:
    """Adds one row of an export to a part. `row`: values by the columns' own names."""
    for value in row.values():
        start = value.find("<Event ") if "<Event " in value else value.find("<Event>")
        if start >= 0 and "</Event>" in value:
            look_at_event(value[start : value.rfind("</Event>") + 8], files, part, place)
            return
    part.read += 1
    look_at_values(values_of_row(row), files, part, place)


def values_of_row(row: Mapping[str, str]) -> dict[str, str]:
    """An event's values by the names that `events` knows."""
    named: dict[str, str] = {}
    for column, value in row.items():
        _take(named, column, value)
    values = {name: _first(named, wanted) for name, wanted in _NAMES.items()}
    action = _SIGNS.sub("", named.get("actiontype", "").lower())
    values["EventID"] = _ACTIONS.get(action, values["EventID"] if not action else "")
    values["SystemTime"] = plain_time(values["SystemTime"])
    paths = [value for name in _PATHS if "\\" in (value := named.get(name, ""))]
    path, name = (paths[0] if paths else ""), named.get("filename", "")
    if path and path == named.get("folderpath") and name and not path.lower().endswith("\\" + name.lower()):
        path = path.rstrip("\\") + "\\" + name
    values["Path"] = path
    users = (named.get(name, "").strip() for name in (*_USERS, *_USERS_TOO))
    values["User"] = next((user for user in users if _SID.fullmatch(user)), "")
    # Only the log's own hash is the kind that rules know; Defender's SHA256 is of the whole file.
    values["Hash"] = named.get("filehash", "") or named.get("sha256hash", "")
    return values


def flatten(value: object, name: str = "", depth: int = 0) -> dict[str, str]:
    """The leaves of a JSON value by their dotted names, the first of each; an attribute's sign and `#text` go."""
    found: dict[str, str] = {}
    if depth > MAX_DEPTH:
        return found
    if isinstance(value, dict):
        if isinstance(value.get("Name"), str) and isinstance(text := value.get("#text", value.get("Value")), str):
            return {value["Name"]: text}
        for key, inner in value.items():
            plain = str(key).lstrip("@#$_")
            below = name if plain in ("text", "attributes") else f"{name}.{plain}" if name else plain
            for leaf, text in flatten(inner, below, depth + 1).items():
                found.setdefault(leaf, text)
            if len(found) > MAX_VALUES:
                break
    elif isinstance(value, list):
        for inner in value[:MAX_VALUES]:
            if isinstance(inner, dict):
                for leaf, text in flatten(inner, name, depth + 1).items():
                    found.setdefault(leaf, text)
    elif isinstance(value, str):
        found[name] = value
    elif isinstance(value, int | float) and not isinstance(value, bool):
        found[name] = repr(value)
    return found


def plain_time(text: str) -> str:
    """A time as ISO text, from any of the forms of exports; others stay as they are.

    >>> plain_time("11/21/2026, 7:41:00.123 PM"), plain_time("1763711260.5")
    ('2026-11-21T19:41:00.123Z', '2025-11-21T07:47:40.500Z')
    """
    text = text.strip()
    if read_time(text) is not None:
        return text
    american, seconds = _AMERICAN.fullmatch(text), _SECONDS.fullmatch(text)
    if american is not None:
        month, day, year, hour = (int(american[n]) for n in (1, 2, 3, 4))
        if american[8]:
            hour = hour % 12 + (12 if american[8].upper() == "PM" else 0)
        fraction = (american[7] or "0")[:3].ljust(3, "0")
        return f"{year:04}-{month:02}-{day:02}T{hour:02}:{american[5]}:{american[6]}.{fraction}Z"
    if seconds is not None:
        ms = int(seconds[3]) if seconds[3] else int(seconds[1]) * 1000 + int((seconds[2] or "0")[:3].ljust(3, "0"))
        at = datetime.fromtimestamp(ms // 1000, UTC)
        return f"{at:%Y-%m-%dT%H:%M:%S}.{ms % 1000:03}Z"
    return text


def _take(named: dict[str, str], column: str, value: str, depth: int = 0) -> None:
    """Notes a value under its column's last part and last two parts, and what is packed in it under its own names."""
    parts = re.split(r"[./\\]", column)
    for name in (_SIGNS.sub("", "".join(parts[-count:]).lower()) for count in (1, 2)):
        if name and value.strip():
            named.setdefault(name, value.strip())
    text = value.strip()
    if depth or len(text) > MAX_VALUES * 100:
        return
    if text.startswith(("{", "[")):
        try:
            inner = json.loads(text)
        except (ValueError, RecursionError):
            return
        for name, leaf in flatten(inner).items():
            _take(named, name, leaf, depth + 1)
    elif text.startswith("<") and "<!" not in text and (">" in text):
        try:
            root = parse_event(text)
        except (ElementTree.ParseError, ValueError):
            return
        for element in root.iter():
            name = element.get("Name") or element.tag.rpartition("}")[2]
            _take(named, name, element.text or "", depth + 1)


def _first(named: Mapping[str, str], wanted: tuple[str, ...]) -> str:
    return next((named[name] for name in wanted if named.get(name)), "")
