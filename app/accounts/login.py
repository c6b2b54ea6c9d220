"""Signing in: one answer for every failure, in the same time, and a pause after repeated ones."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts.errors import AccountError
from app.accounts.passwords import hash_password, needs_rehash, verify_password
from app.accounts.tables import Account
from app.audit.record import Actor, record

MAX_FAILURES = 5
LOCKED_FOR = timedelta(minutes=5)


def check_login(session: Session, email: str, password: str, *, address: str | None) -> Account | None:
    """The account, if the address and the password fit and it is neither locked nor disabled.

    An unknown address, a wrong password and a locked account cost the same work and look the same from outside.
    The fifth failure in a row locks the account for five minutes; each one is audited. Whoever is let in by it, or by
    it and a one-time code, is noted with `note_login`.
    """
    now = datetime.now(UTC)
    wanted = email.strip().casefold()[:254]
    account = session.scalar(select(Account).where(Account.email == wanted).with_for_update())
    usable = account is not None and account.disabled_at is None and not is_locked(account, now)
    stored = account.password_hash if account is not None and usable else None
    fits = verify_password(stored, password)
    actor = Actor(kind="anonymous", name=wanted, address=address)
    if account is None or not usable:
        record(session, actor, "login.refused", wanted, why="unknown" if account is None else "locked or disabled")
        return None
    if not fits:
        note_failure(session, account, actor, why="wrong password")
        return None
    if stored is not None and needs_rehash(stored):
        account.password_hash = hash_password(password)
    return account


def check_current_password(session: Session, account_id: int, password: str, *, actor: Actor) -> Account:
    """The account, if its owner, who is signed in, gave its password once more.

    A wrong one counts like a failed sign-in: whoever took over a browser guesses no more often than anybody else.

    raises: AccountError about `current`.
    """
    account = session.scalars(select(Account).where(Account.id == account_id).with_for_update()).one()
    if is_locked(account, datetime.now(UTC)):
        record(session, actor, "password.refused", account.email, why="locked")
        raise AccountError("There were too many wrong passwords. Try again in a few minutes.", "current")
    if not verify_password(account.password_hash, password):
        note_failure(session, account, actor, why="wrong current password", action="password.refused")
        raise AccountError("This is not your current password.", "current")
    account.failed_attempts = 0
    return account


def note_failure(session: Session, account: Account, actor: Actor, *, why: str, action: str = "login.refused") -> None:
    """Counts a failure; the fifth in a row locks the account for a while."""
    account.failed_attempts += 1
    if account.failed_attempts >= MAX_FAILURES:
        account.locked_until_at = datetime.now(UTC) + LOCKED_FOR
        account.failed_attempts = 0
        record(session, actor, "account.locked", account.email, minutes=int(LOCKED_FOR.total_seconds() // 60))
    record(session, actor, action, account.email, why=why)


def note_login(session: Session, account: Account, *, address: str | None, how: str) -> None:
    """Somebody is in: failures before are forgotten. `how`: by which proofs, for the audit log."""
    account.failed_attempts = 0
    account.locked_until_at = None
    account.last_login_at = datetime.now(UTC)
    actor = Actor(kind="account", name=account.email, address=address)
    record(session, actor, "login.succeeded", account.email, how=how)


def is_locked(account: Account, now: datetime) -> bool:
    """Whether an account is in its pause after repeated failures."""
    return account.locked_until_at is not None and account.locked_until_at > now
