"""Trusted files: recorded once, audited, and only what a rule could name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from agent.baseline import take_baseline
from agent.pe import identify
from agent.pe.listing import encode_listing
from app.audit.record import Actor
from app.audit.tables import AuditEntry
from app.cli.baseline import command
from app.db.session import session_scope
from app.errors import InvalidError, NotFoundError
from app.policies.baselines import add_baseline_files, list_baseline_files, remove_baseline_file
from app.settings import Settings

ADMINISTRATOR = Actor(kind="account", name="ada@example.com")
SCRIPT = identify(b"@echo off\r\n", name="activate.bat")


@pytest.fixture
def session(database: Engine) -> Iterator[Session]:
    with session_scope(database) as session:
        yield session


def audited(session: Session) -> list[tuple[str, str, str | None]]:
    session.flush()
    return [(row.actor, row.action, row.target) for row in session.scalars(select(AuditEntry))]


def test_a_file_is_recorded_with_who_when_and_from_where(session: Session) -> None:
    done = add_baseline_files(session, [SCRIPT], source=" the packaging PC ", actor=ADMINISTRATOR)
    (file,) = done.added
    assert (file.name, file.kind, file.rule_sha256) == ("activate.bat", "script", SCRIPT.sha256)
    assert (file.source, file.added_by) == ("the packaging PC", "ada@example.com")
    assert list_baseline_files(session) == (file,)
    assert audited(session) == [("ada@example.com", "baseline.added", "activate.bat")]


def test_the_same_file_twice_is_one_file(session: Session) -> None:
    first = add_baseline_files(session, [SCRIPT, SCRIPT], source="here", actor=ADMINISTRATOR)
    again = add_baseline_files(session, [SCRIPT], source="elsewhere", actor=ADMINISTRATOR)
    assert (len(first.added), again.added, again.known) == (1, (), first.added)
    assert len(audited(session)) == 1


@pytest.mark.parametrize(
    ("data", "name", "source", "field"),
    [
        (b"", "activate.bat", "here", "file 'activate.bat'"),
        (b"text", "notes.txt", "here", "file 'notes.txt'"),
        (b"x", "a\x00b.bat", "here", "file 'a\\x00b.bat'"),
        (b"x", "a.bat", "  ", "source"),
        (b"x", "a.bat", "line\nbreak", "source"),
        (b"x", "a.bat", "x" * 501, "source"),
    ],
)
def test_what_no_rule_could_name_is_refused(session: Session, data: bytes, name: str, source: str, field: str) -> None:
    with pytest.raises(InvalidError) as refused:
        add_baseline_files(session, [SCRIPT, identify(data, name=name)], source=source)
    assert refused.value.field == field
    assert list_baseline_files(session) == ()
    assert audited(session) == []


def test_a_file_can_be_dropped(session: Session) -> None:
    (file,) = add_baseline_files(session, [SCRIPT], source="here", actor=ADMINISTRATOR).added
    assert remove_baseline_file(session, file.id, actor=ADMINISTRATOR) == file
    assert list_baseline_files(session) == ()
    assert audited(session)[-1] == ("ada@example.com", "baseline.removed", "activate.bat")
    with pytest.raises(NotFoundError):
        remove_baseline_file(session, file.id)


@pytest.fixture
def run(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    monkeypatch.setenv("WAYLEAVE_DATA_DIR", str(settings.data_dir))
    monkeypatch.setenv("WAYLEAVE_DATABASE_URL", settings.database_url)
    return CliRunner()


def test_command_adds_files_and_folders_and_lists_them(run: CliRunner, tmp_path: Path) -> None:
    folder = tmp_path / "Scripts"
    folder.mkdir()
    (folder / "activate.bat").write_bytes(b"@echo off")
    (folder / "readme.txt").write_bytes(b"no rule for this")
    (folder / "broken.exe").write_bytes(b"MZ" + bytes(0x3A) + b"\x40\0\0\0PE\0\0")
    single = tmp_path / "deactivate.bat"
    single.write_bytes(b"@exit")
    added = run.invoke(command, ["add", str(folder), str(single), "--source", "golden image"])
    assert added.exit_code == 0, added.output
    assert "broken.exe: left out" in added.stderr
    assert "2 read, 2 added, 0 known already" in added.stderr
    listed = json.loads(run.invoke(command, ["list", "--json"]).stdout)
    assert [(row["name"], row["source"]) for row in listed] == [
        ("activate.bat", "golden image"),
        ("deactivate.bat", "golden image"),
    ]
    assert "known  " in run.invoke(command, ["add", str(single)]).stdout
    assert "removed  " in run.invoke(command, ["remove", str(listed[0]["id"])]).stdout
    assert "activate.bat" not in run.invoke(command, ["list"]).stdout.replace("deactivate.bat", "")


def test_command_refuses_what_it_cannot_use(run: CliRunner, tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("x")
    refused = run.invoke(command, ["add", str(text)])
    assert refused.exit_code == 2
    assert "notes.txt" in refused.stderr
    assert run.invoke(command, ["add", str(tmp_path / "absent.exe")]).exit_code == 2
    assert run.invoke(command, ["remove", "99"]).exit_code == 2


def test_command_without_a_database_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAYLEAVE_DATA_DIR", str(tmp_path / "new"))
    failed = CliRunner().invoke(command, ["list"])
    assert failed.exit_code == 1
    assert "wayleave db upgrade" in failed.stderr


def test_command_adds_a_list_from_a_trusted_machine(run: CliRunner, tmp_path: Path) -> None:
    (tmp_path / "Scripts").mkdir()
    (tmp_path / "Scripts" / "activate.bat").write_bytes(b"@echo off")
    listing = take_baseline([tmp_path / "Scripts"], source="golden image")
    (tmp_path / "F.json").write_bytes(encode_listing(listing))
    added = run.invoke(command, ["add", str(tmp_path / "F.json")])
    assert added.exit_code == 0, added.output
    (row,) = json.loads(run.invoke(command, ["list", "--json"]).stdout)
    assert (row["name"], row["source"]) == (
        "activate.bat",
        f"golden image (list F.json, sha256:{listing.sha256})",
    )
    (tmp_path / "F.json").write_bytes(encode_listing(listing).replace(b"activate", b"deactive"))
    refused = run.invoke(command, ["add", str(tmp_path / "F.json")])
    assert (refused.exit_code, "was changed" in refused.stderr) == (2, True)


def test_many_files_at_once_have_one_entry_for_all(session: Session) -> None:
    many = [identify(b"rem %d" % number, name=f"{number}.bat") for number in range(250)]
    add_baseline_files(session, many, source="golden image", actor=ADMINISTRATOR)
    actions = [action for _, action, _ in audited(session)]
    assert (actions.count("baseline.added"), actions.count("baseline.many_added")) == (200, 1)
    assert len(list_baseline_files(session)) == 250
