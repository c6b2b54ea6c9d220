"""Going over a large table in short statements with pauses between them, so that reports don't wait for it.

One statement over a million rows keeps a core busy for seconds, on a server of two that it shares with the reports.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Connection, bindparam, func, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import InstrumentedAttribute

from app.db.engine import WRITES

ROWS = 20_000
"""So many rows at once: some ten milliseconds."""
RESTS = 3
"""After each slice so many times as long as it took: the work has at most a quarter of one core."""
MOST_REST_S = 1.0
STOP = "wayleave.stop"
"""In a connection's `info`: the event by which whoever lent it says that the work is to end."""


class StoppedError(Exception):
    """The server is being stopped; what was done so far is committed."""


@contextmanager
def slice_of(connection: Connection, *, writes: bool = True) -> Iterator[None]:
    """A transaction for one slice, and the pause after it. `writes` False: takes no lock, also on SQLite.

    raises: StoppedError after a slice when told to stop.
    """
    began_s = time.monotonic()
    connection.execution_options(**{WRITES: writes})
    try:
        with connection.begin():
            yield
    finally:
        connection.execution_options(**{WRITES: True})
    pause_s = min(MOST_REST_S, RESTS * (time.monotonic() - began_s))
    stop = connection.info.get(STOP)
    if stop is None:
        time.sleep(pause_s)
    elif stop.wait(pause_s):
        raise StoppedError


def walk(connection: Connection, key: InstrumentedAttribute[int], rows: int | None = None) -> Iterator[tuple[int, int]]:
    """A table's ranges of a unique or indexed number, each (after, until], together all that is there at the end.

    What comes in with higher numbers meanwhile may be left out. The caller has no transaction open, and closes its own
    before it asks for the next range.
    """
    after = -1
    size = rows or ROWS
    while True:
        with connection.begin():
            until = connection.scalar(select(key).where(key > after).order_by(key).offset(size - 1).limit(1))
            is_last = until is None
            if until is None:
                until = connection.scalar(select(func.max(key)).where(key > after))
        if until is None:
            return
        yield after, until
        if is_last:
            return
        after = until


def is_among(connection: Connection, column: Any, ids: Collection[int]) -> ColumnElement[bool]:
    """Whether a column is one of many numbers, as one parameter."""
    if connection.dialect.name == "postgresql":
        # As rows, which are hashed: a prepared plan would go through an array once for each row of the table.
        values = func.unnest(bindparam(None, sorted(ids), type_=ARRAY(BigInteger)))
        return column.in_(select(values))  # type: ignore[no-any-return]  # in_() of any column is typed so
    each = func.json_each(json.dumps(sorted(ids))).table_valued("value")
    return column.in_(select(each.c.value))  # type: ignore[no-any-return]  # in_() of any column is typed so
