"""Who somebody is at the identity provider, and as what they may sign in: the groups decide, at every sign-in anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from app.accounts.create import normalised_email
from app.accounts.errors import AccountError
from app.accounts.roles import Role
from app.accounts.tables import Account, WebSession
from app.audit.record import Actor, record

RANK = (Role.ADMINISTRATOR, Role.APPROVER, Role.ANALYST, Role.VIEWER)
"""Who is in several groups gets the first of these that one of them gives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Somebody as the identity provider vouches for them. `email` is None unless it says that it checked it."""

    issuer: str
    subject: str
    email: str | None
    groups: tuple[str, ...]


def role_of(groups: Sequence[str], mapping: Mapping[str, Role]) -> Role | None:
    """The highest role that one of the groups gives, or None.

    >>> role_of(["staff", "wayleave-admins"], {"staff": Role.VIEWER, "wayleave-admins": Role.ADMINISTRATOR}).value
    'administrator'
    >>> role_of(["guests"], {"staff": Role.VIEWER}) is None
    True
    """
    given = {mapping[group] for group in groups if group in mapping}
    return next((role for role in RANK if role in given), None)


def sign_in_by_sso(
    session: Session, identity: Identity, mapping: Mapping[str, Role], *, address: str | None
) -> Account:
    """The account of an identity, made at the first sign-in; its role follows the groups.

    An account with a password and the same address is somebody else until an administrator disables it: an identity
    provider's address alone opens no account that it did not make. What is refused is noted in the audit log.

    raises: AccountError saying why somebody may not sign in.
    """
    known = session.scalar(
        select(Account)
        .where(Account.sso_issuer == identity.issuer, Account.sso_subject == identity.subject)
        .with_for_update()
    )
    name = known.email if known is not None else identity.email or identity.subject
    actor = Actor(kind="anonymous", name=name, address=address)
    role = role_of(identity.groups, mapping)
    if role is None:
        if known is not None:
            # Out of every group: what is still open ends now, not when the session would have.
            session.execute(delete(WebSession).where(WebSession.account_id == known.id))
        record(session, actor, "login.refused", name, why="no group with a role")
        raise AccountError("None of your groups has a role here. Ask an administrator of Wayleave for one.")
    if known is None:
        known = _make_account(session, identity, role, actor)
    if known.disabled_at is not None:
        record(session, actor, "login.refused", name, why="disabled")
        raise AccountError("Your account is disabled. Ask an administrator of Wayleave.")
    if known.role != role.value:
        record(session, actor, "account.role_changed", known.email, old=known.role, new=role.value, why="groups")
        known.role = role.value
    return known


def _make_account(session: Session, identity: Identity, role: Role, actor: Actor) -> Account:
    if identity.email is None:
        record(session, actor, "login.refused", actor.name, why="no verified e-mail address")
        raise AccountError("Your identity provider gives no verified e-mail address, by which people are known here.")
    email = normalised_email(identity.email)
    if session.scalar(select(Account.id).where(Account.email == email)) is not None:
        record(session, actor, "login.refused", email, why="address belongs to another account")
        raise AccountError("There is already an account with your address. Sign in with its password.")
    account = Account(
        email=email,
        password_hash=None,
        role=role.value,
        created_at=datetime.now(UTC),
        failed_attempts=0,
        sso_issuer=identity.issuer,
        sso_subject=identity.subject,
    )
    session.add(account)
    session.flush()  # the caller and the audit entry need the id
    record(session, actor, "account.created", email, role=role.value, by="single sign-on")
    return account
