"""Where the two halves meet: the folders of a machine-wide installation, and what the system half orders there.

    <base>/inbox/<SID>/report.json   written by that user alone, read by the system half
    <base>/orders/orders.json        written by the system half, read by everybody
    <base>/machine                   the system half's own state, with the host's token: for nobody else

`<base>` is %ProgramData%\\Wayleave, or /var/lib/wayleave on Linux.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from agent._platform import PLATFORM
from agent.storage import read_json, write_json

NOTE_NAME = "report.json"
ORDERS_NAME = "orders.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """The folders below one base."""

    base: Path

    @property
    def inbox(self) -> Path:
        return self.base / "inbox"

    @property
    def orders(self) -> Path:
        return self.base / "orders"

    @property
    def machine(self) -> Path:
        return self.base / "machine"


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """What the server wants of every user of this machine, as the system half last heard it."""

    probing: bool = True


def find_places(environment: Mapping[str, str]) -> Places:
    """Where the folders of this machine are."""
    if PLATFORM == "windows":
        return Places(base=Path(environment.get("PROGRAMDATA") or "C:\\ProgramData") / "Wayleave")
    return Places(base=Path("/var/lib/wayleave"))


def read_orders(places: Places) -> Orders:
    """What was ordered; without a word of it, probing is allowed."""
    data = read_json(places.orders / ORDERS_NAME) or {}
    return Orders(probing=data.get("probing") is not False)


def write_orders(places: Places, orders: Orders) -> None:
    """Tell everybody on this machine what is ordered, if it is not told already. raises: OSError"""
    path = places.orders / ORDERS_NAME
    wanted = {"probing": orders.probing}
    if read_json(path) != wanted:
        write_json(path, wanted)
        path.chmod(0o644)
