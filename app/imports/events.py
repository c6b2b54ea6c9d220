"""Windows' event XML as sightings, by the rules that agents follow: AppLocker's, App Control's and SRP's refusals.

Most events of a log are of no interest, so as little as possible is read of each: its number, then its file; only an
event of uv's is parsed as XML. Document types are refused, so that there are no entities to expand.
source: applocker, events: UserData/RuleAndFileData, App Control's EventData with named fields, SRP's with a few values
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree
from xml.sax.saxutils import unescape

from app.imports.model import NO_RECORD, Part, Reasons, Seen
from app.imports.uv_files import UvFiles

MAX_EVENT_CHARACTERS = 200_000
MAX_RECORD = 2**53
MAX_COMPUTER_CHARACTERS = 255

EXE_AND_DLL = "Microsoft-Windows-AppLocker/EXE and DLL"
MSI_AND_SCRIPT = "Microsoft-Windows-AppLocker/MSI and Script"
CODE_INTEGRITY = "Microsoft-Windows-CodeIntegrity/Operational"
SRP = "Application"
CHANNELS: Mapping[int, str] = {
    8003: EXE_AND_DLL,
    8004: EXE_AND_DLL,
    8006: MSI_AND_SCRIPT,
    8007: MSI_AND_SCRIPT,
    3076: CODE_INTEGRITY,
    3077: CODE_INTEGRITY,
    **dict.fromkeys((865, 866, 867, 868, 882), SRP),
}
"""The events that become sightings, and the log that each is written to: those that agents ask for."""
ALLOWED_IDS = frozenset({8002, 8005})

_PROVIDERS = {
    EXE_AND_DLL: "AppLocker",
    MSI_AND_SCRIPT: "AppLocker",
    CODE_INTEGRITY: "CodeIntegrity",
    SRP: "SoftwareRestrictionPolicies",
}
"""What is in the name of the provider that writes these events, or of the log, where a file tells either."""

_WANTED = frozenset(map(str, CHANNELS))
_ALLOWED = frozenset(map(str, ALLOWED_IDS))
_CODE_INTEGRITY_IDS = (3076, 3077)
_COLLECTIONS = {"EXE": "Exe", "DLL": "Dll", "SCRIPT": "Script", "MSI": "Msi", "APPX": "Appx"}
_HASH = re.compile(r"(?:0x)?([0-9A-Fa-f]{64})")
_RULE_ID = re.compile(r"\{?([0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12})\}?")
_NO_RULE = "00000000-0000-0000-0000-000000000000"
_TIME = re.compile(
    r"(\d{4}-\d{2}-\d{2})[T ](\d{2}:\d{2}:\d{2})(?:[.,](\d{1,9})\d*)? ?(Z|UTC|[+-]\d{2}:?\d{2})?", re.ASCII
)
_EPOCH, _MILLISECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(milliseconds=1)
_NUMBER = re.compile(r"[0-9]{1,16}")
_SID = re.compile(r"S-1-[0-9]{1,15}(?:-[0-9]{1,10}){1,15}", re.IGNORECASE)
_LOCAL_SYSTEM = "S-1-5-18"
_FQBN = re.compile(r"[^\x00-\x1f\x7f]{2,400}")
_ELEMENT = re.compile(r"<([A-Za-z]+)>([^<]+)</")
_SYSTEM_TIME = re.compile(r'SystemTime="([^"]*)"')
_PROVIDER_NAME = re.compile(r'<Provider Name="([^"]*)"')
_SRP_PATH = re.compile(r"<Data[^>]*>([^<]*\\[^<]*)</Data>")


def look_at_event(xml: str, files: UvFiles, part: Part, place: str | int, *, is_regular: bool = False) -> None:
    """Adds one event, as XML, to a part: as seen, or to what was left out.

    `is_regular`: the XML was written by `evtx`, so that it need not be parsed to be read right.
    """
    part.read += 1
    start = xml.find(">", xml.find("<EventID")) + 1
    number = xml[start : xml.find("<", start)].strip()
    if number not in _WANTED:
        part.left_out[Reasons.ALLOWED if number in _ALLOWED else Reasons.OTHER_EVENT] += 1
        return
    path = _path_in(xml, number)
    if path is not None and files.find(path) is None:
        part.left_out[Reasons.NOT_OF_UV] += 1
        return
    if len(xml) > MAX_EVENT_CHARACTERS or "<!" in xml:
        part.add_problem(place, "no event looks like this", Reasons.DAMAGED)
        return
    if is_regular and number[0] == "8" and len(number) == 4:
        look_at_values(_values_of_regular(xml, path), files, part, place)
        return
    try:
        root = parse_event(xml)
    except (ElementTree.ParseError, ValueError) as error:
        part.add_problem(place, f"not well-formed XML: {error}", Reasons.DAMAGED)
        return
    values, unnamed = _read_values(root)
    if int(number) in _CODE_INTEGRITY_IDS:
        values["Path"], values["Hash"] = values.get("File Name", ""), values.get("SHA256 Hash", "")
        values["User"] = values.get("UserID", "")
    elif CHANNELS[int(number)] == SRP:
        values["Path"], values["Hash"] = next((value for value in unnamed if "\\" in value), ""), ""
        values["User"] = values.get("UserID", "")
    else:
        values["Path"] = values.get("FullFilePath") or values.get("FilePath") or ""
        values["Hash"], values["User"] = values.get("FileHash", ""), values.get("TargetUser", "")
    look_at_values(values, files, part, place)


def look_at_values(values: Mapping[str, str], files: UvFiles, part: Part, place: str | int) -> None:
    """Adds one event to a part (its caller has counted it as read).

    `values`: EventID, SystemTime, Computer, Channel, EventRecordID, Path, Hash, User, PolicyName, RuleId, Fqbn as text;
    any may be missing. Without EventRecordID the event is known again by its other values.
    """
    number = values.get("EventID", "")
    event_id = int(number) if _NUMBER.fullmatch(number) else 0
    channel = CHANNELS.get(event_id)
    if channel is None or _PROVIDERS[channel] not in (values.get("Provider") or _PROVIDERS[channel]):
        part.left_out[Reasons.ALLOWED if event_id in ALLOWED_IDS else Reasons.OTHER_EVENT] += 1
        return
    path = values.get("Path", "")
    if "\\" not in path:
        part.left_out[Reasons.NO_PATH] += 1
        return
    found = files.find(path)
    if found is None:
        part.left_out[Reasons.NOT_OF_UV] += 1
        return
    if found.noise is not None:
        part.left_out[found.noise] += 1
        return
    at = read_time(values.get("SystemTime", ""))
    if at is None:
        part.add_problem(place, f"no time: {values.get('SystemTime', '')[:40]!r}", Reasons.NO_TIME)
        return
    computer = values.get("Computer", "").strip()
    if not computer or len(computer) > MAX_COMPUTER_CHARACTERS or not computer.isprintable():
        part.add_problem(place, "no name of a computer", Reasons.NO_COMPUTER)
        return
    record, given = NO_RECORD, values.get("EventRecordID", "")
    if given:
        if not _NUMBER.fullmatch(given) or int(given) > MAX_RECORD:
            part.add_problem(place, f"no record number: {given[:40]!r}", Reasons.NO_RECORD)
            return
        record = int(given)
    sha256, rule = _HASH.fullmatch(values.get("Hash", "")), _RULE_ID.fullmatch(values.get("RuleId", ""))
    rule_id, fqbn = rule[1].lower() if rule else None, values.get("Fqbn", "")
    sid = values.get("User", "").strip().upper()
    part.seen.append(
        Seen(
            computer=computer,
            sid=sid if _SID.fullmatch(sid) and sid != _LOCAL_SYSTEM else "",
            channel=channel,
            record=record,
            at=at,
            event_id=event_id,
            pattern=found.pattern,
            path=found.path,
            collection=_COLLECTIONS.get(values.get("PolicyName", "").upper()),
            rule_id=None if rule_id == _NO_RULE else rule_id,
            sha256=sha256[1].lower() if sha256 else None,
            fqbn=fqbn if _FQBN.fullmatch(fqbn) else None,
        )
    )


def read_time(text: str) -> int | None:
    """Milliseconds since 1970 of an ISO time; one without a zone is taken as UTC, as Windows writes event times.

    >>> read_time("2026-11-21T07:41:00.1234567Z"), read_time("yesterday")
    (1795246860123, None)
    """
    found = _TIME.fullmatch(text.strip())
    if found is None:
        return None
    try:
        fraction = (found[3] or "0")[:3].ljust(3, "0")
        at = datetime.fromisoformat(f"{found[1]}T{found[2]}.{fraction}{(found[4] or 'Z').replace('UTC', 'Z')}")
        at_ms = (at - _EPOCH) // _MILLISECOND
    except (ValueError, OverflowError):
        return None
    return at_ms if at_ms >= 0 else None


def parse_event(xml: str) -> ElementTree.Element:
    """One event's tree. An `&` that a log forwarder forgot to escape (as in RuleSddl) is taken as one.

    raises: ElementTree.ParseError, ValueError.
    """
    try:
        return ElementTree.fromstring(xml)  # noqa: S314 - callers have refused document types: no entities to expand
    except ElementTree.ParseError:
        if "&" not in xml:
            raise
        return ElementTree.fromstring(re.sub(r"&(?!(?:[a-z]{2,4}|#x?[0-9A-Fa-f]{1,6});)", "&amp;", xml))  # noqa: S314 - as above


def _path_in(xml: str, number: str) -> str | None:
    """The file that an event names, read without parsing it; None where only parsing tells."""
    if number[0] == "8" and len(number) == 4:
        start = xml.find("<FullFilePath>")
        if start < 0:
            start = xml.find("<FilePath>") - 4
            if start < 0:
                return None
        path = xml[start + 14 : xml.find("<", start + 14)]
    else:
        mark = '<Data Name="File Name">'
        start = xml.find(mark)
        if start >= 0:
            path = xml[start + len(mark) : xml.find("<", start + len(mark))]
        else:
            found = _SRP_PATH.search(xml)
            if found is None:
                return None
            path = found[1]
    return unescape(path) if "&" in path else path


def _values_of_regular(xml: str, path: str | None) -> dict[str, str]:
    """The values of one of AppLocker's events as `evtx` writes it: elements without attributes, in one pass."""
    values = dict(reversed(_ELEMENT.findall(xml)))  # the first of each name
    if "&" in xml:
        values = {name: unescape(text) for name, text in values.items()}
    at = _SYSTEM_TIME.search(xml)
    values["SystemTime"] = at[1] if at else ""
    provider = _PROVIDER_NAME.search(xml)
    values["Provider"] = provider[1] if provider else ""
    values["Path"] = path if path is not None else values.get("FullFilePath") or values.get("FilePath") or ""
    values["Hash"], values["User"] = values.get("FileHash", ""), values.get("TargetUser", "")
    return values


def _read_values(root: ElementTree.Element) -> tuple[dict[str, str], list[str]]:
    """Every element's text by local name, EventData's by their `Name`, the first of each; and EventData's in order."""
    values: dict[str, str] = {}
    data: list[str] = []
    for element in root.iter():
        name, text = element.tag.rpartition("}")[2], (element.text or "").strip()
        if name == "Data":
            data.append(text)
            name = element.get("Name", "")
        elif name == "TimeCreated":
            values.setdefault("SystemTime", element.get("SystemTime", ""))
        elif name == "Security":
            values.setdefault("UserID", element.get("UserID", ""))
        elif name == "Provider":
            text = element.get("Name", "")
        values.setdefault(name, text)
    return values, data
