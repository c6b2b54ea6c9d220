"""Notices arrive at a real mail server and a real webhook on loopback: signed, together, tried again, in bounds."""

from __future__ import annotations

import email.policy
import json
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from email import message_from_bytes
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword
from sqlalchemy import Engine, select

from app.audit.deliver import SIGNATURE_HEADER, DeliveryError, sign
from app.db.base import now
from app.db.session import session_scope
from app.notices.mail import MailWay, send_mail
from app.notices.record import Found, end_notice, open_notice
from app.notices.send import AT_ONCE, BETWEEN_MAILS, GIVEN_UP_AFTER, Told, send_notices
from app.notices.tables import NoticeRow, NoticeSend
from app.settings import Settings

KEY = "a key of the webhook"
CHANGE = {"what": "policy", "before": "aaaaaaaa", "after": "bbbbbbbb", "users": 20, "before_id": 1, "after_id": 2}
DETAIL = {
    "workflows": ["sync-wheels"],
    "patterns": ["venv-python"],
    "groups": [{"id": 1, "name": "Sales\r\nBcc: eve@example.com", "users": 20, "closed": 20, "of": 30}],
    "evidence": {"looked_at": 20, "users": 20, "hosts": 20, "changes": [CHANGE], "kinds": [["policy", 20]]},
}


class Mailbox:
    """Takes mails, or refuses them."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.recipients: list[str] = []
        self.refuses = False

    async def handle_DATA(self, _server: object, _session: object, envelope: Any) -> str:
        if self.refuses:
            return "451 come again, secret-word"
        self.recipients += envelope.rcpt_tos
        mail = message_from_bytes(envelope.content, policy=email.policy.default)
        assert isinstance(mail, EmailMessage)
        self.mails.append(mail)
        return "250 OK"


class AnyPort(Controller):
    """Listens on a port that the system chooses, and says hello to itself there."""

    def _trigger_server(self) -> None:
        assert self.server is not None
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()


@contextmanager
def mail_server(box: Mailbox, **options: Any) -> Iterator[int]:
    controller = AnyPort(box, hostname="127.0.0.1", port=0, **options)
    controller.start()
    try:
        yield controller.port
    finally:
        controller.stop()


@contextmanager
def receiver(status: list[int]) -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """A webhook's receiver: its address, and signatures and bodies; it answers as `status` says, the last for ever."""
    posts: list[tuple[str, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            posts.append((self.headers[SIGNATURE_HEADER], body))
            self.send_response(status.pop(0) if len(status) > 1 else status[0])
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/hook", posts
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def make(engine: Engine, count: int, *ways: str, at: datetime) -> None:
    with session_scope(engine) as session:
        for number in range(count):
            found = Found(kind="regression", key=f"k{number}", title=f"uv sync {number}", users=20, detail=DETAIL)
            open_notice(session, found, at, ways=ways)


def send(engine: Engine, to: Told, at: datetime) -> int:
    with engine.connect() as connection:
        return send_notices(connection, at, to)


def mails_to(port: int, **values: str) -> Told:
    way = MailWay(
        server=values.pop("server", f"smtp://127.0.0.1:{port}"),
        sender="wayleave@example.com",
        recipients=("ada@example.com", "bob@example.com"),
        **values,
    )
    return Told(mail=way, base_url="https://wayleave.example.com")


def test_a_mail_says_what_happened_to_whom_and_where_to_look(database: Engine) -> None:
    box, at = Mailbox(), now()
    make(database, 2, "email", at=at)
    with mail_server(box) as port:
        assert send(database, mails_to(port), at) == 2
        assert send(database, mails_to(port), at + BETWEEN_MAILS * 2) == 0
    (mail,) = box.mails
    assert box.recipients == ["ada@example.com", "bob@example.com"]
    assert mail["Subject"] == "Wayleave: uv sync 0 (and 1 more)"
    assert mail["From"] == "wayleave@example.com"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["Bcc"] is None
    text = mail.get_content()
    assert "  Sales??Bcc: eve@example.com: 20 of 30 users" in text
    assert "the policy in force aaaaaaaa → bbbbbbbb (20 users)" in text
    assert "https://wayleave.example.com/notices/1" in text


def test_mails_come_together_and_not_too_often(database: Engine) -> None:
    box, at = Mailbox(), now()
    with mail_server(box) as port:
        make(database, 1, "email", at=at)
        assert send(database, mails_to(port), at) == 1
        make(database, AT_ONCE + 3, "email", at=at)
        assert send(database, mails_to(port), at + timedelta(minutes=1)) == 0
        assert send(database, mails_to(port), at + BETWEEN_MAILS) == AT_ONCE
        assert send(database, mails_to(port), at + BETWEEN_MAILS * 2) == 2
    assert len(box.mails) == 3


def test_a_mail_that_was_not_taken_is_sent_later_and_given_up_in_the_end(database: Engine) -> None:
    box, at = Mailbox(), now()
    make(database, 1, "email", at=at)
    box.refuses = True
    with mail_server(box) as port:
        with pytest.raises(DeliveryError) as caught:
            send(database, mails_to(port), at)
        assert "secret-word" not in str(caught.value)
        assert send(database, mails_to(port), at + timedelta(seconds=30)) == 0, "it waits a minute first"
        box.refuses = False
        assert send(database, mails_to(port), at + timedelta(minutes=2)) == 1
        make(database, 2, "email", at=at)
        box.refuses = True
        late = at + GIVEN_UP_AFTER + timedelta(hours=1)
        with pytest.raises(DeliveryError):
            send(database, mails_to(port), late)
        assert send(database, mails_to(port), late + timedelta(days=1)) == 0
    with session_scope(database, writes=False) as session:
        rows = session.scalars(select(NoticeSend).order_by(NoticeSend.notice_id)).all()
        assert [(row.tries, row.given_up, row.sent_at is not None) for row in rows] == [
            (2, False, True),
            (1, True, False),
        ]


def test_nobody_listening_is_an_error_with_the_place(database: Engine) -> None:
    at = now()
    make(database, 1, "email", at=at)
    with pytest.raises(DeliveryError, match=r"smtp://127\.0\.0\.1:1: ConnectionRefusedError"):
        send(database, mails_to(1), at)


def test_a_webhook_is_signed_and_tells_when_it_is_over(database: Engine) -> None:
    at = now()
    make(database, 1, "webhook", at=at)
    with receiver([500, 200]) as (address, posts):
        to = Told(webhook=address, webhook_key=KEY, base_url="https://wayleave.example.com")
        with pytest.raises(DeliveryError):
            send(database, to, at)
        assert send(database, to, at + timedelta(minutes=2)) == 1
        with session_scope(database) as session:
            end_notice(session, session.get_one(NoticeRow, 1), at + timedelta(hours=1), ways=("webhook",))
        assert send(database, to, at + timedelta(hours=1)) == 1
    assert len(posts) == 3
    for signature, body in posts:
        at_s = int(signature.partition(",")[0].removeprefix("t="))
        assert signature == sign(KEY, body, at_s=at_s)
    (opened,), (ended,) = (json.loads(body)["notices"] for _, body in posts[1:])
    assert (opened["event"], ended["event"]) == ("opened", "ended")
    assert opened["title"] == "uv sync 0"
    assert opened["workflows"] == ["sync-wheels"]
    assert opened["changes"] == ["the policy in force aaaaaaaa → bbbbbbbb (20 users)"]
    assert opened["address"] == "https://wayleave.example.com/notices/1"


def test_one_way_that_fails_holds_no_other(database: Engine) -> None:
    at = now()
    make(database, 1, "webhook", "email", at=at)
    box = Mailbox()
    with mail_server(box) as port:
        to = Told(webhook="http://127.0.0.1:1/", webhook_key=KEY, mail=mails_to(port).mail)
        with pytest.raises(DeliveryError):
            send(database, to, at)
    assert len(box.mails) == 1


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")  # of the mail server
@pytest.mark.parametrize("scheme", ["smtps", "smtp+starttls"])
def test_tls_and_a_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=localhost"
    files = ["-keyout", str(key), "-out", str(certificate), "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run([*command.split(), *files], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    def may(_server: SMTP, _session: object, _envelope: object, _mechanism: str, data: object) -> AuthResult:
        ok = isinstance(data, LoginPassword) and (data.login, data.password) == (b"wayleave", b"word")
        return AuthResult(success=ok, handled=False)

    box = Mailbox()
    tls = {"ssl_context": context} if scheme == "smtps" else {"tls_context": context, "require_starttls": True}
    trust = ssl.create_default_context(cafile=str(certificate))
    options = {"authenticator": may, "auth_required": True, "auth_require_tls": scheme != "smtps", **tls}
    with mail_server(box, **options) as port:
        way = MailWay(
            server=f"{scheme}://localhost:{port}",
            sender="wayleave@example.com",
            recipients=("ada@example.com",),
            user="wayleave",
            password="word",
        )
        with pytest.raises(DeliveryError, match="SSLCertVerificationError"):
            send_mail(way, "x", "y")
        monkeypatch.setattr(ssl, "create_default_context", lambda: trust)
        send_mail(way, "Wayleave: x", "y")
        with pytest.raises(DeliveryError, match="SMTPAuthenticationError 535"):
            send_mail(
                MailWay(server=way.server, sender=way.sender, recipients=way.recipients, user="a", password="b"),
                "x",
                "y",
            )
    assert [mail["Subject"] for mail in box.mails] == ["Wayleave: x"]


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"notice_webhook": "https://x.example/"}, "NOTICE_WEBHOOK_KEY"),
        ({"notice_webhook": "ftp://x.example/", "notice_webhook_key": KEY}, "begins with https"),
        ({"notice_smtp": "mail.example.com"}, "is written smtp"),
        ({"notice_smtp": "smtp://user:word@mail.example.com"}, "is written smtp"),
        ({"notice_smtp": "smtp://mail.example.com"}, "MAIL_FROM and _TO"),
        (
            {
                "notice_smtp": "smtp://mail.example.com:99999",
                "notice_mail_from": "a@b.example",
                "notice_mail_to": "c@b.example",
            },
            "port",
        ),
        (
            {
                "notice_smtp": "smtp://m.example",
                "notice_mail_from": "a\r\nBcc: x@y.example",
                "notice_mail_to": "c@b.example",
            },
            "mail addresses",
        ),
        (
            {
                "notice_smtp": "smtp://m.example",
                "notice_smtp_user": "a",
                "notice_mail_from": "a@b.example",
                "notice_mail_to": "c@b.example",
            },
            "needs smtps",
        ),
    ],
)
def test_settings_that_cannot_work_are_refused(values: dict[str, str], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Settings(**values)


def test_settings_that_work() -> None:
    made = Settings(
        notice_smtp="smtp+starttls://mail.example.com",
        notice_mail_from="wayleave@example.com",
        notice_mail_to="ada@example.com, bob@example.com",
    )
    assert made.mail_recipients == ("ada@example.com", "bob@example.com")
