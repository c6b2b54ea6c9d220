"""API tokens: for programs, with one role, until they expire or are revoked. Only a hash is stored."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import func, or_, select, update
from sqlalchemy.orm import Session

from app.accounts.credentials import hash_token, new_token
from app.accounts.errors import AccountError
from app.accounts.roles import PERMISSIONS, Permission, Role
from app.accounts.tables import ApiToken
from app.audit.record import COMMAND_LINE, Actor, record
from app.db.paging import cut_page, newest_first

PREFIX = "wlt_"
TOUCH_EVERY = timedelta(minutes=5)
TOKEN_ROWS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRow:
    """One token of the list."""

    id: int
    label: str
    role: Role
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    works: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenPage:
    """Some tokens of `total`, of which `working` work, and the id to ask the older ones before (None at the end)."""

    tokens: tuple[TokenRow, ...]
    total: int
    working: int
    next_before: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenBearer:
    """The program that is asking, and what it may do."""

    token_id: int
    label: str
    role: Role
    created_by: str
    is_due_for_touch: bool = False

    @property
    def permissions(self) -> frozenset[Permission]:
        return PERMISSIONS[self.role]

    @property
    def actor(self) -> Actor:
        """This program as the audit log names it."""
        return Actor(kind="token", name=self.label, made_by=self.created_by)


def create_token(
    session: Session,
    role: Role | str,
    label: str,
    expires_at: datetime | None,
    *,
    actor: Actor = COMMAND_LINE,
) -> str:
    """Create a token and return it; it can't be shown again.

    raises: AccountError about `role`, `label` or `expires_at`.
    """
    try:
        given_role = Role(role)
    except ValueError:
        raise AccountError(f"There is no role {role!r}; choose one of {', '.join(Role)}.", "role") from None
    name = label.strip()
    if not 1 <= len(name) <= 100:
        raise AccountError("Say in 1 to 100 characters what this token is for.", "label")
    now = datetime.now(UTC)
    if expires_at is not None and expires_at <= now:
        raise AccountError("The token would have expired already.", "expires_at")
    token = new_token(PREFIX)
    session.add(
        ApiToken(
            token_hash=hash_token(token),
            label=name,
            role=given_role.value,
            created_at=now,
            created_by=actor.name[:254],
            expires_at=expires_at,
        )
    )
    record(
        session,
        actor,
        "token.created",
        name,
        role=given_role.value,
        expires_at=expires_at.isoformat() if expires_at else None,
    )
    return token


def find_bearer(session: Session, token: str) -> TokenBearer | None:
    """The bearer of a token that is neither expired nor revoked. Only reads."""
    now = datetime.now(UTC)
    row = session.scalar(select(ApiToken).where(ApiToken.token_hash == hash_token(token)))
    if row is None or row.revoked_at is not None or (row.expires_at is not None and row.expires_at <= now):
        return None
    return TokenBearer(
        token_id=row.id,
        label=row.label,
        role=Role(row.role),
        created_by=row.created_by,
        is_due_for_touch=row.last_used_at is None or now - row.last_used_at > TOUCH_EVERY,
    )


def touch_token(session: Session, token_id: int) -> None:
    """Note that a token is in use."""
    session.execute(update(ApiToken).where(ApiToken.id == token_id).values(last_used_at=datetime.now(UTC)))


def revoke_token(session: Session, token_id: int, *, actor: Actor) -> bool:
    """Make a token worthless at once. False when there is none of that id that still worked."""
    label = session.scalar(select(ApiToken.label).where(ApiToken.id == token_id, ApiToken.revoked_at.is_(None)))
    if label is None:
        return False
    session.execute(update(ApiToken).where(ApiToken.id == token_id).values(revoked_at=datetime.now(UTC)))
    record(session, actor, "token.revoked", label)
    return True


def page_tokens(session: Session, *, before: int | None = None, rows: int = TOKEN_ROWS) -> TokenPage:
    """The newest tokens first, older than token `before`."""
    at = datetime.now(UTC)
    works = (ApiToken.revoked_at.is_(None), or_(ApiToken.expires_at.is_(None), ApiToken.expires_at > at))
    total, working = session.execute(select(func.count(), func.count().filter(*works)).select_from(ApiToken)).one()
    query = newest_first(select(ApiToken), ApiToken.id, before=before, rows=rows)
    found, last = cut_page(session.scalars(query).all(), rows)
    return TokenPage(
        tokens=tuple(
            TokenRow(
                id=row.id,
                label=row.label,
                role=Role(row.role),
                created_at=row.created_at,
                created_by=row.created_by,
                expires_at=row.expires_at,
                revoked_at=row.revoked_at,
                last_used_at=row.last_used_at,
                works=row.revoked_at is None and (row.expires_at is None or row.expires_at > at),
            )
            for row in found
        ),
        total=total,
        working=working,
        next_before=last.id if last is not None else None,
    )
