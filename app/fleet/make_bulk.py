"""A made fleet of a million: the rows that the write path would have left, copied into PostgreSQL table by table.

It ends where `make_fleet` ends for the same hosts, but for the order of arrival; `wayleave db check` holds it to that.
One process packs the rows while this one copies them.
"""

from __future__ import annotations

import multiprocessing
import pickle
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from multiprocessing.connection import Connection as Pipe
from typing import Any

from sqlalchemy import Connection, Engine, text

from app.db.bare_tables import bare_tables
from app.db.base import now, to_ms
from app.db.session import session_scope
from app.db.tables import FLEET_ORIGIN, put_setting
from app.fleet import rows_postgresql
from app.fleet.absence import count_absent
from app.fleet.fold import ContributionCache, fold, rebuild_if_catalogue_changed
from app.fleet.groups import get_or_make_group, make_standard_groups
from app.fleet.make import DEPARTMENTS, Made
from app.fleet.make_rows import COLUMNS, COPY_HEAD, COPY_TAIL, Packed, Plan, Voices, pack_fleet
from app.fleet.retention import write_daily
from app.fleet.rows import DeltaRow

OWN_PROCESS_FROM = 50_000
"""From so many hosts on, rows are packed in a process of its own."""
SHARED_SETS = 100_000
"""Ids set aside for sets that several hosts share."""
_BARE = ("host", "subject", "pulse", "fact_set", "tally")
"""Tables that lose their indexes while rows are copied into them, when they are empty."""


def make_fleet_in_bulk(
    engine: Engine,
    count: int,
    *,
    seed: int = 1,
    profile: str = "uniform",
    voices: Voices | None = None,
    variants: int = 0,
) -> Made:
    """Makes a fleet of `count` workstations on PostgreSQL, and folds its counts."""
    began_at = now()
    with session_scope(engine) as session:
        make_standard_groups(session)
        groups = {one.name: get_or_make_group(session, one.name).id for one in DEPARTMENTS}
        put_setting(session, FLEET_ORIGIN, f"made: {count} workstations, profile {profile}, seed {seed}")
    with engine.connect() as connection:
        with connection.begin():
            connection.execute(text(f"LOCK TABLE {', '.join(_BARE)} IN SHARE ROW EXCLUSIVE MODE"))
            plan = Plan(
                count=count,
                seed=seed,
                profile=profile,
                groups=groups,
                first_host=_reserve(connection, "host", count),
                first_subject=_reserve(connection, "subject", count),
                first_set=_reserve(connection, "fact_set", count + SHARED_SETS),
                enrolled_at=to_ms(began_at - timedelta(days=20)),
                first_at=to_ms(began_at - timedelta(days=14)),
                policy_at=to_ms(began_at - timedelta(days=7)),
                today_at=to_ms(began_at - timedelta(minutes=15)),
                known=_known_sets(connection),
                voices=voices,
                variants=variants,
            )
            is_empty = not any(connection.execute(text(f"SELECT 1 FROM {name} LIMIT 1")).first() for name in _BARE)  # noqa: S608 - our own tables
            with bare_tables(connection, _BARE) if is_empty else nullcontext():
                reports = _copy_all(connection, plan)
        cache = ContributionCache()
        while fold(connection, cache):
            pass
        rebuild_if_catalogue_changed(connection, cache)
        write_daily(connection, began_at)
        count_absent(connection, began_at)
        connection.execution_options(isolation_level="AUTOCOMMIT")
        for table in _BARE:
            # The planner knows nothing of what was copied.
            connection.execute(text(f"ANALYZE {table}"))
    return Made(hosts=count, reports=reports)


def _copy_all(connection: Connection, plan: Plan) -> int:
    """Copies all rows; how many reports would have made them."""
    cursor: Any = connection.connection.cursor()
    counts: Counter[tuple[int, int, int]] = Counter()
    reports = 0
    with _packing(plan) as parts:
        for part in parts:
            for table, rows in part.rows.items():
                if rows:
                    with cursor.copy(f"COPY {table} ({COLUMNS[table]}) FROM STDIN (FORMAT BINARY)") as copy:
                        copy.write(COPY_HEAD)
                        copy.write(rows)
                        copy.write(COPY_TAIL)
            counts.update(part.counts)
            reports += part.reports
    rows_postgresql.insert_deltas(cursor, [DeltaRow(*key, by) for key, by in sorted(counts.items())])
    return reports


@contextmanager
def _packing(plan: Plan) -> Iterator[Iterator[Packed]]:
    """The packed rows of the fleet; of a large one, from another process."""
    if plan.count < OWN_PROCESS_FROM:
        yield pack_fleet(plan)
        return
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_pack_into, args=(theirs, plan), daemon=True)
    process.start()
    theirs.close()
    try:
        yield _unpack(ours)
    finally:
        ours.close()
        process.join()


def _pack_into(pipe: Pipe, plan: Plan) -> None:
    """Sends what is packed, then an empty message."""
    for part in pack_fleet(plan):
        pipe.send_bytes(pickle.dumps(part, pickle.HIGHEST_PROTOCOL))
    pipe.send_bytes(b"")


def _unpack(pipe: Pipe) -> Iterator[Packed]:
    """raises: EOFError when the other process ended before it was done."""
    while message := pipe.recv_bytes():
        yield pickle.loads(message)  # noqa: S301 - from our own process


def _known_sets(connection: Connection) -> dict[tuple[int, bytes], int]:
    return {
        (row.kind, bytes(row.digest)): row.id
        for row in connection.execute(text("SELECT kind, digest, id FROM fact_set"))
    }


def _reserve(connection: Connection, table: str, count: int) -> int:
    """The first of `count` ids that nobody else will get."""
    sequence = f"pg_get_serial_sequence('{table}', 'id')"
    last = connection.execute(
        text(f"SELECT setval({sequence}, nextval({sequence}) + :count)"),
        {"count": count},
    ).scalar_one()
    return int(last) - count + 1
