"""PostgreSQL arrays as binary parameters, packed in one go: a group of reports is a few arrays, not many statements.

psycopg's own lists work too, but choose an element type by the values at hand (a new prepared statement each time)
and visit every element; these know their type.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

import psycopg
from psycopg.adapt import Dumper
from psycopg.pq import Format

_HEAD = struct.Struct(">iiIii")
_ITEM8 = struct.Struct(">iq").pack
_ITEM4 = struct.Struct(">ii").pack
_LENGTH = struct.Struct(">i").pack
_NULL = _LENGTH(-1)
_INT8, _INT4, _BYTEA, _TEXT = 20, 23, 17, 25


class Int8s(list[int | None]):
    """A bigint[] parameter."""


class Int4s(list[int | None]):
    """An integer[] parameter."""


class Byteas(list[bytes | None]):
    """A bytea[] parameter."""


class Texts(list[str | None]):
    """A text[] parameter."""


def _packed(oid: int, count: int, items: Iterable[bytes]) -> bytes:
    if not count:
        return struct.pack(">iiI", 0, 0, oid)
    return _HEAD.pack(1, 1, oid, count, 1) + b"".join(items)


class _Binary(Dumper):
    format = Format.BINARY


class _Int8sDumper(_Binary):
    oid = 1016

    def dump(self, obj: Int8s) -> bytes:
        return _packed(_INT8, len(obj), [_NULL if value is None else _ITEM8(8, value) for value in obj])


class _Int4sDumper(_Binary):
    oid = 1007

    def dump(self, obj: Int4s) -> bytes:
        return _packed(_INT4, len(obj), [_NULL if value is None else _ITEM4(4, value) for value in obj])


class _ByteasDumper(_Binary):
    oid = 1001

    def dump(self, obj: Byteas) -> bytes:
        return _packed(_BYTEA, len(obj), [_NULL if value is None else _LENGTH(len(value)) + value for value in obj])


class _TextsDumper(_Binary):
    oid = 1009

    def dump(self, obj: Texts) -> bytes:
        encoded = [None if value is None else value.encode() for value in obj]
        return _packed(_TEXT, len(obj), [_NULL if value is None else _LENGTH(len(value)) + value for value in encoded])


for _kind, _dumper in ((Int8s, _Int8sDumper), (Int4s, _Int4sDumper), (Byteas, _ByteasDumper), (Texts, _TextsDumper)):
    psycopg.adapters.register_dumper(_kind, _dumper)
