"""Tables without indexes and keys while rows are copied in: made anew at the end, in a fraction of the time.

All in the caller's transaction on PostgreSQL: whatever goes wrong, the indexes are there afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from sqlalchemy import Connection, text

_CONSTRAINTS = """
SELECT conrelid::regclass::text AS place, quote_ident(conname) AS name, contype::text AS kind,
  pg_get_constraintdef(oid) AS meaning
FROM pg_constraint
WHERE contype IN ('p', 'u', 'f') AND conparentid = 0
  AND (conrelid = ANY(CAST(:tables AS regclass[])) OR confrelid = ANY(CAST(:tables AS regclass[])))
ORDER BY contype = 'f', conrelid, conname
"""

_INDEXES = """
SELECT indexrelid::regclass::text AS name, pg_get_indexdef(indexrelid) AS meaning FROM pg_index
WHERE indrelid = ANY(CAST(:tables AS regclass[]))
  AND NOT EXISTS (SELECT 1 FROM pg_constraint WHERE conindid = indexrelid AND contype IN ('p', 'u'))
ORDER BY 1
"""


@contextmanager
def bare_tables(connection: Connection, tables: Sequence[str]) -> Iterator[None]:
    """Takes the tables' indexes, keys and foreign keys (also those that point to them) away, and makes them again.

    Others wait for the tables meanwhile.
    """
    names = {"tables": "{" + ",".join(tables) + "}"}
    constraints = connection.execute(text(_CONSTRAINTS), names).all()
    indexes = connection.execute(text(_INDEXES), names).all()
    for one in reversed(constraints):
        connection.execute(text(f"ALTER TABLE {one.place} DROP CONSTRAINT {one.name}"))
    for one in indexes:
        connection.execute(text(f"DROP INDEX {one.name}"))
    yield
    connection.execute(text("SET LOCAL maintenance_work_mem = '256MB'"))
    # Keys first: foreign keys are checked against them.
    for one in constraints:
        connection.execute(text(f"ALTER TABLE {one.place} ADD CONSTRAINT {one.name} {one.meaning}"))
    for one in indexes:
        connection.exec_driver_sql(one.meaning)
