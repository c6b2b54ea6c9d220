"""Passwords: what is accepted, how they are stored (argon2id) and checked in the same time for everybody.

source: RFC 9106 section 4 (second recommended option); NIST SP 800-63B section 3.1.1 (length, no composition rules).
"""

from __future__ import annotations

import threading
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from app.accounts.errors import AccountError

MIN_LENGTH = 12
MAX_LENGTH = 200

_hasher = PasswordHasher(time_cost=3, memory_cost=64 * 1024, parallelism=1)

# Each check takes 64 MiB; a burst of sign-ins must not take them all at once.
_slots = threading.Semaphore(4)


def check_password_rules(password: str, email: str) -> None:
    """Refuse a password that is too short, too long, repetitive or the address itself.

    raises: AccountError about `password`.
    """
    if len(password) < MIN_LENGTH:
        raise AccountError(f"Use at least {MIN_LENGTH} characters; a short sentence is good.", "password")
    if len(password) > MAX_LENGTH:
        raise AccountError(f"Use at most {MAX_LENGTH} characters.", "password")
    if len(set(password)) < 5:
        raise AccountError("Too repetitive: use at least five different characters.", "password")
    folded = password.casefold()
    if email.casefold() in folded or folded in email.casefold():
        raise AccountError("The password must not be your e-mail address.", "password")


def hash_password(password: str) -> str:
    """The argon2id hash that is stored."""
    with _slots:
        return _hasher.hash(password)


def verify_password(stored: str | None, password: str) -> bool:
    """Whether a password fits. `stored` None (no such account) takes as long as a real check and is False."""
    with _slots:
        try:
            matches = _hasher.verify(stored or _decoy(), password[: MAX_LENGTH + 1])
        except (Argon2Error, InvalidHashError):
            return False
    return matches and stored is not None


def needs_rehash(stored: str) -> bool:
    """Whether a stored hash was made with other parameters than today's."""
    return _hasher.check_needs_rehash(stored)


@cache
def _decoy() -> str:
    """A hash nobody knows the password of, made with today's parameters."""
    return _hasher.hash("no account has this password")
