"""Errors are pages that say what happened, what was kept and what to do, with a reference that the log has too."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Annotated

import pytest
from fastapi import FastAPI
from sqlalchemy import text
from starlette.testclient import TestClient

from app.db.session import SessionDep
from app.errors import AppError, BusyError, NotFoundError
from app.web.guards import ViewFleet

BASE_URL = "http://wayleave.example"


@pytest.fixture
def faulty(app: FastAPI) -> FastAPI:
    """The application with pages that fail in each way."""

    def fail(person: ViewFleet, how: str) -> None:
        raise {"busy": BusyError("Later.", retry_after_s=7), "gone": NotFoundError("Host 7 was removed.")}.get(
            how, ZeroDivisionError("a secret detail")
        )

    def wrong_sql(person: ViewFleet, session: SessionDep) -> None:
        session.execute(text("SELECT * FROM no_such_table"))

    def counted(person: ViewFleet, number: Annotated[int, "a path part"]) -> None:
        raise AppError(str(number))

    app.add_api_route("/fail/{how}", fail)
    app.add_api_route("/api/v1/fail/{how}", fail)
    app.add_api_route("/wrong-sql", wrong_sql)
    app.add_api_route("/counted/{number}", counted)
    return app


@pytest.fixture
def client(faulty: FastAPI, signed_in: Callable[[str], TestClient]) -> TestClient:
    cookies = signed_in("viewer").cookies
    return TestClient(faulty, base_url=BASE_URL, follow_redirects=False, raise_server_exceptions=False, cookies=cookies)


def test_unknown_addresses_get_a_page_with_the_menu(client: TestClient) -> None:
    answer = client.get("/nothing-here")
    assert answer.status_code == 404
    assert "There is nothing at this address" in answer.text
    assert 'aria-label="Main"' in answer.text


def test_unknown_addresses_tell_anonymous_people_nothing_more(anonymous: TestClient) -> None:
    answer = anonymous.get("/nothing-here")
    assert answer.status_code == 404
    assert 'aria-label="Main"' not in answer.text


def test_an_unexpected_error_hides_its_cause_and_the_log_has_the_reference(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, "wayleave.web"):
        answer = client.get("/fail/badly")
    assert answer.status_code == 500
    assert "secret detail" not in answer.text
    assert "content-security-policy" in answer.headers
    # uvicorn cuts the connection after it: who asks again must not do so on this one.
    assert answer.headers["connection"] == "close"
    reference = re.search(r"Reference <code>([0-9a-f]{8})</code>", answer.text)
    assert reference is not None
    logged = [record for record in caplog.records if reference[1] in record.getMessage()]
    assert len(logged) == 1
    assert logged[0].exc_info is not None


def test_busy_says_when_to_come_back(client: TestClient) -> None:
    answer = client.get("/fail/busy")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "7")
    assert "Agents keep their reports" in answer.text


def test_what_was_not_found_is_named(client: TestClient) -> None:
    answer = client.get("/fail/gone")
    assert answer.status_code == 404
    assert "Host 7 was removed." in answer.text


def test_a_database_that_fails_is_a_503_page(client: TestClient) -> None:
    answer = client.get("/wrong-sql")
    assert answer.status_code == 503
    assert "no_such_table" not in answer.text
    assert answer.headers["retry-after"] == "5"


def test_a_path_part_of_the_wrong_kind_is_not_found(client: TestClient) -> None:
    assert client.get("/counted/abc").status_code == 404


def test_a_value_of_another_form_is_shown_and_no_expression(client: TestClient) -> None:
    answer = client.get("/hosts?group=abc")
    assert answer.status_code == 422
    assert "group: “abc” is not of the form that belongs there." in answer.text
    assert "String should match" not in answer.text


def test_programs_get_json(client: TestClient) -> None:
    assert client.get("/api/v1/fail/gone").json() == {
        "error": "not_found",
        "message": "Host 7 was removed.",
        "field": None,
    }
    unexpected = client.get("/api/v1/fail/badly")
    assert unexpected.status_code == 500
    assert set(unexpected.json()) == {"error", "message", "field", "reference"}
    assert client.get("/api/v1/nothing-here").json()["error"] == "not_found"


def test_htmx_gets_the_problem_alone(client: TestClient) -> None:
    answer = client.get("/fail/gone", headers={"HX-Request": "true"})
    assert answer.status_code == 404
    assert "<html" not in answer.text
    assert 'role="alert"' in answer.text
