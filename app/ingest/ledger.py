"""What made workstations wrote down of their reports, held against the database: none lost, none counted twice.

Held are how many reports came, what they told, and the state that the last acknowledged one brought.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

from sqlalchemy import func, literal, select
from sqlalchemy.orm import Session

from app.errors import InvalidError
from app.fleet.rule_uses import ANY_RULE, day_of
from app.fleet.tables import KIND_NUMBERS, PULSE_OF_SUBJECT, SUBJECT_OF_HOST, FactSet, Host, Pulse, Sighting, Subject
from app.fleet.tables_rule_use import RuleDay, RuleUse
from app.ingest.generator import RECORDS_FROM, Station

CHUNK = 500
MOST_USES = 150
"""So many uses a made workstation adds in one report at most."""
KINDS = (*KIND_NUMBERS, "host")
"""What a state is of: the kinds of shared sets in the order of their numbers, and the host's facts."""

State = tuple[bytes | None, ...]
"""The digests of a report in the order of KINDS; None where it named none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerLine:
    """One workstation's reports: answered 200, and given up without an answer (these may have arrived or not).

    `sightings` and `unheard`: those that were in either; `uses`: of rules, in what was acknowledged. `state`: what the
    last acknowledged report said; None where there is none, or where a later one may have arrived.
    """

    host_id: int
    acknowledged: int
    unanswered: int = 0
    sightings: int = 0
    unheard: int = 0
    uses: int = 0
    state: State | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mismatch:
    """A workstation of which the database has fewer or more than it can have. `what`: reports, sightings, uses, state.

    Of a state, `acknowledged` and `received` count the kinds; `kinds` are those that are not as they were acknowledged.
    """

    host_id: int
    acknowledged: int
    unanswered: int
    received: int
    what: str = "reports"
    kinds: tuple[str, ...] = ()

    @property
    def is_loss(self) -> bool:
        return self.received < self.acknowledged


def write_lines(stations: Iterable[Station]) -> Iterator[str]:
    """The lines of a ledger, one JSON object each."""
    for one in stations:
        line = {
            "host": one.host_id,
            "epoch": one.epoch,
            "sequence": one.sequence,
            "acknowledged": one.acknowledged,
            "unanswered": one.unanswered,
            "sightings": one.sighted,
            "unheard": one.unheard,
            "uses": sum(one.uses.values()),
            "state": json.loads(one.kept) if one.kept else None,
        }
        yield json.dumps(line) + "\n"


def line_of(station: Station) -> LedgerLine:
    """A workstation's line without writing it."""
    return LedgerLine(
        host_id=int(station.host_id),
        acknowledged=station.acknowledged,
        unanswered=station.unanswered,
        sightings=station.sighted,
        unheard=station.unheard,
        uses=_sum_uses(station),
        state=_read_state(json.loads(station.kept)) if station.kept else None,
    )


def read_lines(lines: Iterable[str]) -> Iterator[LedgerLine]:
    """The lines of a ledger. raises: InvalidError naming the line."""
    for number, text in enumerate(lines, 1):
        try:
            line = json.loads(text)
            yield LedgerLine(
                host_id=int(line["host"]),
                acknowledged=int(line["acknowledged"]),
                unanswered=int(line.get("unanswered", 0)),
                sightings=int(line.get("sightings", 0)),
                unheard=int(line.get("unheard", 0)),
                uses=int(line.get("uses", 0)),
                state=_read_state(line.get("state")),
            )
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise InvalidError(f"line {number} is no line of a ledger of `fleet send`", field="ledger") from error


def compare(session: Session, ledger: Sequence[LedgerLine]) -> Iterator[Mismatch]:
    """Workstations whose reports, or what was in them, are not all there, or there more than once.

    In the end those whose last acknowledged state is not the one that is there.
    """
    waiting = iter(ledger)
    while chunk := list(islice(waiting, CHUNK)):
        received = {
            host_id: int(count)
            for host_id, count in session.execute(
                select(Subject.host_id, func.sum(Pulse.received))
                .join(Pulse, PULSE_OF_SUBJECT)
                .where(Subject.host_id.in_([line.host_id for line in chunk]))
                .group_by(Subject.host_id)
            )
        }
        ids = [line.host_id for line in chunk]
        sighted, used = read_sightings(session, ids), read_uses(session, ids)
        for line in chunk:
            for what, told, unheard, there in (
                ("reports", line.acknowledged, line.unanswered, received.get(line.host_id, 0)),
                ("sightings", line.sightings, line.unheard, sighted.get(line.host_id, 0)),
                # What was counted in a report without an answer is told again, and larger.
                ("uses of rules", line.uses, MOST_USES * line.unanswered, used.get(line.host_id, 0)),
            ):
                if not told <= there <= told + unheard:
                    yield Mismatch(
                        host_id=line.host_id, what=what, acknowledged=told, unanswered=unheard, received=there
                    )
    yield from find_wrong_states(session, ledger)


def find_wrong_states(session: Session, ledger: Iterable[LedgerLine]) -> Iterator[Mismatch]:
    """Workstations of which another state is recorded than their last acknowledged report brought.

    Where a host has several users, it is enough that one of them has it: a ledger names no users.
    """
    waiting = (line for line in ledger if line.state is not None)
    while chunk := list(islice(waiting, CHUNK)):
        states = read_states(session, [line.host_id for line in chunk])
        for line in chunk:
            assert line.state is not None  # noqa: S101 - for the type checker
            least = KINDS
            for state in states.get(line.host_id, ()):
                wrong = tuple(kind for kind, told, there in zip(KINDS, line.state, state, strict=True) if told != there)
                least = min(least, wrong, key=len)
            if least:
                yield Mismatch(
                    host_id=line.host_id,
                    what="state",
                    kinds=least,
                    acknowledged=len(KINDS),
                    unanswered=0,
                    received=len(KINDS) - len(least),
                )


def read_states(session: Session, host_ids: Collection[int]) -> dict[int, list[State]]:
    """What is recorded of these hosts' users: the digests of the sets that they point to and of their host's facts."""
    pointers = (Subject.probes_id, Subject.uv_id, Subject.environment_id, Subject.policy_id, Subject.token_id)
    rows = session.execute(
        select(Subject.host_id, Host.facts_digest, *pointers)
        .join(Host, SUBJECT_OF_HOST)
        .where(Subject.host_id.in_(host_ids))
    ).all()
    named = {set_id for row in rows for set_id in row[2:] if set_id is not None}
    digests = {
        (kind, set_id): digest
        for set_id, kind, digest in session.execute(
            select(FactSet.id, FactSet.kind, FactSet.digest).where(FactSet.id.in_(named))
        )
    }
    found: dict[int, list[State]] = {}
    for host_id, facts, *ids in rows:
        # A set that is gone, or is of another kind, is as wrong as one that was not told.
        sets = (None if set_id is None else digests.get((kind, set_id), b"") for kind, set_id in enumerate(ids, 1))
        found.setdefault(host_id, []).append((*sets, facts))
    return found


def read_sightings(session: Session, host_ids: Collection[int] | None = None) -> dict[int, int]:
    """How many sightings of made workstations are recorded, by host; of these hosts, or of all."""
    query = select(Sighting.host_id, func.count()).where(Sighting.record > RECORDS_FROM).group_by(Sighting.host_id)
    if host_ids is not None:
        query = query.where(Sighting.host_id.in_(host_ids))
    return {int(host_id): int(count) for host_id, count in session.execute(query)}


def read_uses(session: Session, host_ids: Collection[int] | None = None) -> dict[int, int]:
    """How many uses of rules are recorded, by host; of these hosts, or of all."""
    query = select(RuleUse.host_id, func.sum(RuleUse.uses)).group_by(RuleUse.host_id)
    if host_ids is not None:
        query = query.where(RuleUse.host_id.in_(host_ids))
    return {host_id: int(uses) for host_id, uses in session.execute(query)}


def find_untold(session: Session, stations: Iterable[Station]) -> list[Mismatch]:
    """Of which hosts not each acknowledged sighting and use is there once; no other hosts may have told any."""
    found = []
    known = {int(one.host_id): one for one in stations}
    sighted, used = read_sightings(session), read_uses(session)
    for host_id in sorted(known.keys() | sighted.keys() | used.keys()):
        one = known.get(host_id)
        told = (("sightings", one.sighted if one else 0, sighted), ("uses of rules", _sum_uses(one), used))
        found += [
            Mismatch(host_id=host_id, what=what, acknowledged=count, unanswered=0, received=there.get(host_id, 0))
            for what, count, there in told
            if there.get(host_id, 0) != count
        ]
    return found


def find_wrong_days(session: Session) -> list[str]:
    """Rules whose uses on a day are not what all hosts told of it, after what is appended was folded.

    Only where no host was erased: what it told stays in the fleet's days.
    """
    totals = (RuleUse.day, func.sum(RuleUse.uses), func.count(RuleUse.host_id.distinct()))
    each = select(RuleUse.rule_id, *totals).group_by(RuleUse.rule_id, RuleUse.day)
    all_rules = select(literal(ANY_RULE), *totals).group_by(RuleUse.day)
    hosts = {
        (rule_id, day): (int(uses), count)
        for query in (each, all_rules)
        for rule_id, day, uses, count in session.execute(query)
    }
    days = {(one.rule_id, one.day): (one.uses, one.hosts) for one in session.scalars(select(RuleDay)) if one.uses}
    return [
        f"rule {key[0] or 'of any kind'} on {day_of(key[1])}: {days.get(key)} counted, {hosts.get(key)} told"
        for key in sorted(days.keys() | hosts.keys())
        if days.get(key) != hosts.get(key)
    ]


def _sum_uses(station: Station | None) -> int:
    return sum(station.uses.values()) if station is not None else 0


def _read_state(named: dict[str, str] | None) -> State | None:
    return None if named is None else tuple(_read_digest(named.get(kind)) for kind in KINDS)


@lru_cache(maxsize=4096)
def _read_digest(text: str | None) -> bytes | None:
    """Hosts say the same by the thousand: what is kept of a ledger has each digest once."""
    return None if text is None else bytes.fromhex(text.removeprefix("sha256:"))
