"""What administrators do to one host: let it out of quarantine, move it, tag it, revoke it, erase it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Path, Request
from starlette.responses import RedirectResponse, Response

from app.db.session import SessionDep
from app.errors import InvalidError
from app.fleet.forget import forget_host
from app.fleet.groups import read_group
from app.fleet.hosts import NamedHosts, approve_host, get_host, move_host, revoke_host
from app.fleet.queries_hosts import get_host as read_host
from app.fleet.tags import tag_hosts, untag_hosts
from app.web.guards import ManageAgents
from app.web.templating import render

router = APIRouter(include_in_schema=False)

HostId = Annotated[int, Path(ge=1, le=2**62)]
Text = Annotated[str, Form(max_length=400)]


@router.post("/hosts/{host_id}/approve")
def approve(person: ManageAgents, session: SessionDep, host_id: HostId) -> Response:
    approve_host(session, host_id, actor=person.actor)
    return _back(host_id)


@router.post("/hosts/{host_id}/move")
def move(
    person: ManageAgents, session: SessionDep, host_id: HostId, group: Text = "", group_name: Text = ""
) -> Response:
    chosen = read_group(session, group, group_name)
    if chosen is None:
        raise InvalidError("Choose a group.", field="group")
    move_host(session, host_id, chosen, actor=person.actor)
    return _back(host_id)


@router.post("/hosts/{host_id}/tags")
def change_tag(person: ManageAgents, session: SessionDep, host_id: HostId, tag: Text = "", take: Text = "") -> Response:
    host = get_host(session, host_id)
    change = untag_hosts if take else tag_hosts
    change(session, tag, NamedHosts(ids=(host.id,), found=(host.name,), unknown=()), actor=person.actor)
    return _back(host_id)


@router.get("/hosts/{host_id}/revoke")
def show_revoke(person: ManageAgents, request: Request, session: SessionDep, host_id: HostId) -> Response:  # noqa: ARG001 - the guard
    return render(request, "hosts/sure.html", host=read_host(session, host_id), what="revoke")


@router.post("/hosts/{host_id}/revoke")
def revoke(person: ManageAgents, session: SessionDep, host_id: HostId) -> Response:
    revoke_host(session, host_id, actor=person.actor)
    return _back(host_id)


@router.get("/hosts/{host_id}/forget")
def show_forget(person: ManageAgents, request: Request, session: SessionDep, host_id: HostId) -> Response:  # noqa: ARG001 - the guard
    return render(request, "hosts/sure.html", host=read_host(session, host_id), what="forget")


@router.post("/hosts/{host_id}/forget")
def forget(person: ManageAgents, session: SessionDep, host_id: HostId) -> Response:
    forget_host(session, host_id, actor=person.actor)
    return RedirectResponse("/hosts", status_code=303)


def _back(host_id: int) -> Response:
    return RedirectResponse(f"/hosts/{host_id}#manage-title", status_code=303)
