"""The second factor of accounts with a password: one-time codes of an app (TOTP), and recovery codes for its loss.

source: RFC 6238 (codes of six digits each 30 s, a step is good once), RFC 4226 section 7.3 (throttling: failures count
toward the account's pause like wrong passwords).
"""

from __future__ import annotations

import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime

import pyotp
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts.errors import AccountError
from app.accounts.login import check_current_password, is_locked, note_failure
from app.accounts.sealing import Sealer
from app.accounts.tables import Account, SecondFactor
from app.audit.record import Actor, record
from app.errors import NotFoundError

STEP_S = 30
WINDOW = 1
"""Codes of the step before and after are good too: phones' clocks differ."""
RECOVERY_CODES = 10
_PURPOSE = "second factor"
_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolment:
    """What an app needs to make codes: `uri` for a QR picture, `secret` for typing."""

    secret: str
    uri: str


def has_second_factor(session: Session, account_id: int) -> bool:
    """Whether an account is asked for a code when it signs in."""
    row = session.get(SecondFactor, account_id)
    return row is not None and row.confirmed_at is not None


def begin_second_factor(session: Session, account_id: int, sealer: Sealer, *, issuer: str) -> Enrolment:
    """A fresh secret, kept but not asked for until a first code confirms it; one begun before is given again.

    raises: AccountError when the account has a second factor already.
    """
    account = session.get_one(Account, account_id)
    row = session.get(SecondFactor, account_id)
    if row is not None and row.confirmed_at is not None:
        raise AccountError("One-time codes are in use already.")
    secret = None if row is None else sealer.open(_PURPOSE, row.secret)
    if secret is None:
        secret = pyotp.random_base32()
        session.merge(SecondFactor(account_id=account_id, secret=sealer.seal(_PURPOSE, secret), recovery_hashes=[]))
    uri = pyotp.TOTP(secret).provisioning_uri(name=account.email, issuer_name=issuer)
    return Enrolment(secret=secret, uri=uri)


def confirm_second_factor(session: Session, account_id: int, code: str, sealer: Sealer, *, actor: Actor) -> list[str]:
    """Takes the second factor into use, with the first code as proof; ten recovery codes, shown only now.

    raises: AccountError about `code`.
    """
    row = session.get(SecondFactor, account_id, with_for_update=True)
    if row is None or row.confirmed_at is not None:
        raise AccountError("There is nothing to confirm: begin again.", "code")
    step = _fitting_step(row, code, sealer)
    if step is None:
        raise AccountError("This code does not fit. Is the phone's clock right?", "code")
    codes = [_recovery_code() for _ in range(RECOVERY_CODES)]
    row.confirmed_at = datetime.now(UTC)
    row.last_step = step
    row.recovery_hashes = [sealer.digest(_PURPOSE, code) for code in codes]
    record(session, actor, "account.second_factor_added", actor.name)
    return codes


def check_second_factor(session: Session, account_id: int, code: str, sealer: Sealer, *, address: str | None) -> bool:
    """Whether a one-time code, or a recovery code, fits; each is good once. A failure counts as a wrong password."""
    account = session.scalar(select(Account).where(Account.id == account_id).with_for_update())
    row = session.get(SecondFactor, account_id, with_for_update=True)
    if account is None or row is None or row.confirmed_at is None:
        return False
    actor = Actor(kind="anonymous", name=account.email, address=address)
    if is_locked(account, datetime.now(UTC)) or account.disabled_at is not None:
        record(session, actor, "login.refused", account.email, why="locked or disabled")
        return False
    step = _fitting_step(row, code, sealer)
    if step is not None:
        row.last_step = step
        return True
    if _use_recovery_code(row, code, sealer):
        left = len(row.recovery_hashes)
        record(session, actor, "login.recovery_code_used", account.email, left=left)
        return True
    note_failure(session, account, actor, why="wrong code")
    return False


def remove_second_factor(session: Session, account_id: int, password: str, *, actor: Actor) -> None:
    """Signing in asks for the password alone again. raises: AccountError about `current`"""
    account = check_current_password(session, account_id, password, actor=actor)
    row = session.get(SecondFactor, account_id)
    if row is not None:
        session.delete(row)
        record(session, actor, "account.second_factor_removed", account.email)


def reset_second_factor(session: Session, account_id: int, *, actor: Actor) -> None:
    """An administrator's help for somebody who lost phone and recovery codes. raises: NotFoundError"""
    account, row = session.get(Account, account_id), session.get(SecondFactor, account_id)
    if account is None or row is None:
        raise NotFoundError("This account has no one-time codes.")
    session.delete(row)
    record(session, actor, "account.second_factor_reset", account.email)


def count_recovery_codes(session: Session, account_id: int) -> int | None:
    """How many recovery codes are left; None where no second factor is in use."""
    row = session.get(SecondFactor, account_id)
    return None if row is None or row.confirmed_at is None else len(row.recovery_hashes)


def _fitting_step(row: SecondFactor, code: str, sealer: Sealer) -> int | None:
    """The step whose code this is, if none at or after it was used."""
    secret = sealer.open(_PURPOSE, row.secret)
    typed = re.sub(r"\s", "", code)
    if secret is None or not re.fullmatch(r"[0-9]{6}", typed):
        return None
    totp = pyotp.TOTP(secret)
    now_step = int(datetime.now(UTC).timestamp()) // STEP_S
    for step in range(now_step - WINDOW, now_step + WINDOW + 1):
        if hmac.compare_digest(totp.at(step * STEP_S), typed) and (row.last_step is None or step > row.last_step):
            return step
    return None


def _use_recovery_code(row: SecondFactor, code: str, sealer: Sealer) -> bool:
    typed = sealer.digest(_PURPOSE, re.sub(r"[\s-]", "", code.casefold()))
    left = [stored for stored in row.recovery_hashes if not hmac.compare_digest(stored, typed)]
    if len(left) == len(row.recovery_hashes):
        return False
    row.recovery_hashes = left
    return True


def _recovery_code() -> str:
    """Ten characters (49 bits) that are not taken for one another."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(10))
