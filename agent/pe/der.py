"""A small strict reader of DER: tag, length, value, one after the other, nothing guessed.

Only what a certificate and a PKCS#7 message need. Indefinite and overlong lengths, tags of several bytes and values
that run over their container are errors; nothing here recurses, so depth costs nothing.

source: ITU-T X.690, sections 8 and 10.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.pe.source import PeError

SEQUENCE = 0x30
SET = 0x31
INTEGER = 0x02
OCTET_STRING = 0x04
OBJECT_ID = 0x06

MAX_CHILDREN = 4096


@dataclass(frozen=True, slots=True)
class Node:
    """One value: its tag, its content, and itself as encoded (`whole`)."""

    tag: int
    content: bytes
    whole: bytes


def read_node(data: bytes, offset: int = 0) -> tuple[Node, int]:
    """The value at `offset` and the offset behind it. raises: PeError"""
    if offset + 2 > len(data):
        raise PeError("DER: a value ends too early")
    tag = data[offset]
    if tag & 0x1F == 0x1F:
        raise PeError("DER: a tag of several bytes")
    length = data[offset + 1]
    begin = offset + 2
    if length == 0x80:
        raise PeError("DER: an indefinite length")
    if length > 0x80:
        count = length & 0x7F
        if count > 4:
            raise PeError("DER: a length of more than four bytes")
        encoded = data[begin : begin + count]
        if len(encoded) != count:
            raise PeError("DER: a length ends too early")
        length = int.from_bytes(encoded, "big")
        if length < 0x80 or encoded[0] == 0:
            raise PeError("DER: an overlong length")
        begin += count
    end = begin + length
    if end > len(data):
        raise PeError("DER: a value runs over its container")
    return Node(tag, data[begin:end], data[offset:end]), end


def read_children(node: Node, what: str) -> tuple[Node, ...]:
    """All values in a constructed value. raises: PeError"""
    if not node.tag & 0x20:
        raise PeError(f"DER: {what} is not constructed")
    children: list[Node] = []
    offset = 0
    while offset < len(node.content):
        if len(children) == MAX_CHILDREN:
            raise PeError(f"DER: {what} has more than {MAX_CHILDREN} parts")
        child, offset = read_node(node.content, offset)
        children.append(child)
    return tuple(children)


def expect(node: Node, tag: int, what: str) -> Node:
    """The node itself if it has the tag. raises: PeError"""
    if node.tag != tag:
        raise PeError(f"DER: {what} has tag 0x{node.tag:02x}, not 0x{tag:02x}")
    return node


def child(nodes: tuple[Node, ...], index: int, tag: int, what: str) -> Node:
    """The node at an index, with the tag. raises: PeError"""
    if index >= len(nodes):
        raise PeError(f"DER: {what} is missing")
    return expect(nodes[index], tag, what)


def object_id(node: Node) -> str:
    """An object identifier in dotted form. raises: PeError"""
    expect(node, OBJECT_ID, "an object identifier")
    if not node.content or node.content[-1] & 0x80 or len(node.content) > 64:
        raise PeError("DER: a malformed object identifier")
    numbers = []
    number = 0
    for byte in node.content:
        if number == 0 and byte == 0x80:
            raise PeError("DER: a malformed object identifier")
        number = number << 7 | byte & 0x7F
        if not byte & 0x80:
            numbers.append(number)
            number = 0
    first = min(numbers[0] // 40, 2)
    return ".".join(str(part) for part in (first, numbers[0] - 40 * first, *numbers[1:]))


STRING_ENCODINGS = {0x0C: "utf-8", 0x13: "ascii", 0x14: "latin-1", 0x16: "ascii", 0x1E: "utf-16-be", 0x1C: "utf-32-be"}


def text(node: Node) -> str:
    """A character string of any of the kinds that names use. raises: PeError"""
    encoding = STRING_ENCODINGS.get(node.tag)
    if encoding is None:
        raise PeError(f"DER: tag 0x{node.tag:02x} is not a character string")
    try:
        return node.content.decode(encoding)
    except UnicodeDecodeError as error:
        raise PeError("DER: a character string is not in its encoding") from error
