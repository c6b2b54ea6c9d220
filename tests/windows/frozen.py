"""The packaged agent on the bench: the frozen directory, made from the sources as they stand, below Program Files."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.windows.bench.places import on_disk

PLACE = r"C:\Program Files\Wayleave frozen"
CONSOLE, WINDOWED = rf"{PLACE}\wayleave-agent.exe", rf"{PLACE}\wayleave-agentw.exe"


def put_in_place(frozen: Path, place: str = PLACE) -> None:
    """Copies a frozen directory onto the bench's drive."""
    shutil.rmtree(on_disk(place), ignore_errors=True)
    shutil.copytree(frozen, on_disk(place))
