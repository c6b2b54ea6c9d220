"""The audit log's page: newest first, searched, paged, as page and as fragment."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable

from sqlalchemy import Engine
from starlette.testclient import TestClient

from app.audit.record import SYSTEM, record
from app.db.session import session_scope


def fill(engine: Engine, count: int) -> None:
    with session_scope(engine) as session:
        for number in range(count):
            record(session, SYSTEM, "host.enrolled", f"PC-{number:03}", tag="<b>lab</b>")


def test_shows_who_did_what_escaped(signed_in: Callable[[str], TestClient], engine: Engine) -> None:
    client = signed_in("approver")
    fill(engine, 2)
    page = client.get("/audit").text
    assert "host.enrolled" in page
    assert "PC-001" in page
    assert "&lt;b&gt;lab&lt;/b&gt;" in page
    assert "<b>lab" not in page


def test_searches_and_treats_wildcards_as_text(signed_in: Callable[[str], TestClient], engine: Engine) -> None:
    client = signed_in("approver")
    fill(engine, 3)
    found = client.get("/audit?q=pc-002").text
    assert found.count('class="wrap">PC-0') == 2
    assert 'The last with “pc-002” in it was <code class="in-sentence">host.enrolled</code>' in found
    assert "No entry has “%nothing” in it." in client.get("/audit?q=%25nothing").text
    assert "No entry matches" in client.get("/audit?q=%25nothing").text


def test_pages_by_keyset_without_gap_or_double(signed_in: Callable[[str], TestClient], engine: Engine) -> None:
    client = signed_in("approver")
    fill(engine, 120)
    seen: list[str] = []
    address: str | None = "/audit?q=PC-"
    while address:
        page = client.get(address).text
        seen += re.findall(r'data-label="To"[^>]*><span class="wrap">(PC-\d{3})', page)
        older = page.partition(">Older<")[0].rpartition('href="')[2].rstrip('"').replace("&amp;", "&")
        address = older if ">Older<" in page else None
    assert seen == [f"PC-{number:03}" for number in reversed(range(120))]


def test_htmx_gets_the_entries_alone(signed_in: Callable[[str], TestClient]) -> None:
    client = signed_in("approver")
    fragment = client.get("/audit", headers={"HX-Request": "true"})
    assert fragment.text.strip().startswith('<div id="entries">')
    # The first sentence comes with it, and is taken out of it by the search field.
    assert fragment.text.count("<h1") == 1
    assert 'hx-select-oob="#answer"' in client.get("/audit").text
    restored = client.get("/audit", headers={"HX-Request": "true", "HX-History-Restore-Request": "true"})
    assert "<html" in restored.text


def test_bad_page_links_are_refused(signed_in: Callable[[str], TestClient]) -> None:
    assert signed_in("approver").get("/audit?before=x").status_code == 422


def test_what_fits_a_search_as_files(signed_in: Callable[[str], TestClient], engine: Engine) -> None:
    client = signed_in("approver")
    fill(engine, 1203)
    with session_scope(engine) as session:
        record(session, SYSTEM, "host.enrolled", "=HYPERLINK(1)", tag="é")
    rows = list(csv.DictReader(io.StringIO(client.get("/audit.csv?q=host.enrolled").text)))
    assert len(rows) == 1204
    assert rows[0]["target"] == "'=HYPERLINK(1)"
    assert rows[0]["detail"] == '{"tag": "é"}'
    assert [row["target"] for row in rows[1:3]] == ["PC-1202", "PC-1201"]
    entries = client.get("/audit.json?q=PC-1200").json()
    assert [(entry["target"], entry["detail"]) for entry in entries] == [("PC-1200", {"tag": "<b>lab</b>"})]
    assert client.get("/audit.json?q=nothing").json() == []
    exported = client.get("/audit.json?q=audit.exported").json()
    assert [entry["target"] for entry in exported[-2:]] == ["json", "csv"], "who takes the log away is in it"


def test_a_viewer_gets_no_file(signed_in: Callable[[str], TestClient]) -> None:
    client = signed_in("viewer")
    assert client.get("/audit.csv").status_code == 403
    assert client.get("/audit.json").status_code == 403
