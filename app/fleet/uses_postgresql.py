"""Writing uses of rules on PostgreSQL: one prepared statement per step and group, whatever the group's size."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from app.db.arrays import Int4s, Int8s, Texts

_PREPARED = {"prepare": True, "binary": True}

# In a cluster all hosts of a commit are in one bucket, and only a statement that names it can lock their rows.
_LOCK = """
SELECT r.host_id, r.day, r.rule_id, r.uses
FROM unnest(%b, %b) AS k(host_id, day) JOIN rule_use r ON r.host_id = k.host_id AND r.day = k.day {bucket}
ORDER BY r.host_id, r.day, r.rule_id FOR UPDATE OF r
"""
_INSERT = """
INSERT INTO rule_use (host_id, bucket, day, rule_id, uses)
SELECT host_id, host_id %% 256, day, rule_id, uses FROM unnest(%b, %b, %b, %b) AS n(host_id, day, rule_id, uses)
ON CONFLICT DO NOTHING RETURNING host_id, day, rule_id
"""
_UPDATE = """
UPDATE rule_use SET uses = n.uses FROM unnest(%b, %b, %b, %b) AS n(host_id, day, rule_id, uses)
WHERE rule_use.host_id = n.host_id AND rule_use.day = n.day AND rule_use.rule_id = n.rule_id {bucket}
"""
_APPEND = """
INSERT INTO rule_use_delta (bucket, rule_id, day, uses, hosts) SELECT %b::int4, n.* FROM unnest(%b, %b, %b, %b) AS n
"""

Use = tuple[int, int, str, int]
"""Host, day since 1970, rule, uses."""


def lock_uses(cursor: Any, days: Sequence[tuple[int, int]], bucket: int | None) -> list[Use]:
    """What is known of these hosts and days, locked in the order of the keys."""
    ids, numbers = zip(*days, strict=True)
    _run(cursor, _LOCK, (Int8s(ids), Int4s(numbers)), bucket, "AND r.bucket = %b")
    return list(cursor.fetchall())


def insert_uses(cursor: Any, rows: Iterable[Use]) -> set[tuple[int, int, str]]:
    """Those that were not there: another writer may have been faster. `rows` in the order of their keys."""
    _run(cursor, _INSERT, _columns(rows))
    return set(cursor.fetchall())


def update_uses(cursor: Any, rows: Iterable[Use], bucket: int | None) -> None:
    """Rows that `lock_uses` has locked."""
    _run(cursor, _UPDATE, _columns(rows), bucket, "AND rule_use.bucket = %b")


def append_days(cursor: Any, more: Mapping[tuple[str, int], Sequence[int]], bucket: int) -> None:
    """By how much days of rules grow: uses and hosts."""
    rows = [(rule_id, day, uses, hosts) for (rule_id, day), (uses, hosts) in sorted(more.items())]
    rules, days, uses, hosts = zip(*rows, strict=True)
    _run(cursor, _APPEND, (bucket, Texts(rules), Int4s(days), Int8s(uses), Int4s(hosts)))


def _columns(rows: Iterable[Use]) -> tuple[Any, ...]:
    hosts, days, rules, uses = zip(*rows, strict=True)
    return Int8s(hosts), Int4s(days), Texts(rules), Int8s(uses)


def _run(cursor: Any, statement: str, parameters: tuple[Any, ...], bucket: int | None = None, where: str = "") -> None:
    if bucket is None:
        cursor.execute(statement.replace("{bucket}", ""), parameters, **_PREPARED)
    else:
        cursor.execute(statement.replace("{bucket}", where), (*parameters, bucket), **_PREPARED)
