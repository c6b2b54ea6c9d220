"""What administrators do with enrolment secrets: make, list, revoke. The secret itself is never stored."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.audit.record import Actor, record
from app.db.base import now
from app.errors import NotFoundError
from app.fleet.tables import HostGroup
from app.ingest.enrolment import create_enrolment_secret
from app.ingest.tables import EnrolmentSecret

SECRET_ROWS = 25


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretRow:
    """One secret of the list. `uses_left` None: any number."""

    id: int
    group: str
    uses_left: int | None
    expires_at: datetime | None
    network: str | None
    note: str
    trial: bool
    created_at: datetime
    revoked_at: datetime | None
    works: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretPage:
    """Some secrets of `total`, and the id to ask the older ones before (None at the end)."""

    secrets: tuple[SecretRow, ...]
    total: int
    next_before: int | None


def make_secret(
    session: Session,
    *,
    uses: int | None,
    expires_at: datetime | None,
    network: str | None,
    group: str | None,
    note: str,
    actor: Actor,
    trial: bool = False,
) -> str:
    """A new secret, shown only here. raises: InvalidError about `network`"""
    secret = create_enrolment_secret(
        session, uses=uses, expires_at=expires_at, network=network, group=group, note=note, trial=trial
    )
    record(
        session,
        actor,
        "enrolment_secret.created",
        secret.rpartition("_")[0],
        group=group,
        uses=uses,
        expires_at=expires_at.isoformat() if expires_at else None,
        network=network,
        trial=trial,
    )
    return secret


def page_secrets(session: Session, *, before: int | None = None, rows: int = SECRET_ROWS) -> SecretPage:
    """The newest secrets first, older than secret `before`."""
    at = now()
    query = (
        select(EnrolmentSecret, HostGroup.name)
        .join(HostGroup, HostGroup.id == EnrolmentSecret.group_id)
        .order_by(EnrolmentSecret.id.desc())
        .limit(rows + 1)
    )
    if before is not None:
        query = query.where(EnrolmentSecret.id < before)
    found = session.execute(query).all()
    total = len(found)
    if before is not None or total > rows:
        total = session.scalar(select(func.count()).select_from(EnrolmentSecret)) or 0
    return SecretPage(
        secrets=tuple(
            SecretRow(
                id=row.id,
                group=group,
                uses_left=row.uses_left,
                expires_at=row.expires_at,
                network=row.network,
                note=row.note,
                trial=row.trial,
                created_at=row.created_at,
                revoked_at=row.revoked_at,
                works=row.revoked_at is None
                and (row.uses_left is None or row.uses_left > 0)
                and (row.expires_at is None or row.expires_at > at),
            )
            for row, group in found[:rows]
        ),
        total=total,
        next_before=found[rows - 1][0].id if len(found) > rows else None,
    )


def revoke_secret(session: Session, secret_id: int, *, actor: Actor) -> None:
    """Make a secret worthless at once; hosts that enrolled with it stay. raises: NotFoundError"""
    row = session.get(EnrolmentSecret, secret_id)
    if row is None:
        raise NotFoundError("There is no such enrolment secret.")
    if row.revoked_at is None:
        row.revoked_at = now()
        record(session, actor, "enrolment_secret.revoked", f"wle_{row.id}")
