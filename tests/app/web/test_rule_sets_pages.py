"""The pages of rule sets: who may do what, bad input, audit, statements; exports byte for byte, one call a file."""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
from collections.abc import Callable
from html import unescape

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from fastapi import FastAPI
from lxml import etree
from sqlalchemy import Engine, select
from starlette.testclient import TestClient

from app.audit.record import Actor
from app.audit.tables import AuditEntry
from app.db.session import session_scope
from app.policies.base_policies import add_base_policy
from app.policies.queries_rule_sets import get_rule_set, list_approvals
from app.policies.review import let_authors_approve
from app.policies.rule_sets import Group, State, add_to_rule_set, choose_for_item, set_terms

SID = "S-1-5-21-1004336348-1177238915-682003330-1234"
PILOT = "S-1-5-21-1004336348-1177238915-682003330-9999"
RULE = '<FilePathRule Id="921cc481-6e17-4653-8f75-050b80acca20" Name="Programs" Description="" UserOrGroupSid="S-1-1-0" Action="Allow"><Conditions><FilePathCondition Path="%PROGRAMFILES%\\*"/></Conditions></FilePathRule>'  # noqa: E501 - XML as a policy has it, on one line
BASE = f'<AppLockerPolicy Version="1"><RuleCollection Type="Exe" EnforcementMode="Enabled">{RULE}</RuleCollection></AppLockerPolicy>'  # noqa: E501 - XML as a policy has it, on one line
ADA = Actor(kind="account", name="ada@example.com")
SignIn = Callable[[str], TestClient]


@pytest.fixture
def draft(engine: Engine) -> str:
    """The address of a draft by somebody else, ready to be simulated."""
    with session_scope(engine) as session:
        added = add_to_rule_set(session, patterns=["venv-python", "managed-python-exe", "tool-env-python"], actor=ADA)
        base = add_base_policy(session, BASE.encode(), name="Workstations", actor=ADA)
        set_terms(
            session,
            added.rule_set_id,
            base_id=base.id,
            groups=[Group(sid=SID, name="Developers")],
            pilot=[Group(sid=PILOT, name="Pilot")],
            actor=ADA,
        )
        choose_for_item(session, added.rule_set_id, "tool-env-python", kind="relocate", actor=ADA)
    return f"/rule-sets/{added.rule_set_id}"


def approved(address: str, signed_in: SignIn) -> tuple[TestClient, TestClient]:
    analyst, approver = signed_in("analyst"), signed_in("approver")
    assert analyst.post(f"{address}/what-if").status_code == 303
    assert analyst.post(f"{address}/submit").status_code == 303
    digest = re.search(r'name="digest" value="([0-9a-f]{64})"', approver.get(f"{address}/review").text)
    assert digest is not None
    answer = approver.post(f"{address}/approve", data={"digest": digest[1], "note": "fine"})
    assert answer.status_code == 303, answer.text
    return analyst, approver


def test_pages_say_what_stands_and_what_is_missing(signed_in: SignIn, engine: Engine) -> None:
    client = signed_in("analyst")
    assert "No rule set was begun yet" in client.get("/rule-sets").text
    answer = client.post("/rule-sets", data={"workflow": "sync-build", "origin": "request:7"})
    assert answer.status_code == 303
    page = unescape(client.get(answer.headers["location"]).text)
    assert "Say for whom" in page
    assert "uv sync" in page
    listed = client.get("/rule-sets?q=uv", headers={"HX-Request": "true"}).text
    assert "Open uv sync" in listed
    assert "<html" not in listed
    for page_name in ("plan", "what-if", "review", "export", "patterns/venv-python"):
        assert client.get(f"{answer.headers['location']}/{page_name}").status_code == 200


@pytest.mark.parametrize(
    ("role", "method", "path", "status"),
    [
        ("viewer", "get", "", 200),
        ("viewer", "get", "/review", 200),
        ("viewer", "post", "/what-if", 403),
        ("viewer", "post", "/patterns", 403),
        ("viewer", "post", "/terms", 403),
        ("viewer", "post", "/plan", 403),
        ("viewer", "post", "/submit", 403),
        ("viewer", "post", "/comments", 403),
        ("viewer", "post", "/export", 403),
        ("viewer", "post", "/retire", 403),
        ("analyst", "post", "/approve", 403),
        ("approver", "post", "/authors-may-approve", 403),
    ],
)
def test_who_may_do_what(signed_in: SignIn, draft: str, role: str, method: str, path: str, status: int) -> None:
    assert getattr(signed_in(role), method)(f"{draft}{path}").status_code == status


@pytest.mark.parametrize("path", ["/rule-sets", "/rule-sets/1", "/rule-sets/1/review", "/rule-sets/new"])
def test_strangers_are_led_to_the_login(anonymous: TestClient, path: str) -> None:
    assert anonymous.get(path).headers["location"].startswith("/login")


@pytest.mark.parametrize(
    "path",
    [
        "/rule-sets/999",
        "/rule-sets/999/plan",
        "/rule-sets/999/what-if",
        "/rule-sets/999/export",
        "/rule-sets/1/patterns/format",
        "/rule-sets/1/exports/5/bundle",
        "/rule-sets/1/exports/5/files/rules.xml",
        "/rule-sets/1/exports/5/files/../../etc/passwd",
    ],
)
def test_unknown_ones_are_404(signed_in: SignIn, draft: str, path: str) -> None:
    assert signed_in("administrator").get(path).status_code == 404


@pytest.mark.parametrize(
    ("path", "data", "says"),
    [
        ("/terms", {"groups": "Developers", "revision": "4"}, "is not a SID"),
        ("/terms", {"groups": SID, "project_roots": "C:\\", "revision": "4"}, "whole drive"),
        ("/terms", {"groups": SID, "root_python": "\\\\server\\share", "revision": "4"}, "network or device path"),
        ("/terms", {"groups": SID, "base": "seen:x", "revision": "4"}, "Choose a base policy"),
        ("/patterns", {"pattern": "<script>"}, "There is no pattern"),
        ("/patterns", {"workflow": "rm -rf"}, "There is no uv command"),
        ("/patterns/venv-python/choose", {"kind": "anything"}, "Choose relocate"),
        ("/details", {"name": "", "owner": "x"}, "This is needed"),
        ("/details", {"name": "x", "owner": "x", "review_by": "soon"}, "2027-01-31"),
        ("/comments", {"text": " "}, "This is needed"),
        ("/submit", {}, "not simulated"),
    ],
)
def test_bad_input_changes_nothing_and_says_why(
    signed_in: SignIn, engine: Engine, draft: str, path: str, data: dict[str, str], says: str
) -> None:
    answer = signed_in("analyst").post(f"{draft}{path}", data=data)
    assert answer.status_code == 422
    assert says in unescape(answer.text)
    with session_scope(engine, writes=False) as session:
        assert get_rule_set(session, 1).groups == (Group(sid=SID, name="Developers"),)


def test_ways_are_judged_one_by_one_when_somebody_asks(
    signed_in: SignIn, draft: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    viewer = signed_in("viewer")
    page = viewer.get(f"{draft}/patterns/venv-python").text
    assert "not judged" in page
    assert f"{draft}/patterns/venv-python?judge=true" in page
    judged = viewer.get(f"{draft}/patterns/venv-python?judge=true").text
    assert "Each way was judged alone" in judged
    assert re.search(r'<td data-label="Would open for" class="num">0<span', judged)
    monkeypatch.setattr("app.web.pages.rule_sets_ways.is_large", lambda _: True)
    large = viewer.get(f"{draft}/patterns/venv-python?judge=true").text
    assert "too large to judge every way" in large
    assert "not judged" in large


def test_an_author_may_not_approve_unless_it_was_allowed(signed_in: SignIn, engine: Engine, draft: str) -> None:
    approver = signed_in("approver")
    approver.post(f"{draft}/patterns", data={"pattern": "cache-builds-venv-python"})  # now an author
    approver.post(f"{draft}/what-if")
    approver.post(f"{draft}/submit")
    page = approver.get(f"{draft}/review").text
    assert "somebody else has to approve it" in unescape(page)
    assert approver.post(f"{draft}/approve", data={"digest": "0" * 64}).status_code == 403
    with session_scope(engine) as session:
        let_authors_approve(session, True, actor=ADA)
    digest = re.search(r'name="digest" value="([0-9a-f]{64})"', approver.get(f"{draft}/review").text)
    assert digest is not None
    assert approver.post(f"{draft}/approve", data={"digest": digest[1]}).status_code == 303


def test_only_what_was_looked_at_can_be_approved(signed_in: SignIn, engine: Engine, draft: str) -> None:
    analyst, approver = signed_in("analyst"), signed_in("approver")
    analyst.post(f"{draft}/what-if")
    analyst.post(f"{draft}/submit")
    digest = re.search(r'name="digest" value="([0-9a-f]{64})"', approver.get(f"{draft}/review").text)
    assert digest is not None
    analyst.post(f"{draft}/patterns", data={"pattern": "cache-builds-venv-python"})
    analyst.post(f"{draft}/what-if")
    analyst.post(f"{draft}/submit")
    assert approver.post(f"{draft}/approve", data={"digest": digest[1]}).status_code == 409


def test_a_change_after_the_approval_voids_it(signed_in: SignIn, engine: Engine, draft: str) -> None:
    analyst, _ = approved(draft, signed_in)
    analyst.post(f"{draft}/patterns/venv-python/remove")
    assert analyst.post(f"{draft}/export", data={"delivery": "same-gpo", "ring": "pilot"}).status_code == 409
    with session_scope(engine, writes=False) as session:
        assert get_rule_set(session, 1).state is State.DRAFT
        (approval,) = list_approvals(session, 1)
    assert approval.voided_why == "The draft was changed."


def test_the_pilot_comes_first_and_files_are_the_same_each_time(signed_in: SignIn, engine: Engine, draft: str) -> None:
    analyst, _ = approved(draft, signed_in)
    early = analyst.post(f"{draft}/export", data={"delivery": "same-gpo", "ring": "all"})
    assert early.status_code == 422
    assert "pilot first" in early.text
    unfit = analyst.post(f"{draft}/export", data={"delivery": "intune", "ring": "pilot"})
    assert unfit.status_code == 422
    odd = analyst.post(f"{draft}/export", data={"delivery": "same-gpo", "ring": "pilot", "wdac_base_id": "no guid"})
    assert odd.status_code == 422
    for ring in ("pilot", "all"):
        assert analyst.post(f"{draft}/export", data={"delivery": "separate-gpo", "ring": ring}).status_code == 303
    bundles = [analyst.get(f"{draft}/exports/{number}/bundle").content for number in (1, 2)]
    assert bundles[0] == analyst.get(f"{draft}/exports/1/bundle").content
    with zipfile.ZipFile(io.BytesIO(bundles[0])) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    assert all(b"NOT APPROVED" not in content for content in files.values())
    assert json.loads(files["evidence.json"])["is_approved"] is True
    again = analyst.get("/exports/1/bundle?delivery=local")  # it was approved for one delivery
    assert (again.status_code, again.headers["location"]) == (303, f"{draft}/exports/1/bundle")
    assert f'href="{draft}/exports/1/bundle"' in analyst.get("/exports/1").text
    assert PILOT.encode() in files["rules.xml"]
    assert SID.encode() not in files["rules.xml"]
    assert b"AuditOnly" not in files["rules.xml"]
    assert "whole-policy.xml" not in files
    for name, content in files.items():
        assert analyst.get(f"{draft}/exports/1/files/{name}").content == content
        assert analyst.get(f"/api/v1{draft}/exports/1/files/{name}").content == content
    manifest = json.loads(files["manifest.json"])
    assert manifest["public_key_ed25519"] in analyst.get(f"{draft}/export").text
    Ed25519PublicKey.from_public_bytes(bytes.fromhex(manifest["public_key_ed25519"])).verify(
        files["manifest.sig"], files["manifest.json"]
    )
    for name, digest in manifest["files"].items():
        assert hashlib.sha256(files[name]).hexdigest() == digest
    assert set(files) - set(manifest["files"]) == {"manifest.json", "manifest.sig", "SHA256SUMS"}
    variables = etree.fromstring(files["environment.xml"])
    (one,) = variables
    assert one.get("name") == "UV_TOOL_DIR"
    assert one[0].get("value") == "C:\\Program Files\\uv\\tools"
    assert re.fullmatch(r"\{[0-9A-F-]{36}\}", one.get("uid"))
    with session_scope(engine, writes=False) as session:
        approval = list_approvals(session, 1)[0]
        actions = session.scalars(select(AuditEntry.action).order_by(AuditEntry.id)).all()
    assert one.get("changed") == approval.at.strftime("%Y-%m-%d %H:%M:%S")
    assert [name for name in actions if name.startswith("rule_set.")][-5:] == [
        "rule_set.simulated",
        "rule_set.submitted",
        "rule_set.approved",
        "rule_set.exported",
        "rule_set.exported",
    ]


@pytest.mark.parametrize("page", ["", "/plan", "/what-if", "/review", "/export", "/patterns/venv-python"])
def test_statements_are_bounded(signed_in: SignIn, draft: str, statements: list[str], page: str) -> None:
    client = signed_in("analyst")
    statements.clear()
    assert client.get(f"{draft}{page}").status_code == 200
    assert len(statements) <= 30, statements


def test_hostile_words_stay_words(signed_in: SignIn, app: FastAPI, draft: str) -> None:
    client = signed_in("analyst")
    words = '<script>alert(1)</script>"\u202e'
    assert client.post(f"{draft}/details", data={"name": words, "owner": "x"}).status_code == 422  # not printable
    assert client.post(f"{draft}/comments", data={"text": "<script>alert(1)</script>"}).status_code == 303
    assert "<script>alert(1)" not in client.get(f"{draft}/review").text
