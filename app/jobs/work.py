"""The work that is done by the clock, each piece with how often, and what it says of a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Engine
from sqlalchemy.orm import Session

from app.audit.forward import Destinations, forward_entries
from app.fleet.absence import count_absent
from app.fleet.agent_versions import count_agent_versions
from app.fleet.imported import merge_imported_hosts
from app.fleet.retention import drop_old, retire_sets, write_daily
from app.fleet.sharing import measure_sharing
from app.fleet.sighting_days import count_sightings, drop_old_days
from app.fleet.sweep import mark_silent
from app.fleet.unseen import list_unseen
from app.notices.counts import Remembered
from app.notices.send import Told, send_notices
from app.notices.watch import Thresholds, watch_fleet
from app.policies.judge_fleet import Judging, judge_untried
from app.policies.rule_counts import count_rule_uses
from app.requests.record import drop_old_requests


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """What an operator set about what is kept for how long, and copied where."""

    silent_after_days: int
    retention_days: int
    audit_to: Destinations = field(default_factory=Destinations)
    notice_from: Thresholds = field(default_factory=Thresholds)
    notice_to: Told = field(default_factory=Told)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One piece of work. `first_after`: so long after the very first start it runs first.

    `run` takes a connection without a transaction, commits what it does, and gives a sentence about it.
    """

    name: str
    title: str
    every: timedelta
    first_after: timedelta
    run: Callable[[Connection, datetime, Keeping], str]


def _count_sightings(connection: Connection, at: datetime, keeping: Keeping) -> str:  # noqa: ARG001 - all have it
    return f"{count_sightings(connection, at)} new sightings"


def _sweep(connection: Connection, at: datetime, keeping: Keeping) -> str:
    marked = mark_silent(connection, at, days=keeping.silent_after_days)
    count_absent(connection, at)
    count_agent_versions(connection, at)
    return f"{marked} fell silent"


def _list_unseen(connection: Connection, at: datetime, keeping: Keeping) -> str:  # noqa: ARG001 - as all work
    return f"{list_unseen(connection, at)} users were not seen for a day"


def _count_rule_uses(connection: Connection, at: datetime, keeping: Keeping) -> str:  # noqa: ARG001 - as all work
    return f"{count_rule_uses(connection, at)} hosts count how often rules are used"


def _merge_imported(connection: Connection, at: datetime, keeping: Keeping) -> str:  # noqa: ARG001 - as all work
    with Session(connection, expire_on_commit=False) as session:
        merged = merge_imported_hosts(session)
        session.commit()
    return f"{merged} hosts that only files named became one with hosts that enrolled"


def _write_daily(connection: Connection, at: datetime, keeping: Keeping) -> str:  # noqa: ARG001 - as all work
    write_daily(connection, at)
    return f"counts of {at.date().isoformat()} written"


def _drop_old(connection: Connection, at: datetime, keeping: Keeping) -> str:
    dropped = drop_old(connection, at, days=keeping.retention_days)
    drop_old_days(connection, at, days=keeping.retention_days)
    return f"older than {keeping.retention_days} days: {dropped} rows deleted one by one, whole months dropped"


def _retire_sets(connection: Connection, at: datetime, keeping: Keeping) -> str:  # noqa: ARG001 - as all work
    retired, deleted = retire_sets(connection, at)
    return f"{retired} retired, {deleted} deleted"


def _measure_sharing(connection: Connection, at: datetime, keeping: Keeping) -> str:  # noqa: ARG001 - as all work
    measured = measure_sharing(connection, at)
    hardly = ", ".join(one.kind for one in measured.failing)
    return f"hardly shared: {hardly}" if hardly else f"{sum(one.sets for one in measured.kinds)} distinct sets in use"


def _forget_requests(connection: Connection, at: datetime, keeping: Keeping) -> str:  # noqa: ARG001 - as all work
    drop_old_requests(connection, at)
    return "who asked longer than 90 days ago is forgotten"


def _forward_audit(connection: Connection, at: datetime, keeping: Keeping) -> str:  # noqa: ARG001 - as all work
    if not keeping.audit_to.syslog and not keeping.audit_to.webhook:
        return "no syslog and no webhook are set"
    forwarded = forward_entries(connection, keeping.audit_to)
    more = "; later ones wait for a transaction that is open" if forwarded.waits else ""
    return f"{forwarded.sent} entries sent{more}"


def _watch_fleet(connection: Connection, at: datetime, keeping: Keeping) -> str:
    remembered = _REMEMBERED.setdefault(connection.engine, Remembered())
    run = watch_fleet(connection, at, keeping.notice_from, remembered, ways=keeping.notice_to.ways)
    more = f", {run.left_out} left out" if run.left_out else ""
    return f"{run.watched} counts watched: {run.opened} notices opened, {run.ended} ended{more}"


def _send_notices(connection: Connection, at: datetime, keeping: Keeping) -> str:
    if not keeping.notice_to.ways:
        return "no webhook and no mail server are set"
    return f"{send_notices(connection, at, keeping.notice_to)} messages sent"


def _judge_untried(connection: Connection, at: datetime, keeping: Keeping) -> str:  # noqa: ARG001 - as all work
    judging = _JUDGING.setdefault(connection.engine, Judging())
    return f"{judge_untried(connection, at, judging)} users' untried patterns judged"


# What a process remembers of a database between two runs.
_JUDGING: WeakKeyDictionary[Engine, Judging] = WeakKeyDictionary()
_REMEMBERED: WeakKeyDictionary[Engine, Remembered] = WeakKeyDictionary()

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)

JOBS = (
    Job(
        name="merge-imported",
        title="Find enrolled hosts that files named before",
        every=HOUR,
        first_after=MINUTE,
        run=_merge_imported,
    ),
    Job(
        name="forward-audit",
        title="Copy the audit log to syslog and webhook",
        every=timedelta(seconds=10),
        first_after=timedelta(seconds=5),
        run=_forward_audit,
    ),
    Job(
        name="judge-untried",
        title="Judge by policy what agents did not try",
        every=timedelta(seconds=10),
        first_after=timedelta(seconds=5),
        run=_judge_untried,
    ),
    Job(
        name="count-sightings",
        title="Count sightings by day",
        every=MINUTE,
        first_after=timedelta(seconds=5),
        run=_count_sightings,
    ),
    Job(
        name="count-rule-uses",
        title="Look on which hosts uses of rules are counted, forget after a month which host used what",
        every=HOUR,
        first_after=MINUTE,
        run=_count_rule_uses,
    ),
    Job(
        name="mark-silent",
        title="Take silent users out of the shares, count gaps and agent versions",
        every=HOUR,
        first_after=MINUTE,
        run=_sweep,
    ),
    Job(
        name="list-unseen",
        title="List users who were not seen for a day",
        every=5 * MINUTE,
        first_after=timedelta(seconds=15),
        run=_list_unseen,
    ),
    Job(
        name="write-daily",
        title="Write the day’s counts for trends",
        every=HOUR,
        first_after=MINUTE,
        run=_write_daily,
    ),
    Job(
        name="measure-sharing",
        title="Measure how well facts are shared",
        every=HOUR,
        first_after=MINUTE,
        run=_measure_sharing,
    ),
    Job(
        name="watch-fleet",
        title="Notice what got worse",
        every=5 * MINUTE,
        first_after=2 * MINUTE,
        run=_watch_fleet,
    ),
    Job(
        name="send-notices",
        title="Tell notices by webhook and e-mail",
        every=timedelta(seconds=30),
        first_after=timedelta(seconds=10),
        run=_send_notices,
    ),
    Job(
        name="drop-old",
        title="Drop transitions and sightings past their time",
        every=DAY,
        first_after=2 * MINUTE,
        run=_drop_old,
    ),
    Job(
        name="retire-sets",
        title="Retire facts that nobody reports any more",
        every=DAY,
        first_after=2 * MINUTE,
        run=_retire_sets,
    ),
    Job(
        name="forget-requests",
        title="Forget who asked for access long ago",
        every=DAY,
        first_after=2 * MINUTE,
        run=_forget_requests,
    ),
)
"""In the order in which they run when several are due."""
