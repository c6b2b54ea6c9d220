"""AppLocker's events as sightings: which of them concern uv, this user, and no probe of ours. Pure.

Only events of catalogue patterns leave the workstation; all others are counted by the reason why they do not.
source: applocker, events (UserData/RuleAndFileData, read by local names, every element optional).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from xml.etree import ElementTree

from agent.canary import WINDOWS_AUTHENTICODE_SHA256
from agent.catalogue import Machine, classify, normalise, templated
from agent.contract.messages import Sighting
from agent.placement import has_marker

CHANNELS: Mapping[str, tuple[int, ...]] = {
    "Microsoft-Windows-AppLocker/EXE and DLL": (8003, 8004),
    "Microsoft-Windows-AppLocker/MSI and Script": (8006, 8007),
}
"""The channels read, and the events wanted of each: audited and blocked. Those of allowed programs never."""

MAX_SIGHTINGS = 200
MAX_EVENT_CHARACTERS = 200_000
WINDOW_SLACK_S = 2.0
MAX_WINDOWS = 5

_COLLECTIONS = {"EXE": "Exe", "DLL": "Dll", "SCRIPT": "Script", "MSI": "Msi", "APPX": "Appx"}
_POWERSHELL_TEST = "__PSScriptPolicyTest_"
_HASH = re.compile(r"(?:0x)?([0-9A-Fa-f]{64})")
_RULE_ID = re.compile(r"\{?([0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12})\}?")
_TIME = re.compile(r"(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2})(?:\.(\d{1,6})\d*)?Z")
_FQBN = re.compile(r"[^\x00-\x1f\x7f]{2,1000}")
_NO_RULE = "00000000-0000-0000-0000-000000000000"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What one event of AppLocker says. `at`: ISO 8601, UTC; `seconds`: the same since 1970."""

    record: int
    event_id: int
    at: str
    seconds: float
    path: str
    collection: str | None = None
    rule_id: str | None = None
    sha256: str | None = None
    fqbn: str | None = None
    user: str | None = None
    process_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A time in which the agent itself started programs: from and to in seconds since 1970, and what by digest."""

    begun: float
    ended: float
    process_id: int
    paths: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sorted:
    """Sightings of one batch, and the number of events left out by reason."""

    sightings: tuple[Sighting, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)


def parse_event(text: str) -> Event | None:
    """An event from its XML; None if it is not one of AppLocker's with a path."""
    if len(text) > MAX_EVENT_CHARACTERS or "<!" in text:  # no event declares a document type
        return None
    try:
        root = ElementTree.fromstring(text)  # noqa: S314 - without a document type there are no entities to expand
    except (ElementTree.ParseError, ValueError):
        return None
    values: dict[str, str] = {}
    for element in root.iter():
        name = element.tag.rpartition("}")[2]
        values.setdefault(name, (element.text or "").strip())
        if name == "TimeCreated":
            values["SystemTime"] = element.get("SystemTime", "")
    path = values.get("FullFilePath") or values.get("FilePath") or ""
    moment = _TIME.fullmatch(values.get("SystemTime", ""))
    try:
        record, event_id = int(values["EventRecordID"]), int(values["EventID"])
        at = f"{moment[1]}.{(moment[2] or '0')[:3].ljust(3, '0')}Z" if moment else ""
        seconds = datetime.fromisoformat(at).timestamp()
    except (KeyError, ValueError):
        return None
    if not path or path == "-" or record < 0:
        return None
    sha256, rule = _HASH.fullmatch(values.get("FileHash", "")), _RULE_ID.fullmatch(values.get("RuleId", ""))
    rule_id = rule[1].lower() if rule else None
    fqbn = values.get("Fqbn", "")
    process_id = values.get("TargetProcessId", "")
    return Event(
        record=record,
        event_id=event_id,
        at=at,
        seconds=seconds,
        path=path,
        collection=_COLLECTIONS.get(values.get("PolicyName", "").upper()),
        rule_id=None if rule_id == _NO_RULE else rule_id,
        sha256=sha256[1].lower() if sha256 else None,
        fqbn=fqbn if _FQBN.fullmatch(fqbn) else None,
        user=values.get("TargetUser", "").upper() or None,
        process_id=int(process_id) if process_id.isascii() and process_id.isdigit() else None,
    )


def sort_events(
    channel: str, events: Iterable[Event], *, machine: Machine, sid: str, windows: Sequence[Window] = ()
) -> Sorted:
    """Which events are sightings. `sid`: the user whose events are told; `windows`: when the agent itself probed."""
    sightings: list[Sighting] = []
    left_out: dict[str, int] = {}
    for event in events:
        pattern = classify(event.path, machine=machine)
        reason = _reason_against(event, sid, windows) or (None if pattern else "not of uv")
        if reason is not None or pattern is None:
            left_out[reason or ""] = left_out.get(reason or "", 0) + 1
            continue
        sightings.append(
            Sighting(
                channel=channel,
                record=event.record,
                event_id=event.event_id,
                at=event.at,
                pattern=pattern,
                path=templated(event.path, machine),
                collection=event.collection,
                rule_id=event.rule_id,
                sha256=event.sha256,
                fqbn=event.fqbn,
            )
        )
    return Sorted(sightings=tuple(sightings), left_out=left_out)


def path_digest(path: str) -> str:
    """A path as it is remembered for recognising our own events: as a digest, so that the state names nobody."""
    return hashlib.sha256((normalise(path) or path).lower().encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _reason_against(event: Event, sid: str, windows: Sequence[Window]) -> str | None:
    if _is_own(event, windows):
        return "own probe"
    if _POWERSHELL_TEST.lower() in event.path.lower():
        return "PowerShell's own test"
    if event.user is not None and event.user != sid.upper():
        return "of another user"
    return None


def _is_own(event: Event, windows: Sequence[Window]) -> bool:
    """By the canary's hash; or by time, and either the process, the marker (of a file without another hash) or path."""
    if event.sha256 == WINDOWS_AUTHENTICODE_SHA256:
        return True
    digest = path_digest(event.path)
    for window in windows:
        if not window.begun - WINDOW_SLACK_S <= event.seconds <= window.ended + WINDOW_SLACK_S:
            continue
        if event.process_id == window.process_id or digest in window.paths:
            return True
        if event.sha256 is None and _carries_marker(event.path):
            return True
    return False


def _carries_marker(path: str) -> bool:
    # Events without FullFilePath have upper-cased paths, in which markers are upper-cased too.
    return has_marker(path) or any(
        part.startswith((".TMPWLV", "TMPWLV", ".WLV-PROBE")) or "WAYLEAVE-PROBE" in part or "WAYLEAVEPROBE" in part
        for part in path.split("\\")
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelRead:
    """What reading one channel gave: events as XML, the oldest and newest record that it holds, or an error number."""

    events: tuple[str, ...] = ()
    oldest: int = 0
    newest: int = 0
    error: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What the channels gave in one cycle: sightings, where to go on, what was left out, and findings for a person."""

    sightings: tuple[Sighting, ...] = ()
    records: Mapping[str, int] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)
    findings: tuple[str, ...] = ()


def first_record(known: int, read: ChannelRead) -> tuple[int, str | None]:
    """After which record to go on, given the last one known; and a finding if records were lost in between."""
    if known and read.newest and read.newest < known:
        return 0, "the log was cleared since it was last read"
    if known and read.oldest > known + 1:
        return known, f"{read.oldest - known - 1} records were overwritten before they were read: the log is too small"
    return known, None


def explain_error(channel: str, error: int) -> str | None:
    """A finding for an error of reading a channel; None for a channel that this machine does not have."""
    if error == ERROR_CHANNEL_NOT_FOUND:
        return None
    if error == ERROR_ACCESS_DENIED:
        return (
            f"{channel}: no right to read it; as an administrator, for this user: "
            "Add-LocalGroupMember -SID S-1-5-32-573 -Member USER"
        )
    return f"{channel}: error {error}"


ERROR_ACCESS_DENIED = 5
ERROR_CHANNEL_NOT_FOUND = 15007
