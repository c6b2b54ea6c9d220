"""Made fleets that can report: hosts copied into the database, and the generator's stations for some of them."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from parts.figures import emit_held
from parts.postgresql import Cluster
from parts.served import WAYLEAVE, served
from sqlalchemy import Engine, select, text

from agent.contract.canonical import digest
from agent.contract.messages import REPORTS_PATH
from app.db.base import now
from app.db.engine import open_url
from app.db.migrate import upgrade
from app.db.session import session_scope
from app.fleet.absence import count_absent
from app.fleet.fold import ContributionCache, fold
from app.fleet.groups import make_standard_groups
from app.fleet.made_sets import token_set
from app.fleet.make import MadeHost, plan_hosts
from app.fleet.make_bulk import make_fleet_in_bulk
from app.fleet.make_rows import Voices, host_body, is_opened, reported_sets, user_sid, variant_of
from app.fleet.rows import NewSet
from app.fleet.rule_uses import fold_uses
from app.fleet.sweep import mark_silent
from app.fleet.tables import KIND_NAMES, Host
from app.ingest.generator import Fleet, Station
from app.ingest.keys import ServerKeys
from app.ingest.ledger import find_untold, find_wrong_days, find_wrong_states, line_of

KEY = bytes(range(32))
MADE_WITHIN_S = 90.0
"""A million hosts, of any profile."""
VOICES = Voices(secret="measured-and-thrown-away-", hash_sid=ServerKeys(KEY).hash_sid)


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeFleet:
    """A database with a fleet. Its hosts' ids follow each other from `first_host` on."""

    url: str
    engine: Engine
    hosts: int
    profile: str
    variants: int
    first_host: int

    def environment(self, home: Path, **more: str) -> dict[str, str]:
        """For a server on this fleet."""
        return {
            **os.environ,
            "WAYLEAVE_DATABASE_URL": self.url,
            "WAYLEAVE_DATA_DIR": str(home),
            "WAYLEAVE_SERVER_KEY": KEY.hex(),
            **more,
        }


def make_measured_fleet(cluster: Cluster, hosts: int, *, profile: str = "diverse", variants: int = 0) -> MadeFleet:
    """A fleet of hosts with voices in a database of its own; prints how long it took."""
    url = cluster.make_database("fleet")
    engine = open_url(url.replace("postgresql://", "postgresql+psycopg://"))
    upgrade(engine)
    began_s = time.monotonic()
    make_fleet_in_bulk(engine, hosts, profile=profile, voices=VOICES, variants=variants)
    took_s = time.monotonic() - began_s
    # Of sets that nobody else has, the kind of fleet that is promised has fewer than the one with a hundred thousand.
    most = MADE_WITHIN_S if hosts >= 1_000_000 and variants <= 10_000 else None
    emit_held("fleet_made", took_s, "s", most=most, hosts=hosts, profile=profile, variants=variants)
    with session_scope(engine) as session:
        make_standard_groups(session)
        first_host = session.scalars(select(Host.id).order_by(Host.id).limit(1)).one()
    with engine.connect() as connection:
        # What the server does within its first hour.
        mark_silent(connection, now(), days=14)
        count_absent(connection, now())
    fold_all(engine)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        # As autovacuum would have done by the next day.
        connection.execute(text("VACUUM (ANALYZE) host, subject, pulse, fact_set, tally"))
        connection.execute(text("CHECKPOINT"))
    return MadeFleet(url=url, engine=engine, hosts=hosts, profile=profile, variants=variants, first_host=first_host)


@contextmanager
def serving(fleet: MadeFleet, home: Path, *, workers: int = 1, **settings: str) -> Iterator[tuple[str, int]]:
    """A server on a fleet: its address and process id."""
    command = [*WAYLEAVE, "--workers", str(workers)]
    with served(command, fleet.environment(home, **settings)) as (address, pid):
        yield address, pid


def pick_stations(sender: Fleet, fleet: MadeFleet, count: int, *, group: str | None = None, seed: int = 7) -> None:
    """Gives the sender stations for that many hosts from all over the fleet (of one department), in any order."""
    chance = random.Random(seed)
    share = min(1.0, count / fleet.hosts * (3.2 if group else 1.0) * 1.02 + 50 / fleet.hosts)
    epoch = time.time_ns() // 1_000_000 - 1000
    bodies: dict[tuple[object, ...], dict[str, NewSet]] = {}
    for host in plan_hosts(fleet.hosts, seed=1, profile=fleet.profile):
        if chance.random() < share and (group is None or host.department.code == group):
            sender.stations.append(_station(sender, fleet, host, epoch, bodies))
    chance.shuffle(sender.stations)
    del sender.stations[count:]


def _station(
    sender: Fleet, fleet: MadeFleet, host: MadeHost, epoch: int, shared: dict[tuple[object, ...], dict[str, NewSet]]
) -> Station:
    policy = "engineers" if is_opened(host) else host.policy
    variant = variant_of(host, fleet.variants)
    key = (policy, host.administrator, host.has_projects, host.transient, host.version, host.place, variant)
    sets = shared.get(key)
    if sets is None:
        sets = shared[key] = {KIND_NAMES[one.kind]: one for one in reported_sets(host, policy, variant)}
    facts = host_body(host)[5:]
    host_id = fleet.first_host + host.number - 1
    station = Station(
        number=host.number,
        host_id=str(host_id),
        head=sender._head(REPORTS_PATH, f"wl_{host_id}_{VOICES.secret_of(host.number)}"),
        subject=user_sid(host.number).encode(),
        epoch=epoch,
        sets=dict(sets),
        host_digest=digest("host", facts),
        host_body=facts,
    )
    if host.groups:
        station.sets["token"] = _own_token(host)
    station.say()
    return station


def _own_token(host: MadeHost) -> NewSet:
    body = token_set(host.administrator, (_PLACEHOLDER,)).body.replace(_PLACEHOLDER, host.groups[0])
    return NewSet(5, bytes.fromhex(digest("token", body)[7:]), body, 0, None)


_PLACEHOLDER = "S-1-5-21-1004336348-1177238915-682003330-000000"


def read_received(fleet: MadeFleet) -> dict[str, int]:
    """How many reports of each host are recorded."""
    query = text("SELECT s.host_id, p.received FROM subject s JOIN pulse p ON p.subject_id = s.id")
    with fleet.engine.connect() as connection:
        return {str(host_id): received for host_id, received in connection.execute(query)}


def fold_all(engine: Engine) -> None:
    """What the clock does within seconds: everything that is appended is counted."""
    with engine.connect() as connection:
        cache = ContributionCache()
        while fold(connection, cache) or fold_uses(connection, wait=True):
            pass


def hold_tellings(name: str, engine: Engine, stations: list[Station]) -> None:
    """Prints of how many hosts a sighting or use of a rule is lost or doubled, and how many were told at all.

    And of how many another state is recorded than their last acknowledged report brought.
    """
    fold_all(engine)
    with session_scope(engine, writes=False) as session:
        wrong = len(find_untold(session, stations)) + len(find_wrong_days(session))
        wrong_states = sum(1 for _ in find_wrong_states(session, map(line_of, stations)))
    kept = sum(1 for one in stations if one.kept)
    emit_held(f"{name}_wrong_state", wrong_states, "hosts", most=0, hosts=kept)
    emit_held(f"{name}_told_wrongly", wrong, "hosts and days", most=0)
    emit_held(f"{name}_sightings", sum(one.sighted for one in stations), "recorded once each", least=1)
    emit_held(f"{name}_uses", sum(len(one.uses) for one in stations), "rules and days of a host", least=1)


def count_unequal(fleet: MadeFleet, before: dict[str, int], stations: list[Station]) -> int:
    """Hosts of which not every acknowledged report, or another one, is in the database exactly once."""
    acknowledged = {one.host_id: one.acknowledged for one in stations}
    return sum(
        received - before.get(host_id, 0) != acknowledged.get(host_id, 0)
        for host_id, received in read_received(fleet).items()
    )
