"""API tokens' page: one made here opens the API until it is revoked, and is shown once."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from fastapi import FastAPI
from sqlalchemy import Engine, select
from starlette.testclient import TestClient

from app.accounts.tables import ApiToken
from app.audit.tables import AuditEntry
from app.db.session import session_scope


def test_a_token_opens_the_api_until_it_is_revoked(
    app: FastAPI, signed_in: Callable[[str], TestClient], engine: Engine
) -> None:
    admin = signed_in("administrator")
    answer = admin.post("/tokens", data={"label": "nightly report", "role": "viewer", "days": "90"})
    token = re.search(r"<code>(wlt_[\w-]+)</code>", answer.text)
    assert token is not None
    assert token[1] not in admin.get("/tokens").text
    program = TestClient(app, headers={"Authorization": f"Bearer {token[1]}"})
    assert program.get("/api/v1/overview").status_code == 200
    assert admin.post("/tokens/1/revoke").status_code == 303
    assert program.get("/api/v1/overview").status_code == 401
    assert admin.post("/tokens/1/revoke").status_code == 404
    with session_scope(engine, writes=False) as session:
        actions = session.scalars(select(AuditEntry.action).order_by(AuditEntry.id.desc()).limit(2)).all()
        row = session.scalars(select(ApiToken)).one()
    assert actions == ["token.revoked", "token.created"]
    assert row.created_by == "administrator@example.com"
    assert row.expires_at is not None


@pytest.mark.parametrize("form", [{"label": "", "role": "viewer"}, {"label": "x", "role": "king"}])
def test_bad_input_comes_back_filled(
    signed_in: Callable[[str], TestClient], engine: Engine, form: dict[str, str]
) -> None:
    answer = signed_in("administrator").post("/tokens", data=form)
    assert answer.status_code == 422
    assert "field-problem" in answer.text
    with session_scope(engine, writes=False) as session:
        assert session.scalars(select(ApiToken)).all() == []
