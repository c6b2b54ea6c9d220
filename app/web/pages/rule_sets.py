"""Rule sets: the list, a new one from anywhere, and the draft itself: for whom, on what base, what is opened how."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, File, Form, Path, Query, Request, UploadFile
from sqlalchemy.orm import Session
from starlette.responses import RedirectResponse, Response

from agent.catalogue import load as load_catalogue
from app.audit.record import Actor
from app.db.session import SessionDep
from app.errors import InvalidError
from app.policies.base_policies import Origin, add_base_policy, list_base_policies, take_seen_policy
from app.policies.baselines import list_baseline_files
from app.policies.drafts import build_draft
from app.policies.in_force import list_policies
from app.policies.queries_rule_sets import (
    find_simulation,
    get_rule_set,
    list_open_rule_sets,
    page_rule_sets,
)
from app.policies.rule_sets import (
    Group,
    State,
    add_to_rule_set,
    choose_for_item,
    create_rule_set,
    remove_from_rule_set,
    retire_rule_set,
    set_details,
    set_terms,
)
from app.policies.standing import read_standing
from app.web.guards import DraftRules, ViewFleet
from app.web.pages.overview import can_have_rule, ranked, read_shown_overview
from app.web.templating import address, render

router = APIRouter(include_in_schema=False)

RuleSetId = Annotated[int, Path(ge=1, le=2**31)]
PatternId = Annotated[str, Path(max_length=100, pattern=r"^[a-z0-9][a-z0-9-]*$")]
Words = Annotated[list[str], Form(max_length=200)]
Line = Annotated[str, Form(max_length=1000)]
Lines = Annotated[str, Form(max_length=20_000)]

# A form's upload is held in memory; larger policies are taken by `wayleave policy`.
MAX_UPLOAD_BYTES = 5 * 1024 * 1024

STATE_WORDS = {
    State.DRAFT: "draft",
    State.IN_REVIEW: "in review",
    State.APPROVED: "approved",
    State.EXPORTED: "exported",
    State.RETIRED: "retired",
}
STATE_BADGES = {
    State.DRAFT: "unknown",
    State.IN_REVIEW: "partly",
    State.APPROVED: "open",
    State.EXPORTED: "open",
    State.RETIRED: "unknown",
}
ORIGIN_WORDS = {
    Origin.GPO: "a Group Policy object’s own policy",
    Origin.INTUNE: "an Intune grouping’s own policy",
    Origin.SEEN: "seen in force on hosts",
}


@router.get("/rule-sets")
def show_rule_sets(
    person: ViewFleet,  # noqa: ARG001 - the guard
    request: Request,
    session: SessionDep,
    q: Annotated[str, Query(max_length=100)] = "",
    state: Annotated[str, Query(pattern="^(|draft|in_review|approved|exported|retired)$")] = "",
    before: Annotated[int | None, Query(ge=1, le=2**31)] = None,
) -> Response:
    wanted = q.strip()
    return render(
        request,
        "rule_sets/list.html",
        fragment="results",
        address=address("/rule-sets", q=wanted, state=state),
        found=page_rule_sets(session, search=wanted, state=state, before=before),
        q=wanted,
        state_filter=state,
        before=before,
        older=lambda next_before: address("/rule-sets", q=wanted, state=state, before=str(next_before)),
        newest=address("/rule-sets", q=wanted, state=state),
        state_words=STATE_WORDS,
        state_badges=STATE_BADGES,
        now=datetime.now(UTC),
    )


@router.get("/rule-sets/new")
def show_new_rule_set(
    person: DraftRules,  # noqa: ARG001 - the guard
    request: Request,
    session: SessionDep,
    pattern: Annotated[list[str], Query(max_length=100)] = [],  # noqa: B006 - FastAPI copies it
    workflow: Annotated[list[str], Query(max_length=100)] = [],  # noqa: B006 - FastAPI copies it
    origin: Annotated[str, Query(max_length=60, pattern=r"^(|pattern|sighting|request:[0-9]{1,9})$")] = "",
) -> Response:
    """The form, filled with what another page leads here with: patterns, uv commands, an access request."""
    return _new_page(request, session, patterns=pattern, workflows=workflow, origin=origin)


@router.post("/rule-sets")
def add_from_anywhere(
    person: DraftRules,
    request: Request,
    session: SessionDep,
    into: Annotated[int | None, Form(ge=0, le=2**31)] = None,
    name: Line = "",
    pattern: Words = [],  # noqa: B006 - FastAPI copies it
    workflow: Words = [],  # noqa: B006 - FastAPI copies it
    origin: Annotated[str, Form(max_length=60, pattern=r"^(|pattern|sighting|request:[0-9]{1,9})$")] = "",
) -> Response:
    """Make a rule set, or put more into one. Only ids of the catalogue are taken."""
    try:
        if not into and not pattern and not workflow:
            return _to(create_rule_set(session, name=name, actor=person.actor).id)
        added = add_to_rule_set(
            session,
            rule_set_id=into or None,
            name=name.strip(),
            patterns=pattern,
            workflows=workflow,
            origin=origin or "pattern",
            actor=person.actor,
        )
    except InvalidError as error:
        session.rollback()
        return _new_page(
            request,
            session,
            patterns=pattern,
            workflows=workflow,
            origin=origin,
            name=name,
            into=into,
            problem=error,
            status=422,
        )
    return _to(added.rule_set_id)


@router.get("/rule-sets/{rule_set_id}")
def show_rule_set(
    person: ViewFleet,  # noqa: ARG001 - the guard
    request: Request,
    session: SessionDep,
    rule_set_id: RuleSetId,
) -> Response:
    return _page(request, session, rule_set_id)


@router.post("/rule-sets/{rule_set_id}/patterns")
def add_patterns(
    person: DraftRules,
    request: Request,
    session: SessionDep,
    rule_set_id: RuleSetId,
    pattern: Words = [],  # noqa: B006 - FastAPI copies it
    workflow: Words = [],  # noqa: B006 - FastAPI copies it
) -> Response:
    try:
        add_to_rule_set(session, rule_set_id=rule_set_id, patterns=pattern, workflows=workflow, actor=person.actor)
    except InvalidError as error:
        session.rollback()
        return _page(request, session, rule_set_id, problem=error, status=422)
    return _to(rule_set_id)


@router.post("/rule-sets/{rule_set_id}/patterns/{pattern}/choose")
def choose_way(
    person: DraftRules,
    request: Request,
    session: SessionDep,
    rule_set_id: RuleSetId,
    pattern: PatternId,
    kind: Annotated[str, Form(max_length=12)] = "",
    file: Annotated[list[int], Form()] = [],  # noqa: B006 - FastAPI copies it
) -> Response:
    try:
        choose_for_item(session, rule_set_id, pattern, kind=kind or None, files=file or None, actor=person.actor)
    except InvalidError as error:
        session.rollback()
        return _page(request, session, rule_set_id, problem=error, status=422)
    return _to(rule_set_id, "#" + pattern)


@router.post("/rule-sets/{rule_set_id}/patterns/{pattern}/remove")
def remove_pattern(person: DraftRules, session: SessionDep, rule_set_id: RuleSetId, pattern: PatternId) -> Response:
    remove_from_rule_set(session, rule_set_id, pattern, actor=person.actor)
    return _to(rule_set_id)


@router.post("/rule-sets/{rule_set_id}/terms")
def change_terms(
    person: DraftRules,
    request: Request,
    session: SessionDep,
    rule_set_id: RuleSetId,
    base: Annotated[str, Form(max_length=40)] = "",
    groups: Lines = "",
    pilot: Lines = "",
    project_roots: Lines = "",
    root_python: Line = "",
    root_tools: Line = "",
    root_bin: Line = "",
    revision: Annotated[int, Form(ge=1, le=2**31)] = 1,
) -> Response:
    """For whom, on what base, and where things lie. `base`: an id, or `seen:ID` for a reported policy."""
    roots = {"python": root_python, "tools": root_tools, "bin": root_bin}
    try:
        set_terms(
            session,
            rule_set_id,
            base_id=_base_id(session, base, person.actor),
            groups=read_groups(groups, "groups"),
            pilot=read_groups(pilot, "pilot"),
            project_roots=_lines(project_roots),
            roots={name: folder.strip() for name, folder in roots.items() if folder.strip()},
            revision=revision,
            actor=person.actor,
        )
    except InvalidError as error:
        session.rollback()
        typed = {"base": base, "groups": groups, "pilot": pilot, "project_roots": project_roots, "roots": roots}
        return _page(request, session, rule_set_id, problem=error, typed=typed, status=422)
    return _to(rule_set_id)


@router.post("/rule-sets/{rule_set_id}/base")
def upload_base(
    person: DraftRules,
    request: Request,
    session: SessionDep,
    rule_set_id: RuleSetId,
    base_file: Annotated[UploadFile | None, File()] = None,
    name: Line = "",
    origin: Annotated[str, Form(max_length=10)] = Origin.GPO.value,
) -> Response:
    """Take an uploaded policy as the base."""
    try:
        if base_file is None or not base_file.filename:
            raise InvalidError("Choose the policy's XML file.", field="base")
        content = base_file.file.read(MAX_UPLOAD_BYTES + 1)
        if len(content) > MAX_UPLOAD_BYTES:
            raise InvalidError(f"This file has more than {MAX_UPLOAD_BYTES // 1024 // 1024} MB.", field="base")
        base = add_base_policy(
            session, content, name=name.strip() or base_file.filename, origin=origin, actor=person.actor
        )
        rule_set = get_rule_set(session, rule_set_id)
        set_terms(
            session,
            rule_set_id,
            base_id=base.id,
            groups=rule_set.groups,
            pilot=rule_set.pilot,
            project_roots=[as_typed(one) for one in rule_set.project_roots],
            roots={root: as_typed(folder) for root, folder in rule_set.roots.items()},
            actor=person.actor,
        )
    except InvalidError as error:
        session.rollback()
        return _page(request, session, rule_set_id, problem=error, status=422)
    return _to(rule_set_id)


@router.post("/rule-sets/{rule_set_id}/details")
def change_details(
    person: DraftRules,
    request: Request,
    session: SessionDep,
    rule_set_id: RuleSetId,
    name: Line = "",
    purpose: Lines = "",
    owner: Line = "",
    change_number: Line = "",
    review_by: Annotated[str, Form(max_length=10)] = "",
) -> Response:
    try:
        set_details(
            session,
            rule_set_id,
            name=name,
            purpose=purpose,
            owner=owner,
            change_number=change_number,
            review_by=_date(review_by),
            actor=person.actor,
        )
    except InvalidError as error:
        session.rollback()
        return _page(request, session, rule_set_id, problem=error, status=422)
    return _to(rule_set_id)


@router.post("/rule-sets/{rule_set_id}/retire")
def retire(person: DraftRules, session: SessionDep, rule_set_id: RuleSetId) -> Response:
    retire_rule_set(session, rule_set_id, actor=person.actor)
    return _to(rule_set_id)


def read_groups(text: str, field: str) -> list[Group]:
    """Groups from lines such as `S-1-5-21-… Developers`. raises: InvalidError about `field`"""
    groups = []
    for line in _lines(text):
        sid, _, name = line.partition(" ")
        groups.append(Group(sid=sid, name=name.strip()))
    if len(groups) > 50:
        raise InvalidError("These are too many groups.", field=field)
    return groups


def as_typed(folder: str) -> str:
    r"""A stored folder as a person types it: `%OSDRIVE%\Users\*\src` is `%USERPROFILE%\src`."""
    profile = "%OSDRIVE%\\Users\\*"
    return "%USERPROFILE%" + folder[len(profile) :] if folder.startswith(profile) else folder


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def _date(text: str) -> datetime | None:
    if not text.strip():
        return None
    try:
        return datetime.strptime(text.strip(), "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError as error:
        raise InvalidError("A date looks like 2027-01-31.", field="review_by") from error


def _base_id(session: Session, text: str, actor: Actor) -> int | None:
    if not text:
        return None
    kind, _, number = text.rpartition(":")
    if not number.isdecimal() or kind not in ("", "seen") or len(number) > 18:
        raise InvalidError("Choose a base policy of the list.", field="base")
    if kind == "seen":
        return take_seen_policy(session, int(number), actor=actor).id
    return int(number)


def _to(rule_set_id: int, rest: str = "") -> Response:
    return RedirectResponse(f"/rule-sets/{rule_set_id}{rest}", status_code=303)


def _new_page(
    request: Request,
    session: Session,
    *,
    patterns: list[str],
    workflows: list[str],
    origin: str,
    name: str = "",
    into: int | None = None,
    problem: InvalidError | None = None,
    status: int = 200,
) -> Response:
    catalogue = load_catalogue()
    overview = read_shown_overview(session)
    known = {pattern.id: pattern for pattern in catalogue.patterns if can_have_rule(pattern)}
    blocked = [known[one.pattern] for one in ranked(overview) if one.pattern in known]
    asked = [known[one] for one in patterns if one in known and known[one] not in blocked]
    return render(
        request,
        "rule_sets/new.html",
        status=status,
        blocked=blocked,
        asked=asked,
        others=[one for one in known.values() if one not in blocked and one not in asked],
        counts={one.pattern: one for one in overview.blocked_patterns},
        commands={one.workflow: one for one in overview.workflows},
        workflows=catalogue.workflows,
        chosen_patterns=set(patterns),
        chosen_workflows=set(workflows),
        rule_sets=list_open_rule_sets(session),
        origin=origin,
        name=name,
        into=into,
        problem=problem,
    )


def _page(
    request: Request,
    session: Session,
    rule_set_id: int,
    *,
    problem: InvalidError | None = None,
    typed: Mapping[str, object] | None = None,
    status: int = 200,
) -> Response:
    rule_set = get_rule_set(session, rule_set_id)
    draft = build_draft(rule_set, list_baseline_files(session))
    catalogue = load_catalogue()
    overview = read_shown_overview(session)
    rules_of: dict[str, list[object]] = {}
    for rule in draft.rules:
        for pattern in rule.patterns:
            rules_of.setdefault(pattern, []).append(rule)
    in_it = {item.pattern for item in rule_set.items}
    return render(
        request,
        "rule_sets/page.html",
        status=status,
        rule_set=rule_set,
        draft=draft,
        simulation=find_simulation(session, rule_set_id),
        standing=read_standing(session),
        patterns={pattern.id: pattern for pattern in catalogue.patterns},
        commands={workflow.id: workflow.command for workflow in catalogue.workflows},
        counts={one.pattern: one for one in overview.patterns},
        rules_of=rules_of,
        why_not={one.pattern: one.reason for one in draft.left_out if one.collection is None},
        addable=[one for one in catalogue.patterns if can_have_rule(one) and one.id not in in_it],
        workflows=catalogue.workflows,
        bases=list_base_policies(session),
        seen=[one for one in list_policies(session) if one.problem is None and one.collections],
        state_words=STATE_WORDS,
        state_badges=STATE_BADGES,
        origin_words=ORIGIN_WORDS,
        as_typed=as_typed,
        typed=typed,
        problem=problem,
    )
