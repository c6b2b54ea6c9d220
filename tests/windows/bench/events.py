r"""Event logs of the bench: channels that its wevtapi.dll serves to Windows programs from files in `C:\events`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tests.windows.bench.places import on_disk

APPLOCKER_EXE = "Microsoft-Windows-AppLocker/EXE and DLL"
APPLOCKER_SCRIPT = "Microsoft-Windows-AppLocker/MSI and Script"
CODE_INTEGRITY = "Microsoft-Windows-CodeIntegrity/Operational"
APPLICATION = "Application"


def write_channel(channel: str, events: Iterable[str]) -> None:
    """Makes a channel hold these events, oldest first, instead of those before; each is an `<Event ...>` element."""
    _file(channel, ".xml").write_text("\n".join(events), encoding="utf-8")


def deny_channel(channel: str) -> None:
    """Makes reading a channel fail with access denied, as for an ordinary user without the right."""
    _file(channel, ".denied").touch()


def forget_channels() -> None:
    """Removes every channel: each is then one that the machine does not have."""
    for file in on_disk(r"C:\events").iterdir():
        file.unlink()


def _file(channel: str, ending: str) -> Path:
    return on_disk(r"C:\events") / (channel.replace("/", "%4") + ending)
