"""What a file tells of an event is what an agent would have told of it, field by field."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from evtx import PyEvtxParser

from agent.catalogue import Machine
from agent.events import parse_event, sort_events
from app.imports.model import Given
from app.imports.read import read_beginning, read_parts, recognise
from tests.app.imports.evtx_files import EXE, applocker_event, write_evtx

SID = "S-1-5-21-1004336348-1177238915-682003330-1001"
HOME = r"C:\Users\Jane"
ENV = {"USERPROFILE": HOME, "LOCALAPPDATA": rf"{HOME}\AppData\Local", "APPDATA": rf"{HOME}\AppData\Roaming"}


@pytest.mark.parametrize(
    "path",
    [
        rf"{HOME}\AppData\Local\uv\cache\builds-v0\.tmpAb12Cd\Scripts\python.exe",
        rf"{HOME}\AppData\Local\uv\cache\archive-v0\AbCdEfGhIjKlMnOpQrStU\Scripts\secret-tool.exe",
        rf"{HOME}\AppData\Roaming\uv\python\cpython-3.13.2-windows-x86_64-none\python.exe",
        rf"{HOME}\AppData\Roaming\uv\tools\ruff\Scripts\ruff.exe",
        rf"{HOME}\.local\bin\uv.exe",
    ],
)
def test_the_same_sighting(tmp_path: Path, path: str) -> None:
    file = tmp_path / "a.evtx"
    at = datetime(2026, 11, 20, 8, 0, 0, 123_456, tzinfo=UTC)
    write_evtx(file, [applocker_event(path, at=at, sha256="ab" * 32, fqbn=r"O=X\Y\Z.EXE\1.0.0.0")], first=4711)
    [xml] = [record["data"] for record in PyEvtxParser(str(file)).records()]
    event = parse_event(xml)
    assert event is not None
    [told] = sort_events(EXE, [event], machine=Machine(env=ENV), sid=SID).sightings
    [part] = read_parts(file, recognise(read_beginning(file)), {}, Given())
    [seen] = part.seen
    assert datetime.fromisoformat(told.at).timestamp() * 1000 == seen.at
    for name in ("channel", "record", "event_id", "pattern", "path", "collection", "rule_id", "sha256", "fqbn"):
        assert getattr(told, name) == getattr(seen, name), name
