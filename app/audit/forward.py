"""Copies audit entries to where an organisation keeps its logs, each at least once and in order, from now on.

Each destination has a mark of its own: the number of the last entry that it took. What was not taken is sent again at
the next run.

A number may be missing because its entry is not committed yet, or because it never will be: the mark passes it only
when nobody can commit it any more (`app.db.writers`).
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update

from app.audit.deliver import DeliveryError, post_signed, send_syslog, syslog_message
from app.audit.tables import AuditEntry
from app.db.base import now
from app.db.tables import Setting
from app.db.writers import have_writers_ended

AT_ONCE = 100
MOST_ROUNDS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Destinations:
    """Where entries go; empty texts for nowhere."""

    syslog: str = ""
    webhook: str = ""
    webhook_key: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forwarded:
    """How many entries arrived; `waits`: later ones wait for a transaction that may yet write one before them."""

    sent: int
    waits: bool


def forward_entries(connection: Connection, to: Destinations) -> Forwarded:
    """Sends what is new to each destination. Commits.

    raises: DeliveryError after all destinations were tried, for the first that took nothing.
    """
    ways: list[tuple[str, Callable[[Sequence[dict[str, Any]]], None]]] = []
    if to.syslog:
        host = socket.gethostname()
        ways.append(
            (
                "audit_sent_syslog",
                lambda entries: send_syslog(to.syslog, [syslog_message(entry, host=host) for entry in entries]),
            )
        )
    if to.webhook:
        ways.append(
            (
                "audit_sent_webhook",
                lambda entries: post_signed(to.webhook, to.webhook_key, {"entries": list(entries)}),
            )
        )
    arrived: list[Forwarded] = []
    problems: list[DeliveryError] = []
    for mark, send in ways:
        try:
            arrived.append(_forward(connection, mark, send))
        except DeliveryError as error:
            problems.append(error)
    if problems:
        raise problems[0]
    return Forwarded(sent=sum(one.sent for one in arrived), waits=any(one.waits for one in arrived))


def _forward(connection: Connection, mark: str, send: Callable[[Sequence[dict[str, Any]]], None]) -> Forwarded:
    with connection.begin():
        value = connection.scalar(select(Setting.value).where(Setting.name == mark))
        if value is None:
            # The first run with this destination: its log begins now, with the numbers that are yet to be given.
            newest = connection.scalar(select(func.max(AuditEntry.id))) or 0
            connection.execute(insert(Setting).values(name=mark, value=str(newest), updated_at=now()))
            return Forwarded(sent=0, waits=False)
        newest = connection.scalar(select(func.max(AuditEntry.id))) or 0
    last = int(value)
    sent = 0
    is_whole = connection.dialect.name != "postgresql"
    for _round in range(MOST_ROUNDS):
        rows = _read(connection, last, newest)
        waits = False
        if rows and not is_whole and rows[-1].id != last + len(rows):
            # Once is enough for the run: it goes no further than to what was seen before it waited.
            is_whole = have_writers_ended(connection, "audit_entry")
            waits = not is_whole
            rows = _read(connection, last, newest) if is_whole else _until_one_is_missing(rows, last)
        if rows:
            send([_said(row) for row in rows])
            last = rows[-1].id
            sent += len(rows)
            with connection.begin():
                changed = {"value": str(last), "updated_at": now()}
                connection.execute(update(Setting).where(Setting.name == mark).values(**changed))
        if waits or not rows:
            return Forwarded(sent=sent, waits=waits)
    return Forwarded(sent=sent, waits=False)


def _read(connection: Connection, last: int, newest: int) -> list[Row[Any]]:
    query = select(AuditEntry.__table__).where(AuditEntry.id > last, AuditEntry.id <= newest)
    with connection.begin():
        return list(connection.execute(query.order_by(AuditEntry.id).limit(AT_ONCE)))


def _until_one_is_missing(rows: Sequence[Row[Any]], last: int) -> list[Row[Any]]:
    return [row for place, row in enumerate(rows, last + 1) if row.id == place]


def _said(row: Any) -> dict[str, Any]:
    at = row.at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {
        "id": row.id,
        "at": at,
        "actor": row.actor,
        "actor_kind": row.actor_kind,
        "address": row.address,
        "action": row.action,
        "target": row.target,
        "detail": row.detail,
        "reference": row.reference,
    }
