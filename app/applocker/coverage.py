"""Whether one rule does all that another does, for every file and every user.

Asked with a stand-in: the narrow rule's own wildcards become letters that no text has, so only a wildcard of the wide
rule can take them, and whatever takes the letter takes any text in its place.
"""

from __future__ import annotations

import re

from app.applocker.conditions import HIGHEST, LOWEST, Facts
from app.applocker.model import (
    EVERYONE,
    Condition,
    HashCondition,
    Machine,
    PathCondition,
    PublisherCondition,
    Rule,
)
from app.applocker.paths import matcher, upcase, written_out

_ANY_TEXT, _ANY_LETTER = "\ue000", "\ue001"


def stand_in(condition: Condition, machine: Machine) -> Facts:
    """A file that is as the condition says, with a letter of its own for each wildcard."""
    path, publisher, product, binary, sha256 = _ANY_TEXT, None, None, None, None
    match condition:
        case PathCondition():
            path = _with_letters(written_out(condition.path, machine)[0])
        case PublisherCondition():
            publisher, product, binary = (
                upcase(condition.publisher),
                upcase(condition.product),
                upcase(condition.binary),
            )
        case HashCondition():
            sha256 = condition.hashes[0].data if condition.hashes[0].type == "SHA256" else None
    return Facts(path, None, publisher, product, binary, LOWEST, sha256, None, None, machine)


def _with_letters(pattern: str) -> str:
    return pattern.replace("*", _ANY_TEXT).replace("?", _ANY_LETTER)


def covers(wide: Rule, narrow: Rule, machine: Machine) -> bool:
    """True if every file and user that the narrow rule matches is matched by the wide one."""
    if wide.exceptions or wide.sid not in (EVERYONE, narrow.sid):
        return False
    match wide.condition, narrow.condition:
        case PathCondition(path=wide_path), _ if wide_path.strip("*") == "":
            return True
        case PathCondition(path=wide_path), PathCondition(path=narrow_path):
            if re.search(r'[?<>"~]', wide_path + narrow_path):
                return False
            wide_texts = [matcher(text) for text in written_out(wide_path, machine)]
            narrow_texts = [_with_letters(text) for text in written_out(narrow_path, machine)]
            return all(any(matches(text) for matches in wide_texts) for text in narrow_texts)
        case PublisherCondition() as outer, PublisherCondition() as inner:
            texts = zip(_names(outer), _names(inner), strict=True)
            if any(re.search(r"[*?]", text) and text != "*" for text in (*_names(outer), *_names(inner))):
                return False
            within = (outer.low or LOWEST) <= (inner.low or LOWEST) and (inner.high or HIGHEST) <= (
                outer.high or HIGHEST
            )
            return within and all(one in ("*", other) for one, other in texts)
        case HashCondition() as outer, HashCondition() as inner:
            return {(file.type, file.data) for file in inner.hashes} <= {
                (file.type, file.data) for file in outer.hashes
            }
        case _:
            return False


def _names(condition: PublisherCondition) -> tuple[str, str, str]:
    return upcase(condition.publisher), upcase(condition.product), upcase(condition.binary)
