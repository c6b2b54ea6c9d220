"""What made workstations wrote down of their reports, held against the database: none lost, none counted twice."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.errors import InvalidError
from app.fleet.tables import PULSE_OF_SUBJECT, Pulse, Subject
from app.ingest.generator import Station

CHUNK = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerLine:
    """One workstation's reports: answered 200, and given up without an answer (these may have arrived or not)."""

    host_id: int
    acknowledged: int
    unanswered: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Mismatch:
    """A workstation of which the database has fewer or more reports than it can have."""

    host_id: int
    acknowledged: int
    unanswered: int
    received: int

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
        }
        yield json.dumps(line) + "\n"


def read_lines(lines: Iterable[str]) -> Iterator[LedgerLine]:
    """The lines of a ledger. raises: InvalidError naming the line."""
    for number, text in enumerate(lines, 1):
        try:
            line = json.loads(text)
            yield LedgerLine(
                host_id=int(line["host"]),
                acknowledged=int(line["acknowledged"]),
                unanswered=int(line.get("unanswered", 0)),
            )
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise InvalidError(f"line {number} is no line of a ledger of `fleet send`", field="ledger") from error


def compare(session: Session, ledger: Sequence[LedgerLine]) -> Iterator[Mismatch]:
    """Workstations whose reports are not all there, or there more than once."""
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
        for line in chunk:
            there = received.get(line.host_id, 0)
            if not line.acknowledged <= there <= line.acknowledged + line.unanswered:
                yield Mismatch(
                    host_id=line.host_id,
                    acknowledged=line.acknowledged,
                    unanswered=line.unanswered,
                    received=there,
                )
