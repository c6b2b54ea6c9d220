"""The rows of a made fleet as PostgreSQL takes them in a binary COPY: packed by hand, a few microseconds a host.

Pure: which ids there are is told by the caller, so that this can run in a process of its own.
source: https://www.postgresql.org/docs/current/sql-copy.html (Binary Format)
"""

from __future__ import annotations

import hashlib
import struct
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import reduce
from itertools import islice

from app.fleet.buckets import bucket_of
from app.fleet.facts import Flag
from app.fleet.made_sets import environment_set, policy_set, probe_set, token_set, uv_set, varied_probe_set
from app.fleet.make import MadeHost, plan_hosts
from app.fleet.rows import NewSet
from app.fleet.sequence import EMPTY_RECENT, remember
from app.fleet.standing import HostState, judge_standing
from app.fleet.tables import KIND_NUMBERS, NO_SET

CHUNK = 25_000
MAX_PROFILES = 200_000
COPY_HEAD = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
COPY_TAIL = b"\xff\xff"
COLUMNS = {
    "fact_set": "id, kind, digest, body, flags, facts, created_at",
    "host": (
        "id, bucket, group_id, state, token_hash, enrolled_at, multi_session, ephemeral, name, platform, os, os_build,"
        " domain, unit, agent_version, attested, facts_digest, quota_day, new_sets_today, subjects_today"
    ),
    "subject": (
        "id, bucket, host_id, sid_hmac, group_id, standing, first_seen_at, changed_at, probes_id, uv_id,"
        " environment_id, policy_id, token_id"
    ),
    "pulse": "subject_id, bucket, epoch, sequence, recent, said, last_seen_at, received, missed",
    "transition": "subject_id, bucket, at, kind, old_id, new_id",
    "tally": "group_id, standing, set_id, subjects",
}
"""What is copied, and in this order."""

_TOKEN = KIND_NUMBERS["token"]
_ACTIVE = int(HostState.ACTIVE)
_PLACEHOLDER = "S-1-5-21-1004336348-1177238915-682003330-000000"
_FACT_SET = struct.Struct(">hiqihi32si").pack
_HOST_START = struct.Struct(">hiqihiiihi").pack
_HOST_END = struct.Struct(">i32siiiiii").pack
_SUBJECT = struct.Struct(">hiqihiqi16siiihiqiqiqiqiqiqiq").pack
_PULSE = struct.Struct(">hiqihiqiqi128si16siqiqiq").pack
_TRANSITION = struct.Struct(">hiqihiqihiqiq").pack
_TALLY = struct.Struct(">hiiihiqiq").pack

# The tags of reports that nobody can send again.
_RECENT = {
    count: reduce(
        lambda recent, number: remember(recent, number - 1, number, b"made tag"), range(1, count + 1), EMPTY_RECENT
    )
    for count in (1, 2, 3)
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Voices:
    """Lets made hosts report, for measurements: else nobody has a token of theirs."""

    secret: str
    """What the secret of each token begins with; the host's number follows."""
    hash_sid: Callable[[str], bytes]
    """How the server hashes users."""

    def secret_of(self, number: int) -> str:
        return f"{self.secret}{number:010}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to make, and with which ids. Times in milliseconds; `known`: sets that have a row already."""

    count: int
    seed: int
    profile: str
    groups: Mapping[str, int]
    first_host: int
    first_subject: int
    first_set: int
    enrolled_at: int
    first_at: int
    policy_at: int
    today_at: int
    known: Mapping[tuple[int, bytes], int] = field(default_factory=dict)
    voices: Voices | None = None
    variants: int = 0
    """How many sets of probes there are, made up from outcomes at random; 0: those of the departments."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """Some hosts' rows by table, and what they add to the counts."""

    rows: dict[str, bytes]
    counts: dict[tuple[int, int, int], int]
    reports: int


@dataclass(frozen=True, slots=True)
class _Profile:
    """What hosts that are alike share: the ids of their sets before and after the engineers' policy, and standing."""

    before: tuple[int, ...]
    after: tuple[int, ...]
    standing: int
    digests: bytes
    """Of the sets but the token's, one after the other."""
    token: bytes


def pack_fleet(plan: Plan) -> Iterator[Packed]:
    """The rows of all hosts, some thousand at a time."""
    sets = _Sets(plan)
    hosts = plan_hosts(plan.count, seed=plan.seed, profile=plan.profile)
    at = 0
    while chunk := list(islice(hosts, CHUNK)):
        yield _pack(plan, sets, chunk, at)
        at += len(chunk)


class _Sets:
    """Gives sets their ids, and keeps the rows of new ones until they are taken."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._known = dict(plan.known)
        self._next = plan.first_set
        self._profiles: dict[tuple[object, ...], _Profile] = {}
        self._templates = {is_admin: token_set(is_admin, (_PLACEHOLDER,)).body for is_admin in (False, True)}
        self.rows: list[bytes] = []

    def profile(self, host: MadeHost, opened: bool) -> _Profile:
        """The sets of a host; its token without the groups that are its own."""
        variant = variant_of(host, self._plan.variants)
        key = (host.policy, opened, host.administrator, host.has_projects, host.transient, host.version, host.place)
        found = self._profiles.get((*key, variant))
        if found is None:
            found = self._make_profile(host, opened, variant)
            if len(self._profiles) < MAX_PROFILES:
                self._profiles[*key, variant] = found
        return found

    def own_token(self, host: MadeHost) -> tuple[int, bytes, bool]:
        """The set of a user in groups of their own: its id, its digest, and whether it is new."""
        # All of these sort where the placeholder does.
        body = self._templates[host.administrator].replace(_PLACEHOLDER, host.groups[0]).encode()
        name = hashlib.sha256(b"token\n" + body).digest()
        known = self._known.get((_TOKEN, name))
        if known is not None:
            return known, name, False
        flags = int(Flag.ADMINISTRATOR) if host.administrator else 0
        return self._add(_TOKEN, name, body, flags, None), name, True

    def _make_profile(self, host: MadeHost, opened: bool, variant: int | None) -> _Profile:
        before = reported_sets(host, host.policy, variant)
        after = reported_sets(host, "engineers", variant) if opened else before
        flags = 0
        for one in after:
            flags |= one.flags
        standing = judge_standing(
            state=HostState.ACTIVE,
            platform="windows",
            administrator=bool(flags & Flag.ADMINISTRATOR),
            enforcing=bool(flags & Flag.ENFORCING),
            blocking=bool(flags & Flag.BLOCKING),
        )
        return _Profile(
            before=tuple(self._find(one) for one in before),
            after=tuple(self._find(one) for one in after),
            standing=int(standing),
            digests=b"".join(one.digest for one in after[:4]),
            token=after[4].digest,
        )

    def _find(self, one: NewSet) -> int:
        known = self._known.get((one.kind, one.digest))
        if known is None:
            known = self._known[one.kind, one.digest] = self._add(
                one.kind, one.digest, one.body.encode(), one.flags, one.facts
            )
        return known

    def _add(self, kind: int, name: bytes, body: bytes, flags: int, facts: list[int] | None) -> int:
        set_id = self._next
        self._next += 1
        packed = b"\xff\xff\xff\xff"
        if facts:
            items = b"".join(struct.pack(">ii", 4, one) for one in facts)
            packed = struct.pack(">iiiiii", 20 + len(items), 1, 0, 23, len(facts), 1) + items
        self.rows.append(
            _FACT_SET(7, 8, set_id, 2, kind, 32, name, len(body))
            + body
            + struct.pack(">ih", 2, flags)
            + packed
            + struct.pack(">iq", 8, self._plan.enrolled_at)
        )
        return set_id


def _pack(plan: Plan, sets: _Sets, chunk: list[MadeHost], at: int) -> Packed:
    hosts, subjects, pulses, transitions, tallies = [], [], [], [], []
    counts: Counter[tuple[int, int, int]] = Counter()
    voices = plan.voices
    groups, enrolled, first_at, policy_at = plan.groups, plan.enrolled_at, plan.first_at, plan.policy_at
    reports = 0
    ends: dict[tuple[str, bool], bytes] = {}
    for number, host in enumerate(chunk, at):
        host_id, subject_id = plan.first_host + number, plan.first_subject + number
        bucket = bucket_of(host_id)
        group_id = groups[host.department.name]
        opened = is_opened(host)
        end = ends.get((host.department.name, host.number % 3 == 0))
        if end is None:
            end = ends[host.department.name, host.number % 3 == 0] = _host_end(host)
        name = host.name.encode()
        if voices is None:
            # No secret has this hash: nobody can report for a made host.
            secret = hashlib.sha256(b"made %d" % host.number).digest()[:31]
        else:
            secret = hashlib.sha256(voices.secret_of(host.number).encode()).digest()
        facts = hashlib.sha256(host_body(host).encode()).digest()
        hosts.append(
            _HOST_START(20, 8, host_id, 2, bucket, 4, group_id, 2, _ACTIVE, len(secret))
            + secret
            + struct.pack(">iqi?i?i", 8, enrolled, 1, False, 1, False, len(name))
            + name
            + end
            + _HOST_END(32, facts, 4, 0, 4, 0, 4, 0)
        )
        profile = sets.profile(host, opened)
        before, after, standing = profile.before, profile.after, profile.standing
        counts[group_id, standing, NO_SET] += 1
        for set_id in after[:4]:
            counts[group_id, standing, set_id] += 1
        token_id, token, alone = sets.own_token(host) if host.groups else (after[4], profile.token, False)
        if alone:
            tallies.append(_TALLY(4, 4, group_id, 2, standing, 8, token_id, 8, 1))
        else:
            counts[group_id, standing, token_id] += 1
        if voices is None:
            sid = hashlib.blake2b(b"made user %d" % host.number, digest_size=16).digest()
        else:
            sid = voices.hash_sid(user_sid(host.number))
        changed_at = policy_at if opened else first_at
        subjects.append(
            _SUBJECT(
                13,
                8,
                subject_id,
                2,
                bucket,
                8,
                host_id,
                16,
                sid,
                4,
                group_id,
                2,
                standing,
                8,
                first_at,
                8,
                changed_at,
                8,
                after[0],
                8,
                after[1],
                8,
                after[2],
                8,
                after[3],
                8,
                token_id,
            )
        )
        said = hashlib.blake2b(profile.digests + token + facts, digest_size=16).digest()
        sequence = sequence_of(host)
        seen_at = first_at if host.silent else plan.today_at
        pulses.append(
            _PULSE(
                9,
                8,
                subject_id,
                2,
                bucket,
                8,
                enrolled,
                8,
                sequence,
                128,
                _RECENT[sequence],
                16,
                said,
                8,
                seen_at,
                8,
                sequence,
                8,
                0,
            )
        )
        reports += sequence
        if opened:
            for kind in range(4):
                if before[kind] != after[kind]:
                    transitions.append(
                        _TRANSITION(
                            6, 8, subject_id, 2, bucket, 8, policy_at, 2, kind + 1, 8, before[kind], 8, after[kind]
                        )
                    )
    made, sets.rows = sets.rows, []
    rows = {
        "fact_set": made,
        "host": hosts,
        "subject": subjects,
        "pulse": pulses,
        "transition": transitions,
        "tally": tallies,
    }
    return Packed(rows={name: b"".join(some) for name, some in rows.items()}, counts=dict(counts), reports=reports)


def sequence_of(host: MadeHost) -> int:
    """How many reports a host has sent."""
    return 1 if host.silent else 3 if is_opened(host) else 2


def user_sid(number: int) -> str:
    """The user of a host that has a voice."""
    return f"S-1-5-21-1004336348-1177238915-682003330-{1000 + number}"


def host_body(host: MadeHost) -> str:
    """What a host says of itself, with its kind in front as in digests."""
    build = "26100.4349" if host.number % 3 else "26100.3915"
    return (
        f'host\n{{"agent_version":"0.1.0","attested":true,"domain":"corp.example","name":"{host.name}",'
        f'"os":"Windows 11 Enterprise 24H2","os_build":"{build}","platform":"windows",'
        f'"unit":"OU={host.department.name},OU=Workstations,DC=corp,DC=example"}}'
    )


def is_opened(host: MadeHost) -> bool:
    """Whether the engineers' policy reached it."""
    return host.department.code == "ENG" and host.policy == "defaults" and not host.silent


def variant_of(host: MadeHost, variants: int) -> int | None:
    """Which of so many sets of probes a host has; None: that of its department."""
    return host.number * 0x9E3779B1 % 2**32 % variants if variants else None


def reported_sets(host: MadeHost, policy: str, variant: int | None = None) -> tuple[NewSet, ...]:
    """What a host reports under a policy; its token without the groups that are its own."""
    return (
        probe_set(policy, host.administrator, host.has_projects, host.transient)
        if variant is None
        else varied_probe_set(variant),
        uv_set(host.version, host.place),
        environment_set(host.place),
        policy_set(policy),
        token_set(host.administrator),
    )


def _host_end(host: MadeHost) -> bytes:
    """The columns of a host after its name: the same for all of a department and build."""
    texts = (
        "windows",
        "Windows 11 Enterprise 24H2",
        "26100.4349" if host.number % 3 else "26100.3915",
        "corp.example",
        f"OU={host.department.name},OU=Workstations,DC=corp,DC=example",
        "0.1.0",
    )
    packed = b"".join(struct.pack(">i", len(one)) + one.encode() for one in texts)
    return packed + struct.pack(">i?", 1, True)
