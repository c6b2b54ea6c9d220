"""The event logs that tell who refused uv: their names, the events wanted of each, and how to ask for them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

ERROR_ACCESS_DENIED = 5
ERROR_INVALID_CHANNEL_PATH = 15000
ERROR_CHANNEL_NOT_FOUND = 15007


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """One log. `key`: its name in what is told; `provider`: whose events, where others write there too.

    `most`: how many sightings of it one cycle tells; what is left is told by the next.
    """

    name: str
    key: str
    event_ids: tuple[int, ...]
    most: int
    provider: str | None = None


CHANNELS: tuple[Channel, ...] = (
    Channel(name="Microsoft-Windows-AppLocker/EXE and DLL", key="applocker-exe", event_ids=(8003, 8004), most=200),
    Channel(
        name="Microsoft-Windows-AppLocker/MSI and Script", key="applocker-script", event_ids=(8006, 8007), most=100
    ),
    Channel(name="Microsoft-Windows-CodeIntegrity/Operational", key="code-integrity", event_ids=(3076, 3077), most=100),
    Channel(
        name="Application",
        key="srp",
        event_ids=(865, 866, 867, 868, 882),
        most=100,
        provider="Microsoft-Windows-SoftwareRestrictionPolicies",
    ),
)
"""Audited and blocked starts alone: events of allowed programs (8002, 8005) are never told, and only asked for below.

source: applocker, events. A report may hold as many sightings as these together.
"""

USE_CHANNELS: tuple[Channel, ...] = (
    Channel(name="Microsoft-Windows-AppLocker/EXE and DLL", key="applocker-exe-uses", event_ids=(8002,), most=0),
    Channel(name="Microsoft-Windows-AppLocker/MSI and Script", key="applocker-script-uses", event_ids=(8005,), most=0),
)
"""Allowed starts, where counting the uses of rules is switched on; none of them is told, see `uses`."""

CHANNELS_BY_NAME: Mapping[str, Channel] = {channel.name: channel for channel in CHANNELS}


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelRead:
    """What reading one batch gave: events as XML, the oldest and newest record that the log holds, or an error number.

    `is_end`: nothing that was asked for came after these; `unreadable`: events that Windows could not render.
    """

    events: tuple[str, ...] = ()
    oldest: int = 0
    newest: int = 0
    error: int = 0
    is_end: bool = True
    unreadable: int = 0


def query_of(channel: Channel, after: int) -> str:
    """The XPath query for a channel's events after a record.

    >>> query_of(CHANNELS[0], 41)
    '*[System[(EventID=8003 or EventID=8004) and (EventRecordID > 41)]]'
    """
    ids = " or ".join(f"EventID={number}" for number in channel.event_ids)
    provider = f"Provider[@Name='{channel.provider}'] and " if channel.provider else ""
    return f"*[System[{provider}({ids}) and (EventRecordID > {after})]]"


def query_of_record(record: int) -> str:
    """The XPath query for a record, whatever its event; where it is gone, for the one after it.

    >>> query_of_record(41)
    '*[System[(EventRecordID > 40)]]'
    """
    return f"*[System[(EventRecordID > {record - 1})]]"


def mark_key(place: str) -> str:
    """Under which it is kept when the last record was written, beside that record's number."""
    return f"{place} written"


def find_loss(known: int, read: ChannelRead) -> tuple[int, int | None]:
    """After which record to go on, given the last one known; and how many records were lost since (0: not told).

    A log that was cleared begins anew and does not tell how much it held; None is no loss.
    """
    if known and read.newest and read.newest < known:
        return 0, 0
    if known and read.oldest > known + 1:
        return known, read.oldest - known - 1
    return known, None


def explain_loss(channel: Channel, lost: int) -> str:
    """A finding for records that were lost before they were read."""
    if lost == 0:
        return f"{channel.name}: the log was cleared since it was last read"
    return (
        f"{channel.name}: {lost} records were overwritten before they were read: the log is too small; "
        f'as an administrator: wevtutil sl "{channel.name}" /ms:67108864'
    )


def explain_error(channel: Channel, error: int) -> str | None:
    """A finding for an error of reading a channel; None for a channel that this machine does not have."""
    if error in (ERROR_CHANNEL_NOT_FOUND, ERROR_INVALID_CHANNEL_PATH):
        return None
    if error == ERROR_ACCESS_DENIED:
        # Event Log Readers, by its SID: the group's name is translated.
        return (
            f"{channel.name}: no right to read it; as an administrator, for this user: "
            "Add-LocalGroupMember -SID S-1-5-32-573 -Member USER"
        )
    return f"{channel.name}: error {error}"


def name_state(error: int) -> str:
    """How a channel stands, in one word for the server."""
    if error in (ERROR_CHANNEL_NOT_FOUND, ERROR_INVALID_CHANNEL_PATH):
        return "absent"
    return "denied" if error == ERROR_ACCESS_DENIED else f"error {error}"
