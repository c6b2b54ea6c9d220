"""Bringing entries elsewhere: syslog messages over UDP, TCP or TLS, and signed posts to a webhook.

source: RFC 5424 (message), RFC 6587 section 3.4.1 (octet counting on TCP), RFC 5425 (TLS).
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import socket
import ssl
import time
from collections.abc import Sequence
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

import httpx2

TIMEOUT_S = 10.0
MOST_BYTES = 8192
"""Of one syslog message; receivers must take 2 KB and should take 8."""

_FACILITY = 13  # log audit
_NOTICE, _WARNING = 5, 4
SIGNATURE_HEADER = "X-Wayleave-Signature"


class DeliveryError(Exception):
    """What was to be delivered did not arrive, as far as one can tell, and is tried again."""


def syslog_message(entry: dict[str, Any], *, host: str) -> bytes:
    """One audit entry as RFC 5424 has it: the entry as JSON in the message, what was refused as a warning.

    >>> line = syslog_message({"at": "2026-01-05T12:30:00.000Z", "action": "login.refused"}, host="wayleave-1").decode()
    >>> line.split(" ", 6)[0], line.split(" ", 7)[1:4], line.endswith('"action": "login.refused"}')
    ('<108>1', ['2026-01-05T12:30:00.000Z', 'wayleave-1', 'wayleave'], True)
    """
    severity = _WARNING if entry["action"].endswith((".refused", ".locked")) else _NOTICE
    message_id = "".join(c for c in entry["action"] if "!" <= c <= "~")[:32] or "-"
    head = f"<{_FACILITY * 8 + severity}>1 {entry['at']} {_named(host)} wayleave {os.getpid()} {message_id} - "
    # JSON in ASCII: no line break and no other control character is in it.
    return (head + json.dumps(entry))[:MOST_BYTES].encode("ascii", "replace")


def send_syslog(address: str, messages: Sequence[bytes]) -> None:
    """Sends messages to `udp://`, `tcp://` or `tls://host:port`. raises: DeliveryError"""
    parts = urlsplit(address)
    host, port = parts.hostname or "", parts.port or 514
    try:
        if parts.scheme == "udp":
            family, kind, protocol, _name, where = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
            with closing(socket.socket(family, kind, protocol)) as sender:
                for message in messages:
                    sender.sendto(message, where)
            return
        with closing(_open_stream(host, port, secure=parts.scheme == "tls")) as stream:
            stream.sendall(b"".join(b"%d %s" % (len(message), message) for message in messages))
            # A receiver that has gone answers with a reset: better learnt now than never.
            stream.shutdown(socket.SHUT_WR)
            while stream.recv(4096):
                pass
    except OSError as error:
        raise DeliveryError(f"{parts.scheme}://{host}:{port}: {error}") from error


def _open_stream(host: str, port: int, *, secure: bool) -> socket.socket:
    plain = socket.create_connection((host, port), timeout=TIMEOUT_S)
    if not secure:
        return plain
    try:
        return ssl.create_default_context().wrap_socket(plain, server_hostname=host)
    except OSError:
        plain.close()
        raise


def post_signed(url: str, key: str, value: dict[str, Any]) -> None:
    """Posts a JSON object; the header says when, and proves who by an HMAC of time and body. raises: DeliveryError"""
    body = json.dumps(value, separators=(",", ":")).encode()
    headers = {"Content-Type": "application/json", SIGNATURE_HEADER: sign(key, body, at_s=int(time.time()))}
    try:
        answer = httpx2.post(url, content=body, headers=headers, timeout=TIMEOUT_S, follow_redirects=False)
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise DeliveryError(f"{_place(url)}: {type(error).__name__}") from error
    if not answer.is_success:
        raise DeliveryError(f"{_place(url)} answers {answer.status_code}")


def sign(key: str, body: bytes, *, at_s: int) -> str:
    """The signature header of a body: a receiver computes it anew, and refuses old times.

    >>> sign("0123456789abcdef", b"{}", at_s=1)[:20]
    't=1,v1=2af693cb56b22'
    """
    proof = hmac.digest(key.encode(), b"%d." % at_s + body, hashlib.sha256).hex()
    return f"t={at_s},v1={proof}"


def _named(host: str) -> str:
    return "".join(c for c in host if "!" <= c <= "~")[:255] or "-"


def _place(url: str) -> str:
    """A webhook's address without its path and query, which may hold a secret."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
