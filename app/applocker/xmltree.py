"""XML as a guarded stream: no document types, no entities, bounded in size, depth and number, with line numbers.

The standard library's expat does the parsing; this file refuses what a policy never has before it costs time or memory,
and hands over each finished sub-tree, so that a large policy never stands in memory as one tree.

source: OWASP XML External Entity Prevention; the limits are several times what the largest real policies need
"""

from __future__ import annotations

import xml.parsers.expat as expat
from collections.abc import Callable
from dataclasses import dataclass, field

from app.applocker.model import AppLockerError, Problem

MAX_BYTES = 16 * 1024 * 1024
MAX_DEPTH = 32
MAX_ELEMENTS = 120_000
MAX_MARKUP = 2_000
"""How many comments and processing instructions together."""
MAX_TOKEN_BYTES = 512 * 1024
"""How long one tag may be: a path of 32767 characters, each written as an entity, fits."""
MAX_ATTRIBUTES = 64
MAX_TEXT = 1024 * 1024

_CHUNK_BYTES = 64 * 1024


@dataclass(slots=True)
class Node:
    """One element as read. `text` is what stood before, between and after the children, in order with them."""

    name: str
    attributes: dict[str, str]
    line: int
    column: int
    children: list[Node | str] = field(default_factory=list)

    def elements(self) -> list[Node]:
        return [child for child in self.children if isinstance(child, Node)]

    def has_text(self) -> bool:
        return any(isinstance(child, str) and not child.isspace() for child in self.children)


class Refused(Exception):
    """Raised inside a handler to stop the parser."""

    def __init__(self, line: int | None, message: str) -> None:
        super().__init__(message)
        self.problem = Problem(line=line, rule=None, message=message)


def decode(data: bytes | str) -> bytes:
    """The text as UTF-8 bytes without byte order mark, from UTF-8 or UTF-16, whatever the XML declaration claims.

    raises: AppLockerError for other encodings, NUL characters, lone surrogates and more than MAX_BYTES.
    """
    if len(data) > MAX_BYTES:
        raise _error(f"the policy is larger than {MAX_BYTES // 1024 // 1024} MB, which no real policy is")
    if isinstance(data, str):
        utf8 = _encoded(data.removeprefix("\ufeff"))
    elif data.startswith((b"\xff\xfe\x00\x00", b"\x00\x00\xfe\xff")):
        raise _error("the file is UTF-32; AppLocker policies are UTF-8 or UTF-16")
    elif data.startswith((b"\xff\xfe", b"\xfe\xff")):
        utf8 = _encoded(_decoded(data, "utf-16"))
    elif data[:2] == b"<\x00":
        utf8 = _encoded(_decoded(data, "utf-16-le"))
    elif data[:2] == b"\x00<":
        utf8 = _encoded(_decoded(data, "utf-16-be"))
    else:
        utf8 = data.removeprefix(b"\xef\xbb\xbf")
        try:
            utf8.decode()
        except UnicodeDecodeError as error:
            line = utf8.count(b"\n", 0, error.start) + 1
            raise _error("the file is neither UTF-8 nor UTF-16; save it as UTF-8", line) from error
    if (nul := utf8.find(b"\0")) >= 0:
        raise _error("the file holds a NUL character", utf8.count(b"\n", 0, nul) + 1)
    return utf8


def walk(data: bytes | str, parent: str, finished: Callable[[list[Node], Node], bool]) -> tuple[Node, list[str]]:
    """Parses, and calls `finished(ancestors, node)` for each child of an element named `parent`.

    A child for which it answers True leaves the tree; the root comes back with all others, and with the comments.
    Text that is only white space is kept inside `...Extensions` elements alone.

    raises: AppLockerError with the one problem at which reading stopped (not well-formed, or refused).
    """
    utf8 = decode(data)
    reader = _Reader(parent, finished)
    try:
        reader.feed(utf8)
    except Refused as refused:
        raise AppLockerError((refused.problem,)) from None
    except expat.ExpatError as error:
        message = f"not well-formed XML: {expat.ErrorString(error.code)} (column {error.offset + 1})"
        raise AppLockerError((Problem(line=error.lineno, rule=None, message=message),)) from None
    return reader.root, reader.comments


class _Reader:
    """expat's handlers and the stack of open elements."""

    def __init__(self, parent: str, finished: Callable[[list[Node], Node], bool]) -> None:
        self.parent = parent
        self.finished = finished
        self.verbatim = 0
        self.text_length = 0
        self.open: list[Node] = []
        self.comments: list[str] = []
        self.elements = 0
        self.markup = 0
        # The bytes are UTF-8 by now, whatever the declaration says.
        self.parser = parser = expat.ParserCreate("utf-8")
        parser.buffer_text = True
        parser.buffer_size = _CHUNK_BYTES
        parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
        parser.StartDoctypeDeclHandler = self._refuse_doctype
        parser.EntityDeclHandler = self._refuse_doctype
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        parser.CommentHandler = self._comment
        parser.ProcessingInstructionHandler = self._instruction

    def feed(self, utf8: bytes) -> None:
        """The whole text, in pieces, so that a tag that never ends is noticed early."""
        for start in range(0, len(utf8), _CHUNK_BYTES):
            self.parser.Parse(utf8[start : start + _CHUNK_BYTES], False)
            if start + _CHUNK_BYTES - self.parser.CurrentByteIndex > MAX_TOKEN_BYTES:
                raise self._refused(f"one tag, text or comment is longer than {MAX_TOKEN_BYTES // 1024} KB")
        self.parser.Parse(b"", True)

    def _refused(self, message: str) -> Refused:
        return Refused(self.parser.CurrentLineNumber, message)

    def _refuse_doctype(self, *_: object) -> None:
        raise self._refused("the file has a document type declaration (<!DOCTYPE>), which policies never have")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self.elements += 1
        if self.elements > MAX_ELEMENTS:
            raise self._refused(f"the file has more than {MAX_ELEMENTS} elements")
        if len(self.open) >= MAX_DEPTH:
            raise self._refused(f"elements are nested more than {MAX_DEPTH} deep")
        if len(attributes) > MAX_ATTRIBUTES:
            raise self._refused(f"one element has more than {MAX_ATTRIBUTES} attributes")
        node = Node(name, attributes, self.parser.CurrentLineNumber, self.parser.CurrentColumnNumber + 1)
        if self.open:
            self.open[-1].children.append(node)
        else:
            self.root = node
        self.open.append(node)
        self.verbatim += name.endswith("Extensions")

    def _end(self, name: str) -> None:
        node = self.open.pop()
        self.verbatim -= name.endswith("Extensions")
        if self.open and self.open[-1].name == self.parent and self.finished(self.open, node):
            self.open[-1].children.pop()

    def _text(self, text: str) -> None:
        if not self.verbatim and text.isspace():
            return
        self.text_length += len(text)
        if self.text_length > MAX_TEXT:
            raise self._refused(f"the file has more than {MAX_TEXT // 1024} KB of text between its tags")
        children = self.open[-1].children
        if children and isinstance(children[-1], str):
            children[-1] += text
        else:
            children.append(text)

    def _comment(self, text: str) -> None:
        self._count_markup()
        self.comments.append(text)

    def _instruction(self, target: str, text: str) -> None:
        self._count_markup()

    def _count_markup(self) -> None:
        self.markup += 1
        if self.markup > MAX_MARKUP:
            raise self._refused(f"the file has more than {MAX_MARKUP} comments and processing instructions")


def _decoded(data: bytes, encoding: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise _error(f"the file is not valid UTF-16: {error.reason} at byte {error.start}") from error


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        line = text.count("\n", 0, error.start) + 1
        raise _error("the text holds half of a surrogate pair, which is no character", line) from error


def _error(message: str, line: int | None = None) -> AppLockerError:
    return AppLockerError((Problem(line=line, rule=None, message=message),))
