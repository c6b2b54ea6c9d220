"""`wayleave export applocker`: the file, the words about it, and messages that name the option."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from agent.contract.facts import PolicySet
from agent.pe import identify
from app.applocker.read import parse_policy
from app.cli.export import command
from app.db.base import Base
from app.db.engine import open_url
from app.db.session import session_scope
from app.policies.baselines import add_baseline_files
from app.settings import Settings


@pytest.fixture(autouse=True)
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WAYLEAVE_DATA_DIR", str(tmp_path / "var"))
    return tmp_path / "var"


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(command, ["applocker", *map(str, arguments)])


def test_rules_are_written_and_explained(tmp_path: Path, developers: str) -> None:
    out = tmp_path / "rules.xml"
    done = run("--pattern", "venv-python=path", "--sid", developers, "--project-root", r"C:\src", "--out", out)
    assert done.exit_code == 0, done.output
    assert len(list(parse_policy(out.read_bytes()).rules())) == 2
    for word in ("opens    venv-python", "such as C:\\src", "risk     Users can write there", "sha256"):
        assert word in done.stderr
    assert done.stdout == ""


def test_it_says_that_nobody_approved_and_an_operator_may_forbid_it(
    tmp_path: Path, developers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, chosen = tmp_path / "rules.xml", ("--pattern", "venv-python", "--sid", developers)
    assert "NOT SIMULATED, NOT APPROVED" in run(*chosen, "--out", out).stderr
    out.unlink()
    monkeypatch.setenv("WAYLEAVE_RULES_APPROVED_ONLY", "true")
    for form in ("applocker", "bundle"):
        done = CliRunner().invoke(command, [form, *chosen, "--out", str(out)])
        assert done.exit_code == 2
        assert "approved rule sets only" in done.stderr
        assert not out.exists()


def test_a_whole_policy_to_standard_output_with_json(tmp_path: Path, developers: str, base_policy: str) -> None:
    base = tmp_path / "base.xml"
    base.write_text(base_policy)
    done = run("--pattern", "venv-python", "--sid", developers, "--base", base, "--out", "-", "--json")
    assert done.exit_code == 0, done.output
    assert len(list(parse_policy(done.stdout).rules())) == 4
    described = json.loads(done.stderr)
    assert described["rules"][0]["patterns"] == ["venv-python"]
    assert described["base_sha256"]


def test_hash_rules_come_from_the_baseline(data_dir: Path, tmp_path: Path, developers: str) -> None:
    script = identify(b"@echo off", name="activate.bat")
    engine = open_url(f"sqlite:///{data_dir / 'wayleave.sqlite'}")
    Base.metadata.create_all(engine)
    with session_scope(engine) as session:
        add_baseline_files(session, [script], source="here")
    engine.dispose()
    out = tmp_path / "rules.xml"
    done = run("--pattern", "venv-activation-script", "--sid", developers, "--out", out)
    assert done.exit_code == 0, done.output
    assert f"0x{script.sha256.upper()}" in out.read_text()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--pattern", "nonsense", "--sid", "S-1-1-0"], "patterns: There is no pattern"),
        (["--pattern", "venv-python", "--sid", "Developers"], "sid: 'Developers' is not a SID"),
        (["--pattern", "venv-python", "--sid", "S-1-1-0", "--project-root", "C:\\*"], "project_roots: "),
        (["--pattern", "venv-python", "--sid", "S-1-1-0", "--root", "cache"], "--root takes NAME=FOLDER"),
        (["--pattern", "venv-native-lib", "--sid", "S-1-1-0"], "collections: "),
    ],
)
def test_what_cannot_be_is_exit_code_2_and_no_file(tmp_path: Path, arguments: list[str], says: str) -> None:
    out = tmp_path / "rules.xml"
    refused = run(*arguments, "--out", out)
    assert refused.exit_code == 2
    assert says in refused.stderr
    assert not out.exists()


def test_what_if_is_asked_of_the_fleets_policies(
    settings: Settings,
    database: Engine,
    make_fleet: Callable[[Session], Any],
    developers: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WAYLEAVE_DATA_DIR", str(settings.data_dir))
    monkeypatch.setenv("WAYLEAVE_DATABASE_URL", settings.database_url)
    with session_scope(database) as session:
        make_fleet(session).add(PolicySet(collections={}))
    done = run("--pattern", "venv-python=path", "--sid", developers, "--out", tmp_path / "rules.xml", "--what-if")
    assert done.exit_code == 0, done.output
    assert "what if: 1 users on 1 different policies" in done.stderr
    assert "DANGER: for 1 users these would be the first Exe rules" in done.stderr
