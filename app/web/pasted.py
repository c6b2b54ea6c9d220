"""Reading a form that anybody may send: never more of it than allowed, whatever it says of its length."""

from __future__ import annotations

import unicodedata
from urllib.parse import parse_qs

from starlette.requests import Request

from app.errors import TooLargeError

MAX_FIELDS = 60


async def read_body(request: Request, *, limit_bytes: int) -> bytes:
    """The body, if it is no longer than `limit_bytes`. raises: TooLargeError, before the rest is read"""
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > limit_bytes:
        raise TooLargeError
    parts: list[bytes] = []
    length = 0
    async for part in request.stream():
        length += len(part)
        if length > limit_bytes:
            raise TooLargeError
        parts.append(part)
    return b"".join(parts)


def parse_fields(body: bytes) -> dict[str, list[str]]:
    """The fields of a form as browsers send it by default; of one that can't be read, none.

    >>> parse_fields(b"a=1&a=%C3%A4&b=")
    {'a': ['1', 'ä'], 'b': ['']}
    """
    try:
        return parse_qs(
            body.decode("utf-8", "replace"), keep_blank_values=True, errors="replace", max_num_fields=MAX_FIELDS
        )
    except ValueError:
        return {}


def visible(text: str, *, length: int) -> str:
    """One line of what somebody else wrote: no control characters, nothing that turns the direction of reading.

    >>> visible("a\\u202etxt.exe\\r\\n b", length=40)
    'atxt.exe b'
    """
    kept = "".join(
        " " if char.isspace() else char for char in text if char.isspace() or unicodedata.category(char)[0] != "C"
    )
    return " ".join(kept.split())[:length]
