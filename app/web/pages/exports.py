"""Exports that were made: the list, one with its rules and how far it has come, its bundle, and what it would do."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import RedirectResponse, Response

from app.audit.record import Actor
from app.db.base import now
from app.db.session import SessionDep, session_scope
from app.fleet.rule_uses import read_rule_uses
from app.policies.after import AT_ONCE_USERS, read_after
from app.policies.arrival import read_arrival
from app.policies.bundle import Delivery, build_bundle
from app.policies.export import Export
from app.policies.queries_exports import KeptExport, get_kept_export, page_exports
from app.policies.simulations import is_large
from app.policies.standing import VerifiedStanding, read_standing
from app.policies.whatif import WhatIf, simulate_export
from app.policies.whatif_work import ask_for_what_if, find_what_if, read_what_if, what_if_of
from app.web.guards import ApiViewFleet, ViewFleet
from app.web.pages.export import refuse_without_approval
from app.web.pages.exports_after import because_help, because_words, hosts_address
from app.web.templating import address, render
from app.work.rows import INTERRUPTED, Work

router = APIRouter(include_in_schema=False)
api_router = APIRouter(prefix="/api/v1", tags=["rules"])

ExportId = Annotated[int, Path(ge=1, le=2**31)]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryChoice:
    """A way of delivery in one sentence. `refused`: why this export is not fit for it."""

    delivery: Delivery
    title: str
    sentence: str
    refused: str | None = None


DELIVERY_CHOICES = (
    DeliveryChoice(
        delivery=Delivery.SAME_GPO,
        title="Into the same Group Policy object",
        sentence="apply.ps1 merges the rules into the object that holds your other rules, and keeps its modes.",
    ),
    DeliveryChoice(
        delivery=Delivery.SEPARATE_GPO,
        title="As a Group Policy object of their own",
        sentence="Rules only, enforcement not configured; link it only where your other AppLocker rules arrive.",
    ),
    DeliveryChoice(
        delivery=Delivery.LOCAL,
        title="Into the local policy of one machine",
        sentence="apply.ps1 -Local merges the rules on the machine where it runs: for a trial, or without a domain.",
    ),
    DeliveryChoice(
        delivery=Delivery.INTUNE,
        title="By Intune",
        sentence="Each changed collection whole, with its OMA-URI, to replace the value in the grouping you have.",
    ),
)


@router.get("/exports")
def show_exports(
    person: ViewFleet,  # noqa: ARG001 - the guard
    request: Request,
    session: SessionDep,
    q: Annotated[str, Query(max_length=100)] = "",
    before: Annotated[int | None, Query(ge=1, le=2**31)] = None,
) -> Response:
    wanted = q.strip()
    return render(
        request,
        "exports/list.html",
        fragment="results",
        address=address("/exports", q=wanted),
        found=page_exports(session, search=wanted, before=before),
        q=wanted,
        before=before,
        older=lambda next_before: address("/exports", q=wanted, before=str(next_before)),
        newest=address("/exports", q=wanted),
    )


@router.get("/exports/{export_id}")
def show_kept_export(
    person: ViewFleet,  # noqa: ARG001 - the guard
    request: Request,
    session: SessionDep,
    export_id: ExportId,
) -> Response:
    kept = get_kept_export(session, export_id)
    arrival = read_arrival(session, export_id)
    # Of a large fleet it takes a second: the page comes first, and asks for it.
    after = read_after(session, export_id) if 0 < arrival.base <= AT_ONCE_USERS else None
    return render(
        request,
        "exports/page.html",
        kept=kept,
        export=kept.export,
        arrival=arrival,
        standing=read_standing(session),
        after=after,
        because_words=because_words,
        because_help=because_help,
        hosts_address=hosts_address,
        in_force={rule.rule_id: rule.subjects for rule in arrival.rules},
        deliveries=deliveries_for(kept.export),
        approved_only=request.app.state.settings.rules_approved_only,
        used=read_rule_uses(session, [rule.id for rule in kept.export.rules], at=now()),
    )


@router.get("/exports/{export_id}/what-if")
def show_what_if(
    person: ViewFleet,
    request: Request,
    export_id: ExportId,
    again: Annotated[bool, Query()] = False,
) -> Response:
    """Not with the page's session: judging against a large fleet is asked for and committed first."""
    judged = _judge_or_begin(request, export_id, again=again, actor=person.actor)
    return render(
        request,
        "exports/what_if.html",
        fragment="answer",
        kept=judged.kept,
        standing=judged.standing,
        result=judged.result,
        work=judged.work,
    )


@api_router.get("/exports/{export_id}/what-if")
def get_what_if(
    caller: ApiViewFleet,
    request: Request,
    export_id: ExportId,
    again: Annotated[bool, Query()] = False,
) -> dict[str, Any]:
    """What an export would do to the fleet as it is now. `result` is null while it is judged: ask again, or follow
    `work`; and where it adds no rule."""
    judged = _judge_or_begin(request, export_id, again=again, actor=caller.actor)
    return {
        "result": None if judged.result is None else asdict(judged.result),
        "work": None if judged.work is None else asdict(replace(judged.work, result=None)),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """An export, and what it would do, or the work that finds out."""

    kept: KeptExport
    standing: VerifiedStanding
    result: WhatIf | None
    work: Work | None


def _judge_or_begin(request: Request, export_id: int, *, again: bool, actor: Actor) -> Judged:
    engine, workers = request.app.state.engine, request.app.state.workers
    result, work = None, None
    with session_scope(engine, writes=False) as session:
        kept, standing = get_kept_export(session, export_id), read_standing(session)
        is_work = bool(kept.export.added) and is_large(session)
        if is_work:
            work = find_what_if(session, export_id)
        elif kept.export.added:
            result = simulate_export(session, kept.export)
    if is_work and (work is None or work.state == INTERRUPTED or (again and not work.is_under_way)):
        with session_scope(engine) as session:
            asked = ask_for_what_if(session, export_id, actor=actor)
        workers.start_work(asked, what_if_of(export_id))
        work = workers.wait_for(asked.work)
    if work is not None:
        result = read_what_if(work)
    return Judged(kept=kept, standing=standing, result=result, work=work)


@router.get("/exports/{export_id}/bundle")
def download_bundle(
    person: ViewFleet,  # noqa: ARG001 - the guard
    request: Request,
    session: SessionDep,
    export_id: ExportId,
    delivery: Annotated[str, Query(max_length=40)] = Delivery.SAME_GPO.value,
) -> Response:
    kept = get_kept_export(session, export_id)
    if kept.rule_set_id is not None:  # approved for one delivery, and kept as it left
        return RedirectResponse(f"/rule-sets/{kept.rule_set_id}/exports/{export_id}/bundle", status_code=303)
    refuse_without_approval(request)
    bundle = build_bundle(kept.export, delivery)
    return Response(
        bundle.content,
        media_type="application/zip",
        headers={"Content-Disposition": f'attachment; filename="{quote(bundle.file_name)}"'},
    )


def deliveries_for(export: Export) -> tuple[DeliveryChoice, ...]:
    """The ways of delivery; Intune takes an export only within the policy of its grouping."""
    return tuple(
        DeliveryChoice(
            delivery=one.delivery,
            title=one.title,
            sentence=one.sentence,
            refused="Needs a whole policy: export again with the grouping’s own policy as the base.",
        )
        if one.delivery is Delivery.INTUNE and not export.is_whole_policy
        else one
        for one in DELIVERY_CHOICES
    )
