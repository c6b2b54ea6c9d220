"""`wayleave relocate` and `wayleave preflight`: what they print and write, and how they end."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import Engine

from app.cli.main import wayleave
from app.fleet.make import make_fleet
from app.settings import Settings


@pytest.fixture
def fleet(database: Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    make_fleet(database, 100, seed=4)
    monkeypatch.setenv("WAYLEAVE_DATA_DIR", str(settings.data_dir))
    monkeypatch.setenv("WAYLEAVE_DATABASE_URL", settings.database_url)


def test_relocate_writes_its_files_without_a_database(tmp_path: Path) -> None:
    out = tmp_path / "plan.zip"
    ended = CliRunner().invoke(wayleave, ["relocate", "--cache", r"D:\c\%USERNAME%", "--out", str(out)])
    assert ended.exit_code == 0, ended.output
    assert r"UV_CACHE_DIR=D:\c\%USERNAME%  (user, since uv 0.0.5)" in ended.output
    assert "relocate.ps1" in zipfile.ZipFile(out).namelist()
    refused = CliRunner().invoke(wayleave, ["relocate", "--python", "x"])
    assert refused.exit_code == 2
    assert "python: 'x' does not begin with a drive" in refused.output


def test_relocate_compares_with_the_fleet(fleet: None) -> None:
    ended = CliRunner().invoke(wayleave, ["relocate", "--what-if", "--json"])
    assert ended.exit_code == 0, ended.output
    told = json.loads(ended.stdout)["what_if"]
    assert told["users"] > 50
    assert {one["root"] for one in told["roots"]} == {"python", "tools", "bin", "cache"}


def test_preflight_ends_as_it_found(fleet: None) -> None:
    ended = CliRunner().invoke(wayleave, ["preflight", "0.12.4", "0.13.8", "--json"])
    told = json.loads(ended.stdout)
    assert ended.exit_code == (1 if told["broken"] or told["rules"] else 0)
    assert told["users"] > 0
    assert "sdists-v10" in told["changes"]["new_buckets"]
    assert "uv 0.12.4 to 0.13.8" in CliRunner().invoke(wayleave, ["preflight", "0.12.4", "0.13.8"]).output
    assert CliRunner().invoke(wayleave, ["preflight", "a", "b"]).exit_code == 2
