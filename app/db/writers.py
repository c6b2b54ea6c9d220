"""Whether the numbers of a table's rows are whole up to one that was seen, on a database with many writers.

PostgreSQL gives a row its number when it is written, not when it is committed: a later number may be seen first, and a
number may never be seen. Whoever takes one has locked the table before, and holds that lock until what it wrote is seen
or gone. Once all have ended who held it after a number was seen, the numbers below are whole. No clock is asked: those
of two servers differ, and no time is too long for a transaction. SQLite has one writer at a time: there the numbers are
in the order of the commits.
"""

from __future__ import annotations

import time

from sqlalchemy import Connection, text

WAITS_S = 1.0
"""So long one call waits; whoever calls looks again with its next run."""
LOOKS_EVERY_S = 0.05

_WRITERS = text(
    "SELECT virtualtransaction FROM pg_locks WHERE locktype = 'relation' AND mode = 'RowExclusiveLock' AND granted"
    " AND relation = CAST(:table AS regclass)"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


def have_writers_ended(connection: Connection, table: str) -> bool:
    """Whether all have ended, within a second, who were writing to the table when this was called.

    What is read from then on holds every number below those that were seen before the call; who came later took higher
    ones. The caller has no transaction open.
    """
    if connection.dialect.name != "postgresql":
        return True
    give_up = time.monotonic() + WAITS_S
    writers = _find_writers(connection, table)
    while writers:
        if time.monotonic() > give_up:
            return False
        time.sleep(LOOKS_EVERY_S)
        writers &= _find_writers(connection, table)
    return True


def _find_writers(connection: Connection, table: str) -> set[str]:
    with connection.begin():
        return set(connection.scalars(_WRITERS, {"table": table}))
