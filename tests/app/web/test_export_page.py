"""The export's pages: the review says what each rule admits, the file is the one reviewed, and each export is kept."""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
from collections.abc import Callable
from html import unescape
from xml.etree import ElementTree

import pytest
from fastapi import FastAPI
from sqlalchemy import Engine, select
from starlette.testclient import TestClient

from app.audit.tables import AuditEntry
from app.db.session import session_scope
from app.policies.tables import ExportRow

SID = "S-1-5-21-1004336348-1177238915-682003330-1234"
CHOICE = {"pattern": ["cache-builds-venv-python", "venv-python"], "sid": SID}
BASE = """<AppLockerPolicy Version="1"><RuleCollection Type="Exe" EnforcementMode="Enabled">
<FilePathRule Id="921cc481-6e17-4653-8f75-050b80acca20" Name="Program Files" Description="" UserOrGroupSid="S-1-1-0"
 Action="Allow"><Conditions><FilePathCondition Path="%PROGRAMFILES%\\*"/></Conditions></FilePathRule>
</RuleCollection></AppLockerPolicy>"""


def test_the_review_says_what_each_rule_admits(signed_in: Callable[[str], TestClient]) -> None:
    answer = signed_in("analyst").post("/export", data=CHOICE)
    assert answer.status_code == 200
    text = unescape(answer.text)
    assert "<strong>2 rules</strong> open <strong>2 patterns</strong>" in text
    assert "any Python code" in text
    assert "On a machine that has nothing else:" in text
    assert "<AppLockerPolicy Version=" in text


def test_the_file_is_valid_the_one_reviewed_and_kept(signed_in: Callable[[str], TestClient], engine: Engine) -> None:
    client = signed_in("analyst")
    review = client.post("/export", data=CHOICE).text
    promised = re.search(r"Download (wayleave-rules-[0-9a-f]{8}\.xml)", review)
    assert promised is not None
    answer = client.post("/export/file", data=CHOICE)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/xml"
    assert answer.headers["content-disposition"] == f'attachment; filename="{promised[1]}"'
    rules = ElementTree.fromstring(answer.content).findall("RuleCollection/FilePathRule")
    assert {rule.get("UserOrGroupSid") for rule in rules} == {SID}
    with session_scope(engine, writes=False) as session:
        kept = session.scalars(select(ExportRow)).one()
        assert kept.sha256 == hashlib.sha256(answer.content).hexdigest()
        assert kept.made_by == "analyst@example.com"
        entry = session.scalars(select(AuditEntry).where(AuditEntry.action == "export.made")).one()
        assert entry.actor == "analyst@example.com"
    assert client.get(f"/export/{kept.id}/file").content == answer.content
    assert f'href="/exports/{kept.id}"' in client.get("/export").text


def test_the_package_is_a_zip_with_the_rules_and_its_checksums(
    signed_in: Callable[[str], TestClient], engine: Engine
) -> None:
    answer = signed_in("analyst").post("/export/package", data={**CHOICE, "delivery": "same-gpo"})
    assert answer.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.content)) as package:
        sums = dict(reversed(line.split("  ")) for line in package.read("SHA256SUMS").decode().splitlines())
        assert len(sums) >= 4
        assert all(hashlib.sha256(package.read(name)).hexdigest() == digest for name, digest in sums.items())
        assert any(name.endswith(".xml") for name in sums)
    with session_scope(engine, writes=False) as session:
        assert len(session.scalars(select(ExportRow)).all()) == 1


def test_what_nobody_approved_says_so_on_the_page_and_in_every_file_to_read(
    signed_in: Callable[[str], TestClient],
) -> None:
    client = signed_in("analyst")
    assert "neither simulated nor approved" in client.get("/export").text
    review = client.post("/export", data=CHOICE).text
    assert "Not simulated, not approved." in review
    assert "/rule-sets/new?origin=pattern&amp;pattern=cache-builds-venv-python&amp;pattern=venv-python" in review
    answer = client.post("/export/package", data={**CHOICE, "delivery": "same-gpo"})
    assert "not-approved" in answer.headers["content-disposition"]
    for content in (answer.content, client.get("/exports/1/bundle").content):
        with zipfile.ZipFile(io.BytesIO(content)) as package:
            for name in ("README.txt", "review.html", "evidence.json"):
                assert b"NOT SIMULATED, NOT APPROVED" in package.read(name), name
            assert json.loads(package.read("evidence.json"))["is_approved"] is False
    assert "Not simulated, not approved" in client.get("/exports/1").text


def test_an_operator_may_have_rules_leave_from_approved_rule_sets_alone(
    signed_in: Callable[[str], TestClient], app: FastAPI, engine: Engine
) -> None:
    client = signed_in("analyst")
    client.post("/export/file", data=CHOICE)
    app.state.settings = app.state.settings.model_copy(update={"rules_approved_only": True})
    review = client.post("/export", data=CHOICE)
    assert review.status_code == 200  # to look is free
    assert "approved rule sets only" in review.text
    assert 'action="/export/file"' not in review.text
    for answer in (
        client.post("/export/file", data=CHOICE),
        client.post("/export/package", data={**CHOICE, "delivery": "same-gpo"}),
        client.get("/exports/1/bundle"),
        client.get("/export/1/file"),
    ):
        assert answer.status_code == 403
        assert "approved rule sets only" in answer.text
    with session_scope(engine, writes=False) as session:
        assert len(session.scalars(select(ExportRow)).all()) == 1
    assert "Download the bundle" not in client.get("/exports/1").text


def test_a_package_for_no_known_delivery_is_refused(signed_in: Callable[[str], TestClient], engine: Engine) -> None:
    answer = signed_in("analyst").post("/export/package", data={**CHOICE, "delivery": "pigeon"})
    assert answer.status_code == 422
    assert "There is no delivery" in answer.text
    with session_scope(engine, writes=False) as session:
        assert session.scalars(select(ExportRow)).all() == []


def test_reviewing_keeps_nothing(signed_in: Callable[[str], TestClient], engine: Engine) -> None:
    signed_in("analyst").post("/export", data=CHOICE)
    with session_scope(engine, writes=False) as session:
        assert session.scalars(select(ExportRow)).all() == []


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_with_a_base_policy_the_whole_policy_comes_back(signed_in: Callable[[str], TestClient], encoding: str) -> None:
    client = signed_in("analyst")
    review = client.post(
        "/export", data=CHOICE, files={"base_file": ("base.xml", BASE.encode(encoding), "text/xml")}
    ).text
    carried = re.search(r'action="/export/file".*?name="base"[^>]*>([^<]*)<', review, re.DOTALL)
    assert carried is not None
    answer = client.post("/export/file", data={**CHOICE, "base": unescape(carried[1])})
    collection = ElementTree.fromstring(answer.content).find("RuleCollection[@Type='Exe']")
    assert collection is not None
    assert collection.get("EnforcementMode") == "Enabled"
    paths = {condition.get("Path") for condition in collection.iter("FilePathCondition")}
    assert "%PROGRAMFILES%\\*" in paths
    assert len(paths) >= 3


def test_project_roots_narrow_the_rules_of_the_file_too(signed_in: Callable[[str], TestClient]) -> None:
    client = signed_in("analyst")
    choice = {**CHOICE, "pattern": ["venv-python"], "project_roots": "C:\\src\r\nD:\\work"}
    review = client.post("/export", data=choice).text
    carried = re.search(r'action="/export/file".*?name="project_roots"[^>]*>([^<]*)<', review, re.DOTALL)
    assert carried is not None
    answer = client.post("/export/file", data={**choice, "project_roots": unescape(carried[1])})
    paths = [one.get("Path", "") for one in ElementTree.fromstring(answer.content).iter("FilePathCondition")]
    assert paths
    assert {path.partition("\\")[0] for path in paths} == {"%OSDRIVE%", "D:"}
    assert all(path.startswith(("%OSDRIVE%\\src\\", "D:\\work\\")) for path in paths)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"sid": "Developers"}, "sid"),
        ({"sid": ""}, "sid"),
        ({"pattern": []}, "patterns"),
        ({"pattern": ["no-such-pattern"]}, "patterns"),
        ({"project_roots": "\\\\server\\share"}, "project_roots"),
        ({"base": "<nonsense"}, "base"),
        ({"kind": ["venv-python=magic"]}, "patterns"),
    ],
)
def test_bad_input_comes_back_on_the_filled_form(
    signed_in: Callable[[str], TestClient], engine: Engine, change: dict[str, object], field: str
) -> None:
    client = signed_in("analyst")
    for path in ("/export", "/export/file"):
        answer = client.post(path, data={**CHOICE, **change})
        assert answer.status_code == 422, path
        assert f'id="{field}-note"' in answer.text
        if "pattern" not in change:
            assert 'value="venv-python" id="p-venv-python" data-choice checked' in answer.text
    with session_scope(engine, writes=False) as session:
        assert session.scalars(select(ExportRow)).all() == []


def test_a_file_that_is_no_text_is_refused(signed_in: Callable[[str], TestClient]) -> None:
    answer = signed_in("analyst").post("/export", data=CHOICE, files={"base_file": ("base.xml", b"\xff\x00\x80")})
    assert answer.status_code == 422
    assert "not XML in UTF-8 or UTF-16" in answer.text


def test_a_base_policy_over_the_limit_is_refused(signed_in: Callable[[str], TestClient]) -> None:
    client = signed_in("analyst")
    big = ("base.xml", b"<!--" + b"x" * 1_000_000 + b"-->")
    assert client.post("/export", data=CHOICE, files={"base_file": big}).status_code == 422
    far_too_big = ("base.xml", b"x" * 5_000_000)
    assert client.post("/export", data=CHOICE, files={"base_file": far_too_big}).status_code == 413


def test_text_from_the_form_is_escaped(signed_in: Callable[[str], TestClient]) -> None:
    answer = signed_in("analyst").post("/export", data={**CHOICE, "sid": '"><script>alert(1)</script>'})
    assert "<script>alert" not in answer.text


def test_a_link_chooses_patterns(signed_in: Callable[[str], TestClient]) -> None:
    page = signed_in("analyst").get("/export?pattern=venv-python&pattern=invented").text
    assert page.count("data-choice checked") == 1


def test_an_unknown_export_is_not_found(signed_in: Callable[[str], TestClient]) -> None:
    client = signed_in("analyst")
    assert client.get("/export/77/file").status_code == 404
    assert client.get("/export/x/file").status_code == 404
