"""A made fleet: workstations of three departments with a history, written through the same path as real reports.

Finance and Research live under AppLocker's default rules, Engineering got rules for uv a week ago; as a story there is
a month before it, with a pilot whose rules a release of uv broke. The installation
is marked, and every page shows that its fleet was made.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import accumulate, islice

from sqlalchemy import Connection, Engine, insert, update

from agent.contract.canonical import digest
from agent.contract.facts import HostFacts
from app.db.base import from_ms, now, to_ms
from app.db.session import session_scope
from app.db.tables import FLEET_ORIGIN, put_setting
from app.fleet.absence import count_absent
from app.fleet.buckets import bucket_of, take_host_ids
from app.fleet.facts import HostColumns
from app.fleet.fold import ContributionCache, fold
from app.fleet.groups import get_or_make_group, make_standard_groups
from app.fleet.incoming import Incoming, Limits
from app.fleet.made_sets import environment_set, policy_set, probe_set, token_set, uv_set
from app.fleet.made_uses import COUNTING, write_made_uses
from app.fleet.record import record_reports
from app.fleet.retention import DAY_MS, write_daily
from app.fleet.rows import NewSet, SightingRow
from app.fleet.sets import SetCache
from app.fleet.sighting_days import count_sightings
from app.fleet.standing import HostState
from app.fleet.sweep import mark_silent
from app.fleet.tables import Host, PatternTally

PROFILES = ("uniform", "diverse", "hostile")
GROUP_REPORTS = 1000
SILENT_AFTER_DAYS = 14
UV_OF_MACHINES = ((0, 0.55), (10, 0.3), (11, 0.15))
"""Where engineers have uv in a story, by share: distributed, by winget or by pip, for all users of a machine."""
UV_OF_USERS = ((1, 0.34), (7, 0.24), (3, 0.18), (0, 0.14), (6, 0.06), (2, 0.04))
"""Where the others have it: by the installer script, pip, winget, and few other ways, most in their own folders."""
NEWEST, OLDER = "0.13.8", "0.12.4"
"""The release of uv that came during the story, and what hosts had before it."""

_UNLIMITED = Limits(new_sets=10**9, subjects=10**9, new_sets_multi=10**9, subjects_multi=10**9)
_EVENT = "Microsoft-Windows-AppLocker/EXE and DLL"
_PSF = "O=PYTHON SOFTWARE FOUNDATION, L=BEAVERTON, S=OREGON, C=US"
_PYTHONS = (
    ("made cpython-3.13.1 of uv", None),
    ("made python-3.13.1", f"{_PSF}\\PYTHON 3.13.1\\PYTHON.EXE\\3.13.1150.1013"),
    ("made cpython-3.12.8 of uv", None),
    ("made python-3.11.9", f"{_PSF}\\PYTHON 3.11.9\\PYTHON.EXE\\3.11.9150.1013"),
)
"""Files that events of a made fleet name, each with its publisher: uv's own builds of Python are not signed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Department:
    """A department of the made fleet. `sid`: the group that its users are members of, where there is a story."""

    name: str
    code: str
    sid: str
    share: float
    versions: tuple[tuple[str | None, float], ...]
    administrators: float
    audited: float
    has_projects: float


DEPARTMENTS = (
    Department(
        name="Finance",
        code="FIN",
        sid="S-1-5-21-1004336348-1177238915-682003330-5130",
        share=0.45,
        versions=((None, 0.22), ("0.8.22", 0.2), ("0.9.13", 0.38), ("0.13.8", 0.2)),
        administrators=0.01,
        audited=0.0,
        has_projects=0.35,
    ),
    Department(
        name="Engineering",
        code="ENG",
        sid="S-1-5-21-1004336348-1177238915-682003330-5120",
        share=0.35,
        versions=((None, 0.02), ("0.9.13", 0.18), ("0.12.4", 0.3), ("0.13.8", 0.5)),
        administrators=0.06,
        audited=0.0,
        has_projects=0.95,
    ),
    Department(
        name="Research",
        code="RES",
        sid="S-1-5-21-1004336348-1177238915-682003330-5140",
        share=0.2,
        versions=((None, 0.08), ("0.7.12", 0.22), ("0.11.9", 0.3), ("0.13.8", 0.4)),
        administrators=0.12,
        audited=0.25,
        has_projects=0.8,
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeHost:
    """What one host of the made fleet is like. The policy is that before the engineers' rules came."""

    number: int
    department: Department
    policy: str
    administrator: bool
    version: str | None
    has_projects: bool
    silent: bool
    place: int = 0
    groups: tuple[str, ...] = ()
    transient: int = 0
    uv_at: int | None = None
    """Which of UV_PLACES uv lies at, where there is a story; else it lies at `place`."""

    @property
    def name(self) -> str:
        return f"{self.department.code}-{self.number:05}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What was made."""

    hosts: int
    reports: int


def plan_hosts(count: int, *, seed: int, profile: str) -> Iterator[MadeHost]:
    """The hosts of a fleet: the same ones for the same seed."""
    chance = random.Random(seed)  # noqa: S311 - not a secret
    shares = list(accumulate(one.share for one in DEPARTMENTS))
    versions = {one.code: [version for version, _share in one.versions] for one in DEPARTMENTS}
    version_shares = {one.code: list(accumulate(share for _version, share in one.versions)) for one in DEPARTMENTS}
    transient_share = {"uniform": 0.0, "diverse": 0.05, "hostile": 0.9}[profile]
    for number in range(1, count + 1):
        department = chance.choices(DEPARTMENTS, cum_weights=shares)[0]
        code = department.code
        yield MadeHost(
            number=number,
            department=department,
            policy="audit" if chance.random() < department.audited else "defaults",
            administrator=chance.random() < department.administrators,
            version=chance.choices(versions[code], cum_weights=version_shares[code])[0],
            has_projects=chance.random() < department.has_projects,
            silent=chance.random() < 0.03,
            # Where every user is in groups of their own and uv lives in many places, fewer sets are shared.
            groups=() if profile == "uniform" else (f"S-1-5-21-1004336348-1177238915-682003330-{100_000 + number}",),
            place=0 if profile == "uniform" else chance.randrange(10),
            transient=chance.randrange(1, 40) if chance.random() < transient_share else 0,
        )


def plan_story_hosts(count: int, *, seed: int, profile: str = "uniform") -> Iterator[MadeHost]:
    """The same hosts where there is a story: people installed uv in several ways."""
    chance = random.Random(seed + 3)  # noqa: S311 - not a secret
    for host in plan_hosts(count, seed=seed, profile=profile):
        places = UV_OF_MACHINES if host.department.code == "ENG" else UV_OF_USERS
        yield replace(host, uv_at=chance.choices([at for at, _ in places], [share for _, share in places])[0])


def make_fleet(
    engine: Engine,
    count: int,
    *,
    seed: int = 1,
    profile: str = "uniform",
    story: bool = False,
    each_day: Callable[[Connection, datetime], object] | None = None,
) -> Made:
    """Makes a fleet of `count` workstations and folds its counts. A `story` has a month behind it, else two weeks.

    `each_day` is called at the end of each day of it and once for today, when its counts are there; it may commit.
    """
    began_at = now()
    with session_scope(engine) as session:
        _default, linux_group = make_standard_groups(session)
        groups = {one.name: get_or_make_group(session, one.name).id for one in DEPARTMENTS}
        put_setting(session, FLEET_ORIGIN, f"made: {count} workstations, profile {profile}, seed {seed}")
    hosts: list[tuple[int, MadeHost]] = []
    planned = (plan_story_hosts if story else plan_hosts)(count, seed=seed, profile=profile)
    while chunk := list(islice(planned, 5000)):
        hosts += zip(_insert_hosts(engine, chunk, groups, began_at), chunk, strict=True)
    sets = SetCache()
    cache = ContributionCache()
    reports = 0
    last_at: datetime | None = None
    with engine.connect() as connection:
        for at, group in _history(hosts, began_at, seed, story=story):
            if last_at is not None:
                _close_days(connection, cache, last_at, at, each_day)
            last_at = at
            outcomes = record_reports(
                connection, group, now_ms=to_ms(at), sets=sets, linux_group=linux_group, limits=_UNLIMITED
            )
            refused = next((one for one in outcomes if one.status != 200), None)
            if refused is not None:
                raise RuntimeError(f"a made report was refused: {refused}")
            reports += len(group)
        mark_silent(connection, began_at, days=SILENT_AFTER_DAYS)
        while fold(connection, cache):
            pass
        write_daily(connection, began_at)
        if each_day is not None:
            each_day(connection, began_at)
        count_absent(connection, began_at)
        count_sightings(connection, began_at, settles=timedelta(0))
        if story:
            counting = [one for one in hosts if one[1].number % COUNTING == 0 and not one[1].administrator]
            write_made_uses(
                connection, [(host_id, _is_opened(host)) for host_id, host in counting], began_at, seed=seed
            )
    return Made(hosts=count, reports=reports)


def _is_opened(host: MadeHost) -> bool:
    """Whether the engineers' policy reached it."""
    return host.department.code == "ENG" and host.policy == "defaults" and not host.silent


def _close_days(
    connection: Connection,
    cache: ContributionCache,
    last_at: datetime,
    at: datetime,
    each_day: Callable[[Connection, datetime], object] | None,
) -> None:
    """Writes the counts at the end of each day between two groups of reports, as a server that ran then would have."""
    for day in range(to_ms(last_at) // DAY_MS, to_ms(at) // DAY_MS):
        while fold(connection, cache):
            pass
        end_of_day = from_ms((day + 1) * DAY_MS - 1)
        # What began to be counted by this fold did so on that day, not when the fleet was made.
        later = update(PatternTally).where(PatternTally.since_at > end_of_day)
        with connection.begin():
            connection.execute(later.values(since_at=end_of_day))
        write_daily(connection, end_of_day)
        if each_day is not None:
            each_day(connection, end_of_day)


def _insert_hosts(engine: Engine, chunk: Sequence[MadeHost], groups: dict[str, int], began_at: datetime) -> list[int]:
    with engine.begin() as connection:
        ids = take_host_ids(connection, len(chunk))
        connection.execute(insert(Host), _host_rows(chunk, groups, began_at, ids))
    return ids


def _host_rows(
    chunk: Sequence[MadeHost], groups: dict[str, int], began_at: datetime, ids: Sequence[int]
) -> list[dict[str, object]]:
    return [
        {
            "id": host_id,
            "bucket": bucket_of(host_id),
            "group_id": groups[host.department.name],
            "state": HostState.ACTIVE,
            # No secret has this hash: nobody can report for a made host.
            "token_hash": hashlib.sha256(f"made {host.number}".encode()).digest()[:31],
            "enrolled_at": began_at - timedelta(days=33),
            "name": host.name,
            "platform": "windows",
        }
        for host_id, host in zip(ids, chunk, strict=True)
    ]


def _history(
    hosts: Sequence[tuple[int, MadeHost]], until: datetime, seed: int, *, story: bool
) -> Iterator[tuple[datetime, list[Incoming]]]:
    """Groups of reports in the order of time: the first ones, the engineers' new policy, and today's.

    As a story, engineers are a pilot first, whose rules know one Python by its hash; a release of uv brings another
    Python, and what worked is blocked; the engineers' policy mends it over some days.
    """
    chance = random.Random(seed + 1)  # noqa: S311 - not a secret
    epoch = to_ms(until - timedelta(days=33))
    opened = {host_id for host_id, host in hosts if _is_opened(host)}
    sequences = dict.fromkeys((host_id for host_id, _host in hosts), 0)

    def report(
        host_id: int, host: MadeHost, policy: str, *, version: str | None = "", probes: str | None = None
    ) -> Incoming:
        # Of some hosts' reports one got lost on its way.
        sequences[host_id] += 2 if story and sequences[host_id] and host.number % 83 == 0 else 1
        sids = (host.department.sid,) if story else ()
        return make_report(host_id, host, policy, sequences[host_id], epoch, sids=sids, version=version, probes=probes)

    if story:
        yield from _as_story(hosts, opened, until, report, chance)
    else:
        first = [report(host_id, host, host.policy) for host_id, host in hosts]
        yield from _spread(first, until - timedelta(days=14), timedelta(hours=9))
    mended = [report(host_id, host, "engineers") for host_id, host in hosts if host_id in opened]
    yield from _spread(mended, until - timedelta(days=7), timedelta(days=6, hours=18) if story else timedelta(hours=12))
    today = []
    for host_id, host in hosts:
        if host.silent:
            continue
        newest = report(host_id, host, "engineers" if host_id in opened else host.policy)
        blocked = host_id not in opened and not host.administrator and host.policy == "defaults"
        if blocked and chance.random() < 0.1:
            newest.sightings = (_sighting(host, until, chance),)
        today.append(newest)
    chance.shuffle(today)
    yield from _spread(today, until - timedelta(minutes=15), timedelta(minutes=14))


def _as_story(
    hosts: Sequence[tuple[int, MadeHost]],
    pilots: set[int],
    until: datetime,
    report: Callable[..., Incoming],
    chance: random.Random,
) -> Iterator[tuple[datetime, list[Incoming]]]:
    """The weeks before the engineers' policy: enrolment by department, and the release that broke the pilot."""
    before = []
    for host_id, host in sorted(hosts, key=lambda one: (one[1].department.code, one[0])):
        version = OLDER if host.version == NEWEST else host.version
        before.append(report(host_id, host, "pilot" if host_id in pilots else host.policy, version=version))
    yield from _spread(before, until - timedelta(days=32), timedelta(days=7))
    released = []
    for host_id, host in hosts:
        if host.version == NEWEST and not host.silent:
            broken = {"policy": "pilot", "probes": "defaults"} if host_id in pilots else {"policy": host.policy}
            newest = report(host_id, host, **broken)
            if host_id in pilots and chance.random() < 0.3:
                newest.sightings = (_sighting(host, until - timedelta(days=chance.uniform(7, 11)), chance),)
            released.append(newest)
    yield from _spread(released, until - timedelta(days=12), timedelta(days=3))


def _spread(reports: list[Incoming], start: datetime, over: timedelta) -> Iterator[tuple[datetime, list[Incoming]]]:
    # Over several days some come on each.
    size = min(GROUP_REPORTS, max(1, len(reports) // (2 * over.days))) if over.days else GROUP_REPORTS
    for offset in range(0, len(reports), size):
        yield start + over * (offset / len(reports)), reports[offset : offset + size]


def make_report(
    host_id: int,
    host: MadeHost,
    policy: str,
    sequence: int,
    epoch: int,
    *,
    version: str | None = "",
    probes: str | None = None,
    sids: tuple[str, ...] = (),
    instead: Sequence[NewSet] = (),
    attested: bool = True,
) -> Incoming:
    """A host's report. `version`: another than the host's ('' for its own); `probes`: as under another policy.

    `sids`: groups that the user is in besides; `instead`: sets that take the place of those of their kinds;
    `attested`: whether the machine's account reports, not a user.
    """
    uv_version = host.version if version == "" else version
    sets: tuple[NewSet, ...] = (
        probe_set(
            probes or policy,
            host.administrator,
            host.has_projects,
            host.transient,
            uv_at=None if host.uv_at is None else host.uv_at if uv_version else -1,
        ),
        uv_set(uv_version, host.place if host.uv_at is None else host.uv_at),
        environment_set(host.place),
        policy_set(policy),
        token_set(host.administrator, (*sids, *host.groups)),
    )
    given = {one.kind: one for one in instead}
    sets = tuple(given.get(one.kind, one) for one in sets)
    facts = HostFacts(
        name=host.name,
        platform="windows",
        os="Windows 11 Enterprise 24H2",
        os_build="26100.4349" if host.number % 3 else "26100.3915",
        domain="corp.example",
        unit=f"OU={host.department.name},OU=Workstations,DC=corp,DC=example",
        agent_version="0.1.0",
        attested=attested,
    )
    columns = HostColumns(
        name=facts.name,
        platform=facts.platform,
        os=facts.os,
        os_build=facts.os_build,
        domain=facts.domain,
        unit=facts.unit,
        agent_version=facts.agent_version,
        attested=facts.attested,
        appid_service=facts.appid_service,
    )
    host_digest = bytes.fromhex(digest("host", facts.body())[7:])
    said = hashlib.blake2b(b"".join(one.digest for one in sets) + host_digest, digest_size=16).digest()
    return Incoming(
        host_id=host_id,
        secret_hash=hashlib.sha256(f"made {host.number}".encode()).digest()[:31],
        subject=hashlib.blake2b(f"made user {host.number}".encode(), digest_size=16).digest(),
        report_id=f"made-{host.number}-{sequence}",
        tag=hashlib.blake2b(f"{host.number}-{sequence}".encode(), digest_size=8).digest(),
        epoch=epoch,
        sequence=sequence,
        said=said,
        digests=tuple(one.digest for one in sets),
        host_digest=host_digest,
        offered={(one.kind, one.digest): one for one in sets},
        host=columns,
    )


def _sighting(host: MadeHost, until: datetime, chance: random.Random) -> SightingRow:
    at = to_ms(until - timedelta(hours=chance.uniform(1, 40)))
    seen, publisher = chance.choices(_PYTHONS, (5, 3, 2, 1))[0]
    return SightingRow(
        host_id=0,
        at=at,
        channel=_EVENT,
        record=chance.randrange(1000, 90_000),
        subject_id=0,
        recorded_at=at,
        event_id=8004,
        pattern="venv-python" if host.has_projects else "cache-builds-venv-python",
        path="%OSDRIVE%\\src\\*\\.venv\\Scripts\\python.exe"
        if host.has_projects
        else "%LOCALAPPDATA%\\uv\\cache\\builds-v0\\.tmp*\\Scripts\\python.exe",
        collection="Exe",
        rule_id=None,
        sha256=hashlib.sha256(seen.encode()).hexdigest(),
        fqbn=publisher,
    )
