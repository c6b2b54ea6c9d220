"""The write path's statements on SQLite, where a statement is a function call and one writer has the file to itself."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

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

_LOCK_PULSE = """
SELECT h.token_hash, h.state, p.subject_id, p.epoch, p.sequence, p.recent, p.said, p.last_seen_at, p.received, p.missed,
       h.group_id
FROM subject s JOIN host h ON h.id = s.host_id JOIN pulse p ON p.subject_id = s.id
WHERE s.host_id = ? AND s.sid_hmac = ?
"""
_FIND_HOST = """
SELECT id, token_hash, state, group_id, platform, facts_digest, multi_session, quota_day, new_sets_today,
       subjects_today, sightings_today
FROM host WHERE id = ?
"""
_FIND_SET = "SELECT kind, digest, id, flags, retired_at FROM fact_set WHERE kind = ? AND digest = ?"
_FIND_POINTERS = """
SELECT id, group_id, standing, probes_id, uv_id, environment_id, policy_id, token_id FROM subject WHERE id = ?
"""
_INSERT_SET = """
INSERT INTO fact_set (kind, digest, body, flags, facts, created_at) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (kind, digest) DO NOTHING
"""
_INSERT_SUBJECT = """
INSERT INTO subject (host_id, sid_hmac, group_id, standing, first_seen_at, changed_at, bucket)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?1 % 256)
ON CONFLICT (host_id, sid_hmac) DO NOTHING RETURNING id, bucket
"""
_INSERT_PULSE = """
INSERT INTO pulse (subject_id, bucket, epoch, sequence, recent, said, last_seen_at, received, missed)
VALUES (?, ?, 0, 0, x'', x'', 0, 0, 0)
"""
_ADD_QUOTA = """
UPDATE host SET quota_day = :day,
  new_sets_today = :sets + CASE WHEN quota_day = :day THEN new_sets_today ELSE 0 END,
  subjects_today = :subjects + CASE WHEN quota_day = :day THEN subjects_today ELSE 0 END,
  sightings_today = :sightings + CASE WHEN quota_day = :day THEN sightings_today ELSE 0 END,
  sightings_left_out = sightings_left_out + :left_out
WHERE id = :host_id
"""
_UPDATE_PULSE = """
UPDATE pulse SET epoch = ?, sequence = ?, recent = ?, said = ?, last_seen_at = ?, received = ?, missed = ?
WHERE subject_id = ?
"""
_UPDATE_SUBJECT = """
UPDATE subject SET group_id = ?, standing = ?, changed_at = ?, probes_id = ?, uv_id = ?, environment_id = ?,
  policy_id = ?, token_id = ?
WHERE id = ?
"""
_UPDATE_HOST = """
UPDATE host SET group_id = ?, facts_digest = ?, name = ?, platform = ?, os = ?, os_build = ?, domain = ?, unit = ?,
  agent_version = ?, attested = ? AND NOT trial, appid_service = ?
WHERE id = ?
"""
_INSERT_TRANSITION = """
INSERT INTO transition (subject_id, bucket, at, kind, old_id, new_id) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING
"""
_INSERT_SIGHTING = """
INSERT INTO sighting (host_id, at, channel, record, subject_id, recorded_at, event_id, pattern, path, collection,
  rule_id, sha256, fqbn, bucket)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?1 % 256) ON CONFLICT DO NOTHING
"""
_INSERT_DELTA = "INSERT INTO tally_delta (group_id, standing, set_id, delta, bucket) VALUES (?, ?, ?, ?, 0)"


def lock_pulses(cursor: Any, keys: Sequence[HostKey]) -> list[tuple[int, PulseRow]]:
    found = []
    for index, key in enumerate(keys):
        row = cursor.execute(_LOCK_PULSE, key).fetchone()
        if row is not None:
            found.append((index, PulseRow(*row)))
    return found


def find_hosts(cursor: Any, ids: Sequence[int]) -> list[HostRow]:
    rows = (cursor.execute(_FIND_HOST, (one,)).fetchone() for one in ids)
    return [HostRow(*row) for row in rows if row is not None]


def find_sets(cursor: Any, keys: Sequence[tuple[int, bytes]]) -> list[SetRow]:
    rows = (cursor.execute(_FIND_SET, key).fetchone() for key in keys)
    return [SetRow(*row) for row in rows if row is not None]


def find_pointers(cursor: Any, ids: Sequence[int]) -> list[PointerRow]:
    rows = (cursor.execute(_FIND_POINTERS, (one,)).fetchone() for one in ids)
    return [PointerRow(*row) for row in rows if row is not None]


def insert_sets(cursor: Any, rows: Sequence[NewSet], created_at: int) -> None:
    cursor.executemany(
        _INSERT_SET,
        [(r.kind, r.digest, r.body, r.flags, json.dumps(r.facts) if r.facts else None, created_at) for r in rows],
    )


def revive_sets(cursor: Any, ids: Sequence[int]) -> list[int]:
    cursor.executemany("UPDATE fact_set SET retired_at = NULL WHERE id = ?", [(one,) for one in ids])
    return list(ids)  # read in this transaction, and nobody else writes


def insert_subjects(cursor: Any, rows: Sequence[NewSubject], standing: int, created_at: int) -> None:
    for row in rows:
        made = cursor.execute(_INSERT_SUBJECT, (*row, standing, created_at, created_at)).fetchone()
        if made is not None:
            cursor.execute(_INSERT_PULSE, made)


def lock_hosts(cursor: Any, ids: Sequence[int]) -> None:
    """Nobody else writes."""


def add_quota(cursor: Any, rows: Sequence[QuotaRow], day: int) -> None:
    cursor.executemany(_ADD_QUOTA, [{**row._asdict(), "day": day} for row in rows])


def update_pulses(cursor: Any, rows: Sequence[PulseUpdate]) -> None:
    cursor.executemany(_UPDATE_PULSE, [(*row[1:], row[0]) for row in rows])


def update_subjects(cursor: Any, rows: Sequence[SubjectUpdate]) -> None:
    cursor.executemany(_UPDATE_SUBJECT, [(*row[1:], row[0]) for row in rows])


def update_hosts(cursor: Any, rows: Sequence[HostUpdate]) -> None:
    cursor.executemany(_UPDATE_HOST, [(*row[1:], row[0]) for row in rows])


def insert_transitions(cursor: Any, rows: Sequence[TransitionRow]) -> None:
    cursor.executemany(_INSERT_TRANSITION, rows)


def insert_sightings(cursor: Any, rows: Sequence[SightingRow]) -> None:
    cursor.executemany(_INSERT_SIGHTING, rows)


def insert_deltas(cursor: Any, rows: Sequence[DeltaRow]) -> None:
    cursor.executemany(_INSERT_DELTA, rows)
