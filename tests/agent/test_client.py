"""Every answer of the wire becomes a value, and nothing but an answer of the wire is believed."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable

import httpx
import pytest

from agent.client import NoAnswer, check_server, enrol, open_client, send_report
from agent.contract.canonical import digest
from agent.contract.messages import Acknowledged, Enrolled, Newcomer, Refused, Report

BODY = '{"found":[],"preferred":null}'
REPORT = Report(
    report_id="0b6ad9ce-5a1f-4d4c-9f7c-0d8f6a3d4c11",
    epoch=1763683200000,
    sequence=7,
    sent_at="2025-11-21T00:00:00Z",
    subject="S-1-5-21-1-2-3-1001",
    sets={"uv": digest("uv", BODY)},
    bodies={digest("uv", BODY): BODY},
)
TOKEN = "wl_7_abc"


def client(answer: Callable[[httpx.Request], httpx.Response]) -> httpx.Client:
    return open_client("https://wayleave.example.com", transport=httpx.MockTransport(answer))


def answering(status: int, value: object = None, headers: dict[str, str] | None = None) -> httpx.Client:
    return client(lambda _request: httpx.Response(status, json=value, headers=headers))


def test_a_report_is_sent_compressed_with_the_token_and_acknowledged() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(
            200, json={"report_id": REPORT.report_id, "next_report_s": 3600, "catalogue": "etag", "newer": 1}
        )

    with client(answer) as http:
        told = send_report(http, TOKEN, REPORT)

    assert told == Acknowledged(report_id=REPORT.report_id, next_report_s=3600, catalogue="etag")
    (request,) = seen
    assert str(request.url) == "https://wayleave.example.com/api/v1/reports"
    assert request.headers["Authorization"] == f"Bearer {TOKEN}"
    assert json.loads(gzip.decompress(request.content)) == REPORT.to_json()


@pytest.mark.parametrize(
    ("status", "value", "headers", "refused"),
    [
        (
            409,
            {"error": "missing", "message": "send these", "field": None, "missing": ["sha256:aa"]},
            {},
            Refused(status=409, error="missing", message="send these", missing=("sha256:aa",)),
        ),
        (
            409,
            {"error": "sequence_reused", "message": "m"},
            {},
            Refused(status=409, error="sequence_reused", message="m"),
        ),
        (
            422,
            {"error": "invalid", "message": "wrong digest", "field": "sets.uv"},
            {},
            Refused(status=422, error="invalid", message="wrong digest", field="sets.uv"),
        ),
        (401, {"error": "unknown", "message": ""}, {}, Refused(status=401, error="unknown")),
        (403, {"error": "revoked", "message": "gone"}, {}, Refused(status=403, error="revoked", message="gone")),
        (413, {"error": "too_large"}, {}, Refused(status=413, error="too_large")),
        (429, {"error": "quota"}, {"Retry-After": "90"}, Refused(status=429, error="quota", retry_after_s=90)),
        (503, None, {"Retry-After": "5"}, Refused(status=503, error="unknown", retry_after_s=5)),
        (503, None, {"Retry-After": "Fri, 31 Dec 1999 23:59:59 GMT"}, Refused(status=503, error="unknown")),
        (503, None, {"Retry-After": "-5"}, Refused(status=503, error="unknown")),
        (503, None, {"Retry-After": "99999999999"}, Refused(status=503, error="unknown", retry_after_s=604800)),
        (502, [1], {}, Refused(status=502, error="unknown")),
        (302, None, {"Location": "https://elsewhere.example.com"}, Refused(status=302, error="unknown")),
    ],
)
def test_refusals(status: int, value: object, headers: dict[str, str], refused: Refused) -> None:
    with answering(status, value, headers) as http:
        assert send_report(http, TOKEN, REPORT) == refused


@pytest.mark.parametrize(
    "response",
    [
        httpx.Response(200, html="<h1>Log in to the guest network</h1>"),
        httpx.Response(200, json=["report_id"]),
        httpx.Response(200, json={"report_id": "another"}),
        httpx.Response(200, content=b"[" * 200_000),
        httpx.Response(200, content=b" " * (2 << 20)),
    ],
    ids=["captive portal", "list", "another report", "deep", "endless"],
)
def test_what_is_no_answer_acknowledges_nothing(response: httpx.Response) -> None:
    with client(lambda _request: response) as http, pytest.raises(NoAnswer):
        send_report(http, TOKEN, REPORT)


def test_an_unreachable_server_is_no_answer() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    with client(refuse) as http, pytest.raises(NoAnswer, match="ConnectError"):
        send_report(http, TOKEN, REPORT)


def test_enrolment() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert json.loads(request.content) == {
            "contract": 1,
            "secret": "s3cret",
            "host": {"name": "pc-1", "os": "Windows 11"},
        }
        return httpx.Response(
            201, json={"host_id": "5", "token": "wl_5_x", "catalogue_key": "key", "next_report_s": 60}
        )

    with client(answer) as http:
        told = enrol(http, "s3cret", Newcomer(name="pc-1", system="Windows 11"))
    assert told == Enrolled(host_id="5", token="wl_5_x", catalogue_key="key", next_report_s=60)


def test_a_refused_enrolment() -> None:
    with answering(401, {"error": "secret", "message": "expired"}) as http:
        assert enrol(http, "s", Newcomer(name="a", system="b")) == Refused(
            status=401, error="secret", message="expired"
        )


def test_an_enrolment_without_a_token_is_none() -> None:
    with answering(201, {"host_id": "5"}) as http, pytest.raises(NoAnswer):
        enrol(http, "s", Newcomer(name="a", system="b"))


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("https://wayleave.example.com", "https://wayleave.example.com"),
        ("https://example.com:8443/wayleave/", "https://example.com:8443/wayleave"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("http://localhost:8000/", "http://localhost:8000"),
        ("http://[::1]:8000", "http://[::1]:8000"),
    ],
)
def test_servers(url: str, server: str) -> None:
    assert check_server(url) == server


@pytest.mark.parametrize(
    "url",
    [
        "http://wayleave.example.com",
        "http://127.0.0.1.example.com",
        "ftp://example.com",
        "wayleave.example.com",
        "https://",
        "https://user:secret@example.com",
        "https://example.com/?a=b",
        "https://example.com:port",
        "",
    ],
)
def test_other_servers_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        check_server(url)


def test_plain_http_elsewhere_only_when_asked_for() -> None:
    assert check_server("http://wayleave.example.com", insecure=True) == "http://wayleave.example.com"
