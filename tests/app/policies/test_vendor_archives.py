"""An archive is trusted for its vendor's checksum alone, and what came from it is told from an administrator's word."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from agent.pe import identify
from app.audit.record import Actor
from app.audit.tables import AuditEntry
from app.cli.baseline import command
from app.db.session import session_scope
from app.errors import InvalidError, NotFoundError
from app.policies.baselines import add_baseline_files, find_grounds, list_baseline_files
from app.policies.candidates import rank_candidates
from app.policies.evidence import evidence_for, trusted_evidence
from app.policies.vendor_archives import (
    CheckedArchive,
    add_vendor_archive,
    check_archive,
    list_vendor_archives,
    remove_vendor_archive,
)
from app.settings import Settings

SPEC = spec_from_file_location("small_program", Path(__file__).parents[1] / "small_program.py")
assert SPEC is not None
assert SPEC.loader is not None
_module = module_from_spec(SPEC)
SPEC.loader.exec_module(_module)

UV, UVX = _module.small_program(b"uv"), _module.small_program(b"uvx")
ADMINISTRATOR = Actor(kind="account", name="ada@example.com")
NAME = "uv-x86_64-pc-windows-msvc.zip"
DOWNLOADS = Path(__file__).parents[3] / ".bench" / "downloads"


@pytest.fixture
def session(database: Engine) -> Iterator[Session]:
    with session_scope(database) as session:
        yield session


def packed(folder: Path, name: str = NAME, **members: bytes) -> tuple[Path, bytes]:
    """An archive of programs and its vendor's checksum file."""
    path = folder / name
    with zipfile.ZipFile(path, "w") as archive:
        for member, data in members.items():
            archive.writestr(f"{member}.exe", data)
    return path, f"{'0' * 64}  other.zip\n{hashlib.sha256(path.read_bytes()).hexdigest()}  {name}\n".encode()


def checked(folder: Path, name: str = NAME, **members: bytes) -> CheckedArchive:
    path, checksums = packed(folder, name, **members)
    return check_archive(path, name, checksums, "SHA256SUMS")


def test_its_files_are_trusted_with_the_whole_provenance(session: Session, tmp_path: Path) -> None:
    path, checksums = packed(tmp_path, uv=UV)
    done = add_vendor_archive(session, check_archive(path, NAME, checksums, "SHA256SUMS"), actor=ADMINISTRATOR)
    (file,) = list_baseline_files(session)
    sha256, sums = hashlib.sha256(path.read_bytes()).hexdigest(), hashlib.sha256(checksums).hexdigest()
    assert (file.authenticode_sha256, file.archive) == (identify(UV).authenticode_sha256, NAME)
    assert file.source == f"vendor archive {NAME}, sha256:{sha256}, published in SHA256SUMS line 2 (sha256:{sums})"
    (line,) = list_vendor_archives(session)
    assert (line.id, line.files, line.checksum_line, line.added_by) == (done.id, 1, 2, "ada@example.com")
    assert trusted_evidence(file).what == "vendor archive"
    entries = {row.action: row.detail for row in session.scalars(select(AuditEntry))}
    assert entries["baseline.archive_added"]["sha256"] == sha256
    assert entries["baseline.archive_added"]["checksums_sha256"] == sums
    assert set(entries) == {"baseline.archive_added", "baseline.added"}


def test_it_is_a_ground_for_a_hash_rule(session: Session, tmp_path: Path) -> None:
    add_vendor_archive(session, checked(tmp_path, uv=UV))
    baseline = list_baseline_files(session)
    ways = rank_candidates("uv-exe-standalone", "S-1-1-0", baseline=baseline)
    (hashes,) = [one for one in ways if one.kind == "hash"]
    assert hashes.is_ready
    assert [one.what for one in evidence_for(hashes.rules, baseline, {})] == ["vendor archive"]


def test_another_archive_than_the_published_one_is_refused(session: Session, tmp_path: Path) -> None:
    path, checksums = packed(tmp_path, uv=UV)
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(InvalidError, match=r"not what SHA256SUMS, line 2, publishes") as refused:
        check_archive(path, NAME, checksums, "SHA256SUMS")
    assert refused.value.field == "archive"
    with pytest.raises(InvalidError, match=r"names no 'mine\.zip'"):
        check_archive(path, "mine.zip", checksums, "SHA256SUMS")
    empty, sums = packed(tmp_path, "empty.zip")
    with pytest.raises(InvalidError, match="holds no program"):
        check_archive(empty, "empty.zip", sums, "SHA256SUMS")
    assert list_baseline_files(session) == ()


def test_typed_words_make_no_vendor_archive(session: Session) -> None:
    add_baseline_files(session, [identify(UV, name="uv.exe")], source="vendor archive uv.zip")
    assert trusted_evidence(list_baseline_files(session)[0]).what == "in baseline"


def test_twice_is_once_and_what_was_known_is_both(session: Session, tmp_path: Path) -> None:
    add_baseline_files(session, [identify(UVX, name="uvx.exe")], source="the packaging PC")
    one = checked(tmp_path, uv=UV, uvx=UVX)
    first, again = add_vendor_archive(session, one), add_vendor_archive(session, one)
    assert ([file.name for file in first.added], [file.name for file in first.known]) == (["uv.exe"], ["uvx.exe"])
    assert (first.id, again.added, len(again.known)) == (again.id, (), 2)
    assert [(file.name, file.archive) for file in list_baseline_files(session)] == [("uv.exe", NAME), ("uvx.exe", NAME)]
    # The administrator's word stands when the archive goes.
    assert remove_vendor_archive(session, first.id) == 1
    assert [(file.name, file.archive) for file in list_baseline_files(session)] == [("uvx.exe", None)]
    with pytest.raises(NotFoundError):
        remove_vendor_archive(session, first.id)


def test_a_file_of_two_archives_goes_with_the_second(session: Session, tmp_path: Path) -> None:
    first = add_vendor_archive(session, checked(tmp_path, "one.zip", uv=UV))
    second = add_vendor_archive(session, checked(tmp_path, "two.zip", uv=UV, uvx=UVX))
    assert remove_vendor_archive(session, first.id) == 0
    assert [file.archive for file in list_baseline_files(session)] == ["two.zip", "two.zip"]
    assert remove_vendor_archive(session, second.id) == 2
    assert list_baseline_files(session) == ()


def test_who_vouches_later_keeps_the_file(session: Session, tmp_path: Path) -> None:
    one = add_vendor_archive(session, checked(tmp_path, uv=UV))
    add_baseline_files(session, [identify(UV, name="uv.exe")], source="the packaging PC")
    assert remove_vendor_archive(session, one.id) == 0
    assert len(list_baseline_files(session)) == 1


def test_grounds_are_found_by_either_hash(session: Session, tmp_path: Path) -> None:
    add_vendor_archive(session, checked(tmp_path, uv=UV))
    identity = identify(UV)
    found = find_grounds(session, [identity.sha256.upper(), identity.authenticode_sha256 or "", "f" * 64])
    assert {digest: file.archive for digest, file in found.items()} == {
        identity.sha256: NAME,
        identity.authenticode_sha256: NAME,
    }


def test_a_real_release_is_read(tmp_path: Path) -> None:
    """uv's wheel holds the very files of its release, signed by who releases it."""
    wheel = next(iter(sorted(DOWNLOADS.glob("uv-0.13.*win_amd64.whl"))), None)
    if wheel is None:
        pytest.skip("needs `.venv/bin/python -m tests.windows.bench build`")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    found = check_archive(wheel, wheel.name, f"{digest}  {wheel.name}".encode(), "SHA256SUMS").unpacked
    assert [(file.identity.name, file.identity.signature) for file in found.files] == [
        ("uv.exe", "present"),
        ("uvw.exe", "present"),
        ("uvx.exe", "present"),
    ]


def test_the_command_adds_lists_and_removes(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WAYLEAVE_DATA_DIR", str(settings.data_dir))
    monkeypatch.setenv("WAYLEAVE_DATABASE_URL", settings.database_url)
    run = CliRunner()
    path, checksums = packed(tmp_path, uv=UV)
    (tmp_path / "SHA256SUMS").write_bytes(checksums)
    arguments = ["add-archive", str(path), "--checksums", str(tmp_path / "SHA256SUMS")]
    added = run.invoke(command, arguments)
    assert added.exit_code == 0, added.output
    assert "SHA256SUMS line 2" in added.stdout
    assert NAME in run.invoke(command, ["archives"]).stdout
    (tmp_path / "SHA256SUMS").write_text("nonsense")
    refused = run.invoke(command, arguments)
    assert (refused.exit_code, "SHA256SUMS, line 1" in refused.stderr) == (2, True)
    assert "1 files are no longer trusted" in run.invoke(command, ["remove-archive", "1"]).stdout
    assert run.invoke(command, ["remove-archive", "1"]).exit_code == 2
