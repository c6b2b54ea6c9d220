"""A fleet written straight into the tables, as report writers and the folder would have left it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from agent.catalogue import load
from agent.contract.facts import (
    CollectionInForce,
    FoundUv,
    Method,
    Outcome,
    PolicySet,
    Probe,
    ProbeSet,
    Specimen,
    UvSet,
)
from agent.contract.facts import Engine as Blocker
from app.db.base import now
from app.db.session import session_scope
from app.fleet.check import check_tallies
from app.fleet.facts import read_set
from app.fleet.fold import ContributionCache, fold
from app.fleet.standing import HostState, Standing
from app.fleet.tables import KIND_NUMBERS, FactSet, Host, HostGroup, Subject, Transition
from app.notices.counts import Remembered
from app.notices.tables import NoticeRow
from app.notices.watch import Thresholds, WatchRun, watch_fleet


@dataclass
class World:
    """Users with what they report; `turn` lets them report something else, as a report would."""

    engine: Engine
    at: datetime = field(default_factory=now)
    remembered: Remembered = field(default_factory=Remembered)
    groups: dict[str, int] = field(default_factory=dict)
    hosts: int = 0

    def add(
        self, count: int, *, group: str = "Sales", closed: tuple[str, ...] = (), hosts: int | None = None
    ) -> list[int]:
        """Users for whom all is open but `closed`, on so many hosts."""
        ids = []
        with session_scope(self.engine) as session:
            if group not in self.groups:
                row = HostGroup(name=group, source="tag", created_at=self.at)
                session.add(row)
                session.flush()
                self.groups[group] = row.id
            made: list[int] = []
            for number in range(count):
                if hosts is None or len(made) < hosts:
                    self.hosts += 1
                    host = Host(
                        group_id=self.groups[group],
                        state=HostState.ACTIVE.value,
                        token_hash=self.hosts.to_bytes(32, "big"),
                        enrolled_at=self.at,
                        name=f"PC-{self.hosts}",
                        platform="windows",
                        agent_version="0.1.0",
                    )
                    session.add(host)
                    session.flush()
                    made.append(host.id)
                subject = Subject(
                    host_id=made[-1],
                    sid_hmac=(self.hosts * 100_000 + number).to_bytes(32, "big"),
                    group_id=self.groups[group],
                    standing=Standing.COUNTED.value,
                    first_seen_at=self.at,
                    changed_at=self.at,
                    probes_id=fact_set(session, probes(closed)),
                    policy_id=fact_set(session, policy()),
                    uv_id=fact_set(session, uv("0.13.8")),
                )
                session.add(subject)
                session.flush()
                ids.append(subject.id)
        return ids

    def turn(self, ids: list[int], *new: ProbeSet | PolicySet | UvSet) -> None:
        """Users report other sets, and transitions are kept."""
        with session_scope(self.engine) as session:
            for one in session.scalars(select(Subject).where(Subject.id.in_(ids))):
                for body in new:
                    column = f"{body.kind}_id"
                    old_id, new_id = getattr(one, column), fact_set(session, body)
                    session.add(
                        Transition(
                            bucket=one.bucket,
                            subject_id=one.id,
                            at=self.at,
                            kind=KIND_NUMBERS[body.kind],
                            old_id=old_id,
                            new_id=new_id,
                        )
                    )
                    setattr(one, column, new_id)
                one.changed_at = self.at

    def watch(self, *ways: str, later: timedelta = timedelta(minutes=5), **thresholds: int) -> WatchRun:
        """Folds, and looks once."""
        self.fold()
        with self.engine.connect() as connection:
            run = watch_fleet(connection, self.at, Thresholds(**thresholds), self.remembered, ways=ways)
        self.at += later
        return run

    def fold(self) -> None:
        with self.engine.connect() as connection:
            check_tallies(connection, repair=True)
        with self.engine.connect() as connection:
            fold(connection, ContributionCache())

    probes = staticmethod(lambda *closed, **values: probes(closed, **values))
    policy = staticmethod(lambda *rules: policy(*rules))
    uv = staticmethod(lambda version: uv(version))

    def notices(self) -> list[NoticeRow]:
        with session_scope(self.engine, writes=False) as session:
            rows = list(session.scalars(select(NoticeRow).order_by(NoticeRow.id)))
            session.expunge_all()
        return rows


def probes(closed: tuple[str, ...] = (), *, engine: Blocker = Blocker.APPLOCKER, catalogue: str = "one") -> ProbeSet:
    return ProbeSet(
        catalogue=catalogue,
        probes=tuple(
            Probe(
                pattern=one.id,
                specimen=Specimen.CANARY,
                method=Method.START,
                outcome=Outcome.BLOCKED if one.id in closed else Outcome.ALLOWED,
                engine=engine if one.id in closed else None,
            )
            for one in load().patterns
            if one.is_executed
        ),
    )


def policy(*rules: str) -> PolicySet:
    return PolicySet(collections={"Exe": CollectionInForce(mode="1", rules=rules)})


def uv(version: str) -> UvSet:
    path = "%USERPROFILE%\\.local\\bin\\uv.exe"
    return UvSet(found=(FoundUv(path=path, pattern="uv-exe-standalone", version=version),), preferred=path)


def fact_set(session: Session, body: ProbeSet | PolicySet | UvSet) -> int:
    digest = bytes.fromhex(body.digest()[7:])
    known = session.scalar(select(FactSet).where(FactSet.kind == KIND_NUMBERS[body.kind], FactSet.digest == digest))
    if known is None:
        facts = read_set(body.kind, body.body())
        known = FactSet(
            kind=KIND_NUMBERS[body.kind],
            digest=digest,
            body=body.body(),
            flags=int(facts.flags),
            facts=facts.marks,
            created_at=now(),
        )
        session.add(known)
        session.flush()
    return known.id


@pytest.fixture
def world(database: Engine) -> World:
    return World(engine=database)
