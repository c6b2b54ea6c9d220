"""Events of AppLocker, App Control and SRP as sightings: which concern uv, this user, and no probe of ours. Pure.

Only events of catalogue patterns leave the workstation; all others are counted by the reason why they do not.
source: applocker, events: AppLocker's UserData/RuleAndFileData, App Control's EventData with named fields, SRP's with
a few values; all read by local names, every element optional.
"""

from __future__ import annotations

import hashlib
import ntpath
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from xml.etree import ElementTree

from agent.canary import CANARY_HASHES
from agent.catalogue import Machine, classify, normalise, templated
from agent.channels import CHANNELS_BY_NAME
from agent.contract.messages import Sighting
from agent.placement import has_marker

MAX_EVENT_CHARACTERS = 200_000
MAX_RECORD = 2**53
MAX_PATH_CHARACTERS = 1_000
WINDOW_SLACK_S = 2.0
MAX_WINDOWS = 30

LOCAL_SYSTEM = "S-1-5-18"

_CODE_INTEGRITY = (3076, 3077)
_SRP = (865, 866, 867, 868, 882)
_COLLECTIONS = {"EXE": "Exe", "DLL": "Dll", "SCRIPT": "Script", "MSI": "Msi", "APPX": "Appx"}
_POWERSHELL_TEST = "__PSScriptPolicyTest_"
_HASH = re.compile(r"(?:0x)?([0-9A-Fa-f]{64})")
_RULE_ID = re.compile(r"\{?([0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12})\}?")
_TIME = re.compile(r"(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2})(?:\.(\d{1,9})\d*)?(?:Z|\+00:00)", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,16}")
_FQBN = re.compile(r"[^\x00-\x1f\x7f]{2,400}")
_NO_RULE = "00000000-0000-0000-0000-000000000000"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What one event says. `at`: ISO 8601, UTC; `seconds`: the same since 1970; `user`: None where it does not say."""

    record: int
    event_id: int
    at: str
    seconds: float
    path: str
    provider: str = ""
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
    """An event from its XML; None if it is not one with a record, a time and a path."""
    if len(text) > MAX_EVENT_CHARACTERS or "<!" in text:  # no event declares a document type
        return None
    try:
        root = ElementTree.fromstring(text)  # noqa: S314 - without a document type there are no entities to expand
    except (ElementTree.ParseError, ValueError):
        return None
    values, unnamed = _read_values(root)
    moment = _TIME.fullmatch(values.get("SystemTime", ""))
    record, event_id = values.get("EventRecordID", ""), values.get("EventID", "")
    if moment is None or not _NUMBER.fullmatch(record) or not _NUMBER.fullmatch(event_id):
        return None
    at = f"{moment[1]}.{(moment[2] or '0')[:3].ljust(3, '0')}Z"
    try:
        seconds = datetime.fromisoformat(at).timestamp()
    except (ValueError, OverflowError):
        return None
    number = int(event_id)
    if number in _CODE_INTEGRITY:
        path, user = values.get("File Name", ""), values.get("UserID")
        hashes = values.get("SHA256 Hash", "")
    elif number in _SRP:
        # The values have no names that one could rely on: the path comes first.
        path, user = next((value for value in unnamed if "\\" in value), ""), values.get("UserID")
        hashes = ""
    else:
        path, user = values.get("FullFilePath") or values.get("FilePath") or "", values.get("TargetUser")
        hashes = values.get("FileHash", "")
    if "\\" not in path or len(path) > MAX_PATH_CHARACTERS or int(record) > MAX_RECORD:
        return None
    sha256, rule = _HASH.fullmatch(hashes), _RULE_ID.fullmatch(values.get("RuleId", ""))
    rule_id = rule[1].lower() if rule else None
    fqbn, process_id = values.get("Fqbn", ""), values.get("TargetProcessId", "")
    return Event(
        record=int(record),
        event_id=number,
        at=at,
        seconds=seconds,
        path=path,
        provider=values.get("Provider", ""),
        collection=_COLLECTIONS.get(values.get("PolicyName", "").upper()),
        rule_id=None if rule_id == _NO_RULE else rule_id,
        sha256=sha256[1].lower() if sha256 else None,
        fqbn=fqbn if _FQBN.fullmatch(fqbn) else None,
        user=user.upper() if user and user.upper() != LOCAL_SYSTEM else None,
        process_id=int(process_id) if _NUMBER.fullmatch(process_id) else None,
    )


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


def sort_events(
    channel: str, events: Iterable[Event], *, machine: Machine, sid: str, windows: Sequence[Window] = ()
) -> Sorted:
    """Which events are sightings. `sid`: the user whose events are told; `windows`: when the agent itself probed."""
    sightings: list[Sighting] = []
    left_out: dict[str, int] = {}
    for event in events:
        reason, pattern = _reason_against(channel, event, machine, sid, windows), None
        if reason is None:
            pattern = classify(event.path, machine=machine)
            reason = None if pattern else "not of uv"
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """One of the users of a machine whose events are told: how their files are recognised, and when they probed."""

    sid: str
    machine: Machine
    windows: Sequence[Window] = ()


def find_person(event: Event, people: Sequence[Person]) -> Person | None:
    """Whose event this is: the user's that it names, else the one in whose profile the file lies."""
    if event.user is not None:
        return next((person for person in people if person.sid.upper() == event.user), None)
    return next((person for person in people if _is_in_profile(event.path, person.machine)), None)


def sort_nobodys(event: Event) -> Sorted:
    """An event of nobody whose events are told, counted by what it is."""
    if event.sha256 in CANARY_HASHES:
        reason = "own probe"
    elif is_powershell_test(event):
        reason = "PowerShell's own test"
    else:
        reason = "of an unknown user" if event.user is None else "of another user"
    return Sorted(left_out={reason: 1})


def is_powershell_test(event: Event) -> bool:
    """Whether PowerShell asked how strict it has to be, by a file that it wrote for that alone."""
    return _POWERSHELL_TEST.lower() in event.path.lower()


def path_digest(path: str) -> str:
    """A path as it is remembered for recognising our own events: as a digest, so that the state names nobody."""
    return hashlib.sha256((normalise(path) or path).lower().encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _reason_against(channel: str, event: Event, machine: Machine, sid: str, windows: Sequence[Window]) -> str | None:
    wanted = CHANNELS_BY_NAME.get(channel)
    if wanted is not None and (
        event.event_id not in wanted.event_ids or (wanted.provider is not None and event.provider != wanted.provider)
    ):
        return "not asked for"
    if is_own(event, windows):
        return "own probe"
    if is_powershell_test(event):
        return "PowerShell's own test"
    if event.user is None:
        return None if _is_in_profile(event.path, machine) else "of an unknown user"
    return None if event.user == sid.upper() else "of another user"


def _is_in_profile(path: str, machine: Machine) -> bool:
    """Whether a file lies in the user's own profile, which tells whose event it is where the event itself does not."""
    env = {name.upper(): value for name, value in machine.env.items()}
    profile, plain = normalise(env.get("USERPROFILE", ""), machine.env), normalise(path, machine.env)
    if not profile or not plain or len(profile) < len("C:\\x"):
        return False
    start = ntpath.splitdrive(profile)[1].rstrip("\\").lower() + "\\"  # a device path does not tell its drive
    return ntpath.splitdrive(plain)[1].lower().startswith(start)


def is_own(event: Event, windows: Sequence[Window]) -> bool:
    """By the canary's hash; or by time, and either the process, the marker (of a file without another hash) or path."""
    if event.sha256 in CANARY_HASHES:
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
