"""Taking a request for access, and answering all requests of a group at once. Anybody may ask, so all is bounded."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from agent.catalogue import load
from app.audit.record import Actor, record
from app.db.base import now
from app.errors import AppError, InvalidError, NotFoundError
from app.requests.tables import AccessGroup, AccessRequest

OPEN, ANSWERED, DECLINED = "open", "answered", "declined"
STATES = (OPEN, ANSWERED, DECLINED)
ENGINES = ("applocker-or-srp", "applocker-or-wdac", "wdac", "other", "unknown")
"""What a request may be about: what a rule, or an administrator, can open."""

MAX_CONTACT_CHARS = 200
MAX_MESSAGE_CHARS = 500
MAX_NOTE_CHARS = 1000
MAX_PATTERNS = 12
PER_DAY = 300
KEPT = timedelta(days=90)


def record_request(
    session: Session,
    *,
    engine: str,
    patterns: Sequence[str],
    workflow: str | None,
    contact: str,
    message: str,
    asker: bytes,
    actor: Actor,
) -> int:
    """Count one asker in the group of each pattern ("" for a file that is not uv's); how many were new to theirs.

    raises: InvalidError for what no diagnosis says, AppError(429) when too many came today.
    """
    workflow = workflow or None
    wanted = sorted(set(patterns))
    _check(engine, wanted, workflow, contact, message)
    at = now()
    today = session.scalar(
        select(func.count()).select_from(AccessRequest).where(AccessRequest.asked_at > at - timedelta(days=1))
    )
    if (today or 0) + len(wanted) > PER_DAY:
        raise AppError(
            "Too many requests came today; this one was not kept. Tell your administrator directly.",
            status=429,
            code="too_many",
            retry_after_s=3600,
        )
    new = 0
    for pattern in wanted:
        group = _lock_group(session, engine, pattern)
        known = session.scalar(
            select(AccessRequest).where(AccessRequest.group_id == group.id, AccessRequest.asker == asker)
        )
        group.last_at = at
        if known is not None:
            known.asked_at, known.workflow, known.message = at, workflow, message
            continue
        new += 1
        group.requests += 1
        group.requests_since += group.state != OPEN
        session.add(
            AccessRequest(
                group_id=group.id, asker=asker, asked_at=at, workflow=workflow, contact=contact, message=message
            )
        )
    if new:
        record(session, actor, "access.asked", ", ".join(one or "another file" for one in wanted), engine=engine)
    session.flush()
    return new


def answer_group(session: Session, group_id: int, *, state: str, note: str, actor: Actor) -> None:
    """Answer, decline or open again all requests of a group. raises: NotFoundError, InvalidError"""
    if state not in STATES:
        raise InvalidError("Choose open, answered or declined.", field="state")
    if len(note) > MAX_NOTE_CHARS:
        raise InvalidError(f"A note may have {MAX_NOTE_CHARS:,} characters.", field="note")
    group = session.get(AccessGroup, group_id, with_for_update=True)
    if group is None:
        raise NotFoundError(f"There is no group {group_id} of requests.")
    group.state, group.note = state, note
    group.requests_since = 0
    group.answered_at = None if state == OPEN else now()
    group.answered_by = None if state == OPEN else actor.name[:254]
    action = "access.reopened" if state == OPEN else f"access.{state}"
    record(session, actor, action, group.pattern or "another file", engine=group.engine, requests=group.requests)


def drop_old_requests(connection: Connection, at: datetime) -> None:
    """Forgets who asked what longer than 90 days ago; the groups keep their counts. Commits."""
    with connection.begin():
        connection.execute(delete(AccessRequest).where(AccessRequest.asked_at < at - KEPT))


def _check(engine: str, patterns: Sequence[str], workflow: str | None, contact: str, message: str) -> None:
    catalogue = load()
    if engine not in ENGINES:
        raise InvalidError("This is nothing that one can ask access for.", field="engine")
    if not 1 <= len(patterns) <= MAX_PATTERNS:
        raise InvalidError(f"Ask for 1 to {MAX_PATTERNS} places at once.", field="pattern")
    if not set(patterns) <= {"", *(one.id for one in catalogue.patterns)}:
        raise InvalidError("This place is not in the catalogue.", field="pattern")
    if workflow is not None and workflow not in {one.id for one in catalogue.workflows}:
        raise InvalidError("This workflow is not in the catalogue.", field="workflow")
    if len(contact) > MAX_CONTACT_CHARS:
        raise InvalidError(f"The contact may have {MAX_CONTACT_CHARS} characters.", field="contact")
    if len(message) > MAX_MESSAGE_CHARS:
        raise InvalidError(f"The message may have {MAX_MESSAGE_CHARS} characters.", field="message")


def _lock_group(session: Session, engine: str, pattern: str) -> AccessGroup:
    """The group, made if it is the first request, locked so that counts are exact."""
    wanted = select(AccessGroup).where(AccessGroup.engine == engine, AccessGroup.pattern == pattern).with_for_update()
    group = session.scalar(wanted)
    if group is not None:
        return group
    at = now()
    made = AccessGroup(
        engine=engine, pattern=pattern, state=OPEN, note="", requests=0, requests_since=0, first_at=at, last_at=at
    )
    try:
        with session.begin_nested():
            session.add(made)
    except IntegrityError:  # somebody else was first
        return session.scalars(wanted).one()
    return made
