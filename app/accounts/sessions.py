"""Signed-in browsers: a random token in the cookie, its hash in the database, an idle and an absolute limit."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import delete, or_, select, update
from sqlalchemy.orm import Session

from app.accounts.credentials import hash_token, new_token
from app.accounts.roles import PERMISSIONS, Permission, Role
from app.accounts.tables import Account, WebSession
from app.audit.record import Actor, record
from app.errors import NotFoundError

IDLE_LIMIT = timedelta(hours=4)
ABSOLUTE_LIMIT = timedelta(hours=16)
TOUCH_EVERY = timedelta(minutes=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Who is asking, and what they may do."""

    account_id: int
    session_id: int
    email: str
    role: Role
    address: str | None = None
    is_due_for_touch: bool = False

    @property
    def permissions(self) -> frozenset[Permission]:
        return PERMISSIONS[self.role]

    @property
    def actor(self) -> Actor:
        """This person as the audit log names them."""
        return Actor(kind="account", name=self.email, address=self.address)


def start_session(session: Session, account_id: int, *, address: str | None, browser: str | None) -> str:
    """Begin a session and return its token, which exists only in the cookie. Sweeps sessions that have ended."""
    now = datetime.now(UTC)
    session.execute(
        delete(WebSession).where(or_(WebSession.expires_at <= now, WebSession.last_seen_at <= now - IDLE_LIMIT))
    )
    token = new_token()
    session.add(
        WebSession(
            token_hash=hash_token(token),
            account_id=account_id,
            created_at=now,
            last_seen_at=now,
            expires_at=now + ABSOLUTE_LIMIT,
            address=address,
            browser=browser[:200] if browser else None,
        )
    )
    return token


def find_person(session: Session, token: str, *, address: str | None) -> Person | None:
    """The person of a session that has not ended and whose account is not disabled. Only reads."""
    now = datetime.now(UTC)
    row = session.execute(
        select(WebSession.id, WebSession.last_seen_at, Account.id.label("account_id"), Account.email, Account.role)
        .join(Account, Account.id == WebSession.account_id)
        .where(
            WebSession.token_hash == hash_token(token),
            WebSession.expires_at > now,
            WebSession.last_seen_at > now - IDLE_LIMIT,
            Account.disabled_at.is_(None),
        )
    ).one_or_none()
    if row is None:
        return None
    return Person(
        account_id=row.account_id,
        session_id=row.id,
        email=row.email,
        role=Role(row.role),
        address=address,
        is_due_for_touch=now - row.last_seen_at > TOUCH_EVERY,
    )


def touch_session(session: Session, session_id: int) -> None:
    """Note that a session is in use. Done every few minutes, not on every request: pages mostly only read."""
    session.execute(update(WebSession).where(WebSession.id == session_id).values(last_seen_at=datetime.now(UTC)))


def end_session(session: Session, session_id: int) -> None:
    """End one session; its cookie is worthless from now on."""
    session.execute(delete(WebSession).where(WebSession.id == session_id))


def end_session_of(session: Session, account_id: int, session_id: int, *, actor: Actor) -> None:
    """End one of an account's sessions, as somebody does who left a browser signed in. raises: NotFoundError"""
    ended = session.scalar(
        delete(WebSession)
        .where(WebSession.id == session_id, WebSession.account_id == account_id)
        .returning(WebSession.id)
    )
    if ended is None:
        raise NotFoundError("You have no such session: it may have ended already.", field="session")
    record(session, actor, "session.ended", actor.name, number=session_id)
