"""The server's catalogue on the workstation: fetched when it is another, checked each time, refused with a reason."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.catalogue import load
from agent.catalogue.adopt import MAX_BYTES, CatalogueRefused, use
from agent.catalogue.load import FILE, etag_of, own
from agent.client import NoAnswer, fetch_catalogue, open_client
from agent.kept import NAME, adopt_kept, check, read_kept, refresh

PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
KEY = base64.b64encode(PRIVATE.public_key().public_bytes_raw()).decode()
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(32))
NEWER = FILE.read_bytes().replace(b"title = '", b"title = 'Newer: ")


def signed(body: bytes, private: Ed25519PrivateKey = PRIVATE) -> str:
    return base64.b64encode(private.sign(body)).decode()


class Server:
    """What the server would answer, and how often it was asked."""

    def __init__(self, body: bytes, signature: str | None = None) -> None:
        self.body, self.signature = body, signature or signed(body)
        self.asked: list[str] = []

    @property
    def etag(self) -> str:
        return etag_of(self.body)

    def fetch(self, etag: str) -> tuple[bytes, str] | None:
        self.asked.append(etag)
        return None if etag == self.etag else (self.body, self.signature)


@pytest.fixture(autouse=True)
def _own_afterwards() -> Iterator[None]:
    yield
    use(None)


def test_another_catalogue_is_fetched_once_and_used_in_the_next_cycle(tmp_path: Path) -> None:
    server = Server(NEWER)
    assert refresh(tmp_path, server.fetch, key=KEY, offered=server.etag) is None
    assert load() is own()  # the running cycle goes on as it began
    assert adopt_kept(tmp_path) is None
    assert load().etag == server.etag
    assert load().patterns[0].title.startswith("Newer: ")
    assert refresh(tmp_path, server.fetch, key=KEY, offered=server.etag) is None
    assert server.asked == [own().etag]


def test_the_agents_own_is_never_fetched_and_puts_an_end_to_a_kept_one(tmp_path: Path) -> None:
    mine = Server(FILE.read_bytes())
    assert refresh(tmp_path, mine.fetch, key=KEY, offered=mine.etag) is None
    assert mine.asked == []
    newer = Server(NEWER)
    refresh(tmp_path, newer.fetch, key=KEY, offered=newer.etag)
    refresh(tmp_path, mine.fetch, key=KEY, offered=mine.etag)
    assert adopt_kept(tmp_path) is None
    assert load() is own()
    assert mine.asked == []


@pytest.mark.parametrize(
    ("body", "signature", "key", "code"),
    [
        (NEWER, signed(NEWER, OTHER), KEY, "signature"),
        (NEWER, signed(NEWER + b" "), KEY, "signature"),
        (NEWER, "", KEY, "signature"),
        (NEWER, "not base64!", KEY, "signature"),
        (NEWER, signed(NEWER), "", "no-key"),
        (NEWER, signed(NEWER), "AAAA", "signature"),
        (b"#" * (MAX_BYTES + 1), signed(b"#" * (MAX_BYTES + 1)), KEY, "size"),
        (b"hello", signed(b"hello"), KEY, "format"),
        (
            NEWER.replace(b"%USERPROFILE%", b"%WINDIR%"),
            signed(NEWER.replace(b"%USERPROFILE%", b"%WINDIR%")),
            KEY,
            "place",
        ),
    ],
)
def test_a_refusal_is_kept_told_and_not_asked_for_again(
    tmp_path: Path, body: bytes, signature: str, key: str, code: str
) -> None:
    server = Server(body, signature or " ")
    assert refresh(tmp_path, server.fetch, key=key, offered=server.etag) == code
    assert refresh(tmp_path, server.fetch, key=key, offered=server.etag) == code
    assert len(server.asked) == 1
    assert adopt_kept(tmp_path) == code
    assert load() is own()


def test_after_a_refusal_the_one_that_was_taken_before_stays_in_use(tmp_path: Path) -> None:
    first = Server(NEWER)
    refresh(tmp_path, first.fetch, key=KEY, offered=first.etag)
    second = Server(NEWER.replace(b"Newer", b"Newest"), signed(b"something else"))
    assert refresh(tmp_path, second.fetch, key=KEY, offered=second.etag) == "signature"
    assert adopt_kept(tmp_path) == "signature"
    assert load().etag == first.etag
    assert refresh(tmp_path, first.fetch, key=KEY, offered=first.etag) is None
    assert adopt_kept(tmp_path) is None
    assert load().etag == first.etag
    mended = Server(second.body)
    assert refresh(tmp_path, mended.fetch, key=KEY, offered=mended.etag) is None
    assert adopt_kept(tmp_path) is None
    assert load().etag == mended.etag


def test_what_was_changed_on_disk_is_not_used(tmp_path: Path) -> None:
    server = Server(NEWER)
    refresh(tmp_path, server.fetch, key=KEY, offered=server.etag)
    data = json.loads((tmp_path / NAME).read_text())
    changed = {**data, "body": data["body"].replace("Newer", "Worse", 1)}
    (tmp_path / NAME).write_text(json.dumps(changed))
    assert adopt_kept(tmp_path) == "signature"
    assert load() is own()
    for broken in ("", "{", "[]", '{"body": 5}', '{"body": "x"}', '{"refused": "nonsense"}', '{"refused": 5}'):
        (tmp_path / NAME).write_text(broken)
        assert adopt_kept(tmp_path) in (None, "no-key")
        assert load() is own()


def test_another_servers_catalogue_does_not_count(tmp_path: Path) -> None:
    server = Server(NEWER)
    refresh(tmp_path, server.fetch, key=KEY, offered=server.etag)
    other_key = base64.b64encode(OTHER.public_key().public_bytes_raw()).decode()
    assert read_kept(tmp_path, other_key).catalogue is None
    with pytest.raises(CatalogueRefused):
        check(NEWER, signed(NEWER), other_key)


def answering(handler: httpx.Response | Exception) -> httpx.Client:
    def answer(request: httpx.Request) -> httpx.Response:
        assert request.method == "GET"
        assert request.headers["If-None-Match"] == '"abc"'
        if isinstance(handler, Exception):
            raise handler
        return handler

    return open_client("https://wayleave.example.com", transport=httpx.MockTransport(answer))


def test_the_client_asks_conditionally_and_reads_no_more_than_it_may() -> None:
    with answering(httpx.Response(304)) as http:
        assert fetch_catalogue(http, "abc") is None
    with answering(httpx.Response(200, content=b"x", headers={"Wayleave-Signature": "s"})) as http:
        assert fetch_catalogue(http, "abc") == (b"x", "s")
    for wrong in (
        httpx.Response(200, content=b"x" * (2 << 20)),
        httpx.Response(500),
        httpx.Response(302, headers={"Location": "https://elsewhere.example.com/"}),
        httpx.ConnectError("away"),
    ):
        with answering(wrong) as http, pytest.raises(NoAnswer):
            fetch_catalogue(http, "abc")
