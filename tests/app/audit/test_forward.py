"""Audit entries arrive at real listeners on loopback, in order, each at least once, and nothing is lost meanwhile."""

from __future__ import annotations

import hashlib
import hmac
import itertools
import json
import re
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, func, select, update
from sqlalchemy.orm import Session

from app.audit.deliver import SIGNATURE_HEADER, DeliveryError, send_syslog, syslog_message
from app.audit.forward import Destinations, Forwarded, forward_entries
from app.audit.record import Actor, record
from app.audit.tables import AuditEntry
from app.db.base import now
from app.db.session import session_scope
from tests.free_port import free_port

ADA = Actor(kind="account", name="ada@example.com", address="10.0.0.1")
KEY = "a key of the webhook"
RFC5424 = re.compile(
    rb"<(\d{1,3})>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z [!-~]{1,255} [!-~]{1,48} [!-~]{1,128} [!-~]{1,32} - (.*)"
)


def note(engine: Engine, *actions: str, **detail: Any) -> None:
    with session_scope(engine) as session:
        for action in actions:
            record(session, ADA, action, "target\n2", **detail)


def forward(engine: Engine, to: Destinations) -> int:
    with engine.connect() as connection:
        return forward_entries(connection, to).sent


def bodies(messages: list[bytes]) -> list[dict[str, Any]]:
    found = []
    for message in messages:
        match = RFC5424.fullmatch(message)
        assert match is not None, message
        found.append(json.loads(match[2]))
    return found


@contextmanager
def stream_receiver(context: ssl.SSLContext | None = None) -> Iterator[tuple[int, list[bytes]]]:
    """A syslog receiver on TCP: its port, and the messages by their counted octets."""
    messages: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))
    farewell = socket.socket()
    farewell.bind(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            connection, peer = listener.accept()
            if peer == farewell.getsockname():
                connection.close()
                return
            try:
                if context is not None:
                    connection = context.wrap_socket(connection, server_side=True)
            except OSError:
                continue
            with connection:
                data = b""
                while part := connection.recv(65536):
                    data += part
            while data:
                length, _, rest = data.partition(b" ")
                messages.append(rest[: int(length)])
                data = rest[int(length) :]

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1], messages
    finally:
        # Whoever came before this one is answered first.
        farewell.connect(listener.getsockname())
        thread.join(10)
        farewell.close()
        listener.close()


class Hook:
    """A webhook that answers as told, and keeps what came."""

    def __init__(self) -> None:
        self.status = 200
        self.received: list[tuple[str, bytes]] = []


@pytest.fixture
def hook() -> Iterator[tuple[str, Hook]]:
    state = Hook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            state.received.append((self.headers[SIGNATURE_HEADER], body))
            self.send_response(state.status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/hook?secret=1", state
    server.shutdown()
    server.server_close()
    thread.join(10)


def test_to_syslog_over_tcp_from_now_on(database: Engine) -> None:
    note(database, "before.configured")
    with stream_receiver() as (port, messages):
        to = Destinations(syslog=f"tcp://127.0.0.1:{port}")
        assert forward(database, to) == 0, "a destination's log begins when it is set"
        note(database, "host.moved", "login.refused", "account.created", text="ä\u2028\n<134>1 forged")
        assert forward(database, to) == 3
        assert forward(database, to) == 0
    entries = bodies(messages)
    assert [entry["action"] for entry in entries] == ["host.moved", "login.refused", "account.created"]
    assert entries[0]["target"] == "target\n2"
    assert entries[0]["detail"] == {"text": "ä\u2028\n<134>1 forged"}
    assert entries[0]["actor"] == "ada@example.com"
    assert [message.split(b">")[0] for message in messages] == [b"<109", b"<108", b"<109"]


def test_to_syslog_over_udp(database: Engine) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(10)
        to = Destinations(syslog=f"udp://127.0.0.1:{receiver.getsockname()[1]}")
        forward(database, to)
        note(database, "host.moved", "host.revoked")
        assert forward(database, to) == 2
        received = [receiver.recv(65536) for _ in range(2)]
    assert [entry["action"] for entry in bodies(received)] == ["host.moved", "host.revoked"]


def test_over_tls_the_receiver_must_prove_who_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    made = subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost",
            "-keyout",
            str(key),
            "-out",
            str(certificate),
        ],
        capture_output=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    message = syslog_message({"at": "2026-01-05T12:30:00.000Z", "action": "host.moved"}, host="h")
    with stream_receiver(context) as (port, messages):
        with pytest.raises(DeliveryError, match="certificate"):
            send_syslog(f"tls://localhost:{port}", [message])
        assert messages == []
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        send_syslog(f"tls://localhost:{port}", [message])
    assert messages == [message]


def test_a_webhook_gets_signed_entries(database: Engine, hook: tuple[str, Hook]) -> None:
    url, state = hook
    to = Destinations(webhook=url, webhook_key=KEY)
    forward(database, to)
    note(database, *["host.moved"] * 250)
    assert forward(database, to) == 250
    assert [len(json.loads(body)["entries"]) for _signature, body in state.received] == [100, 100, 50]
    signature, body = state.received[0]
    match = re.fullmatch(r"t=(\d+),v1=([0-9a-f]{64})", signature)
    assert match is not None
    expected = hmac.new(KEY.encode(), match[1].encode() + b"." + body, hashlib.sha256).hexdigest()
    assert match[2] == expected


def test_what_was_not_taken_is_sent_again(database: Engine, hook: tuple[str, Hook]) -> None:
    url, state = hook
    to = Destinations(webhook=url, webhook_key=KEY)
    forward(database, to)
    note(database, "host.moved")
    state.status = 500
    with pytest.raises(DeliveryError, match="answers 500") as caught:
        forward(database, to)
    assert "secret" not in str(caught.value)
    state.status = 204
    assert forward(database, to) == 1
    first, second = (json.loads(body)["entries"][0]["id"] for _signature, body in state.received)
    assert first == second, "its id tells a receiver that it has it already"


def test_one_that_is_away_does_not_hold_up_the_other(database: Engine, hook: tuple[str, Hook]) -> None:
    gone = free_port()
    url, state = hook
    both = Destinations(syslog=f"tcp://127.0.0.1:{gone}", webhook=url, webhook_key=KEY)
    forward(database, both)
    note(database, "host.moved")
    with pytest.raises(DeliveryError, match=f"tcp://127.0.0.1:{gone}"):
        forward(database, both)
    assert len(state.received) == 1
    with stream_receiver() as (port, messages):
        assert forward(database, Destinations(syslog=f"tcp://127.0.0.1:{port}")) == 1
    assert [entry["action"] for entry in bodies(messages)] == ["host.moved"]


def arrived(hook: Hook) -> list[int]:
    return [entry["id"] for _signature, body in hook.received for entry in json.loads(body)["entries"]]


def ids_of(engine: Engine) -> list[int]:
    with session_scope(engine, writes=False) as session:
        return list(session.scalars(select(AuditEntry.id).order_by(AuditEntry.id)))


def test_no_clock_decides_what_is_sent(database: Engine, hook: tuple[str, Hook]) -> None:
    to = Destinations(webhook=hook[0], webhook_key=KEY)
    forward(database, to)
    hour = timedelta(hours=1)
    for later in (hour, -hour, timedelta(0)):
        note(database, "host.moved")
        with session_scope(database) as session:
            newest = session.scalar(select(func.max(AuditEntry.id)))
            session.execute(update(AuditEntry).where(AuditEntry.id == newest).values(at=now() + later))
    assert forward(database, to) == 3, "another server's clock may be before or behind ours"
    assert arrived(hook[1]) == ids_of(database)


def test_a_number_that_was_rolled_back_holds_nothing_up(database: Engine, hook: tuple[str, Hook]) -> None:
    to = Destinations(webhook=hook[0], webhook_key=KEY)
    forward(database, to)
    note(database, "host.moved")
    with Session(database) as session:
        record(session, ADA, "host.revoked")
        session.flush()
        session.rollback()
    note(database, "host.moved", "host.moved")
    assert forward(database, to) == 3
    assert arrived(hook[1]) == ids_of(database)
    if database.name == "postgresql":
        assert ids_of(database)[-1] == 4, "a number is missing"


@pytest.mark.postgresql
def test_what_is_committed_late_is_sent_in_its_place(
    database: Engine, hook: tuple[str, Hook], monkeypatch: pytest.MonkeyPatch
) -> None:
    if database.name != "postgresql":
        return  # there whoever writes holds up all others
    monkeypatch.setattr("app.db.writers.WAITS_S", 0.2)
    to = Destinations(webhook=hook[0], webhook_key=KEY)
    forward(database, to)
    note(database, "host.moved", "host.moved")
    with Session(database) as late, database.connect() as connection:
        record(late, ADA, "host.revoked")
        late.flush()
        note(database, *["host.moved"] * 250)
        for expected in (2, 0):
            forwarded = forward_entries(connection, to)
            assert forwarded.sent == expected, "all before the missing number, and none behind it"
            assert forwarded.waits
        late.commit()
        assert forward_entries(connection, to) == Forwarded(sent=251, waits=False)
    assert arrived(hook[1]) == ids_of(database) == list(range(1, 254))


@pytest.mark.postgresql
def test_those_who_write_without_a_pause_hold_nothing_up(database: Engine, hook: tuple[str, Hook]) -> None:
    if database.name != "postgresql":
        return
    to = Destinations(webhook=hook[0], webhook_key=KEY)
    forward(database, to)
    ends = threading.Event()
    turns = itertools.count()

    def write() -> None:
        while not ends.is_set():
            with Session(database) as session:
                record(session, ADA, "host.moved")
                session.flush()
                ends.wait(0.2)
                (session.rollback if next(turns) % 3 == 0 else session.commit)()

    writers = [threading.Thread(target=write) for _ in range(4)]
    try:
        for place, writer in enumerate(writers):
            writer.start()
            ends.wait(0.04 * place)
        for _ in range(3):
            deadline = time.monotonic() + 30
            while len(ids_of(database)) == len(arrived(hook[1])):
                assert time.monotonic() < deadline
            assert forward(database, to), "there is always one who writes, but never the same for long"
    finally:
        ends.set()
        for writer in writers:
            writer.join(10)
    forward(database, to)
    assert arrived(hook[1]) == ids_of(database)


def test_long_entries_are_cut_not_refused() -> None:
    message = syslog_message({"at": "2026-01-05T12:30:00.000Z", "action": "a.b", "detail": "x" * 20_000}, host="h\n h")
    assert len(message) == 8192
    assert b"\n" not in message
