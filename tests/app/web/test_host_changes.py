"""The changes of a host: of all its users together, the newest first, and how much of them is not shown."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from html import unescape
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

SPEC = spec_from_file_location("small_fleet_of_changes", Path(__file__).with_name("small_fleet.py"))
assert SPEC is not None
assert SPEC.loader is not None
small_fleet = module_from_spec(SPEC)
sys.modules[SPEC.name] = small_fleet  # its dataclasses look themselves up
SPEC.loader.exec_module(small_fleet)


def test_changes_of_all_users_stand_by_time_and_the_cut_is_told(
    app: FastAPI, signed_in: Callable[[str], TestClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = small_fleet.Machine(name="RDS-1", group="Lab", version="0.12.0")
    with TestClient(app, base_url="http://wayleave.example") as agents:
        small_fleet.report_all(app, agents, [first])
        second = small_fleet.Machine(name="RDS-1", group="Lab", version="0.12.0", token=first.token)
        second.report(agents)
        for who, version in ((first, "0.12.1"), (second, "0.12.2"), (first, "0.12.3"), (second, "0.12.4")):
            who.version = version
            who.report(agents)
    viewer = signed_in("viewer")
    page = " ".join(unescape(re.sub(r"<[^>]+>", " ", viewer.get("/hosts/1").text)).split())
    told = re.findall(r"→ (0\.12\.\d) .{1,30}?, user (\d)", page)
    assert told == [("0.12.4", "2"), ("0.12.3", "1"), ("0.12.2", "2"), ("0.12.1", "1")]
    assert "there are older ones" not in page
    monkeypatch.setattr("app.fleet.queries_hosts.MOST_CHANGES", 3)
    monkeypatch.setattr("app.fleet.queries_hosts.MOST_USERS", 1)
    cut = viewer.get("/hosts/1").text
    assert "2 users reported from this host; the first 1 are shown" in cut
    monkeypatch.setattr("app.fleet.queries_hosts.MOST_USERS", 200)
    cut = viewer.get("/hosts/1").text
    assert "Shown are the newest 3 changes of all its users together; there are older ones." in cut
    assert viewer.get("/api/v1/hosts/1").json()["has_older_changes"] is True
