"""Creating accounts, and changing their passwords."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from app.accounts.errors import AccountError
from app.accounts.login import check_current_password
from app.accounts.passwords import check_password_rules, hash_password
from app.accounts.roles import Role
from app.accounts.tables import Account, WebSession
from app.audit.record import COMMAND_LINE, Actor, record

_EMAIL = re.compile(r"[^\s@<>\"',;:\\()\[\]\x00-\x1f]{1,64}@[^\s@<>\"',;:\\()\[\]\x00-\x1f]{1,189}")


def normalised_email(email: str) -> str:
    """The address as it is stored and compared: without spaces around it, casefolded.

    raises: AccountError about `email`.

    >>> normalised_email(" Ada@Example.com ")
    'ada@example.com'
    """
    text = email.strip().casefold()
    if not _EMAIL.fullmatch(text):
        raise AccountError("This is not an e-mail address.", "email")
    return text


def create_account(
    session: Session, email: str, password: str, role: Role | str, *, actor: Actor = COMMAND_LINE
) -> Account:
    """Create an account that can sign in at once.

    raises: AccountError about `email`, `password` or `role`.
    """
    address = normalised_email(email)
    try:
        given_role = Role(role)
    except ValueError:
        raise AccountError(f"There is no role {role!r}; choose one of {', '.join(Role)}.", "role") from None
    check_password_rules(password, address)
    if session.scalar(select(Account.id).where(Account.email == address)) is not None:
        raise AccountError("There is already an account with this address.", "email")
    now = datetime.now(UTC)
    account = Account(
        email=address,
        password_hash=hash_password(password),
        role=given_role.value,
        created_at=now,
        password_changed_at=now,
        failed_attempts=0,
    )
    session.add(account)
    session.flush()  # the caller and the audit entry need the id
    record(session, actor, "account.created", address, role=given_role.value)
    return account


def change_password(
    session: Session, account_id: int, current: str, new: str, *, actor: Actor, keep_session_id: int | None
) -> None:
    """Set a new password and end the account's other sessions.

    raises: AccountError about `current` or `password`.
    """
    account = check_current_password(session, account_id, current, actor=actor)
    check_password_rules(new, account.email)
    account.password_hash = hash_password(new)
    account.password_changed_at = datetime.now(UTC)
    ended = session.scalars(
        delete(WebSession)
        .where(WebSession.account_id == account_id, WebSession.id != (keep_session_id or 0))
        .returning(WebSession.id)
    ).all()
    record(session, actor, "account.password_changed", account.email, sessions_ended=len(ended))


def count_accounts(session: Session) -> int:
    """How many accounts there are, disabled ones included."""
    return session.scalar(select(func.count()).select_from(Account)) or 0
