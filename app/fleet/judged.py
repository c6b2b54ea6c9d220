"""What a set of probes comes to, in a row of bits: which uv commands work under it, and which engines closed anything.

The folder notes it of each set that it counts. Such rows are narrow: to go over all of them takes less than to ask an
index of what probes say for the sets that lack something.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, select
from sqlalchemy.dialects import sqlite

from agent import catalogue
from agent.contract.facts import Engine
from app.db.arrays import Int4s, Int8s
from app.fleet.marks import RANK
from app.fleet.obstacles import verdict_of
from app.fleet.probes import PatternFact
from app.fleet.tables import JudgedSet
from app.fleet.workflows import CLOSED_OUTCOMES, VERDICTS

MAX_WORKFLOWS = 31
"""So many have room in a set's bits."""
_VERDICT_NUMBERS = {verdict: number for number, verdict in enumerate(VERDICTS)}
_ENGINE_BITS = {engine.value: 1 << at for at, engine in enumerate(Engine)}

_INSERT = """
INSERT INTO judged_set (set_id, verdicts, engines, outcomes) SELECT * FROM unnest(%b, %b, %b, %b)
ON CONFLICT (set_id) DO UPDATE
  SET verdicts = excluded.verdicts, engines = excluded.engines, outcomes = excluded.outcomes
"""


class Judged(NamedTuple):
    """What `JudgedSet` has of a set."""

    verdicts: int
    engines: int
    outcomes: int


def judge_set(facts: Iterable[PatternFact], words: Iterable[str]) -> Judged:
    """`words`: of the set's commands, as `obstacles.words_of` has them."""
    verdicts = engines = outcomes = 0
    for at, word in enumerate(words):
        verdicts |= _VERDICT_NUMBERS[verdict_of(word)] << 2 * at
    for _pattern, outcome, engine in facts:
        outcomes |= 1 << RANK[outcome]
        if engine and outcome in CLOSED_OUTCOMES:
            engines |= _ENGINE_BITS[engine]
    return Judged(verdicts, engines, outcomes)


def note_judged(connection: Connection, judged: Mapping[int, Judged | None]) -> None:
    """Writes what sets come to, by their ids."""
    rows = [(set_id, *one) for set_id, one in sorted(judged.items()) if one is not None]
    if not rows:
        return
    if connection.dialect.name == "postgresql":
        cursor: Any = connection.connection.cursor()
        ids, verdicts, engines, outcomes = zip(*rows, strict=True)
        columns = (Int8s(ids), Int8s(verdicts), Int4s(engines), Int4s(outcomes))
        cursor.execute(_INSERT, columns, prepare=True, binary=True)
        return
    statement = sqlite.insert(JudgedSet)
    changed = {name: statement.excluded[name] for name in Judged._fields}
    connection.execute(
        statement.on_conflict_do_update(index_elements=["set_id"], set_=changed),
        [dict(zip(("set_id", *Judged._fields), row, strict=True)) for row in rows],
    )


def sets_judged(workflow_id: str, verdicts: Iterable[str]) -> Select[int]:
    """The ids of the sets under which a command has one of some verdicts."""
    shift = 2 * [one.id for one in catalogue.load().workflows].index(workflow_id)
    wanted = [number << shift for verdict, number in _VERDICT_NUMBERS.items() if verdict in verdicts]
    return select(JudgedSet.set_id).where(JudgedSet.verdicts.bitwise_and(3 << shift).in_(wanted))


def sets_with_outcome(outcomes: Iterable[str]) -> Select[int]:
    """The ids of the sets in which any pattern has one of some outcomes. raises: KeyError"""
    bits = sum(1 << RANK[outcome] for outcome in outcomes)
    return select(JudgedSet.set_id).where(JudgedSet.outcomes.bitwise_and(bits) != 0)


def sets_closed_by(engine: str) -> Select[int]:
    """The ids of the sets in which an engine closed something."""
    return select(JudgedSet.set_id).where(JudgedSet.engines.bitwise_and(_ENGINE_BITS[engine]) != 0)
