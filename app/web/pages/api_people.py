"""The JSON API about those who may sign in, programs' tokens, agents' secrets and settings: never a secret itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query, Request

from app.accounts.queries import AccountPage, InvitationPage, list_invitations, page_accounts
from app.accounts.tokens import TokenPage, page_tokens
from app.db.session import SessionDep
from app.fleet.queries import HostCounts, count_hosts
from app.ingest.secrets import SecretPage, page_secrets
from app.web.guards import ApiManageAccounts, ApiManageAgents, ApiManageSettings
from app.web.pages.settings import TITLES, SettingLine, read_settings

router = APIRouter(prefix="/api/v1", tags=["administration"])

Rows = Annotated[int, Query(ge=1, le=500)]
Before = Annotated[int | None, Query(ge=1, le=2**31 - 1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingGroup:
    """Settings under one title of the page."""

    title: str
    settings: tuple[SettingLine, ...]


@router.get("/accounts")
def get_accounts(
    caller: ApiManageAccounts,  # noqa: ARG001 - the guard
    session: SessionDep,
    search: Annotated[str, Query(max_length=254, pattern=r"^[^\x00]*$")] = "",
    cursor: Annotated[str | None, Query(max_length=800)] = None,
    rows: Rows = 100,
) -> AccountPage:
    """Who may sign in, by address: role, last sign-in, whether locked or disabled. No password, no hash of one."""
    return page_accounts(session, search=search, cursor=cursor, rows=rows)


@router.get("/invitations")
def get_invitations(
    caller: ApiManageAccounts,  # noqa: ARG001 - the guard
    session: SessionDep,
    rows: Rows = 100,
) -> InvitationPage:
    """Open invitations, the newest first, without their links."""
    return list_invitations(session, rows=rows)


@router.get("/tokens")
def get_tokens(
    caller: ApiManageAccounts,  # noqa: ARG001 - the guard
    session: SessionDep,
    before: Before = None,
    rows: Rows = 100,
) -> TokenPage:
    """API tokens, the newest first: what each is for, its role, when it was last used. Never the token itself."""
    return page_tokens(session, before=before, rows=rows)


@router.get("/agents")
def get_agents(caller: ApiManageAgents, session: SessionDep) -> HostCounts:  # noqa: ARG001 - the guard
    """How many hosts have an agent, wait in quarantine, or are revoked."""
    return count_hosts(session)


@router.get("/agents/secrets")
def get_secrets(
    caller: ApiManageAgents,  # noqa: ARG001 - the guard
    session: SessionDep,
    before: Before = None,
    rows: Rows = 100,
) -> SecretPage:
    """Enrolment secrets and their limits, the newest first. Never the secret itself."""
    return page_secrets(session, before=before, rows=rows)


@router.get("/settings")
def get_settings(caller: ApiManageSettings, request: Request) -> list[SettingGroup]:  # noqa: ARG001 - the guard
    """What an operator set, as the page shows it: keys and passwords only as set or not."""
    groups = read_settings(request.app.state.settings)
    return [SettingGroup(title=TITLES[key], settings=tuple(lines)) for key, lines in groups.items() if lines]
