"""One-time codes: set up, asked for at sign-in, each good once, recovery codes, removal, an administrator's help."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pyotp
import pytest
from fastapi import FastAPI
from sqlalchemy import Engine, select
from starlette.testclient import TestClient

from app.accounts import second_factor
from app.accounts.tables import Account, SecondFactor
from app.audit.record import SYSTEM, record
from app.audit.tables import AuditEntry
from app.db.session import session_scope

PASSWORD = "correct horse battery"


class Clock:
    """The time that codes are judged by."""

    def __init__(self) -> None:
        self.at = datetime(2030, 1, 1, 12, tzinfo=UTC)

    def now(self, zone: object) -> datetime:
        assert zone is UTC
        return self.at


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(second_factor, "datetime", made)
    return made


@pytest.fixture
def phone(signed_in: Callable[[str], TestClient], clock: Clock) -> Iterator[tuple[TestClient, pyotp.TOTP, list[str]]]:
    """Somebody who set up codes: their browser, their phone, their recovery codes."""
    client = signed_in("analyst")
    page = client.get("/account/codes").text
    secret = re.search(r"type this secret: <code[^>]*>([A-Z2-7 ]+)</code>", page)
    assert secret is not None
    assert "<svg" in page
    assert client.get("/account/codes").text.count(secret[1]) == 1, "the secret stays until it is confirmed"
    totp = pyotp.TOTP(secret[1].replace(" ", ""))
    wrong = client.post("/account/codes", data={"code": "000000" if totp.at(clock.at) != "000000" else "111111"})
    assert wrong.status_code == 422
    assert "does not fit" in wrong.text
    answer = client.post("/account/codes", data={"code": totp.at(clock.at)})
    codes = re.findall(r"^[a-z2-9]{10}$", answer.text.split('data-copy="')[1].split('"')[0], re.M)
    assert len(set(codes)) == 10
    return client, totp, codes


def sign_in(app: FastAPI) -> TestClient:
    client = TestClient(app, base_url="http://wayleave.example", follow_redirects=False)
    answer = client.post("/login", data={"email": "analyst@example.com", "password": PASSWORD, "next": "/hosts"})
    assert answer.headers["location"] == "/login/code"
    return client


def code_given(client: TestClient, code: str) -> int:
    return client.post("/login/code", data={"code": code}).status_code


def advance(clock: Clock, seconds: int) -> None:
    clock.at = datetime.fromtimestamp(clock.at.timestamp() + seconds, UTC)


def test_the_password_alone_opens_nothing(app: FastAPI, phone: object) -> None:
    client = sign_in(app)
    assert client.get("/").headers["location"].startswith("/login")
    assert client.get("/login/code").status_code == 200


def test_password_and_code_lead_to_the_page_asked_for(
    app: FastAPI, phone: tuple[TestClient, pyotp.TOTP, list[str]], clock: Clock, engine: Engine
) -> None:
    advance(clock, 60)
    client = sign_in(app)
    answer = client.post("/login/code", data={"code": f" {phone[1].at(clock.at)[:3]} {phone[1].at(clock.at)[3:]}"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/hosts")
    assert client.get("/account").status_code == 200
    assert "10 recovery codes left" in client.get("/account").text
    with session_scope(engine, writes=False) as session:
        entries = session.scalars(select(AuditEntry.detail).where(AuditEntry.action == "login.succeeded")).all()
    assert entries[-1] == {"how": "password and code"}


def test_a_code_is_good_once(app: FastAPI, phone: tuple[TestClient, pyotp.TOTP, list[str]], clock: Clock) -> None:
    assert code_given(sign_in(app), phone[1].at(clock.at)) == 422, "it confirmed the set-up already"
    advance(clock, 60)
    code = phone[1].at(clock.at)
    assert code_given(sign_in(app), code) == 303
    assert code_given(sign_in(app), code) == 422
    older = phone[1].at(clock.at.timestamp() - 30)
    assert code_given(sign_in(app), older) == 422, "an older step than the newest used is closed too"


def test_clocks_may_differ_by_a_step_and_no_more(
    app: FastAPI, phone: tuple[TestClient, pyotp.TOTP, list[str]], clock: Clock
) -> None:
    advance(clock, 300)
    now_s = clock.at.timestamp()
    assert code_given(sign_in(app), phone[1].at(now_s - 60)) == 422
    assert code_given(sign_in(app), phone[1].at(now_s + 60)) == 422
    assert code_given(sign_in(app), phone[1].at(now_s - 30)) == 303
    assert code_given(sign_in(app), phone[1].at(now_s + 30)) == 303


def test_recovery_codes_let_in_once_each(app: FastAPI, phone: tuple[TestClient, pyotp.TOTP, list[str]]) -> None:
    code = phone[2][3]
    assert code_given(sign_in(app), f"{code[:5]}-{code[5:].upper()}") == 303
    assert code_given(sign_in(app), code) == 422
    assert "9 recovery codes left" in phone[0].get("/account").text


def test_wrong_codes_lock_the_account(
    app: FastAPI, phone: tuple[TestClient, pyotp.TOTP, list[str]], clock: Clock, engine: Engine
) -> None:
    client = sign_in(app)
    advance(clock, 60)
    fits = phone[1].at(clock.at)
    for _ in range(5):
        assert code_given(client, "12345x") == 422
    clock.at = datetime.now(UTC)  # the pause is by the real clock
    assert code_given(client, phone[1].at(clock.at)) == 422
    assert fits
    with session_scope(engine, writes=False) as session:
        assert session.scalars(select(AuditEntry.id).where(AuditEntry.action == "account.locked")).all()
    locked_out = TestClient(app, base_url="http://wayleave.example", follow_redirects=False)
    assert locked_out.post("/login", data={"email": "analyst@example.com", "password": PASSWORD}).status_code == 422


def test_the_step_between_ends_and_cannot_be_made(app: FastAPI, phone: object, monkeypatch: pytest.MonkeyPatch) -> None:
    client = sign_in(app)
    monkeypatch.setattr(time, "time", lambda real=time.time: real() + 601)
    assert client.get("/login/code").headers["location"] == "/login"
    client.cookies.set("wayleave_step", "gAAAAABinvented", domain="wayleave.example")
    assert client.get("/login/code").headers["location"] == "/login"


def test_the_secret_is_sealed_in_the_database(phone: tuple[TestClient, pyotp.TOTP, list[str]], engine: Engine) -> None:
    with session_scope(engine, writes=False) as session:
        row = session.scalars(select(SecondFactor)).one()
        stored = row.secret + " ".join(row.recovery_hashes)
    assert phone[1].secret not in stored
    assert not any(code in stored for code in phone[2])


def test_removing_asks_for_the_password(phone: tuple[TestClient, pyotp.TOTP, list[str]]) -> None:
    client = phone[0]
    refused = client.post("/account/codes/remove", data={"current": "not mine"})
    assert refused.status_code == 422
    assert client.post("/account/codes/remove", data={"current": PASSWORD}).status_code == 303
    assert "Set up one-time codes" in client.get("/account").text
    again = client.post("/login", data={"email": "analyst@example.com", "password": PASSWORD})
    assert again.headers["location"] == "/"


def test_an_administrator_resets_them(phone: object, signed_in: Callable[[str], TestClient], engine: Engine) -> None:
    administrator = signed_in("administrator")
    with session_scope(engine, writes=False) as session:
        account_id = session.scalars(select(Account.id).where(Account.email == "analyst@example.com")).one()
    assert "Reset the one-time codes of analyst@example.com" in administrator.get("/accounts").text
    assert administrator.post(f"/accounts/{account_id}/second-factor/reset").status_code == 303
    assert administrator.post(f"/accounts/{account_id}/second-factor/reset").status_code == 404
    with session_scope(engine, writes=False) as session:
        entry = session.scalars(select(AuditEntry).where(AuditEntry.action == "account.second_factor_reset")).one()
        assert (entry.actor, entry.target) == ("administrator@example.com", "analyst@example.com")


def test_others_may_not_reset(phone: tuple[TestClient, pyotp.TOTP, list[str]]) -> None:
    assert phone[0].post("/accounts/1/second-factor/reset").status_code == 403


def test_setting_up_waits_for_what_else_is_written(signed_in: Callable[[str], TestClient], engine: Engine) -> None:
    """On SQLite: a page that keeps a secret while something else is being written takes its turn."""
    client = signed_in("viewer")
    began = threading.Event()

    def write_slowly() -> None:
        with session_scope(engine) as session:
            record(session, SYSTEM, "test.written")
            session.flush()
            began.set()
            time.sleep(0.7)

    writer = threading.Thread(target=write_slowly)
    writer.start()
    assert began.wait(10)
    answer = client.get("/account/codes")
    writer.join()
    assert answer.status_code == 200, answer.text
