"""The page of trusted files: who may send what, what is refused where, and what is kept of it."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
from fastapi import FastAPI
from sqlalchemy import Engine, select
from starlette.testclient import TestClient

from agent.baseline import take_baseline
from agent.pe.listing import encode_listing
from app.audit.tables import AuditEntry
from app.db.session import session_scope
from app.policies import archives
from app.policies.tables import BaselineFile

SPEC = spec_from_file_location("small_program", Path(__file__).parents[1] / "small_program.py")
assert SPEC is not None
assert SPEC.loader is not None
_module = module_from_spec(SPEC)
SPEC.loader.exec_module(_module)

NAME = "uv-x86_64-pc-windows-msvc.zip"
SignIn = Callable[[str], TestClient]


def archive(**members: bytes) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as packed:
        for name, data in (members or {"uv": _module.small_program(b"uv")}).items():
            packed.writestr(f"{name}.exe", data)
    return made.getvalue()


def sums(data: bytes, name: str = NAME) -> bytes:
    return f"{hashlib.sha256(data).hexdigest()}  {name}\n".encode()


def forms(data: bytes, checksums: bytes | None = None, name: str = NAME) -> dict[str, tuple[str, bytes]]:
    return {"file": (name, data), "checksums": ("SHA256SUMS", sums(data, name) if checksums is None else checksums)}


@pytest.fixture
def listing(tmp_path: Path) -> bytes:
    (tmp_path / "Scripts").mkdir()
    (tmp_path / "Scripts" / "activate.bat").write_bytes(b"@echo off")
    return encode_listing(take_baseline([tmp_path / "Scripts"], source="golden image"))


def test_an_archive_and_a_list_are_trusted_and_shown(
    signed_in: SignIn, engine: Engine, app: FastAPI, listing: bytes
) -> None:
    client = signed_in("administrator")
    assert "No file is trusted yet" in client.get("/baseline").text
    sent = client.post("/baseline/archives", files=forms(archive()))
    assert (sent.status_code, sent.headers["location"]) == (303, "/baseline?added=1&known=0&left=0")
    sent = client.post("/baseline/lists", files={"file": ("F.json", listing)}, data={"source": ""})
    assert sent.status_code == 303, sent.text
    page = client.get("/baseline?added=1&known=0&left=0").text
    for text in (
        "2 files",
        "vendor archive",
        "in baseline",
        NAME,
        "SHA256SUMS, line 1",
        "golden image",
        "1 file added",
    ):
        assert text in page, text
    assert "activate.bat" not in client.get("/baseline?ground=archive").text
    assert "uv.exe" not in client.get("/baseline?ground=baseline").text
    assert "uv.exe" in client.get("/baseline?archive=1").text
    with session_scope(engine) as session:
        entries = {row.action: row.actor for row in session.scalars(select(AuditEntry))}
    assert entries["baseline.archive_added"] == entries["baseline.list_added"] == "administrator@example.com"
    assert list((app.state.settings.data_dir / "imports").iterdir()) == []


def test_htmx_gets_the_files_alone(signed_in: SignIn) -> None:
    client = signed_in("viewer")
    answer = client.get("/baseline?q=uv", headers={"HX-Request": "true"})
    assert "<html" not in answer.text
    assert 'id="files"' in answer.text
    assert "HX-Request" in answer.headers["vary"]


@pytest.mark.parametrize("role", ["viewer", "analyst", "approver"])
def test_others_read_and_send_nothing(signed_in: SignIn, role: str, listing: bytes) -> None:
    client = signed_in(role)
    assert 'action="/baseline/archives"' not in client.get("/baseline").text
    assert client.post("/baseline/archives", files=forms(archive())).status_code == 403
    assert client.post("/baseline/lists", files={"file": ("F.json", listing)}).status_code == 403
    assert client.post("/baseline/1/remove").status_code == 403
    assert client.post("/baseline/archives/1/remove").status_code == 403
    assert client.post("/api/v1/baseline/archives", files=forms(archive())).status_code == 403


def test_nobody_reads_it_unseen(anonymous: TestClient) -> None:
    assert anonymous.get("/baseline").status_code == 303
    assert anonymous.post("/baseline/archives", files=forms(archive())).status_code in (303, 401)
    assert anonymous.get("/api/v1/baseline").status_code == 401


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (forms(archive(), b"nonsense"), "SHA256SUMS, line 1"),
        (forms(archive(), sums(b"other")), "is not what SHA256SUMS, line 1, publishes"),
        (forms(archive(), sums(archive(), "other.zip")), "names no"),
        (forms(b"no archive"), "Neither a zip"),
        ({"file": (NAME, archive())}, "checksum file, too"),
        ({"checksums": ("SHA256SUMS", b"x")}, "Choose a file first"),
    ],
)
def test_what_is_wrong_stands_at_its_field(
    signed_in: SignIn, engine: Engine, files: dict[str, tuple[str, bytes]], said: str
) -> None:
    answer = signed_in("administrator").post("/baseline/archives", files=files)
    assert answer.status_code == 422
    assert said in answer.text
    assert "field-problem" in answer.text
    with session_scope(engine) as session:
        assert session.scalars(select(BaselineFile)).all() == []


def test_a_list_that_was_changed_is_refused(signed_in: SignIn, listing: bytes) -> None:
    client = signed_in("administrator")
    answer = client.post("/baseline/lists", files={"file": ("F.json", listing.replace(b"activate", b"deactive"))})
    assert (answer.status_code, "was changed after it was made" in answer.text) == (422, True)
    answer = client.post("/baseline/lists", files={"file": ("F.json", listing)}, data={"source": "x" * 301})
    assert answer.status_code == 422


def test_a_large_checksum_file_is_cut_off(signed_in: SignIn) -> None:
    answer = signed_in("administrator").post("/baseline/archives", files=forms(archive(), b"#" * 5_000_000))
    assert (answer.status_code, "4 MB at most" in answer.text) == (413, True)


def test_hostile_names_stay_text(signed_in: SignIn) -> None:
    client = signed_in("administrator")
    data = archive(**{"<script>alert(1)</script>": _module.small_program(b"x")})
    name = '"><img src=x>.zip'
    assert client.post("/baseline/archives", files=forms(data, sums(data, name), name)).status_code in (303, 422)
    page = client.get("/baseline").text
    assert "<script>alert" not in page
    assert "<img src=x" not in page


def test_removing(signed_in: SignIn, engine: Engine, listing: bytes) -> None:
    client = signed_in("administrator")
    client.post("/baseline/archives", files=forms(archive()))
    client.post("/baseline/lists", files={"file": ("F.json", listing)})
    assert client.post("/baseline/2/remove").status_code == 303
    assert client.post("/baseline/2/remove").status_code == 404
    assert client.post("/baseline/archives/1/remove").status_code == 303
    assert client.post("/baseline/archives/1/remove").status_code == 404
    with session_scope(engine) as session:
        assert session.scalars(select(BaselineFile)).all() == []
        actions = [row.action for row in session.scalars(select(AuditEntry))]
    assert {"baseline.removed", "baseline.archive_removed"} <= set(actions)


def test_many_files_come_in_pages_with_few_statements(
    signed_in: SignIn, statements: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = signed_in("administrator")
    data = archive(**{f"{number:03}": _module.small_program(b"%d" % number) for number in range(70)})
    client.post("/baseline/archives", files=forms(data))
    statements.clear()
    page = client.get("/baseline").text
    assert len(statements) <= 12
    assert ("049.exe" in page, "050.exe" in page) == (True, False)
    link = page.split('<a class="btn" href="/baseline?after=')[1].split('"')[0]
    second = client.get(f"/baseline?after={link}").text
    assert ("049.exe" in second, "069.exe" in second) == (False, True)
    assert client.get("/baseline?after=damaged").status_code == 422
    monkeypatch.setattr(archives, "MAX_FILES", 3)
    refused = client.post("/baseline/archives", files=forms(archive(**{str(n): b"MZ" for n in range(9)})))
    assert refused.status_code == 422


def test_programs_do_the_same(signed_in: SignIn, listing: bytes) -> None:
    client = signed_in("administrator")
    added = client.post("/api/v1/baseline/archives", files=forms(archive()))
    assert (added.status_code, added.json()["added"], added.json()["left_out"]) == (201, 1, [])
    assert client.post("/api/v1/baseline/lists", files={"file": ("F.json", listing)}).status_code == 201
    found = client.get("/api/v1/baseline").json()
    assert [(one["name"], one["ground"]) for one in found["files"]] == [
        ("activate.bat", "in baseline"),
        ("uv.exe", "vendor archive"),
    ]
    assert client.get("/api/v1/baseline?limit=1").json()["next_cursor"]
    assert client.get("/api/v1/baseline/archives").json()[0]["name"] == NAME
    wrong = client.post("/api/v1/baseline/archives", files=forms(archive(), b"nonsense"))
    assert (wrong.status_code, wrong.json()["field"]) == (422, "checksums")
    assert client.delete("/api/v1/baseline/archives/1").status_code == 204
    assert client.delete("/api/v1/baseline/2").status_code == 204
    assert client.delete("/api/v1/baseline/2").status_code == 404
