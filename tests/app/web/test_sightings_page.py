"""Sightings: what was refused in a time, by day, pattern, path and identity; hostile words stay words."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html import unescape

import pytest
from sqlalchemy import Engine, insert
from starlette.testclient import TestClient

from agent.pe import identify
from app.db.session import session_scope
from app.fleet import queries_sightings
from app.fleet.queries_sightings import NEWEST_OF_PATTERN
from app.fleet.sighting_days import count_sightings
from app.fleet.tables import Sighting
from app.policies.baselines import add_baseline_files

TODAY = datetime.now(UTC).replace(hour=0, minute=30, second=0, microsecond=0)
HASH = "ab" * 32
HOSTILE = '%OSDRIVE%\\"><script>alert(1)</script>\\\u202egpj.exe'


def see(engine: Engine, *rows: dict[str, object]) -> None:
    usual = {
        "channel": "Microsoft-Windows-AppLocker/EXE and DLL",
        "subject_id": 1,
        "event_id": 8004,
        "pattern": "venv-python",
        "path": "%OSDRIVE%\\src\\*\\.venv\\Scripts\\python.exe",
        "collection": "Exe",
        "host_id": 1,
        "at": TODAY,
        "sha256": None,
        "fqbn": None,
    }
    values = [usual | {"record": number, "recorded_at": TODAY} | row for number, row in enumerate(rows)]
    with engine.begin() as connection:
        connection.execute(insert(Sighting), values)
    with engine.connect() as connection:
        count_sightings(connection, TODAY + timedelta(days=1))


@pytest.fixture
def seen(engine: Engine, signed_in: Callable[[str], TestClient]) -> TestClient:
    see(
        engine,
        *({"host_id": host} for host in (1, 2, 3)),
        {"host_id": 1, "event_id": 8003, "sha256": HASH, "fqbn": "O=EXAMPLE\\UV\\UV.EXE\\0.13.8.0"},
        {"host_id": 4, "pattern": "tool-bin-exe", "path": HOSTILE, "at": TODAY - timedelta(days=3)},
        {"host_id": 5, "pattern": "tool-bin-exe", "at": TODAY - timedelta(days=60)},
    )
    return signed_in("viewer")


def text_of(page: str) -> str:
    return " ".join(unescape(re.sub(r"<script.*?</script>|<[^>]+>", " ", page, flags=re.S)).split())


def test_the_sentence_counts_what_was_refused(seen: TestClient) -> None:
    text = text_of(seen.get("/sightings").text)
    assert (
        "In the last 14 days workstations refused 4 starts of uv’s files, at 2 patterns; 1 more would have been" in text
    )
    assert "Most at Python launcher in a project/other virtual environment" in text


def test_days_choose_what_is_shown(seen: TestClient) -> None:
    day = (TODAY - timedelta(days=3)).date().isoformat()
    text = text_of(seen.get(f"/sightings?from={day}&to={day}").text)
    assert f"From {day} to {day}, workstations refused 1 start of uv’s files, at 1 pattern." in text
    assert "In the last 90 days workstations refused 5 starts" in text_of(
        seen.get(f"/sightings?from={(TODAY - timedelta(days=89)).date()}").text
    )
    empty = (TODAY - timedelta(days=40)).date().isoformat()
    assert f"No start of uv’s files was refused from {empty} to {empty}." in text_of(
        seen.get(f"/sightings?from={empty}&to={empty}").text
    )


def test_by_path_and_by_identity(seen: TestClient) -> None:
    by_path = text_of(seen.get("/sightings?by=path").text)
    assert "%OSDRIVE%\\src\\*\\.venv\\Scripts\\python.exe" in by_path
    row = re.search(r"project/other virtual environment Exe (\d+) (\d+) (\d+)", by_path)
    assert row is not None
    assert row.groups() == ("3", "1", "3"), "refused, would have been, hosts"
    by_identity = text_of(seen.get("/sightings?by=identity&pattern=venv-python").text)
    assert "O=EXAMPLE\\UV\\UV.EXE\\0.13.8.0" in by_identity
    assert HASH[:8] in by_identity
    assert "the event named none" in by_identity
    assert "seen once" in by_identity
    assert "vendor archive" not in by_identity
    assert "tool-bin-exe" not in by_identity


def test_a_trusted_file_is_told_from_a_common_one(seen: TestClient, engine: Engine) -> None:
    identity = replace(identify(b"exit", name="python.bat"), sha256=HASH.lower())
    with session_scope(engine) as session:
        add_baseline_files(session, [identity], source="golden image")
    by_identity = text_of(seen.get("/sightings?by=identity&pattern=venv-python").text)
    assert "in baseline · seen once" in by_identity


def test_hostile_words_stay_words(seen: TestClient) -> None:
    page = seen.get("/sightings?by=path").text
    assert "<script>alert" not in page
    assert "&lt;script&gt;" in page


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("from=yesterday", "Days are written as 2026-01-31."),
        ("from=2026-02-30", "Days are written as 2026-01-31."),
        ("from=2026-01-05&to=2026-01-03", "The first day comes after the last."),
        ("from=0001-01-01&to=2026-01-03", "At most 400 days"),
        ("to=0001-01-03", "Days are written as 2026-01-31."),
    ],
)
def test_days_that_cannot_be_used_say_why(seen: TestClient, query: str, problem: str) -> None:
    answer = seen.get(f"/sightings?{query}")
    assert answer.status_code == 422
    assert problem in text_of(answer.text)
    assert "In the last 14 days" in text_of(answer.text), "the usual time is shown meanwhile"


def test_htmx_gets_the_results_alone(seen: TestClient) -> None:
    answer = seen.get("/sightings?by=path", headers={"HX-Request": "true"})
    assert answer.text.lstrip().startswith('<div id="results">')
    assert "by=path" in answer.headers["HX-Push-Url"]


def test_of_many_the_newest_are_looked_at(engine: Engine, signed_in: Callable[[str], TestClient]) -> None:
    see(engine, *({"at": TODAY - timedelta(seconds=n)} for n in range(NEWEST_OF_PATTERN + 7)))
    page = signed_in("viewer").get("/sightings?by=path").text
    assert "Looked at were 1,000 of 1,007: the newest thousand of each pattern." in text_of(page)


def test_nothing_seen_says_what_will_be(signed_in: Callable[[str], TestClient]) -> None:
    assert "Nothing was refused in this time" in signed_in("viewer").get("/sightings").text


def test_few_statements_however_many_sightings(seen: TestClient, statements: list[str]) -> None:
    seen.get("/sightings?by=identity")
    assert len(statements) <= 8


def test_anonymous_people_sign_in_first(anonymous: TestClient) -> None:
    assert anonymous.get("/sightings").headers["location"].startswith("/login")


def test_more_paths_than_are_shown_are_told_by_their_number(
    engine: Engine, signed_in: Callable[[str], TestClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries_sightings, "MOST_KINDS", 3)
    paths = [f"%OSDRIVE%\\src\\{number}\\python.exe" for number in range(5)]
    see(engine, *({"path": path} for path in paths))
    client = signed_in("viewer")
    page = re.sub(r"\s+", " ", client.get("/sightings?by=path").text)
    assert "Shown are the 3 most seen of 5 paths: a shorter time, or one pattern, tells others." in page
    told = client.get("/api/v1/sightings/kinds").json()
    assert (len(told["kinds"]), told["kinds_in_all"]) == (3, 5)
    monkeypatch.setattr(queries_sightings, "MOST_KINDS", 5)
    assert "Shown are the" not in client.get("/sightings?by=path").text
