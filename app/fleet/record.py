"""The whole write path of reports: who sent it, is it new, what changed, and what that does to the counts.

A group of reports is written with a handful of statements in one transaction. What needs rows made first (a new
subject, a new fact set) waits for a second round: those rows are made in a transaction of their own, and the reports
are looked at again. Nothing is recorded of a report that is refused.
"""

from __future__ import annotations

import hmac
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection

from app.fleet import rows_postgresql, rows_sqlite
from app.fleet.admission import DAY_MS, lacks_sets, missing_bodies, over_sets, over_sightings, over_subjects
from app.fleet.buckets import bucket_of
from app.fleet.facts import Flag, HostColumns
from app.fleet.incoming import (
    RECORDED,
    REPLAYED,
    REVOKED_HOST,
    SEQUENCE_REUSED,
    SEQUENCE_TOO_OLD,
    STOPPED,
    TRY_AGAIN,
    UNKNOWN_HOST,
    Incoming,
    Limits,
    Outcome,
)
from app.fleet.moves import count_move
from app.fleet.rows import (
    DeltaRow,
    HostKey,
    HostRow,
    HostUpdate,
    NewSet,
    NewSubject,
    PointerRow,
    PulseRow,
    PulseUpdate,
    QuotaRow,
    SightingRow,
    SubjectUpdate,
    TransitionRow,
)
from app.fleet.rule_uses import UseRow, write_uses
from app.fleet.sequence import EMPTY_RECENT, Place, place, remember
from app.fleet.sets import SetCache
from app.fleet.standing import HostState, Standing, judge_standing

_Rows = Any
"""One of the two modules of statements, or those of one bucket: `rows_postgresql.OneBucket`."""


@dataclass(slots=True)
class _Live:
    """A subject's pulse as this group has left it so far."""

    row: PulseRow
    pointers: PointerRow | None = None
    touched: bool = False
    pointed: bool = False
    waits: bool = False


@dataclass(slots=True)
class _Work:
    """What one round will write."""

    live: dict[HostKey, _Live]
    hosts: dict[int, HostRow] = field(default_factory=dict)
    host_updates: dict[int, HostUpdate] = field(default_factory=dict)
    told: defaultdict[int, list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0]))
    transitions: list[TransitionRow] = field(default_factory=list)
    sightings: dict[tuple[int, int, str, int], SightingRow] = field(default_factory=dict)
    uses: list[UseRow] = field(default_factory=list)
    deltas: defaultdict[tuple[int, int, int], int] = field(default_factory=lambda: defaultdict(int))
    sets: dict[tuple[int, bytes], tuple[int, int]] = field(default_factory=dict)
    unprepared: list[int] = field(default_factory=list)

    def count_told(self, host_id: int) -> int:
        """So many sightings the reports before told of this host."""
        return self.told[host_id][0] if host_id in self.told else 0


def record_reports(
    connection: Connection,
    reports: Sequence[Incoming],
    *,
    now_ms: int,
    sets: SetCache,
    linux_group: int,
    limits: Limits | None = None,
    stopped: frozenset[int] = frozenset(),
    bucket: int | None = None,
) -> list[Outcome]:
    """Records a group of reports and commits; the outcomes are in the order of the reports.

    `connection` must have no transaction open; `sets` belongs to the calling thread; `linux_group` is the group that
    Linux hosts go to; `stopped` are the groups in which nothing is to be probed (see `probing.read_stopped`).
    In a cluster all reports are of hosts in one `bucket`.

    raises: the driver's errors, and then an unknown part of the group is recorded (sending it again is safe).
    """
    rows: _Rows = rows_postgresql if connection.dialect.name == "postgresql" else rows_sqlite
    if bucket is not None:
        rows = rows_postgresql.OneBucket(bucket)
    limits = limits or Limits()
    outcomes: list[Outcome] = [TRY_AGAIN] * len(reports)
    with connection.begin():
        cursor = connection.connection.cursor()
        work = _record_round(rows, cursor, reports, range(len(reports)), outcomes, now_ms, sets, linux_group, limits)
        write_uses(connection, work.uses)
    again = work.unprepared
    if again:
        with connection.begin():
            cursor = connection.connection.cursor()
            _prepare(rows, cursor, [reports[index] for index in again], work, now_ms)
        with connection.begin():
            cursor = connection.connection.cursor()
            second = _record_round(
                rows, cursor, reports, again, outcomes, now_ms, sets, linux_group, limits, is_last=True
            )
            write_uses(connection, second.uses)
            work.live.update(second.live)
    if stopped:
        _tell_stopped(reports, outcomes, work.live, stopped)
    return outcomes


def _tell_stopped(
    reports: Sequence[Incoming], outcomes: list[Outcome], live: dict[HostKey, _Live], stopped: frozenset[int]
) -> None:
    """Adds to what is acknowledged that nothing is to be probed."""
    for index, report in enumerate(reports):
        one = live.get(report.key)
        if one is not None and outcomes[index].status == 200 and (0 in stopped or one.row.group_id in stopped):
            outcomes[index] = STOPPED


def _record_round(
    rows: _Rows,
    cursor: object,
    reports: Sequence[Incoming],
    indexes: Sequence[int],
    outcomes: list[Outcome],
    now_ms: int,
    sets: SetCache,
    linux_group: int,
    limits: Limits,
    *,
    is_last: bool = False,
) -> _Work:
    """Looks at each report once. In the last round what is still missing must wait."""
    by_key: dict[HostKey, list[int]] = {}
    for index in indexes:
        by_key.setdefault(reports[index].key, []).append(index)
    keys = list(by_key)
    live = {keys[position]: _Live(row) for position, row in rows.lock_pulses(cursor, keys)}
    work = _Work(live=live)

    changed: list[Incoming] = []
    telling: list[Incoming] = []
    for key, members in by_key.items():
        if len(members) > 1:
            members.sort(key=lambda index: (reports[index].epoch, reports[index].sequence))
        one = live.get(key)
        if one is None or len(members) > 1 or reports[members[0]].said != one.row.said:
            changed += [reports[index] for index in members]
        elif reports[members[0]].tells:
            telling.append(reports[members[0]])
    if changed or telling:
        host_ids = sorted({report.host_id for report in (*changed, *telling)})
        work.hosts = {host.id: host for host in rows.find_hosts(cursor, host_ids)}
    if changed:
        _load(rows, cursor, changed, work, now_ms, sets)

    for key, members in by_key.items():
        one = live.get(key)
        for index in members:
            report = reports[index]
            if one is None:
                outcome = _admit_subject(report, work, now_ms, limits, is_last=is_last)
            else:
                outcome = _record_one(report, one, work, now_ms, linux_group, limits, is_last=is_last)
            if outcome is None:
                work.unprepared.append(index)
                if one is not None:
                    one.waits = True
            else:
                outcomes[index] = outcome
    _write(rows, cursor, work, now_ms)
    return work


def _load(rows: _Rows, cursor: object, changed: Iterable[Incoming], work: _Work, now_ms: int, sets: SetCache) -> None:
    """Reads what the reports that changed something need: pointers, and the ids of the sets they name."""
    by_subject = {one.row.subject_id: one for report in changed if (one := work.live.get(report.key)) is not None}
    if by_subject:
        # A statement after the lock, so that it sees what whoever held the pulse before us has written.
        for pointers in rows.find_pointers(cursor, sorted(by_subject)):
            by_subject[pointers.id].pointers = pointers
    wanted = {
        (number, digest) for report in changed for number, digest in enumerate(report.digests, 1) if digest is not None
    }
    work.sets = sets.find(rows, cursor, wanted, now_ms)


def _admit_subject(report: Incoming, work: _Work, now_ms: int, limits: Limits, *, is_last: bool) -> Outcome | None:
    """A subject that is not known yet: refuse it, or None to make it and come back."""
    host = work.hosts.get(report.host_id)
    if host is None or not hmac.compare_digest(host.token_hash, report.secret_hash):
        return UNKNOWN_HOST
    if host.state == HostState.REVOKED:
        return REVOKED_HOST
    if is_last:
        return TRY_AGAIN
    over = over_subjects(host, now_ms, limits)
    if over is None and report.tells:
        over = over_sightings(report, host, work.count_told(host.id), now_ms, limits)
    return over or missing_bodies(report, host, work.sets) or over_sets(report, host, work.sets, now_ms, limits)


def _record_one(
    report: Incoming, live: _Live, work: _Work, now_ms: int, linux_group: int, limits: Limits, *, is_last: bool
) -> Outcome | None:
    """Records one report of a known subject; None when something must be made first."""
    row = live.row
    if not hmac.compare_digest(row.token_hash, report.secret_hash):
        return UNKNOWN_HOST
    if row.state == HostState.REVOKED:
        return REVOKED_HOST
    if live.waits:
        return None
    where = place(row.epoch, row.sequence, row.recent, report.epoch, report.sequence, report.tag)
    if where is Place.REPLAY:
        return REPLAYED
    if where is Place.REUSED:
        return SEQUENCE_REUSED
    if where is Place.TOO_OLD:
        return SEQUENCE_TOO_OLD
    if report.tells:
        host = work.hosts[report.host_id]
        refused = over_sightings(report, host, work.count_told(host.id), now_ms, limits)
        if refused is not None:
            return refused
    said = row.said
    seen_at = max(now_ms, row.last_seen_at + 1)
    if where is Place.NEW and report.said != said:
        host = work.hosts[report.host_id]
        refused = missing_bodies(report, host, work.sets)
        if refused is not None:
            return refused
        if lacks_sets(report, work.sets):
            return TRY_AGAIN if is_last else over_sets(report, host, work.sets, now_ms, limits)
        _move(report, live, host, work, seen_at, linux_group)
        said = report.said
    epoch, sequence, recent, missed = row.epoch, row.sequence, row.recent, row.missed
    if where is Place.NEW:
        if report.epoch > epoch:
            recent, missed = remember(EMPTY_RECENT, report.sequence - 1, report.sequence, report.tag), 0
        else:
            missed += report.sequence - sequence - 1
            recent = remember(recent, sequence, report.sequence, report.tag)
        epoch, sequence = report.epoch, report.sequence
    else:
        recent, missed = remember(recent, report.sequence, report.sequence, report.tag), max(missed - 1, 0)
    live.row = PulseRow(
        row.token_hash,
        row.state,
        row.subject_id,
        epoch,
        sequence,
        recent,
        said,
        seen_at,
        row.received + 1,
        min(missed, 2**62),
        row.group_id,
    )
    live.touched = True
    if report.rule_uses and row.state == HostState.ACTIVE:
        work.uses += report.rule_uses
    if report.tells:
        told = work.told[report.host_id]
        told[0] += report.tells
        told[1] += report.left_out
    for sighting in report.sightings:
        work.sightings.setdefault(
            (report.host_id, sighting.at, sighting.channel, sighting.record),
            sighting._replace(host_id=report.host_id, subject_id=row.subject_id, recorded_at=seen_at),
        )
    return RECORDED


def _move(report: Incoming, live: _Live, host: HostRow, work: _Work, at: int, linux_group: int) -> None:
    """Points the subject to its new sets; notes the transitions and what the counts gain and lose."""
    old = live.pointers
    assert old is not None  # noqa: S101 - every locked pulse has its subject
    if report.host is not None and report.host_digest is not None and report.host_digest != host.facts_digest:
        group_id = linux_group if report.host.platform == "linux" else host.group_id
        host = host._replace(facts_digest=report.host_digest, platform=report.host.platform, group_id=group_id)
        work.hosts[host.id] = host
        work.host_updates[host.id] = _host_update(host, report.host_digest, report.host)
    found = [
        work.sets[number, digest] if digest is not None else None for number, digest in enumerate(report.digests, 1)
    ]
    flags = 0
    for one in found:
        if one is not None:
            flags |= one[1]
    standing = judge_standing(
        state=host.state,
        platform=host.platform,
        administrator=bool(flags & Flag.ADMINISTRATOR),
        enforcing=bool(flags & Flag.ENFORCING),
        blocking=bool(flags & Flag.BLOCKING),
    )
    ids = [None if one is None else one[0] for one in found]
    new = PointerRow(old.id, host.group_id, standing, *ids)
    if new == old:
        return
    count_move(old, new, work.deltas)
    if live.row.received:
        for number, (old_id, new_id) in enumerate(zip(old[3:], ids, strict=True), 1):
            if old_id != new_id:
                work.transitions.append(TransitionRow(old.id, bucket_of(host.id), at, number, old_id, new_id))
    live.pointers = new
    live.pointed = True


def _host_update(host: HostRow, digest: bytes, columns: HostColumns) -> HostUpdate:
    return HostUpdate(
        host.id,
        host.group_id,
        digest,
        columns.name,
        columns.platform,
        columns.os,
        columns.os_build,
        columns.domain,
        columns.unit,
        columns.agent_version,
        columns.attested,
        columns.appid_service,
    )


def _write(rows: _Rows, cursor: object, work: _Work, now_ms: int) -> None:
    touched = [one for one in work.live.values() if one.touched]
    if touched:
        rows.update_pulses(cursor, [PulseUpdate(*one.row[2:-1]) for one in touched])
    pointed = [one for one in touched if one.pointed and one.pointers is not None]
    if pointed:
        rows.update_subjects(
            cursor,
            [
                SubjectUpdate(p.id, p.group_id, p.standing, one.row.last_seen_at, *p[3:])
                for one in pointed
                if (p := one.pointers) is not None
            ],
        )
    _write_if(rows.lock_hosts, cursor, sorted(work.host_updates.keys() | work.told.keys()))
    _write_if(rows.update_hosts, cursor, [work.host_updates[host_id] for host_id in sorted(work.host_updates)])
    _write_if(
        lambda c, told: rows.add_quota(c, told, now_ms // DAY_MS),
        cursor,
        [QuotaRow(host_id, 0, 0, told, left_out) for host_id, (told, left_out) in sorted(work.told.items())],
    )
    _write_if(rows.insert_transitions, cursor, work.transitions)
    _write_if(rows.insert_sightings, cursor, [work.sightings[key] for key in sorted(work.sightings)])
    _write_if(rows.insert_deltas, cursor, [DeltaRow(*key, by) for key, by in sorted(work.deltas.items()) if by])


def _write_if(write: Callable[[object, list[object]], None], cursor: object, what: Sequence[object]) -> None:
    if what:
        write(cursor, list(what))


def _prepare(rows: _Rows, cursor: object, reports: Sequence[Incoming], work: _Work, now_ms: int) -> None:
    """Makes the sets and subjects that reports wait for, and counts them against their hosts' day."""
    new_sets: dict[tuple[int, bytes], NewSet] = {}
    subjects: dict[HostKey, NewSubject] = {}
    quota: defaultdict[int, list[int]] = defaultdict(lambda: [0, 0])
    for report in reports:
        for key, offered in report.offered.items():
            if key not in work.sets and key not in new_sets:
                new_sets[key] = offered
                quota[report.host_id][0] += 1
        if report.key not in work.live and report.key not in subjects:
            subjects[report.key] = NewSubject(report.host_id, report.subject, work.hosts[report.host_id].group_id)
            quota[report.host_id][1] += 1
    _write_if(lambda c, made: rows.insert_sets(c, made, now_ms), cursor, [new_sets[key] for key in sorted(new_sets)])
    _write_if(
        lambda c, made: rows.insert_subjects(c, made, Standing.SILENT, now_ms),
        cursor,
        [subjects[key] for key in sorted(subjects)],
    )
    _write_if(rows.lock_hosts, cursor, sorted(quota))
    _write_if(
        lambda c, made: rows.add_quota(c, made, now_ms // DAY_MS),
        cursor,
        [QuotaRow(host_id, sets, subjects, 0, 0) for host_id, (sets, subjects) in sorted(quota.items())],
    )
