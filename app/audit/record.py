"""Writing the audit log: every verb that changes rows for a person calls `record` in the same transaction."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.orm import Session

from app.audit.tables import AuditEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who acts. `kind`: account, token, command, system or anonymous; `address` is where the request came from.

    `made_by`: who made the token that acts, and so can act by it.
    """

    kind: str
    name: str
    address: str | None = None
    made_by: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Under which names they act, as rows keep them: a token's own, and that of whoever made it."""
        return tuple(dict.fromkeys(name[:254] for name in (self.name, self.made_by) if name))


COMMAND_LINE = Actor(kind="command", name="command line")
SYSTEM = Actor(kind="system", name="system")


def record(
    session: Session,
    actor: Actor,
    action: str,
    target: str | None = None,
    *,
    reference: str | None = None,
    **detail: Any,
) -> None:
    """Append one entry. `action` is `noun.verb`; `detail` holds JSON values, never a secret."""
    session.add(
        AuditEntry(
            at=datetime.now(UTC),
            actor=actor.name[:254],
            actor_kind=actor.kind,
            address=actor.address,
            action=action,
            target=target[:200] if target else None,
            detail=detail,
            reference=reference,
        )
    )
