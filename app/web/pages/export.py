"""Exporting rules: choose patterns and a group, read what each rule admits, take the file away.

Nobody approves these, and they say so; an operator may have rules leave from approved rule sets alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Depends, File, Form, Path, Query, Request, UploadFile
from sqlalchemy.orm import Session
from starlette.responses import Response

from agent.catalogue import Catalogue, Pattern
from agent.catalogue import load as load_catalogue
from app.db.session import SessionDep
from app.errors import ForbiddenError, InvalidError
from app.fleet.queries import Overview
from app.policies.baselines import list_baseline_files
from app.policies.bundle import Delivery, build_bundle
from app.policies.choices import COLLECTIONS, RULE_KINDS
from app.policies.export import Export, plan_export
from app.policies.queries_exports import get_kept_export
from app.policies.record_export import get_export_file, list_exports, record_export
from app.policies.standing import read_standing
from app.policies.whatif import simulate_export
from app.web.glossary import GROUP_TITLES
from app.web.guards import DraftRules, ViewFleet
from app.web.pages.overview import can_have_rule, ranked, read_shown_overview
from app.web.templating import render

router = APIRouter(include_in_schema=False)

# A form's text field may have 1 MB; the base policy travels in one from the review to the download.
MAX_BASE_BYTES = 900 * 1024

BLOCKED_HERE = "blocked"
DELIVERY_WORDS = {
    Delivery.SAME_GPO.value: "the Group Policy object that has the other rules",
    Delivery.SEPARATE_GPO.value: "a Group Policy object of its own",
    Delivery.LOCAL.value: "the local policy of single machines",
    Delivery.INTUNE.value: "Intune",
}

Words = Annotated[list[str], Form()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What the form says: `kinds` maps pattern ids to a kind of rule, `base` is the policy's text.

    `refused`: why the uploaded file could not be read; said on the filled form, with all else that is wrong.
    """

    patterns: tuple[str, ...] = ()
    kinds: dict[str, str] = field(default_factory=dict)
    sid: str = ""
    project_roots: str = ""
    collections: tuple[str, ...] = ()
    base: str = ""
    delivery: str = Delivery.SAME_GPO.value
    refused: InvalidError | None = None


def read_form(
    pattern: Words = [],  # noqa: B006 - FastAPI copies it
    kind: Words = [],  # noqa: B006 - FastAPI copies it
    sid: Annotated[str, Form(max_length=400)] = "",
    project_roots: Annotated[str, Form(max_length=10_000)] = "",
    collection: Words = [],  # noqa: B006 - FastAPI copies it
    base: Annotated[str, Form()] = "",
    base_file: Annotated[UploadFile | None, File()] = None,
    forget_base: Annotated[bool, Form()] = False,
    delivery: Annotated[str, Form(max_length=40)] = Delivery.SAME_GPO.value,
) -> Choice:
    """The form's fields as one value."""
    text, refused = "" if forget_base else base, None
    if base_file is not None and base_file.filename:
        try:
            text = decoded(base_file.file.read(MAX_BASE_BYTES + 1))
        except InvalidError as error:
            refused = error
    return Choice(
        patterns=tuple(dict.fromkeys(pattern)),
        kinds=dict(one.split("=", 1) for one in kind if "=" in one),
        sid=sid.strip(),
        project_roots=project_roots,
        collections=tuple(collection),
        base=text,
        delivery=delivery,
        refused=refused,
    )


def decoded(content: bytes) -> str:
    """The text of an uploaded policy: UTF-16 as Windows' tools write it, or UTF-8. raises: InvalidError"""
    if len(content) > MAX_BASE_BYTES:
        raise InvalidError(
            f"This file has more than {MAX_BASE_BYTES // 1024} KB. Use `wayleave export applocker --base` for it.",
            field="base",
        )
    encoding = "utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise InvalidError("This file is not XML in UTF-8 or UTF-16.", field="base") from error


@router.get("/export")
def show_export(
    person: DraftRules,  # noqa: ARG001 - the guard
    request: Request,
    session: SessionDep,
    pattern: Annotated[list[str], Query(max_length=200)] = [],  # noqa: B006 - FastAPI copies it
    sid: Annotated[str, Query(max_length=400)] = "",
) -> Response:
    known = {one.id for one in load_catalogue().patterns}
    return _page(request, session, Choice(patterns=tuple(one for one in pattern if one in known), sid=sid))


@router.post("/export")
def review_export(
    person: DraftRules,  # noqa: ARG001 - the guard
    request: Request,
    session: SessionDep,
    choice: Annotated[Choice, Depends(read_form)],
) -> Response:
    try:
        planned = _plan(session, choice)
    except InvalidError as error:
        return _page(request, session, choice, problem=error, status=422)
    return _page(request, session, choice, planned=planned)


@router.post("/export/package")
def download_package(
    person: DraftRules, request: Request, session: SessionDep, choice: Annotated[Choice, Depends(read_form)]
) -> Response:
    """The rules with the scripts, fragments and evidence that their delivery needs, as a zip."""
    refuse_without_approval(request)
    planned = None
    try:
        planned = _plan(session, choice)
        bundle = build_bundle(planned, choice.delivery)
    except InvalidError as error:
        return _page(request, session, choice, planned=planned, problem=error, status=422)
    record_export(session, planned, actor=person.actor)
    return _attachment(bundle.file_name, bundle.content, "application/zip")


@router.post("/export/file")
def download_export(
    person: DraftRules, request: Request, session: SessionDep, choice: Annotated[Choice, Depends(read_form)]
) -> Response:
    refuse_without_approval(request)
    try:
        planned = _plan(session, choice)
    except InvalidError as error:
        return _page(request, session, choice, problem=error, status=422)
    record_export(session, planned, actor=person.actor)
    return _attachment(planned.file_name, planned.xml.encode(), "application/xml")


@router.get("/export/{export_id}/file")
def download_again(
    person: ViewFleet,  # noqa: ARG001 - the guard
    request: Request,
    session: SessionDep,
    export_id: Annotated[int, Path(ge=1, le=2**31)],
) -> Response:
    if get_kept_export(session, export_id).rule_set_id is None:
        refuse_without_approval(request)
    name, xml = get_export_file(session, export_id)
    return _attachment(name, xml.encode(), "application/xml")


def refuse_without_approval(request: Request) -> None:
    """raises: ForbiddenError where only rules of approved rule sets may leave"""
    if request.app.state.settings.rules_approved_only:
        raise ForbiddenError("Here rules leave from approved rule sets only: put the patterns into a rule set.")


def _plan(session: Session, choice: Choice) -> Export:
    if choice.refused is not None:
        raise choice.refused
    return plan_export(
        [f"{one}={choice.kinds[one]}" if choice.kinds.get(one) else one for one in choice.patterns],
        choice.sid,
        base=choice.base or None,
        baseline=list_baseline_files(session),
        project_roots=[line.strip() for line in choice.project_roots.splitlines() if line.strip()],
        collections=choice.collections or None if not choice.base else None,
    )


def _page(
    request: Request,
    session: Session,
    choice: Choice,
    *,
    planned: Export | None = None,
    problem: InvalidError | None = None,
    status: int = 200,
) -> Response:
    catalogue = load_catalogue()
    overview = read_shown_overview(session)
    return render(
        request,
        "export/page.html",
        status=status,
        choice=choice,
        groups=_choosable(catalogue, overview),
        counts={one.pattern: one for one in overview.blocked_patterns},
        approved_only=request.app.state.settings.rules_approved_only,
        what_if=simulate_export(session, planned) if planned is not None else None,
        deliveries=DELIVERY_WORDS,
        group_titles=GROUP_TITLES,
        collections=COLLECTIONS,
        rule_kinds=RULE_KINDS,
        planned=planned,
        standing=read_standing(session),
        problem=problem,
        exports=list_exports(session, limit=10),
    )


def _choosable(catalogue: Catalogue, overview: Overview) -> Sequence[tuple[str, tuple[Pattern, ...]]]:
    """The patterns that a rule can open: those blocked on this fleet first, the others by their group."""
    known = {pattern.id: pattern for pattern in catalogue.patterns if can_have_rule(pattern)}
    blocked = [known[one.pattern] for one in ranked(overview) if one.pattern in known]
    groups: dict[str, list[Pattern]] = {BLOCKED_HERE: blocked} if blocked else {}
    for pattern in known.values():
        if pattern not in blocked:
            groups.setdefault(pattern.group, []).append(pattern)
    return [(group, tuple(patterns)) for group, patterns in groups.items()]


def _attachment(name: str, content: bytes, media_type: str) -> Response:
    return Response(
        content, media_type=media_type, headers={"Content-Disposition": f'attachment; filename="{quote(name)}"'}
    )
