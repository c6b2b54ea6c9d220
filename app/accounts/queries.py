"""Reading accounts, sessions and tokens for their pages."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts.roles import Role
from app.accounts.sessions import IDLE_LIMIT
from app.accounts.tables import Account, Invitation, SecondFactor, WebSession


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedIn:
    """One signed-in browser of an account."""

    id: int
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime
    address: str | None
    browser: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountRow:
    """One account of the list."""

    id: int
    email: str
    role: Role
    created_at: datetime
    last_login_at: datetime | None
    disabled_at: datetime | None
    locked_until_at: datetime | None
    by_sso: bool
    has_second_factor: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class InvitationRow:
    """One invitation that can still be used."""

    id: int
    email: str | None
    role: Role
    expires_at: datetime


def list_sessions(session: Session, account_id: int) -> tuple[SignedIn, ...]:
    """The sessions of an account that have not ended, latest used first."""
    now = datetime.now(UTC)
    rows = session.scalars(
        select(WebSession)
        .where(
            WebSession.account_id == account_id,
            WebSession.expires_at > now,
            WebSession.last_seen_at > now - IDLE_LIMIT,
        )
        .order_by(WebSession.last_seen_at.desc())
        .limit(50)
    )
    return tuple(
        SignedIn(
            id=row.id,
            created_at=row.created_at,
            last_seen_at=row.last_seen_at,
            expires_at=row.expires_at,
            address=row.address,
            browser=row.browser,
        )
        for row in rows
    )


def is_by_sso(session: Session, account_id: int) -> bool:
    """Whether somebody signs in at the identity provider."""
    return session.get_one(Account, account_id).sso_subject is not None


def list_accounts(session: Session) -> tuple[AccountRow, ...]:
    """All accounts by address."""
    return tuple(
        AccountRow(
            id=row.id,
            email=row.email,
            role=Role(row.role),
            created_at=row.created_at,
            last_login_at=row.last_login_at,
            disabled_at=row.disabled_at,
            locked_until_at=row.locked_until_at,
            by_sso=row.sso_subject is not None,
            has_second_factor=confirmed_at is not None,
        )
        for row, confirmed_at in session.execute(
            select(Account, SecondFactor.confirmed_at)
            .outerjoin(SecondFactor, SecondFactor.account_id == Account.id)
            .order_by(Account.email)
            .limit(1000)
        )
    )


def list_invitations(session: Session) -> tuple[InvitationRow, ...]:
    """Invitations that can still be used."""
    rows = session.scalars(
        select(Invitation)
        .where(Invitation.used_at.is_(None), Invitation.expires_at > datetime.now(UTC))
        .order_by(Invitation.id.desc())
        .limit(200)
    )
    return tuple(
        InvitationRow(id=row.id, email=row.email, role=Role(row.role), expires_at=row.expires_at) for row in rows
    )
