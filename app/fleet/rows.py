"""The rows that the write path reads and writes, as plain tuples; `rows_postgresql` and `rows_sqlite` move them."""

from __future__ import annotations

from typing import NamedTuple

HostKey = tuple[int, bytes]
"""A host's id and the keyed hash of a user's SID."""


class PulseRow(NamedTuple):
    token_hash: bytes
    state: int
    subject_id: int
    epoch: int
    sequence: int
    recent: bytes
    said: bytes
    last_seen_at: int
    received: int
    missed: int
    group_id: int


class HostRow(NamedTuple):
    id: int
    token_hash: bytes
    state: int
    group_id: int
    platform: str
    facts_digest: bytes | None
    multi_session: bool
    quota_day: int
    new_sets_today: int
    subjects_today: int
    sightings_today: int


class SetRow(NamedTuple):
    kind: int
    digest: bytes
    id: int
    flags: int
    retired_at: int | None


class QuotaRow(NamedTuple):
    """What a host brought: added to its day, and what was left out to the sum of all days."""

    host_id: int
    sets: int
    subjects: int
    sightings: int
    left_out: int


class PointerRow(NamedTuple):
    """A subject's place in the tallies and its sets, in the order of KIND_NUMBERS."""

    id: int
    group_id: int
    standing: int
    probes_id: int | None
    uv_id: int | None
    environment_id: int | None
    policy_id: int | None
    token_id: int | None


class NewSet(NamedTuple):
    kind: int
    digest: bytes
    body: str
    flags: int
    facts: list[int] | None


class NewSubject(NamedTuple):
    host_id: int
    sid_hmac: bytes
    group_id: int


class PulseUpdate(NamedTuple):
    subject_id: int
    epoch: int
    sequence: int
    recent: bytes
    said: bytes
    last_seen_at: int
    received: int
    missed: int


class SubjectUpdate(NamedTuple):
    id: int
    group_id: int
    standing: int
    changed_at: int
    probes_id: int | None
    uv_id: int | None
    environment_id: int | None
    policy_id: int | None
    token_id: int | None


class HostUpdate(NamedTuple):
    id: int
    group_id: int
    digest: bytes
    name: str
    platform: str
    os: str
    os_build: str
    domain: str | None
    unit: str | None
    agent_version: str
    attested: bool
    appid_service: str


class TransitionRow(NamedTuple):
    subject_id: int
    bucket: int
    at: int
    kind: int
    old_id: int | None
    new_id: int | None


class SightingRow(NamedTuple):
    host_id: int
    at: int
    channel: str
    record: int
    subject_id: int
    recorded_at: int
    event_id: int
    pattern: str
    path: str
    collection: str | None
    rule_id: str | None
    sha256: str | None
    fqbn: str | None


class DeltaRow(NamedTuple):
    group_id: int
    standing: int
    set_id: int
    delta: int
