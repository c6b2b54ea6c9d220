"""Copies audit entries to where an organisation keeps its logs, each at least once and in order, from now on.

Each destination has a mark of its own: how far it came. What was not taken is sent again at the next run.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from app.audit.deliver import DeliveryError, post_signed, send_syslog, syslog_message
from app.audit.tables import AuditEntry
from app.db.base import now
from app.db.tables import Setting

AT_ONCE = 100
MOST_ROUNDS = 20
SETTLES = timedelta(seconds=5)
"""A transaction that began earlier may end later: what is younger is left for the next run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Destinations:
    """Where entries go; empty texts for nowhere."""

    syslog: str = ""
    webhook: str = ""
    webhook_key: str = ""


def forward_entries(connection: Connection, to: Destinations, at: datetime, *, settles: timedelta = SETTLES) -> int:
    """Sends what is new to each destination; how many entries arrived. Commits.

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
    sent = 0
    problems: list[DeliveryError] = []
    for mark, send in ways:
        try:
            sent += _forward(connection, mark, send, at - settles)
        except DeliveryError as error:
            problems.append(error)
    if problems:
        raise problems[0]
    return sent


def _forward(
    connection: Connection, mark: str, send: Callable[[Sequence[dict[str, Any]]], None], until: datetime
) -> int:
    with connection.begin():
        value = connection.scalar(select(Setting.value).where(Setting.name == mark))
        if value is None:
            # The first run with this destination: its log begins now.
            newest = connection.scalar(select(func.max(AuditEntry.id)).where(AuditEntry.at <= until)) or 0
            connection.execute(insert(Setting).values(name=mark, value=str(newest), updated_at=now()))
            return 0
    last = int(value)
    sent = 0
    for _round in range(MOST_ROUNDS):
        with connection.begin():
            rows = connection.execute(
                select(AuditEntry.__table__)
                .where(AuditEntry.id > last, AuditEntry.at <= until)
                .order_by(AuditEntry.id)
                .limit(AT_ONCE)
            ).all()
        if not rows:
            break
        send([_said(row) for row in rows])
        last = rows[-1].id
        sent += len(rows)
        with connection.begin():
            connection.execute(update(Setting).where(Setting.name == mark).values(value=str(last), updated_at=now()))
    return sent


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
