"""The write path's statements on PostgreSQL: one per step and group, whatever the group's size.

Order of locks in one transaction: pulses by id, then host rows by id, then sightings by key. Sets and subjects are
made in a transaction before it, each in the order of their keys, so that no two writers wait on each other in a ring.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    SetRow,
    SightingRow,
    SubjectUpdate,
    TransitionRow,
)

_PREPARED = {"prepare": True, "binary": True}

_LOCK_PULSES = """
SELECT k.n, h.token_hash, h.state, p.subject_id, p.epoch, p.sequence, p.recent, p.said, p.last_seen_at, p.received,
       p.missed, h.group_id
FROM unnest(%b, %b) WITH ORDINALITY AS k(host_id, sid, n)
JOIN host h ON h.id = k.host_id
JOIN subject s ON s.host_id = k.host_id AND s.sid_hmac = k.sid
JOIN pulse p ON p.subject_id = s.id
ORDER BY p.subject_id
FOR UPDATE OF p
"""

_FIND_HOSTS = """
SELECT id, token_hash, state, group_id, platform, facts_digest, multi_session, quota_day, new_sets_today,
       subjects_today
FROM host WHERE id = ANY(%b)
"""

_FIND_SETS = """
SELECT f.kind, f.digest, f.id, f.flags, f.retired_at
FROM unnest(%b, %b) AS k(kind, digest) JOIN fact_set f ON f.kind = k.kind AND f.digest = k.digest
"""

_FIND_POINTERS = """
SELECT id, group_id, standing, probes_id, uv_id, environment_id, policy_id, token_id FROM subject WHERE id = ANY(%b)
"""

_INSERT_SETS = """
INSERT INTO fact_set (kind, digest, body, flags, facts, created_at)
SELECT kind, digest, body, flags, facts::int[], %b::int8
FROM unnest(%b, %b, %b, %b, %b) AS n(kind, digest, body, flags, facts)
ON CONFLICT (kind, digest) DO NOTHING
"""

_REVIVE_SETS = """
UPDATE fact_set SET retired_at = NULL
WHERE id IN (SELECT id FROM fact_set WHERE id = ANY(%b) ORDER BY id FOR UPDATE) RETURNING id
"""

_INSERT_SUBJECTS = """
WITH made AS (
  INSERT INTO subject (host_id, sid_hmac, group_id, standing, first_seen_at, changed_at)
  SELECT host_id, sid, group_id, %b::int4, %b::int8, %b::int8 FROM unnest(%b, %b, %b) AS n(host_id, sid, group_id)
  ON CONFLICT (host_id, sid_hmac) DO NOTHING RETURNING id
)
INSERT INTO pulse (subject_id, epoch, sequence, recent, said, last_seen_at, received, missed)
SELECT id, 0, 0, '', '', 0, 0, 0 FROM made
"""

_ADD_QUOTA = """
UPDATE host SET quota_day = n.day,
  new_sets_today = n.sets + CASE WHEN host.quota_day = n.day THEN new_sets_today ELSE 0 END,
  subjects_today = n.subjects + CASE WHEN host.quota_day = n.day THEN subjects_today ELSE 0 END
FROM (SELECT id, sets, subjects, %b::int4 AS day FROM unnest(%b, %b, %b) AS u(id, sets, subjects)) n
WHERE host.id = n.id
"""

_UPDATE_PULSES = """
UPDATE pulse SET epoch = n.epoch, sequence = n.sequence, recent = n.recent, said = n.said,
  last_seen_at = n.last_seen_at, received = n.received, missed = n.missed
FROM unnest(%b, %b, %b, %b, %b, %b, %b, %b)
  AS n(id, epoch, sequence, recent, said, last_seen_at, received, missed)
WHERE pulse.subject_id = n.id
"""

_UPDATE_SUBJECTS = """
UPDATE subject SET group_id = n.group_id, standing = n.standing, changed_at = n.changed_at, probes_id = n.probes_id,
  uv_id = n.uv_id, environment_id = n.environment_id, policy_id = n.policy_id, token_id = n.token_id
FROM unnest(%b, %b, %b, %b, %b, %b, %b, %b, %b)
  AS n(id, group_id, standing, changed_at, probes_id, uv_id, environment_id, policy_id, token_id)
WHERE subject.id = n.id
"""

_LOCK_HOSTS = "SELECT id FROM host WHERE id = ANY(%b) ORDER BY id FOR NO KEY UPDATE"

_UPDATE_HOSTS = """
UPDATE host SET group_id = n.group_id, facts_digest = n.digest, name = n.name, platform = n.platform, os = n.os,
  os_build = n.os_build, domain = n.domain, unit = n.unit, agent_version = n.agent_version, attested = n.attested <> 0
    AND NOT host.trial, appid_service = n.appid_service
FROM unnest(%b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b)
  AS n(id, group_id, digest, name, platform, os, os_build, domain, unit, agent_version, attested, appid_service)
WHERE host.id = n.id
"""

_INSERT_TRANSITIONS = """
INSERT INTO transition (subject_id, at, kind, old_id, new_id) SELECT * FROM unnest(%b, %b, %b, %b, %b)
ON CONFLICT DO NOTHING
"""

_INSERT_SIGHTINGS = """
INSERT INTO sighting (host_id, at, channel, record, subject_id, recorded_at, event_id, pattern, path, collection,
  rule_id, sha256, fqbn)
SELECT * FROM unnest(%b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b)
ON CONFLICT DO NOTHING
"""

_INSERT_DELTAS = """
INSERT INTO tally_delta (group_id, standing, set_id, delta) SELECT * FROM unnest(%b, %b, %b, %b)
"""


def lock_pulses(cursor: Any, keys: Sequence[HostKey]) -> list[tuple[int, PulseRow]]:
    """Locks the subjects' pulses in the order of their ids; with each, the index of its key."""
    cursor.execute(_LOCK_PULSES, (Int8s(k[0] for k in keys), Byteas(k[1] for k in keys)), **_PREPARED)
    return [(row[0] - 1, PulseRow(*row[1:])) for row in cursor.fetchall()]


def find_hosts(cursor: Any, ids: Sequence[int]) -> list[HostRow]:
    cursor.execute(_FIND_HOSTS, (Int8s(ids),), **_PREPARED)
    return [HostRow(*row) for row in cursor.fetchall()]


def find_sets(cursor: Any, keys: Sequence[tuple[int, bytes]]) -> list[SetRow]:
    cursor.execute(_FIND_SETS, (Int4s(k[0] for k in keys), Byteas(k[1] for k in keys)), **_PREPARED)
    return [SetRow(*row) for row in cursor.fetchall()]


def find_pointers(cursor: Any, ids: Sequence[int]) -> list[PointerRow]:
    cursor.execute(_FIND_POINTERS, (Int8s(ids),), **_PREPARED)
    return [PointerRow(*row) for row in cursor.fetchall()]


def insert_sets(cursor: Any, rows: Sequence[NewSet], created_at: int) -> None:
    """`rows` in the order of (kind, digest)."""
    facts = ["{" + ",".join(map(str, r.facts)) + "}" if r.facts else None for r in rows]
    cursor.execute(
        _INSERT_SETS,
        (
            created_at,
            Int4s(r.kind for r in rows),
            Byteas(r.digest for r in rows),
            Texts(r.body for r in rows),
            Int4s(r.flags for r in rows),
            Texts(facts),
        ),
        **_PREPARED,
    )


def revive_sets(cursor: Any, ids: Sequence[int]) -> list[int]:
    """Takes sets out of retirement; the ids of those that are still there."""
    cursor.execute(_REVIVE_SETS, (Int8s(ids),), **_PREPARED)
    return [row[0] for row in cursor.fetchall()]


def insert_subjects(cursor: Any, rows: Sequence[NewSubject], standing: int, created_at: int) -> None:
    """`rows` in the order of (host, sid)."""
    columns = (Int8s(r.host_id for r in rows), Byteas(r.sid_hmac for r in rows), Int4s(r.group_id for r in rows))
    cursor.execute(_INSERT_SUBJECTS, (standing, created_at, created_at, *columns), **_PREPARED)


def add_quota(cursor: Any, rows: Sequence[tuple[int, int, int]], day: int) -> None:
    """`rows`: (host, new sets, new subjects), in the order of hosts."""
    ids = Int8s(r[0] for r in rows)
    cursor.execute(_LOCK_HOSTS, (ids,), **_PREPARED)
    cursor.execute(_ADD_QUOTA, (day, ids, Int4s(r[1] for r in rows), Int4s(r[2] for r in rows)), **_PREPARED)


def update_pulses(cursor: Any, rows: Sequence[PulseUpdate]) -> None:
    ids, epochs, sequences, recents, saids, seen, received, missed = zip(*rows, strict=True)
    cursor.execute(
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
        **_PREPARED,
    )


def update_subjects(cursor: Any, rows: Sequence[SubjectUpdate]) -> None:
    ids, groups, standings, changed, *pointers = zip(*rows, strict=True)
    cursor.execute(
        _UPDATE_SUBJECTS,
        (Int8s(ids), Int4s(groups), Int4s(standings), Int8s(changed), *(Int8s(column) for column in pointers)),
        **_PREPARED,
    )


def update_hosts(cursor: Any, rows: Sequence[HostUpdate]) -> None:
    """`rows` in the order of hosts."""
    ids = Int8s(r.id for r in rows)
    cursor.execute(_LOCK_HOSTS, (ids,), **_PREPARED)
    cursor.execute(
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
        **_PREPARED,
    )


def insert_transitions(cursor: Any, rows: Sequence[TransitionRow]) -> None:
    ids, at, kinds, old, new = zip(*rows, strict=True)
    cursor.execute(_INSERT_TRANSITIONS, (Int8s(ids), Int8s(at), Int4s(kinds), Int8s(old), Int8s(new)), **_PREPARED)


def insert_sightings(cursor: Any, rows: Sequence[SightingRow]) -> None:
    """`rows` in the order of their keys."""
    kinds = (Int8s, Int8s, Texts, Int8s, Int8s, Int8s, Int4s, Texts, Texts, Texts, Texts, Texts, Texts)
    columns = zip(*rows, strict=True)
    parameters = tuple(kind(column) for kind, column in zip(kinds, columns, strict=True))
    cursor.execute(_INSERT_SIGHTINGS, parameters, **_PREPARED)


def insert_deltas(cursor: Any, rows: Sequence[DeltaRow]) -> None:
    groups, standings, sets, deltas = zip(*rows, strict=True)
    cursor.execute(_INSERT_DELTAS, (Int4s(groups), Int4s(standings), Int8s(sets), Int4s(deltas)), **_PREPARED)
