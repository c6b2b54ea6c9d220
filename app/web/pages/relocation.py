"""Relocation: choose where uv's directories go, read what that takes and leaves, take the files away."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Depends, Path, Query, Request
from sqlalchemy.orm import Session
from starlette.responses import Response

from agent.catalogue import load as load_catalogue
from app.db.session import SessionDep
from app.errors import InvalidError, NotFoundError
from app.policies.baselines import list_baseline_files
from app.policies.choices import COLLECTIONS
from app.policies.standing import read_standing
from app.relocation.choices import ADMIN_ROOTS, checked_relocation
from app.relocation.files import EXTENSION_NAMES, describe_plan, write_files, write_zip
from app.relocation.plan import RelocationPlan, plan_relocation
from app.relocation.whatif import simulate_relocation
from app.web.guards import ApiViewFleet, ViewFleet
from app.web.templating import render

router = APIRouter(include_in_schema=False)
api_router = APIRouter(prefix="/api/v1", tags=["relocation"])

USERS = "S-1-5-32-545"
MEDIA_TYPES = {"xml": "application/xml", "toml": "text/plain; charset=utf-8", "json": "application/json"}

_Folder = Annotated[str, Query(max_length=300)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The form as it was filled in. `is_new`: nobody has filled in anything yet."""

    uv: str
    python: str
    tools: str
    bin: str
    cache: str
    project_roots: str
    sid: str
    collections: tuple[str, ...]
    forbid_downloads: bool
    forbid_builds: bool
    is_new: bool

    @property
    def query(self) -> str:
        """The choice as it stands in an address."""
        fields = {
            name: getattr(self, name) for name in ("uv", "python", "tools", "bin", "cache", "project_roots", "sid")
        }
        fields |= {name: "yes" for name in ("forbid_builds",) if getattr(self, name)}
        fields["downloads"] = "no" if self.forbid_downloads else "yes"
        fields["show"] = "1"
        return urlencode(
            [*((k, v) for k, v in fields.items() if v), *(("collection", one) for one in self.collections)]
        )


def read_choice(
    uv: _Folder = ADMIN_ROOTS["uv"],
    python: _Folder = ADMIN_ROOTS["python"],
    tools: _Folder = ADMIN_ROOTS["tools"],
    bin_folder: Annotated[str, Query(alias="bin", max_length=300)] = ADMIN_ROOTS["bin"],
    cache: _Folder = "",
    project_roots: Annotated[str, Query(max_length=5000)] = "",
    sid: Annotated[str, Query(max_length=400)] = USERS,
    collection: Annotated[list[str], Query(max_length=20)] = ["Exe"],  # noqa: B006 - FastAPI copies it
    downloads: Annotated[str, Query(max_length=5)] = "no",
    forbid_builds: Annotated[str, Query(max_length=5)] = "",
    show: Annotated[str, Query(max_length=5)] = "",
) -> Chosen:
    return Chosen(
        uv=uv.strip(),
        python=python.strip(),
        tools=tools.strip(),
        bin=bin_folder.strip(),
        cache=cache.strip(),
        project_roots=project_roots,
        sid=sid.strip() or USERS,
        collections=tuple(dict.fromkeys(collection)),
        forbid_downloads=downloads != "yes",
        forbid_builds=bool(forbid_builds),
        is_new=not show,
    )


@router.get("/relocation")
def show_relocation(
    person: ViewFleet,  # noqa: ARG001 - the guard
    request: Request,
    session: SessionDep,
    chosen: Annotated[Chosen, Depends(read_choice)],
) -> Response:
    plan = problem = None
    try:
        plan = plan_for(session, chosen)
    except InvalidError as error:
        problem = error
    return render(
        request,
        "relocation/page.html",
        status=200 if problem is None else 422,
        chosen=chosen,
        plan=plan,
        standing=read_standing(session),
        problem=problem,
        files=write_files(plan) if plan is not None else (),
        fleet=simulate_relocation(session, plan) if plan is not None else None,
        patterns={one.id: one for one in load_catalogue().patterns},
        collections=COLLECTIONS,
        extension_names=EXTENSION_NAMES,
    )


@router.get("/relocation/files/{name}")
def download_file(
    person: ViewFleet,  # noqa: ARG001 - the guard
    session: SessionDep,
    chosen: Annotated[Chosen, Depends(read_choice)],
    name: Annotated[str, Path(max_length=60)],
) -> Response:
    plan = plan_for(session, chosen)
    if name == "uv-relocation.zip":
        return _attachment(name, write_zip(plan), "application/zip")
    for one in write_files(plan):
        if one.name == name:
            kind = MEDIA_TYPES.get(name.rpartition(".")[2], "application/octet-stream")
            return _attachment(name, one.content, kind)
    raise NotFoundError("This plan has no such file.", field="name")


@api_router.get("/relocation")
def get_relocation(
    caller: ApiViewFleet,  # noqa: ARG001 - the guard
    session: SessionDep,
    chosen: Annotated[Chosen, Depends(read_choice)],
    group: Annotated[int | None, Query(ge=1, le=2**31)] = None,
) -> dict[str, Any]:
    """A relocation: settings with the uv that honours each, rights, what stays, rules that remain, and the fleet."""
    plan = plan_for(session, chosen)
    return {**describe_plan(plan), "what_if": dataclasses.asdict(simulate_relocation(session, plan, group))}


def plan_for(session: Session, chosen: Chosen) -> RelocationPlan:
    """The plan of a filled form. raises: InvalidError naming the field"""
    choice = checked_relocation(
        uv=chosen.uv,
        python=chosen.python,
        tools=chosen.tools,
        bin_folder=chosen.bin,
        cache=chosen.cache,
        project_roots=[line.strip() for line in chosen.project_roots.splitlines() if line.strip()],
        forbid_downloads=chosen.forbid_downloads,
        forbid_builds=chosen.forbid_builds,
    )
    return plan_relocation(
        choice, sid=chosen.sid, collections=chosen.collections, baseline=list_baseline_files(session)
    )


def _attachment(name: str, content: bytes, media_type: str) -> Response:
    return Response(
        content, media_type=media_type, headers={"Content-Disposition": f'attachment; filename="{quote(name)}"'}
    )
