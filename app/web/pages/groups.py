"""Groups and tags: what hosts are counted by, and words to find them by; both given to lists of names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Form, Path, Query, Request
from sqlalchemy.orm import Session
from starlette.responses import RedirectResponse, Response

from app.db.session import SessionDep
from app.errors import AppError, InvalidError
from app.fleet.groups import create_group, delete_group, find_group_names, read_group, rename_group
from app.fleet.hosts import find_named_hosts, move_hosts
from app.fleet.queries import list_groups
from app.fleet.tags import count_tags, drop_tag, list_tags, tag_hosts, untag_hosts
from app.web.cut import Cut
from app.web.guards import ManageAgents, ViewFleet
from app.web.templating import address, render
from app.web.words import plural

router = APIRouter(include_in_schema=False)

Text = Annotated[str, Form(max_length=400)]
Names = Annotated[str, Form(max_length=700_000)]
GroupId = Annotated[int, Path(ge=1, le=2**31)]
Search = Annotated[str, Query(max_length=100, pattern=r"^[^\x00]*$")]
First = Annotated[int, Query(ge=1, le=1_000_000)]
MOST_UNKNOWN = 20
SHOWN = 100
NAMES_OFFERED = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What was done to a list of hosts, and the names of which there is no host."""

    sentence: str
    unknown: tuple[str, ...] = ()


@router.get("/groups")
def show_groups(
    person: ViewFleet,  # noqa: ARG001 - the guard
    request: Request,
    session: SessionDep,
    q: Search = "",
    first: First = 1,
    first_tag: First = 1,
) -> Response:
    return _page(request, session, q=q.strip(), first=first, first_tag=first_tag)


@router.get("/groups/names")
def name_groups(
    person: ViewFleet,  # noqa: ARG001 - the guard
    request: Request,
    session: SessionDep,
    group_name: Annotated[str, Query(max_length=120, pattern=r"^[^\x00]*$")] = "",
) -> Response:
    """What a field for a group's name offers while somebody types; nothing before the first letter."""
    wanted = group_name.strip()
    names = find_group_names(session, wanted, limit=NAMES_OFFERED) if wanted else ()
    return render(request, "groups/_names.html", names=names)


@router.post("/groups")
def create(person: ManageAgents, request: Request, session: SessionDep, name: Text = "") -> Response:
    try:
        create_group(session, name, actor=person.actor)
    except AppError as error:
        return _page(request, session, form={"name": name}, problem=error)
    return RedirectResponse("/groups", status_code=303)


@router.post("/groups/{group_id}/rename")
def rename(person: ManageAgents, request: Request, session: SessionDep, group_id: GroupId, name: Text = "") -> Response:
    try:
        rename_group(session, group_id, name, actor=person.actor)
    except InvalidError as error:
        return _page(request, session, notice=str(error))
    return RedirectResponse("/groups", status_code=303)


@router.post("/groups/{group_id}/delete")
def delete(person: ManageAgents, session: SessionDep, group_id: GroupId) -> Response:
    delete_group(session, group_id, actor=person.actor)
    return RedirectResponse("/groups", status_code=303)


@router.post("/groups/hosts")
def change_hosts(
    person: ManageAgents,
    request: Request,
    session: SessionDep,
    what: Text = "",
    names: Names = "",
    group: Text = "",
    group_name: Text = "",
    tag: Text = "",
) -> Response:
    form = {"what": what, "names": names, "group": group, "tag": tag}
    try:
        hosts = find_named_hosts(session, re.split(r"[\s,;]+", names))
        if what == "move":
            chosen = read_group(session, group, group_name)
            if chosen is None:
                raise InvalidError("Choose a group.", field="group")
            count = move_hosts(session, hosts, chosen, actor=person.actor)
            sentence = f"{plural(count, 'host')} moved."
        elif what in ("tag", "untag"):
            change = tag_hosts if what == "tag" else untag_hosts
            count = change(session, tag, hosts, actor=person.actor)
            sentence = f"{plural(count, 'host')} {'got' if what == 'tag' else 'lost'} the tag."
        else:
            raise InvalidError("Choose what to do.", field="what")
    except AppError as error:
        return _page(request, session, form=form, problem=error)
    return _page(request, session, done=Done(sentence=sentence, unknown=hosts.unknown))


@router.post("/groups/tags/drop")
def drop(person: ManageAgents, session: SessionDep, tag: Text = "") -> Response:
    drop_tag(session, tag, actor=person.actor)
    return RedirectResponse("/groups#tags-title", status_code=303)


def _page(
    request: Request,
    session: Session,
    *,
    q: str = "",
    first: int = 1,
    first_tag: int = 1,
    form: dict[str, str] | None = None,
    problem: AppError | None = None,
    notice: str | None = None,
    done: Done | None = None,
) -> Response:
    every = list_groups(session)
    groups = [group for group in every if q.casefold() in group.name.casefold()]
    tags = list_tags(session, search=q, skip=first_tag - 1, limit=SHOWN)
    all_tags = len(tags) if first_tag == 1 and len(tags) < SHOWN else count_tags(session, search=q)
    filled = {"name": "", "what": "move", "names": "", "group": "", "tag": ""} | (form or {})
    return render(
        request,
        "groups/page.html",
        status=problem.status if problem is not None else 422 if notice else 200,
        groups=groups[first - 1 : first - 1 + SHOWN],
        every=[group for group in every if not group.is_trial],
        groups_cut=Cut(first=first, shown=SHOWN, of=len(groups)),
        groups_at=lambda at: address("/groups", q=q, first=str(at)),
        total=len(every),
        tags=tags,
        tags_cut=Cut(first=first_tag, shown=SHOWN, of=all_tags),
        tags_at=lambda at: address("/groups", q=q, first_tag=str(at)) + "#tags-title",
        q=q,
        form=filled,
        problem=problem,
        notice=notice,
        done=done,
        most_unknown=MOST_UNKNOWN,
    )
