"""What real PCs did with the conformance kit's cases: read as hostile input, judged anew, recorded once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.applocker.cases import Answer, judge_cases
from app.audit.record import Actor, record
from app.db.base import now
from app.errors import InvalidError
from app.policies.tables import VerifiedCase

MAX_BYTES = 8 << 20
MAX_CASES = 2_000
MAX_ERROR = 2**31 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedCase:
    """One case as a PC answered it. `differences`: in sentences, where the engine says something else."""

    case_id: str
    decision: str
    error: int | None
    engine_decision: str
    differences: tuple[str, ...]
    doubts: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One run of the kit's script on one PC."""

    windows: str
    windows_build: str
    observed_at: datetime
    cases: tuple[ObservedCase, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """One recorded answer, for a list."""

    case_id: str
    windows: str
    windows_build: str
    observed_at: datetime
    decision: str
    error: int | None
    engine_decision: str
    agrees: bool
    doubts: tuple[str, ...]


def read_observation(data: bytes) -> Observation:
    """An answer file of the kit's script.

    raises: InvalidError naming the field; AppLockerError for cases that are none.
    """
    if len(data) > MAX_BYTES:
        raise InvalidError(f"The file is larger than {MAX_BYTES >> 20} MB.", field="file")
    try:
        text = data.decode("utf-8-sig")
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidError(f"The file is not JSON: {error}", field="file") from None
    if not isinstance(content, dict) or not isinstance(content.get("windows"), dict):
        raise InvalidError("This is no answer of the kit's script: it names no Windows.", field="windows")
    build = _text(content["windows"], "build", 40)
    items = content.get("cases")
    if not isinstance(items, list) or not items or len(items) > MAX_CASES:
        raise InvalidError(f"Between 1 and {MAX_CASES} cases are wanted.", field="cases")
    try:
        observed_at = datetime.fromisoformat(_text(content, "at", 40))
    except ValueError:
        raise InvalidError("Not a time like 2026-01-31T08:00:00Z.", field="at") from None
    if observed_at.tzinfo is None or observed_at.year < 1970:
        raise InvalidError("Not a time since 1970 with its zone.", field="at")
    answers = judge_cases(text)
    cases = tuple(
        _observed(answer, item, place) for place, (answer, item) in enumerate(zip(answers, items, strict=True))
    )
    if len({case.case_id for case in cases}) != len(cases):
        raise InvalidError("A case is in the file twice.", field="cases")
    return Observation(
        windows=_text(content["windows"], "product", 120), windows_build=build, observed_at=observed_at, cases=cases
    )


def record_observation(session: Session, observation: Observation, *, actor: Actor) -> int:
    """Keeps the answers that are not kept yet; how many."""
    known = set(
        session.scalars(
            select(VerifiedCase.case_id).where(
                VerifiedCase.windows_build == observation.windows_build,
                VerifiedCase.observed_at == observation.observed_at,
            )
        )
    )
    fresh = [case for case in observation.cases if case.case_id not in known]
    at = now()
    session.add_all(
        VerifiedCase(
            case_id=case.case_id,
            windows=observation.windows,
            windows_build=observation.windows_build,
            observed_at=observation.observed_at,
            decision=case.decision,
            error=case.error,
            engine_decision=case.engine_decision,
            agrees=not case.differences,
            doubts=" ".join(case.doubts),
            recorded_at=at,
            recorded_by=actor.name,
        )
        for case in fresh
    )
    if fresh:
        record(session, actor, "verified.loaded", observation.windows_build, cases=len(fresh))
    return len(fresh)


def list_verified(session: Session) -> tuple[Verified, ...]:
    """Every recorded answer, by case, the newest first."""
    query = select(VerifiedCase).order_by(VerifiedCase.case_id, VerifiedCase.observed_at.desc(), VerifiedCase.id)
    return tuple(
        Verified(
            case_id=row.case_id,
            windows=row.windows,
            windows_build=row.windows_build,
            observed_at=row.observed_at,
            decision=row.decision,
            error=row.error,
            engine_decision=row.engine_decision,
            agrees=row.agrees,
            doubts=tuple(row.doubts.split()),
        )
        for row in session.scalars(query)
    )


def _observed(answer: Answer, item: Mapping[str, Any], place: int) -> ObservedCase:
    field = f"cases.{place}"
    if not isinstance(item.get("id"), str) or answer.case.verdict is None:
        raise InvalidError("A case needs an id and an observed decision.", field=field)
    observed = item.get("observed")
    error = observed.get("error_suspended") if isinstance(observed, dict) else None
    if error is not None and (type(error) is not int or not 0 <= error <= MAX_ERROR):
        raise InvalidError("error_suspended must be an error number.", field=f"{field}.observed")
    return ObservedCase(
        case_id=_text(item, "id", 80),
        decision=answer.case.verdict.value,
        error=error,
        engine_decision=answer.decision.verdict.value,
        differences=answer.differences,
        doubts=tuple(doubt.code for doubt in answer.decision.doubts),
    )


def _text(values: Mapping[str, Any], key: str, most: int) -> str:
    value = values.get(key)
    if not isinstance(value, str) or not value or len(value) > most or not value.isprintable():
        raise InvalidError(f"{key} must be a text of at most {most} characters.", field=key)
    return value
