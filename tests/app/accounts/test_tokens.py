"""API tokens: hashed, of one role, until they expire or are revoked."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, select, update
from sqlalchemy.orm import Session

from app.accounts.errors import AccountError
from app.accounts.roles import Permission
from app.accounts.tables import ApiToken
from app.accounts.tokens import create_token, find_bearer, revoke_token, touch_token
from app.all_tables import metadata
from app.audit.record import COMMAND_LINE
from app.audit.tables import AuditEntry
from app.db.engine import open_url

TOMORROW = timedelta(days=1)


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    engine: Engine = open_url(f"sqlite:///{tmp_path / 'accounts.sqlite'}")
    metadata().create_all(engine)
    with Session(engine, expire_on_commit=False) as made:
        yield made
    engine.dispose()


def test_a_token_carries_its_role_and_only_its_hash_is_stored(session: Session) -> None:
    token = create_token(session, "analyst", "nightly export", datetime.now(UTC) + TOMORROW)
    bearer = find_bearer(session, token)
    assert bearer is not None
    assert Permission.DRAFT_RULES in bearer.permissions
    assert Permission.MANAGE_ACCOUNTS not in bearer.permissions
    row = session.scalars(select(ApiToken)).one()
    assert token.encode() not in row.token_hash
    assert bearer.is_due_for_touch
    touch_token(session, bearer.token_id)
    session.expire_all()
    assert row.last_used_at is not None
    again = find_bearer(session, token)
    assert again is not None
    assert not again.is_due_for_touch
    assert [entry.action for entry in session.scalars(select(AuditEntry))] == ["token.created"]
    assert token not in str(session.scalars(select(AuditEntry)).one().detail)


def test_an_expired_token_is_worth_nothing(session: Session) -> None:
    token = create_token(session, "viewer", "old", datetime.now(UTC) + TOMORROW)
    session.execute(update(ApiToken).values(expires_at=datetime.now(UTC) - timedelta(seconds=1)))
    assert find_bearer(session, token) is None


def test_a_revoked_token_is_worth_nothing_at_once(session: Session) -> None:
    token = create_token(session, "viewer", "lost", None)
    bearer = find_bearer(session, token)
    assert bearer is not None
    assert revoke_token(session, bearer.token_id, actor=COMMAND_LINE)
    assert find_bearer(session, token) is None
    assert not revoke_token(session, bearer.token_id, actor=COMMAND_LINE)


def test_an_invented_token_is_worth_nothing(session: Session) -> None:
    create_token(session, "viewer", "one", None)
    assert find_bearer(session, "wlt_invented") is None


@pytest.mark.parametrize(
    ("role", "label", "lasts", "field"),
    [
        ("king", "a", TOMORROW, "role"),
        ("viewer", " ", TOMORROW, "label"),
        ("viewer", "x" * 101, TOMORROW, "label"),
        ("viewer", "a", -TOMORROW, "expires_at"),
    ],
)
def test_bad_input_names_the_field(session: Session, role: str, label: str, lasts: timedelta, field: str) -> None:
    with pytest.raises(AccountError) as caught:
        create_token(session, role, label, datetime.now(UTC) + lasts)
    assert caught.value.field == field
    assert session.scalars(select(ApiToken)).all() == []
