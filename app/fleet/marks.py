"""The numbers under which the database finds what came of a pattern in sets of probes.

Apart from the reading of reports, which loads much more than those need who only look numbers up.
"""

from __future__ import annotations

import hashlib

from agent.contract.facts import Engine

# The worst first: of a pattern's several collections, the closed one decides whether uv gets through.
RANK = {
    name: rank for rank, name in enumerate(("blocked", "denied", "audited", "allowed", "error", "unknown", "absent"))
}
_CODES: dict[tuple[str, str], int] = {}


def mark(pattern: str, outcome: str, engine: str) -> int:
    """A number for an outcome at a pattern: 28 bits of a hash of pattern and engine, 3 of the outcome; 31 in all."""
    code = _CODES.get((pattern, engine))
    if code is None:
        code = int.from_bytes(hashlib.sha256(f"{pattern} {engine}".encode()).digest()[:4], "big") >> 4
        if len(_CODES) < 10_000:
            _CODES[pattern, engine] = code
    return code << 3 | RANK[outcome]


def marks_of(pattern: str, outcome: str) -> list[int]:
    """The numbers of an outcome at a pattern, whichever engine it came from."""
    return [mark(pattern, outcome, engine) for engine in ("", *Engine)]
