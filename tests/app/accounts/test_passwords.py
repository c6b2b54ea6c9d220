"""Passwords: the parameters are strong, an unknown account costs as much as a known one, old hashes are renewed."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from argon2 import PasswordHasher, extract_parameters
from sqlalchemy.orm import Session

from app.accounts import passwords
from app.accounts.create import create_account
from app.accounts.login import check_login
from app.all_tables import metadata
from app.db.engine import open_url


def test_the_hash_is_argon2id_with_the_recommended_cost() -> None:
    stored = passwords.hash_password("correct horse battery")
    parameters = extract_parameters(stored)
    assert stored.startswith("$argon2id$")
    assert parameters.memory_cost >= 64 * 1024
    assert parameters.time_cost >= 3
    assert not passwords.needs_rehash(stored)


def test_checks_what_was_hashed_and_nothing_else() -> None:
    stored = passwords.hash_password("correct horse battery")
    assert passwords.verify_password(stored, "correct horse battery")
    assert not passwords.verify_password(stored, "correct horse batterY")
    assert not passwords.verify_password("not a hash", "correct horse battery")


def test_no_account_takes_as_long_as_a_wrong_password() -> None:
    stored = passwords.hash_password("correct horse battery")
    passwords.verify_password(None, "warm up")

    def best_of(hashed: str | None) -> float:
        took = []
        for _ in range(5):
            began = time.perf_counter()
            assert not passwords.verify_password(hashed, "wrong")
            took.append(time.perf_counter() - began)
        return min(took)

    known, unknown = best_of(stored), best_of(None)
    assert 0.5 < unknown / known < 2
    assert unknown > 0.005


def test_nobody_knows_a_password_for_no_account() -> None:
    assert not passwords.verify_password(None, "no account has this password")


def test_a_hash_with_older_parameters_is_renewed_at_the_next_login(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    engine = open_url(f"sqlite:///{tmp_path / 'accounts.sqlite'}")
    metadata().create_all(engine)
    with Session(engine) as session:
        with monkeypatch.context() as cheap:
            cheap.setattr(passwords, "_hasher", PasswordHasher(time_cost=1, memory_cost=64, parallelism=1))
            account = create_account(session, "ada@example.com", "correct horse battery", "viewer")
        old = account.password_hash
        assert check_login(session, "ada@example.com", "correct horse battery", address=None) is account
        assert account.password_hash != old
        assert not passwords.needs_rehash(account.password_hash or "")
        assert check_login(session, "ada@example.com", "correct horse battery", address=None) is account
    engine.dispose()
