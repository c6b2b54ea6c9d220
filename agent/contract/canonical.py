"""Canonical JSON (RFC 8785 without floats) and the digests taken over it.

source: RFC 8785; integers are held within ±2^53 so that every JSON reader agrees on them.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import NoReturn

MAX_INTEGER = 2**53
MAX_DEPTH = 32
DIGEST_PREFIX = "sha256:"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")

Json = None | bool | int | str | Sequence["Json"] | Mapping[str, "Json"]


class ContractError(ValueError):
    """A value or a text that the contract does not allow. `field` names the place, as a dotted path, or is None."""

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


def canonical_json(value: Json) -> str:
    """The one JSON text of a value: sorted keys (by UTF-16 code units), no spaces, no floats.

    raises: ContractError for floats, integers outside ±2^53, lone surrogates, other types and too deep nesting.

    >>> canonical_json({"b": [1, True], "a": "\\u00e9"})
    '{"a":"é","b":[1,true]}'
    """
    return json.dumps(_checked(value, "", 0), ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def parse_canonical(text: str) -> Json:
    """The value of a canonical text.

    raises: ContractError when the text is not JSON, or is not its own canonical form (which also refuses
    duplicate keys, floats and spaces).
    """
    try:
        value: Json = json.loads(text, parse_float=_refuse_float, parse_constant=_refuse_float)
    except ContractError:
        raise
    except RecursionError as error:
        raise ContractError("nested too deeply") from error
    except ValueError as error:
        raise ContractError(f"not JSON: {error}") from error
    if canonical_json(value) != text:
        raise ContractError("not canonical JSON (sorted keys, no spaces, no duplicate keys, shortest escapes)")
    return value


def digest(kind: str, body: str) -> str:
    """The digest of a fact set: SHA-256 over kind, newline and the body's UTF-8 bytes, as sent.

    >>> digest("uv", "{}")[:17]
    'sha256:8515345923'
    """
    return DIGEST_PREFIX + hashlib.sha256(f"{kind}\n{body}".encode()).hexdigest()


def is_digest(text: object) -> bool:
    """Whether a value has a digest's form: `sha256:` and 64 lower-case hex digits."""
    return isinstance(text, str) and _DIGEST.fullmatch(text) is not None


def _checked(value: Json, field: str, depth: int) -> Json:
    if depth > MAX_DEPTH:
        raise ContractError(f"nested deeper than {MAX_DEPTH} levels", field or None)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        if not -MAX_INTEGER <= value <= MAX_INTEGER:
            raise ContractError("integer outside ±2^53", field or None)
        return value
    if isinstance(value, str):
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError as error:
                raise ContractError("text with a lone surrogate", field or None) from error
        return value
    if isinstance(value, (list, tuple)):
        return [_checked(item, f"{field}[{index}]", depth + 1) for index, item in enumerate(value)]
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise ContractError("object key that is not text", field or None)
            _checked(key, field, depth)
        # RFC 8785 sorts by UTF-16 code units, which differs from code points only beyond the BMP.
        keys = sorted(value) if all(k.isascii() for k in value) else sorted(value, key=lambda k: k.encode("utf-16-be"))
        return {key: _checked(value[key], f"{field}.{key}" if field else key, depth + 1) for key in keys}
    raise ContractError(f"{type(value).__name__} is not allowed", field or None)


def _refuse_float(text: str) -> NoReturn:
    raise ContractError(f"the number {text[:40]} is not an integer")
