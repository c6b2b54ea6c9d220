"""Receives one large file with a form, as a stream: the file goes to disk as it comes, never into memory or /tmp.

Files that a form asks for beside it are small, and kept in memory up to a limit of their own.

source: RFC 7578; python-multipart does the parsing
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fastapi import Request
from python_multipart import MultipartParser
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import parse_options_header
from starlette.concurrency import run_in_threadpool

from app.errors import InvalidError, MalformedError, TooLargeError

MAX_FIELDS = 20
MAX_FIELD_BYTES = 20_000
PART_ENDING = ".part"


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """A form with a file. `path` is the caller's to move or remove; None where no file was chosen.

    `small`: by field, the name and content of each small file that was chosen.
    """

    fields: Mapping[str, str]
    name: str
    path: Path | None
    small: Mapping[str, tuple[str, bytes]] = field(default_factory=dict)


@dataclass(slots=True)
class _Part:
    name: str = ""
    file_name: str | None = None
    text: bytearray = field(default_factory=bytearray)


async def receive_upload(
    request: Request, folder: Path, *, max_bytes: int, small: Mapping[str, int] | None = None
) -> Received:
    """Receives a form of at most one large file into a folder that exists. `small`: limits of other files, by field.

    raises: MalformedError for no such form, TooLargeError, InvalidError for too many or too long fields. Whatever is
    raised, also when the sender goes away, nothing is left behind.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind != b"multipart/form-data" or b"boundary" not in options:
        raise MalformedError("Send the form as multipart/form-data.", field="body")
    path = folder / f"{secrets.token_hex(12)}{PART_ENDING}"
    form = _Form(small or {})
    received = 0
    parser = MultipartParser(options[b"boundary"], form.callbacks())  # type: ignore[arg-type]  # the parser's callbacks are a typed dictionary
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    is_kept = False
    try:
        with os.fdopen(descriptor, "wb") as file:
            async for chunk in request.stream():
                received += len(chunk)
                if received > max_bytes:
                    raise TooLargeError(f"A file may have {max_bytes // 10**6:,} MB at most.", field="file")
                parser.write(chunk)
                if form.written:
                    await run_in_threadpool(file.write, b"".join(form.written))
                    form.written.clear()
            parser.finalize()
            await run_in_threadpool(_sync, file.fileno(), file)
        if not form.is_ended:
            raise MalformedError("The form ended before its end.", field="body")
        is_kept = bool(form.file_name)
        fields = {name: bytes(text).decode("utf-8", "replace") for name, text in form.fields.items()}
        return Received(fields=fields, name=form.file_name or "", path=path if is_kept else None, small=form.small)
    except MultipartParseError as error:
        raise MalformedError(f"The form can't be read: {error}", field="body") from error
    finally:
        if not is_kept:
            path.unlink(missing_ok=True)


def _sync(descriptor: int, file: object) -> None:
    file.flush()  # type: ignore[attr-defined]  # a file, whatever buffers it
    os.fsync(descriptor)


class _Form:
    """What the parser finds: fields are kept, a file's bytes are handed on in `written`."""

    def __init__(self, limits: Mapping[str, int]) -> None:
        self._limits = limits
        self.small: dict[str, tuple[str, bytes]] = {}
        self.fields: dict[str, bytearray] = {}
        self.file_name: str | None = None
        self.written: list[bytes] = []
        self.is_ended = False
        self._part = _Part()
        self._header = bytearray()
        self._value = bytearray()

    def callbacks(self) -> dict[str, object]:
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._header.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._end_header,
            "on_headers_finished": self._end_headers,
            "on_part_data": self._take,
            "on_part_end": self._end,
            "on_end": self._finish,
        }

    def _begin(self) -> None:
        self._part = _Part()

    def _end_header(self) -> None:
        if bytes(self._header).lower() == b"content-disposition":
            _, options = parse_options_header(bytes(self._value))
            self._part.name = options.get(b"name", b"").decode("utf-8", "replace")
            if b"filename" in options:
                self._part.file_name = options[b"filename"].decode("utf-8", "replace")
        self._header.clear()
        self._value.clear()

    def _end_headers(self) -> None:
        if self._part.file_name and self._part.name not in self._limits:
            if self.file_name is not None:
                raise InvalidError("One file at a time.", field="file")
            self.file_name = _plain_name(self._part.file_name)

    def _take(self, data: bytes, start: int, end: int) -> None:
        if self._part.file_name and self._part.name in self._limits:
            self._part.text += data[start:end]
            if len(self._part.text) > self._limits[self._part.name]:
                raise TooLargeError(
                    f"This file may have {self._limits[self._part.name] // 10**6} MB at most.", field=self._part.name
                )
        elif self._part.file_name is None:
            self._part.text += data[start:end]
            if len(self._part.text) > MAX_FIELD_BYTES:
                raise InvalidError("This is too long.", field=self._part.name[:40])
        elif self._part.file_name:
            self.written.append(bytes(data[start:end]))

    def _end(self) -> None:
        if self._part.file_name and self._part.name in self._limits:
            self.small[self._part.name] = (_plain_name(self._part.file_name), bytes(self._part.text))
        elif self._part.file_name is None:
            self.fields[self._part.name] = self._part.text
            if len(self.fields) > MAX_FIELDS:
                raise InvalidError("Too many fields.", field="body")

    def _finish(self) -> None:
        self.is_ended = True


def _plain_name(given: str) -> str:
    # A browser may send a path; what is left is a name for people, never one on our disk.
    name = given.replace("\\", "/").rpartition("/")[2]
    return "".join(letter for letter in name if letter.isprintable())[:200] or "file"
