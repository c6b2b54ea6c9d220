"""Reading accounts, sessions and tokens for their pages."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.accounts.login import is_locked
from app.accounts.roles import Role
from app.accounts.sessions import IDLE_LIMIT
from app.accounts.tables import Account, Invitation, SecondFactor, WebSession
from app.db.paging import cut_page, decode_cursor, encode_cursor

ACCOUNT_ROWS = 100
INVITATION_ROWS = 100


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
    """One account of the list. `locked_until_at`: the end of its pause after repeated failures, while it lasts."""

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
class AccountPage:
    """Some accounts of `total` that fit; `active`: those not disabled; `locked`: of these, how many are in a pause."""

    accounts: tuple[AccountRow, ...]
    total: int
    active: int
    locked: int
    next_cursor: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class InvitationRow:
    """One invitation that can still be used."""

    id: int
    email: str | None
    role: Role
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class InvitationPage:
    """The newest invitations of `total`."""

    invitations: tuple[InvitationRow, ...]
    total: int


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


def page_accounts(
    session: Session, *, search: str = "", cursor: str | None = None, rows: int = ACCOUNT_ROWS
) -> AccountPage:
    """Accounts by address, those whose address contains `search`. raises: InvalidError for a cursor that is none"""
    at = datetime.now(UTC)
    fits = [Account.email.contains(search.strip().casefold(), autoescape=True)] if search.strip() else []
    total, disabled, locked = session.execute(
        select(
            func.count(),
            func.count(Account.disabled_at),
            func.count().filter(Account.locked_until_at > at, Account.disabled_at.is_(None)),
        ).where(*fits)
    ).one()
    query = (
        select(Account, SecondFactor.confirmed_at)
        .outerjoin(SecondFactor, SecondFactor.account_id == Account.id)
        .where(*fits)
        .order_by(Account.email)
        .limit(rows + 1)
    )
    if cursor:
        query = query.where(Account.email > decode_cursor(cursor, (str,))[0])
    found, last = cut_page(session.execute(query).all(), rows)
    return AccountPage(
        accounts=tuple(
            AccountRow(
                id=row.id,
                email=row.email,
                role=Role(row.role),
                created_at=row.created_at,
                last_login_at=row.last_login_at,
                disabled_at=row.disabled_at,
                locked_until_at=row.locked_until_at if is_locked(row, at) else None,
                by_sso=row.sso_subject is not None,
                has_second_factor=confirmed_at is not None,
            )
            for row, confirmed_at in found
        ),
        total=total,
        active=total - disabled,
        locked=locked,
        next_cursor=encode_cursor([last[0].email]) if last is not None else None,
    )


def list_invitations(session: Session, *, rows: int = INVITATION_ROWS) -> InvitationPage:
    """Invitations that can still be used, the newest first, at most so many."""
    is_open = (Invitation.used_at.is_(None), Invitation.expires_at > datetime.now(UTC))
    newest = session.scalars(select(Invitation).where(*is_open).order_by(Invitation.id.desc()).limit(rows)).all()
    total = len(newest)
    if total == rows:
        total = session.scalar(select(func.count()).select_from(Invitation).where(*is_open)) or 0
    return InvitationPage(
        invitations=tuple(
            InvitationRow(id=row.id, email=row.email, role=Role(row.role), expires_at=row.expires_at) for row in newest
        ),
        total=total,
    )
