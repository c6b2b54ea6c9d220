"""What administrators do with accounts: invite, change a role, disable and enable, end a pause."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from app.accounts.create import normalised_email
from app.accounts.credentials import hash_token, new_token
from app.accounts.errors import AccountError
from app.accounts.invitations import INVITATION_PATH
from app.accounts.login import is_locked
from app.accounts.roles import Role
from app.accounts.tables import Account, Invitation, WebSession
from app.audit.record import Actor, record
from app.errors import NotFoundError

INVITATION_VALID_FOR = timedelta(days=7)


def invite(session: Session, email: str, role: str, base_url: str, *, actor: Actor) -> str:
    """A one-time link with which somebody makes their account. An older one for the same address ends.

    raises: AccountError about `email` or `role`.
    """
    address = normalised_email(email)
    given_role = _role(role)
    if session.scalar(select(Account.id).where(Account.email == address)) is not None:
        raise AccountError("There is already an account with this address.", "email")
    session.execute(delete(Invitation).where(Invitation.email == address, Invitation.used_at.is_(None)))
    token = new_token()
    now = datetime.now(UTC)
    session.add(
        Invitation(
            token_hash=hash_token(token),
            role=given_role.value,
            email=address,
            created_at=now,
            expires_at=now + INVITATION_VALID_FOR,
        )
    )
    record(session, actor, "invitation.created", address, role=given_role.value)
    return base_url.rstrip("/") + INVITATION_PATH + token


def withdraw_invitation(session: Session, invitation_id: int, *, actor: Actor) -> None:
    """Make an invitation's link worthless. raises: NotFoundError"""
    row = session.get(Invitation, invitation_id)
    if row is None or row.used_at is not None:
        raise NotFoundError("This invitation was used or withdrawn already.")
    session.delete(row)
    record(session, actor, "invitation.withdrawn", row.email)


def set_role(session: Session, account_id: int, role: str, *, actor: Actor) -> None:
    """Give an account another role, from its next request on.

    raises: NotFoundError; AccountError when no administrator would be left, or the identity provider decides.
    """
    account = _account(session, account_id)
    given_role = _role(role)
    if account.sso_subject is not None:
        raise AccountError("This person's role follows their groups at the identity provider.")
    if account.role == given_role.value:
        return
    if account.role == Role.ADMINISTRATOR.value:
        _keep_an_administrator(session, account)
    record(session, actor, "account.role_changed", account.email, old=account.role, new=given_role.value)
    account.role = given_role.value


def disable_account(session: Session, account_id: int, *, actor: Actor) -> None:
    """Keep somebody out: their sessions end and they can't sign in.

    raises: NotFoundError; AccountError when no administrator would be left.
    """
    account = _account(session, account_id)
    if account.disabled_at is not None:
        return
    if account.role == Role.ADMINISTRATOR.value:
        _keep_an_administrator(session, account)
    account.disabled_at = datetime.now(UTC)
    session.execute(delete(WebSession).where(WebSession.account_id == account.id))
    record(session, actor, "account.disabled", account.email)


def enable_account(session: Session, account_id: int, *, actor: Actor) -> None:
    """Let somebody in again. raises: NotFoundError"""
    account = _account(session, account_id)
    if account.disabled_at is None:
        return
    account.disabled_at = None
    account.failed_attempts = 0
    account.locked_until_at = None
    record(session, actor, "account.enabled", account.email)


def unlock_account(session: Session, account_id: int, *, actor: Actor) -> None:
    """End an account's pause after repeated failures. raises: NotFoundError"""
    account = _account(session, account_id)
    if not is_locked(account, datetime.now(UTC)):
        return
    account.failed_attempts = 0
    account.locked_until_at = None
    record(session, actor, "account.unlocked", account.email)


def _account(session: Session, account_id: int) -> Account:
    account = session.get(Account, account_id)
    if account is None:
        raise NotFoundError("There is no such account.")
    return account


def _role(role: str) -> Role:
    try:
        return Role(role)
    except ValueError:
        raise AccountError(f"Choose one of {', '.join(Role)}.", "role") from None


def _keep_an_administrator(session: Session, leaving: Account) -> None:
    others = session.scalar(
        select(func.count())
        .select_from(Account)
        .where(Account.role == Role.ADMINISTRATOR.value, Account.disabled_at.is_(None), Account.id != leaving.id)
    )
    if not others:
        raise AccountError("This is the last administrator: make somebody else one first.")
