"""Talking to the server: enrol, and send one report. Every answer of the wire becomes a value; none is an exception.

TLS trusts what the system trusts. Redirects are not followed: a token goes to the server that it belongs to.
"""

from __future__ import annotations

import gzip
import ipaddress
import json
import ssl
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import truststore

from agent.contract import CONTRACT
from agent.contract.messages import (
    CATALOGUE_PATH,
    ENROL_PATH,
    REPORTS_PATH,
    Acknowledged,
    Enrolled,
    Newcomer,
    Refused,
    Report,
)
from agent.report import encode_report

TIMEOUT_S = 30.0
MAX_ANSWER_BYTES = 1 << 20
DEFAULT_NEXT_REPORT_S = 86_400
MAX_WAIT_S = 7 * 86_400
SIGNATURE_HEADER = "Wayleave-Signature"


class NoAnswer(Exception):
    """The server could not be reached, or what came back was no answer of the wire."""


def check_server(url: str, *, insecure: bool = False) -> str:
    """A server's base address, without a trailing slash. Plain http only to this machine, unless `insecure`.

    raises: ValueError saying what is wrong with it.

    >>> check_server("https://wayleave.example.com/")
    'https://wayleave.example.com'
    """
    parts = urlsplit(url.strip())
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise ValueError(f"{url!r} is no https:// address")
    if parts.query or parts.fragment or parts.username or parts.password:
        raise ValueError("the server's address must have no user, query or fragment")
    try:
        parts.port  # noqa: B018 - the property raises for a port that is none
    except ValueError as error:
        raise ValueError(f"{url!r}: {error}") from error
    if parts.scheme == "http" and not insecure and not _is_loopback(parts.hostname):
        raise ValueError("the token would travel in the clear: use https://, or --insecure on a network you trust")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


def open_client(
    server: str, *, ca_file: Path | None = None, transport: httpx.BaseTransport | None = None
) -> httpx.Client:
    """A client for one server. `ca_file`: a PEM file of authorities trusted besides the system's."""
    context = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if ca_file is not None:
        context.load_verify_locations(ca_file)
    return httpx.Client(
        base_url=server,
        verify=context,
        timeout=TIMEOUT_S,
        follow_redirects=False,
        transport=transport,
        headers={"User-Agent": f"wayleave-agent (contract {CONTRACT})", "Accept": "application/json"},
    )


def send_report(client: httpx.Client, token: str, report: Report) -> Acknowledged | Refused:
    """Send one report. raises: NoAnswer"""
    answer = _post(
        client,
        REPORTS_PATH,
        gzip.compress(encode_report(report), mtime=0),
        {"Authorization": f"Bearer {token}", "Content-Encoding": "gzip"},
    )
    if isinstance(answer, Refused):
        return answer
    if answer.get("report_id") != report.report_id:
        raise NoAnswer("the answer is to another report")
    return Acknowledged(
        report_id=report.report_id,
        next_report_s=_seconds(answer.get("next_report_s"), DEFAULT_NEXT_REPORT_S),
        catalogue=str(answer.get("catalogue", ""))[:200],
        # Only a plain `false` stops probing: an older server says nothing of it.
        probing=answer.get("probing") is not False,
    )


def enrol(client: httpx.Client, secret: str, host: Newcomer) -> Enrolled | Refused:
    """Exchange an enrolment secret for a host token. raises: NoAnswer"""
    message = {"contract": CONTRACT, "secret": secret, "host": host.to_json()}
    answer = _post(client, ENROL_PATH, json.dumps(message).encode(), {})
    if isinstance(answer, Refused):
        return answer
    host_id, token, key = answer.get("host_id"), answer.get("token"), answer.get("catalogue_key")
    if not isinstance(host_id, str) or not isinstance(token, str) or not host_id or not token.isascii():
        raise NoAnswer("the answer to the enrolment holds no host id or token")
    return Enrolled(
        host_id=host_id,
        token=token,
        next_report_s=_seconds(answer.get("next_report_s"), DEFAULT_NEXT_REPORT_S),
        catalogue_key=key if isinstance(key, str) else None,
    )


def fetch_catalogue(client: httpx.Client, etag: str) -> tuple[bytes, str] | None:
    """The server's catalogue and its signature (base64), neither checked; None if it is still the one of an etag.

    raises: NoAnswer
    """
    headers = {"If-None-Match": f'"{etag}"', "Accept": "application/toml"}
    try:
        with client.stream("GET", CATALOGUE_PATH, headers=headers) as response:
            if response.status_code == 304:
                return None
            if response.status_code != 200:
                raise NoAnswer(f"the catalogue: {response.status_code}")
            body = b""
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > MAX_ANSWER_BYTES:
                    raise NoAnswer("the catalogue is too long")
    except httpx.HTTPError as error:
        raise NoAnswer(f"{type(error).__name__}: {error}") from error
    return body, response.headers.get(SIGNATURE_HEADER, "")[:200]


def _post(client: httpx.Client, path: str, content: bytes, headers: dict[str, str]) -> dict[str, Any] | Refused:
    try:
        with client.stream(
            "POST", path, content=content, headers={"Content-Type": "application/json", **headers}
        ) as response:
            body = b""
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > MAX_ANSWER_BYTES:
                    raise NoAnswer("the answer is too long")
    except httpx.HTTPError as error:
        raise NoAnswer(f"{type(error).__name__}: {error}") from error
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        value = None
    if response.status_code in (200, 201):
        if not isinstance(value, dict):
            raise NoAnswer("the answer is no JSON object: is this a Wayleave server?")
        return value
    return _refused(response, value if isinstance(value, dict) else {})


def _refused(response: httpx.Response, value: dict[str, Any]) -> Refused:
    missing = value.get("missing")
    field = value.get("field")
    return Refused(
        status=response.status_code,
        error=str(value.get("error", "unknown"))[:100],
        message=str(value.get("message", ""))[:500],
        field=field[:200] if isinstance(field, str) else None,
        missing=tuple(item for item in missing if isinstance(item, str)) if isinstance(missing, list) else (),
        retry_after_s=_retry_after(response.headers.get("Retry-After")),
        answered_at=_moment(response.headers.get("Date")),
    )


def _moment(value: str | None) -> float | None:
    try:
        return parsedate_to_datetime(value).timestamp() if value else None
    except (ValueError, OverflowError):
        return None


def _retry_after(value: str | None) -> int | None:
    # Only seconds: our server sends no dates, and a proxy's date needs a clock that may be wrong by days.
    return min(int(value), MAX_WAIT_S) if value is not None and value.isascii() and value.isdigit() else None


def _seconds(value: object, default: int) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MAX_WAIT_S:
        return value
    return default


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
