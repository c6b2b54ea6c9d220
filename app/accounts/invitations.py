"""Invitations: links that make one account, once, before they expire."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from app.accounts.create import count_accounts, create_account
from app.accounts.credentials import hash_token, new_token
from app.accounts.errors import AccountError
from app.accounts.roles import Role
from app.accounts.tables import Account, Invitation
from app.audit.record import SYSTEM, Actor, record

INVITATION_PATH = "/invitation/"
FIRST_ADMIN_VALID_FOR = timedelta(hours=24)


def create_first_admin_link(session: Session, base_url: str) -> str | None:
    """A new link that creates the first administrator, or None when there is an account already.

    Every call makes the links of earlier calls worthless: only the newest one printed works.
    """
    if count_accounts(session):
        return None
    session.execute(delete(Invitation).where(Invitation.used_at.is_(None)))
    token = new_token()
    now = datetime.now(UTC)
    session.add(
        Invitation(
            token_hash=hash_token(token),
            role=Role.ADMINISTRATOR.value,
            email=None,
            created_at=now,
            expires_at=now + FIRST_ADMIN_VALID_FOR,
        )
    )
    record(session, SYSTEM, "invitation.created", role=Role.ADMINISTRATOR.value)
    return base_url.rstrip("/") + INVITATION_PATH + token


def find_invitation(session: Session, token: str) -> Invitation | None:
    """The invitation of a link, if it can still be used."""
    found = session.scalar(select(Invitation).where(Invitation.token_hash == hash_token(token)))
    if found is None or found.used_at is not None or found.expires_at <= datetime.now(UTC):
        return None
    return found


def accept_invitation(session: Session, token: str, email: str, password: str, *, address: str | None) -> Account:
    """Make the account that an invitation is for, and use the invitation up.

    raises: AccountError about `email`, `password`, or None when the link is no longer good.
    """
    invitation = find_invitation(session, token)
    if invitation is None:
        raise AccountError("This link was used already, has expired, or was replaced by a newer one.")
    # Taken before the account is made: of two people with one link, one gets nothing.
    taken = session.scalar(
        update(Invitation)
        .where(Invitation.id == invitation.id, Invitation.used_at.is_(None))
        .values(used_at=datetime.now(UTC))
        .returning(Invitation.id)
        .execution_options(synchronize_session=False)
    )
    if taken is None:
        raise AccountError("This link was used already.")
    actor = Actor(kind="anonymous", name="invitation", address=address)
    account = create_account(session, invitation.email or email, password, invitation.role, actor=actor)
    session.execute(update(Invitation).where(Invitation.id == invitation.id).values(account_id=account.id))
    return account
