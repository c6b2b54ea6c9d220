"""Agents: which versions run where, enrolment secrets and the command that uses one."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Form, Path, Query, Request
from sqlalchemy.orm import Session
from starlette.responses import RedirectResponse, Response

from app.db.base import now
from app.db.session import SessionDep
from app.errors import InvalidError
from app.fleet.agent_versions import read_agent_versions
from app.fleet.probing import list_stops
from app.fleet.queries import count_hosts, list_groups
from app.ingest.secrets import make_secret, page_secrets, revoke_secret
from app.web.guards import ManageAgents
from app.web.templating import render

router = APIRouter(include_in_schema=False)

Text = Annotated[str, Form(max_length=400)]
LIFETIMES = {"1": "1 day", "7": "7 days", "30": "30 days", "365": "1 year", "": "no end"}


@router.get("/agents")
def show_agents(
    person: ManageAgents,  # noqa: ARG001 - the guard
    request: Request,
    session: SessionDep,
    before: Annotated[int | None, Query(ge=1, le=2**62)] = None,
) -> Response:
    return show_page(request, session, before=before)


@router.post("/agents/secrets")
def create_secret(
    person: ManageAgents,
    request: Request,
    session: SessionDep,
    group: Text = "",
    uses: Text = "",
    days: Text = "",
    network: Text = "",
    note: Text = "",
    trial: Text = "",
) -> Response:
    form = {
        "group": group.strip(),
        "uses": uses.strip(),
        "days": days,
        "network": network.strip(),
        "note": note.strip(),
        "trial": trial,
    }
    try:
        secret = make_secret(
            session,
            uses=_read_uses(form["uses"]),
            expires_at=now() + timedelta(days=int(days)) if days in LIFETIMES and days else None,
            network=form["network"] or None,
            group=_read_group(form["group"]),
            note=form["note"],
            actor=person.actor,
            trial=bool(trial),
        )
    except InvalidError as error:
        return show_page(request, session, form=form, problem=error, status=422)
    # Not redirected: the secret is shown only in this answer.
    return show_page(request, session, secret=secret, is_trial=bool(trial))


@router.post("/agents/secrets/{secret_id}/revoke")
def revoke(person: ManageAgents, session: SessionDep, secret_id: Annotated[int, Path(ge=1, le=2**62)]) -> Response:
    revoke_secret(session, secret_id, actor=person.actor)
    return RedirectResponse("/agents", status_code=303)


def _read_uses(text: str) -> int | None:
    if not text:
        return None
    if not text.isdecimal() or not 1 <= int(text[:8]) <= 1_000_000:
        raise InvalidError("Give a number of hosts from 1 to 1,000,000, or nothing for any number.", field="uses")
    return int(text)


def _read_group(text: str) -> str | None:
    if len(text) > 120 or not text.isprintable():
        raise InvalidError("A group's name has at most 120 letters.", field="group")
    return text or None


def show_page(
    request: Request,
    session: Session,
    *,
    before: int | None = None,
    form: dict[str, str] | None = None,
    secret: str | None = None,
    problem: InvalidError | None = None,
    stop_form: dict[str, str] | None = None,
    stop_problem: str | None = None,
    is_trial: bool = False,
    status: int = 200,
) -> Response:
    """The page; `problem` is of the form that makes secrets, `stop_problem` of the one that stops probing."""
    all_groups = list_groups(session)
    return render(
        request,
        "agents/page.html",
        status=status,
        agents=read_agent_versions(session),
        found=page_secrets(session, before=before),
        before=before,
        hosts=count_hosts(session),
        groups=[group.name for group in all_groups if not group.is_trial],
        lifetimes=LIFETIMES,
        form=form or {"group": "", "uses": "", "days": "7", "network": "", "note": "", "trial": ""},
        secret=secret,
        problem=problem,
        is_trial=is_trial,
        stops=list_stops(session),
        all_groups=all_groups,
        stop_form=stop_form or {"stop_group": "", "stop_reason": ""},
        stop_problem=stop_problem,
        public_url=request.app.state.settings.public_url,
    )
