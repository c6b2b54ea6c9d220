"""The write path's statements on PostgreSQL: one per step and group, whatever the group's size.

Order of locks in one transaction: pulses by id, then host rows by id, then sightings by key. Sets and subjects are
made in a transaction before it, each in the order of their keys, so that no two writers wait on each other in a ring.

Each takes a `bucket`: None on one database. In a cluster all rows of a group are in one bucket, and a statement that
names it goes to the one node that has it (`OneBucket`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from typing import Any

from app.db.arrays import Byteas, Int4s, Int8s, Texts
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
    SetRow,
    SightingRow,
    SubjectUpdate,
    TransitionRow,
)


class _Statement:
    """A statement with the places where a bucket can be named: `{h}` for that of table `h`. They come last in it."""

    def __init__(self, text: str) -> None:
        self.buckets = len(re.findall(r"\{\w+\}", text))
        self.everywhere = re.sub(r" ?\{\w+\}", "", text)
        self.in_bucket = re.sub(r"\{(\w+)\}", r"AND \1.bucket = %b", text)


_LOCK_PULSES = _Statement("""
SELECT k.n, h.token_hash, h.state, p.subject_id, p.epoch, p.sequence, p.recent, p.said, p.last_seen_at, p.received,
       p.missed, h.group_id
FROM unnest(%b, %b) WITH ORDINALITY AS k(host_id, sid, n)
JOIN host h ON h.id = k.host_id
JOIN subject s ON s.host_id = k.host_id AND s.sid_hmac = k.sid AND s.bucket = h.bucket
JOIN pulse p ON p.subject_id = s.id AND p.bucket = s.bucket {h} {s} {p}
ORDER BY p.subject_id
FOR UPDATE OF p
""")

_FIND_HOSTS = _Statement("""
SELECT id, token_hash, state, group_id, platform, facts_digest, multi_session, quota_day, new_sets_today,
       subjects_today, sightings_today
FROM host WHERE id = ANY(%b) {host}
""")

_FIND_SETS = _Statement("""
SELECT f.kind, f.digest, f.id, f.flags, f.retired_at
FROM unnest(%b, %b) AS k(kind, digest) JOIN fact_set f ON f.kind = k.kind AND f.digest = k.digest
""")

_FIND_POINTERS = _Statement("""
SELECT id, group_id, standing, probes_id, uv_id, environment_id, policy_id, token_id FROM subject
WHERE id = ANY(%b) {subject}
""")

_INSERT_SETS = _Statement("""
INSERT INTO fact_set (kind, digest, body, flags, facts, created_at)
SELECT kind, digest, body, flags, facts::int[], %b::int8
FROM unnest(%b, %b, %b, %b, %b) AS n(kind, digest, body, flags, facts)
ON CONFLICT (kind, digest) DO NOTHING
""")

_REVIVE_SETS = _Statement("""
UPDATE fact_set SET retired_at = NULL
WHERE id IN (SELECT id FROM fact_set WHERE id = ANY(%b) ORDER BY id FOR UPDATE) RETURNING id
""")

_INSERT_SUBJECTS = _Statement("""
WITH made AS (
  INSERT INTO subject (host_id, bucket, sid_hmac, group_id, standing, first_seen_at, changed_at)
  SELECT host_id, host_id %% 256, sid, group_id, %b::int4, %b::int8, %b::int8
  FROM unnest(%b, %b, %b) AS n(host_id, sid, group_id)
  ON CONFLICT (host_id, sid_hmac, bucket) DO NOTHING RETURNING id, bucket
)
INSERT INTO pulse (subject_id, bucket, epoch, sequence, recent, said, last_seen_at, received, missed)
SELECT id, bucket, 0, 0, '', '', 0, 0, 0 FROM made
""")

_ADD_QUOTA = _Statement("""
UPDATE host SET quota_day = n.day,
  new_sets_today = n.sets + CASE WHEN host.quota_day = n.day THEN new_sets_today ELSE 0 END,
  subjects_today = n.subjects + CASE WHEN host.quota_day = n.day THEN subjects_today ELSE 0 END,
  sightings_today = n.sightings + CASE WHEN host.quota_day = n.day THEN sightings_today ELSE 0 END,
  sightings_left_out = sightings_left_out + n.left_out
FROM (SELECT u.*, %b::int4 AS day FROM unnest(%b, %b, %b, %b, %b) AS u(id, sets, subjects, sightings, left_out)) n
WHERE host.id = n.id {host}
""")

_UPDATE_PULSES = _Statement("""
UPDATE pulse SET epoch = n.epoch, sequence = n.sequence, recent = n.recent, said = n.said,
  last_seen_at = n.last_seen_at, received = n.received, missed = n.missed
FROM unnest(%b, %b, %b, %b, %b, %b, %b, %b)
  AS n(id, epoch, sequence, recent, said, last_seen_at, received, missed)
WHERE pulse.subject_id = n.id {pulse}
""")

_UPDATE_SUBJECTS = _Statement("""
UPDATE subject SET group_id = n.group_id, standing = n.standing, changed_at = n.changed_at, probes_id = n.probes_id,
  uv_id = n.uv_id, environment_id = n.environment_id, policy_id = n.policy_id, token_id = n.token_id
FROM unnest(%b, %b, %b, %b, %b, %b, %b, %b, %b)
  AS n(id, group_id, standing, changed_at, probes_id, uv_id, environment_id, policy_id, token_id)
WHERE subject.id = n.id {subject}
""")

_LOCK_HOSTS = _Statement("SELECT id FROM host WHERE id = ANY(%b) {host} ORDER BY id FOR NO KEY UPDATE")

_UPDATE_HOSTS = _Statement("""
UPDATE host SET group_id = n.group_id, facts_digest = n.digest, name = n.name, platform = n.platform, os = n.os,
  os_build = n.os_build, domain = n.domain, unit = n.unit, agent_version = n.agent_version, attested = n.attested <> 0
    AND NOT host.trial, appid_service = n.appid_service
FROM unnest(%b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b)
  AS n(id, group_id, digest, name, platform, os, os_build, domain, unit, agent_version, attested, appid_service)
WHERE host.id = n.id {host}
""")

_INSERT_TRANSITIONS = _Statement("""
INSERT INTO transition (subject_id, bucket, at, kind, old_id, new_id) SELECT * FROM unnest(%b, %b, %b, %b, %b, %b)
ON CONFLICT DO NOTHING
""")

_INSERT_SIGHTINGS = _Statement("""
INSERT INTO sighting (host_id, at, channel, record, subject_id, recorded_at, event_id, pattern, path, collection,
  rule_id, sha256, fqbn, bucket)
SELECT n.*, host_id %% 256 FROM unnest(%b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b) AS n(host_id)
ON CONFLICT DO NOTHING
""")

_INSERT_DELTAS = _Statement("""
INSERT INTO tally_delta (group_id, standing, set_id, delta, bucket) SELECT n.*, %b FROM unnest(%b, %b, %b, %b) AS n
""")


class OneBucket:
    """The statements of this module for rows that are all in one bucket."""

    def __init__(self, bucket: int) -> None:
        self.lock_pulses = partial(lock_pulses, bucket=bucket)
        self.find_hosts = partial(find_hosts, bucket=bucket)
        self.find_sets = find_sets
        self.find_pointers = partial(find_pointers, bucket=bucket)
        self.insert_sets = insert_sets
        self.revive_sets = revive_sets
        self.insert_subjects = insert_subjects
        self.lock_hosts = partial(lock_hosts, bucket=bucket)
        self.add_quota = partial(add_quota, bucket=bucket)
        self.update_pulses = partial(update_pulses, bucket=bucket)
        self.update_subjects = partial(update_subjects, bucket=bucket)
        self.update_hosts = partial(update_hosts, bucket=bucket)
        self.insert_transitions = insert_transitions
        self.insert_sightings = insert_sightings
        self.insert_deltas = partial(insert_deltas, bucket=bucket)


def _run(cursor: Any, bucket: int | None, statement: _Statement, parameters: Sequence[object]) -> None:
    if bucket is None:
        cursor.execute(statement.everywhere, parameters, prepare=True, binary=True)
    else:
        cursor.execute(statement.in_bucket, (*parameters, *[bucket] * statement.buckets), prepare=True, binary=True)


def lock_pulses(cursor: Any, keys: Sequence[HostKey], *, bucket: int | None = None) -> list[tuple[int, PulseRow]]:
    """Locks the subjects' pulses in the order of their ids; with each, the index of its key."""
    _run(cursor, bucket, _LOCK_PULSES, (Int8s(k[0] for k in keys), Byteas(k[1] for k in keys)))
    return [(row[0] - 1, PulseRow(*row[1:])) for row in cursor.fetchall()]


def find_hosts(cursor: Any, ids: Sequence[int], *, bucket: int | None = None) -> list[HostRow]:
    _run(cursor, bucket, _FIND_HOSTS, (Int8s(ids),))
    return [HostRow(*row) for row in cursor.fetchall()]


def find_sets(cursor: Any, keys: Sequence[tuple[int, bytes]]) -> list[SetRow]:
    _run(cursor, None, _FIND_SETS, (Int4s(k[0] for k in keys), Byteas(k[1] for k in keys)))
    return [SetRow(*row) for row in cursor.fetchall()]


def find_pointers(cursor: Any, ids: Sequence[int], *, bucket: int | None = None) -> list[PointerRow]:
    _run(cursor, bucket, _FIND_POINTERS, (Int8s(ids),))
    return [PointerRow(*row) for row in cursor.fetchall()]


def insert_sets(cursor: Any, rows: Sequence[NewSet], created_at: int) -> None:
    """`rows` in the order of (kind, digest)."""
    facts = ["{" + ",".join(map(str, r.facts)) + "}" if r.facts else None for r in rows]
    _run(
        cursor,
        None,
        _INSERT_SETS,
        (
            created_at,
            Int4s(r.kind for r in rows),
            Byteas(r.digest for r in rows),
            Texts(r.body for r in rows),
            Int4s(r.flags for r in rows),
            Texts(facts),
        ),
    )


def revive_sets(cursor: Any, ids: Sequence[int]) -> list[int]:
    """Takes sets out of retirement; the ids of those that are still there."""
    _run(cursor, None, _REVIVE_SETS, (Int8s(ids),))
    return [row[0] for row in cursor.fetchall()]


def insert_subjects(
    cursor: Any, rows: Sequence[NewSubject], standing: int, created_at: int, *, bucket: int | None = None
) -> None:
    """`rows` in the order of (host, sid)."""
    columns = (Int8s(r.host_id for r in rows), Byteas(r.sid_hmac for r in rows), Int4s(r.group_id for r in rows))
    _run(cursor, bucket, _INSERT_SUBJECTS, (standing, created_at, created_at, *columns))


def lock_hosts(cursor: Any, ids: Sequence[int], *, bucket: int | None = None) -> None:
    """Locks all hosts that a transaction will change, in the order of their ids."""
    _run(cursor, bucket, _LOCK_HOSTS, (Int8s(ids),))


def add_quota(cursor: Any, rows: Sequence[QuotaRow], day: int, *, bucket: int | None = None) -> None:
    ids, *counts = zip(*rows, strict=True)
    _run(cursor, bucket, _ADD_QUOTA, (day, Int8s(ids), *(Int4s(column) for column in counts)))


def update_pulses(cursor: Any, rows: Sequence[PulseUpdate], *, bucket: int | None = None) -> None:
    ids, epochs, sequences, recents, saids, seen, received, missed = zip(*rows, strict=True)
    _run(
        cursor,
        bucket,
        _UPDATE_PULSES,
        (
            Int8s(ids),
            Int8s(epochs),
            Int8s(sequences),
            Byteas(recents),
            Byteas(saids),
            Int8s(seen),
            Int8s(received),
            Int8s(missed),
        ),
    )


def update_subjects(cursor: Any, rows: Sequence[SubjectUpdate], *, bucket: int | None = None) -> None:
    ids, groups, standings, changed, *pointers = zip(*rows, strict=True)
    _run(
        cursor,
        bucket,
        _UPDATE_SUBJECTS,
        (Int8s(ids), Int4s(groups), Int4s(standings), Int8s(changed), *(Int8s(column) for column in pointers)),
    )


def update_hosts(cursor: Any, rows: Sequence[HostUpdate], *, bucket: int | None = None) -> None:
    ids = Int8s(r.id for r in rows)
    _run(
        cursor,
        bucket,
        _UPDATE_HOSTS,
        (
            ids,
            Int4s(r.group_id for r in rows),
            Byteas(r.digest for r in rows),
            Texts(r.name for r in rows),
            Texts(r.platform for r in rows),
            Texts(r.os for r in rows),
            Texts(r.os_build for r in rows),
            Texts(r.domain for r in rows),
            Texts(r.unit for r in rows),
            Texts(r.agent_version for r in rows),
            Int4s(int(r.attested) for r in rows),
            Texts(r.appid_service for r in rows),
        ),
    )


def insert_transitions(cursor: Any, rows: Sequence[TransitionRow]) -> None:
    ids, buckets, at, kinds, old, new = zip(*rows, strict=True)
    _run(
        cursor, None, _INSERT_TRANSITIONS, (Int8s(ids), Int4s(buckets), Int8s(at), Int4s(kinds), Int8s(old), Int8s(new))
    )


def insert_sightings(cursor: Any, rows: Sequence[SightingRow]) -> None:
    """`rows` in the order of their keys."""
    kinds = (Int8s, Int8s, Texts, Int8s, Int8s, Int8s, Int4s, Texts, Texts, Texts, Texts, Texts, Texts)
    columns = zip(*rows, strict=True)
    parameters = tuple(kind(column) for kind, column in zip(kinds, columns, strict=True))
    _run(cursor, None, _INSERT_SIGHTINGS, parameters)


def insert_deltas(cursor: Any, rows: Sequence[DeltaRow], *, bucket: int | None = None) -> None:
    groups, standings, sets, deltas = zip(*rows, strict=True)
    _run(cursor, bucket, _INSERT_DELTAS, (bucket or 0, Int4s(groups), Int4s(standings), Int8s(sets), Int4s(deltas)))
