"""A made fleet of a million: the rows that the write path would have left, copied into PostgreSQL table by table.

It ends where `make_fleet` ends for the same hosts, but for the order of arrival; `wayleave db check` holds it to that.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from functools import reduce
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Engine, text

from agent.contract.canonical import digest
from app.db.base import now, to_ms
from app.db.session import session_scope
from app.db.tables import FLEET_ORIGIN, put_setting
from app.fleet import rows_postgresql
from app.fleet.facts import Flag
from app.fleet.fold import ContributionCache, fold
from app.fleet.groups import get_or_make_group, make_standard_groups
from app.fleet.made_sets import environment_set, policy_set, probe_set, token_set, uv_set
from app.fleet.make import DEPARTMENTS, Made, MadeHost, plan_hosts
from app.fleet.rows import DeltaRow, NewSet
from app.fleet.sequence import EMPTY_RECENT, remember
from app.fleet.standing import HostState, judge_standing
from app.fleet.tables import KIND_NUMBERS, NO_SET

CHUNK = 50_000
# As plain numbers: an enumeration's operators take a microsecond, a million times.
_ADMINISTRATOR, _ENFORCING, _BLOCKING = (int(one) for one in (Flag.ADMINISTRATOR, Flag.ENFORCING, Flag.BLOCKING))
_PLACEHOLDER = "S-1-5-21-1004336348-1177238915-682003330-000000"

# The tags of reports that nobody can send again.
_RECENT = {
    count: reduce(
        lambda recent, number: remember(recent, number - 1, number, b"made tag"), range(1, count + 1), EMPTY_RECENT
    )
    for count in (1, 2, 3)
}

_HOST = (
    "id group_id state token_hash enrolled_at multi_session ephemeral name platform os os_build domain unit"
    " agent_version attested quota_day new_sets_today subjects_today"
)
_SUBJECT = (
    "id host_id sid_hmac group_id standing first_seen_at changed_at probes_id uv_id environment_id policy_id token_id"
)
_PULSE = "subject_id epoch sequence recent said last_seen_at received missed"
_TRANSITION = "subject_id at kind old_id new_id"
_FACT_SET = "id kind digest body flags created_at"
_TALLY = "group_id standing set_id subjects"
_TYPES = {
    "id": "int8",
    "group_id": "int4",
    "state": "int2",
    "token_hash": "bytea",
    "multi_session": "bool",
    "ephemeral": "bool",
    "attested": "bool",
    "quota_day": "int4",
    "new_sets_today": "int4",
    "subjects_today": "int4",
    "sid_hmac": "bytea",
    "standing": "int2",
    "recent": "bytea",
    "said": "bytea",
    "kind": "int2",
    "digest": "bytea",
    "flags": "int2",
    **dict.fromkeys(("name", "platform", "os", "os_build", "domain", "unit", "agent_version"), "varchar"),
    "body": "text",
}
"""The types of columns; those not named here are int8."""


def make_fleet_in_bulk(engine: Engine, count: int, *, seed: int = 1, profile: str = "uniform") -> Made:
    """Makes a fleet of `count` workstations on PostgreSQL, and folds its counts."""
    began_at = now()
    with session_scope(engine) as session:
        make_standard_groups(session)
        groups = {one.name: get_or_make_group(session, one.name).id for one in DEPARTMENTS}
        put_setting(session, FLEET_ORIGIN, f"made: {count} workstations, profile {profile}, seed {seed}")
    ids = _SetIds()
    reports = 0
    planned = plan_hosts(count, seed=seed, profile=profile)
    with engine.connect() as connection:
        while chunk := list(islice(planned, CHUNK)):
            with connection.begin():
                reports += _copy_chunk(connection, chunk, groups, began_at, ids)
        cache = ContributionCache()
        while fold(connection, cache):
            pass
        connection.execution_options(isolation_level="AUTOCOMMIT")
        for table in ("host", "subject", "pulse", "fact_set", "tally"):
            # The planner knows nothing of what was copied.
            connection.execute(text(f"ANALYZE {table}"))
    return Made(hosts=count, reports=reports)


class _SetIds:
    """The ids of the sets that many share, and the flags of all."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, bytes], int] = {}

    def find(self, cursor: Any, wanted: Iterable[NewSet], at_ms: int) -> dict[tuple[int, bytes], int]:
        new = {(one.kind, one.digest): one for one in wanted if (one.kind, one.digest) not in self._known}
        if new:
            rows_postgresql.insert_sets(cursor, [new[key] for key in sorted(new)], at_ms)
            for row in rows_postgresql.find_sets(cursor, sorted(new)):
                self._known[row.kind, bytes(row.digest)] = row.id
        return self._known


def _copy_chunk(
    connection: Connection, chunk: Sequence[MadeHost], groups: dict[str, int], began_at: datetime, ids: _SetIds
) -> int:
    cursor = connection.connection.cursor()
    size = len(chunk)
    first_host, first_subject = _reserve(connection, "host", size), _reserve(connection, "subject", size)
    enrolled, first_at = to_ms(began_at - timedelta(days=20)), to_ms(began_at - timedelta(days=14))
    policy_at, today = to_ms(began_at - timedelta(days=7)), to_ms(began_at - timedelta(minutes=15))
    shared = [_sets(host, host.policy) for host in chunk] + [
        _sets(host, "engineers") for host in chunk if _opened(host)
    ]
    found = ids.find(cursor, {(one.kind, one.digest): one for sets in shared for one in sets}.values(), enrolled)
    tokens = list(_own_tokens(connection, chunk))
    own = {host.number: (set_id, body) for host, set_id, body in tokens}
    _copy(
        cursor,
        "fact_set",
        _FACT_SET,
        (
            (set_id, KIND_NUMBERS["token"], bytes.fromhex(digest("token", body)[7:]), body, _flags(host), enrolled)
            for host, set_id, body in tokens
        ),
    )
    hosts, subjects, pulses, transitions, tallies = [], [], [], [], []
    counts: Counter[tuple[int, int, int]] = Counter()
    reports = 0
    for at, host in enumerate(chunk):
        group_id = groups[host.department.name]
        hosts.append(_host_row(first_host + at, group_id, host, enrolled))
        policy = "engineers" if _opened(host) else host.policy
        sets = _sets(host, policy)
        pointers = [found[one.kind, one.digest] for one in sets]
        before = [found[one.kind, one.digest] for one in _sets(host, host.policy)]
        if host.number in own:
            pointers[4] = before[4] = own[host.number][0]
        flags = _flags(host)
        for one in sets[:4]:
            flags |= one.flags
        standing = judge_standing(
            state=HostState.ACTIVE,
            platform="windows",
            administrator=flags & _ADMINISTRATOR != 0,
            enforcing=flags & _ENFORCING != 0,
            blocking=flags & _BLOCKING != 0,
        )
        subject_id = first_subject + at
        sid = hashlib.blake2b(f"made user {host.number}".encode(), digest_size=16).digest()
        changed_at = policy_at if _opened(host) else first_at
        subjects.append((subject_id, first_host + at, sid, group_id, standing, first_at, changed_at, *pointers))
        sequence = 1 if host.silent else 3 if _opened(host) else 2
        seen_at = first_at if host.silent else today
        pulses.append((subject_id, enrolled, sequence, _RECENT[sequence], sid, seen_at, sequence, 0))
        reports += sequence
        for kind, (old, new) in enumerate(zip(before, pointers, strict=True), 1):
            if old != new:
                transitions.append((subject_id, policy_at, kind, old, new))
        counts[group_id, standing, NO_SET] += 1
        for kind, set_id in enumerate(pointers, 1):
            if kind == KIND_NUMBERS["token"] and host.number in own:
                tallies.append((group_id, standing, set_id, 1))
            else:
                counts[group_id, standing, set_id] += 1
    _copy(cursor, "host", _HOST, hosts)
    _copy(cursor, "subject", _SUBJECT, subjects)
    _copy(cursor, "pulse", _PULSE, pulses)
    _copy(cursor, "transition", _TRANSITION, transitions)
    _copy(cursor, "tally", _TALLY, tallies)
    rows_postgresql.insert_deltas(cursor, [DeltaRow(*key, by) for key, by in sorted(counts.items())])
    return reports


def _opened(host: MadeHost) -> bool:
    """Whether the engineers' policy reached it."""
    return host.department.code == "ENG" and host.policy == "defaults" and not host.silent


def _sets(host: MadeHost, policy: str) -> tuple[NewSet, ...]:
    """What it reports; its token without the groups that are its own."""
    return (
        probe_set(policy, host.administrator, host.has_projects, host.transient),
        uv_set(host.version),
        environment_set(host.place),
        policy_set(policy),
        token_set(host.administrator),
    )


def _flags(host: MadeHost) -> int:
    return _ADMINISTRATOR if host.administrator else 0


def _own_tokens(connection: Connection, chunk: Sequence[MadeHost]) -> Iterator[tuple[MadeHost, int, str]]:
    """Hosts whose user is in groups of their own: the id and body of that token's set."""
    owners = [host for host in chunk if host.groups]
    if not owners:
        return
    first = _reserve(connection, "fact_set", len(owners))
    templates = {administrator: token_set(administrator, (_PLACEHOLDER,)).body for administrator in (False, True)}
    for at, host in enumerate(owners):
        # All of these sort where the placeholder does.
        yield host, first + at, templates[host.administrator].replace(_PLACEHOLDER, host.groups[0])


def _host_row(host_id: int, group_id: int, host: MadeHost, enrolled: int) -> tuple[Any, ...]:
    department = host.department.name
    return (
        host_id,
        group_id,
        int(HostState.ACTIVE),
        # No secret has this hash: nobody can report for a made host.
        hashlib.sha256(f"made {host.number}".encode()).digest()[:31],
        enrolled,
        False,
        False,
        host.name,
        "windows",
        "Windows 11 Enterprise 24H2",
        "26100.4349" if host.number % 3 else "26100.3915",
        "corp.example",
        f"OU={department},OU=Workstations,DC=corp,DC=example",
        "0.1.0",
        True,
        0,
        0,
        0,
    )


def _reserve(connection: Connection, table: str, count: int) -> int:
    """The first of `count` ids that nobody else will get."""
    sequence = f"pg_get_serial_sequence('{table}', 'id')"
    last = connection.execute(
        text(f"SELECT setval({sequence}, nextval({sequence}) + :count)"),
        {"count": count},
    ).scalar_one()
    return int(last) - count + 1


def _copy(cursor: Any, table: str, columns: str, rows: Iterable[tuple[Any, ...]]) -> None:
    names = columns.split()
    with cursor.copy(f"COPY {table} ({', '.join(names)}) FROM STDIN (FORMAT BINARY)") as copy:
        copy.set_types([_TYPES.get(name, "int8") for name in names])
        for row in rows:
            copy.write_row(row)
