"""Health: whether the server can stay small, told by how well the fleet's workstations share their facts."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from app.db.session import SessionDep
from app.fleet.fold import count_waiting
from app.fleet.sharing import ENOUGH_USERS, USERS_PER_SET, find_sharing
from app.web.guards import ManageSettings
from app.web.templating import render

router = APIRouter(include_in_schema=False)

KIND_TITLES = {
    "probes": "Results of probes",
    "uv": "uv binaries found",
    "environment": "Places and variables",
    "policy": "Policies in force",
    "token": "Users’ groups",
}
# What to look for where a kind is hardly shared.
CAUSES = {
    "probes": "Results that change from host to host, such as an antivirus that is slow on some. Compare two hosts.",
    "uv": "A uv that every workstation builds for itself, or many places for it. Compare the versions of two hosts.",
    "environment": "Variables or settings with the name of a user or host in them, for which agents have no template.",
    "policy": "Rules that are written for each host, such as local policies beside the Group Policy.",
    "token": "Rules for groups that hold one user each: agents report every group that a policy in force names.",
}


@router.get("/health")
def show_health(person: ManageSettings, request: Request, session: SessionDep) -> Response:  # noqa: ARG001 - the guard
    return render(
        request,
        "health/page.html",
        sharing=find_sharing(session),
        waiting=count_waiting(session),
        titles=KIND_TITLES,
        causes=CAUSES,
        users_per_set=USERS_PER_SET,
        enough_users=ENOUGH_USERS,
    )
