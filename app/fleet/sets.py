"""Which row a digest has: a small memory in front of the database, as most reports name sets that many share."""

from __future__ import annotations

from collections.abc import Iterable
from types import ModuleType

MAX_KNOWN = 50_000
TRUSTED_MS = 3_600_000
"""How long a set's id is used without looking. Far below the day that a retired set stays before it is deleted."""

SetKey = tuple[int, bytes]
IdAndFlags = tuple[int, int]


class SetCache:
    """Kind and digest -> id and flags. Belongs to one thread and one database."""

    def __init__(self) -> None:
        self._known: dict[SetKey, tuple[int, int, int]] = {}

    def find(self, rows: ModuleType, cursor: object, keys: Iterable[SetKey], now_ms: int) -> dict[SetKey, IdAndFlags]:
        """Those of the keys that have a row; a retired row is brought back into use."""
        found: dict[SetKey, IdAndFlags] = {}
        ask = []
        for key in keys:
            known = self._known.get(key)
            if known is not None and now_ms - known[2] < TRUSTED_MS:
                found[key] = known[:2]
            else:
                ask.append(key)
        if ask:
            retired: dict[int, SetKey] = {}
            if len(self._known) + len(ask) > MAX_KNOWN:
                self._known.clear()
            for row in rows.find_sets(cursor, sorted(ask)):
                key = (row.kind, bytes(row.digest))
                found[key] = (row.id, row.flags)
                self._known[key] = (row.id, row.flags, now_ms)
                if row.retired_at is not None:
                    retired[row.id] = key
            if retired:
                alive = set(rows.revive_sets(cursor, sorted(retired)))
                for set_id in retired.keys() - alive:
                    # Deleted between our look and our hold: its body has to come again.
                    del found[retired[set_id]], self._known[retired[set_id]]
        return found
