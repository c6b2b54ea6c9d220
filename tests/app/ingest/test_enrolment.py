"""Enrolment: a secret becomes a host's token, as often and as long as it was meant to."""

from __future__ import annotations

import base64
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from fastapi import FastAPI
from sqlalchemy import func, select
from starlette.testclient import TestClient

from app.db.base import now
from app.db.session import session_scope
from app.errors import InvalidError
from app.fleet.tables import Host
from app.ingest.enrolment import create_enrolment_secret
from app.ingest.tables import EnrolmentSecret


def made(server: FastAPI, **values: Any) -> str:
    with session_scope(server.state.engine) as session:
        return create_enrolment_secret(session, **values)


def ask(client: TestClient, secret: str, /, **changes: Any) -> Any:
    body = {"contract": 1, "secret": secret, "host": {"name": "PC-1", "os": "Windows 11"}}
    return client.post("/api/v1/enrol", json={**body, **changes})


def test_a_secret_becomes_a_token_that_is_stored_only_as_a_hash(client: TestClient, server: FastAPI) -> None:
    answer = ask(client, made(server))
    assert answer.status_code == 201
    assert set(answer.json()) == {"host_id", "token", "catalogue_key", "next_report_s"}
    assert answer.headers["cache-control"] == "no-store"
    secret = answer.json()["token"].split("_", 2)[2]
    with session_scope(server.state.engine, writes=False) as session:
        host = session.scalars(select(Host)).one()
        kept = session.scalars(select(EnrolmentSecret)).one()
    assert answer.json()["token"].startswith(f"wl_{host.id}_")
    assert secret.encode() not in host.token_hash
    assert len(kept.secret_hash) == 32


def test_a_secret_is_good_for_as_many_uses_as_it_was_made_for(client: TestClient, server: FastAPI) -> None:
    secret = made(server, uses=2)
    assert [ask(client, secret).status_code for _ in range(3)] == [201, 201, 401]


@pytest.mark.parametrize(
    "values",
    [
        {"expires_at": now() - timedelta(seconds=1)},
        {"network": "10.0.0.0/8"},
    ],
)
def test_outside_its_time_or_network_it_is_401(client: TestClient, server: FastAPI, values: dict[str, Any]) -> None:
    answer = ask(client, made(server, uses=None, **values))
    assert (answer.status_code, answer.json()["field"]) == (401, "secret")
    with session_scope(server.state.engine, writes=False) as session:
        assert session.scalar(select(func.count()).select_from(Host)) == 0


@pytest.mark.parametrize(
    "secret", ["", "wle_1_" + "x" * 32, "wle_99_" + "x" * 32, "nonsense", "wle_" + "9" * 40 + "_x"]
)
def test_an_unknown_secret_is_401(client: TestClient, server: FastAPI, secret: str) -> None:
    made(server)
    assert ask(client, secret).status_code == 401


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"host": {"os": "Windows"}}, "host.name"),
        ({"host": {"name": "a\x00b"}}, "host.name"),
        ({"host": {"name": "x" * 256}}, "host.name"),
        ({"host": "PC"}, "host"),
        ({"contract": 0}, "contract"),
        ({"secret": 1}, "secret"),
    ],
)
def test_a_bad_field_is_named(client: TestClient, server: FastAPI, changes: dict[str, Any], field: str) -> None:
    answer = ask(client, made(server), **changes)
    assert (answer.status_code, answer.json()["field"]) == (422, field)


def test_what_is_no_json_is_400(client: TestClient) -> None:
    answer = client.post("/api/v1/enrol", content=b"{")
    assert (answer.status_code, answer.json()["error"]) == (400, "malformed")


def test_a_network_that_is_none_is_refused(server: FastAPI) -> None:
    with pytest.raises(InvalidError, match="network"):
        made(server, network="10.0.0.0/99")


def test_the_catalogue_is_signed_and_answers_304(client: TestClient, server: FastAPI) -> None:
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(ask(client, made(server)).json()["catalogue_key"]))
    answer = client.get("/api/v1/catalogue")
    assert answer.status_code == 200
    key.verify(base64.b64decode(answer.headers["wayleave-signature"]), answer.content)
    again = client.get("/api/v1/catalogue", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
