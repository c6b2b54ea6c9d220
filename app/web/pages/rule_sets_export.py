"""Exporting an approved rule set: how it is delivered, to whom first; each file one click and one call."""

from __future__ import annotations

import hashlib
import hmac
from typing import Annotated
from urllib.parse import quote

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fastapi import APIRouter, Form, Path, Query, Request
from sqlalchemy.orm import Session
from starlette.responses import RedirectResponse, Response

from app.db.session import SessionDep
from app.errors import InvalidError
from app.ingest.keys import load_keys
from app.policies.bundle import Delivery
from app.policies.package import (
    Package,
    export_rule_set,
    get_package,
    get_package_file,
    list_packages,
    package_files,
    refused_delivery,
)
from app.policies.queries_rule_sets import RuleSetPage, get_rule_set, page_rule_sets
from app.policies.review import held_approval, review_of
from app.policies.rule_sets import State
from app.web.guards import ApiViewFleet, DraftRules, ViewFleet
from app.web.pages.exports import DELIVERY_CHOICES, DeliveryChoice
from app.web.pages.rule_sets import STATE_BADGES, STATE_WORDS, RuleSetId
from app.web.templating import render

router = APIRouter(include_in_schema=False)
api_router = APIRouter(prefix="/api/v1", tags=["rule sets"])

ExportId = Annotated[int, Path(ge=1, le=2**31)]
FileName = Annotated[str, Path(max_length=100, pattern=r"^(intune/)?[A-Za-z0-9._-]+$")]


@router.get("/rule-sets/{rule_set_id}/export")
def show_export(
    person: ViewFleet,  # noqa: ARG001 - the guard
    request: Request,
    session: SessionDep,
    rule_set_id: RuleSetId,
) -> Response:
    return _page(request, session, rule_set_id)


@router.post("/rule-sets/{rule_set_id}/export")
def make_export(
    person: DraftRules,
    request: Request,
    session: SessionDep,
    rule_set_id: RuleSetId,
    delivery: Annotated[str, Form(max_length=40)] = "",
    ring: Annotated[str, Form(max_length=12)] = "all",
    skip_pilot: Annotated[bool, Form()] = False,
    wdac_base_id: Annotated[str, Form(max_length=60)] = "",
) -> Response:
    try:
        export_rule_set(
            session,
            rule_set_id,
            delivery=delivery,
            ring=ring,
            skip_pilot=skip_pilot,
            wdac_base_id=wdac_base_id,
            key=signing_key(request),
            actor=person.actor,
        )
    except InvalidError as error:
        session.rollback()
        return _page(request, session, rule_set_id, problem=error, delivery=delivery, ring=ring, status=422)
    return RedirectResponse(f"/rule-sets/{rule_set_id}/export#packages-title", status_code=303)


@router.get("/rule-sets/{rule_set_id}/exports/{export_id}/bundle")
def download_package(
    person: ViewFleet,  # noqa: ARG001 - the guard
    request: Request,
    session: SessionDep,
    rule_set_id: RuleSetId,
    export_id: ExportId,
) -> Response:
    return _zip(get_package(session, rule_set_id, export_id, key=signing_key(request)))


@router.get("/rule-sets/{rule_set_id}/exports/{export_id}/files/{name:path}")
def download_file(
    person: ViewFleet,  # noqa: ARG001 - the guard
    request: Request,
    session: SessionDep,
    rule_set_id: RuleSetId,
    export_id: ExportId,
    name: FileName,
) -> Response:
    return _file(get_package(session, rule_set_id, export_id, key=signing_key(request)), name)


@api_router.get("/rule-sets")
def get_rule_sets(
    caller: ApiViewFleet,  # noqa: ARG001 - the guard
    session: SessionDep,
    search: Annotated[str, Query(max_length=100, pattern=r"^[^\x00]*$")] = "",
    state: Annotated[State | None, Query()] = None,
    before: Annotated[int | None, Query(ge=1, le=2**31 - 1)] = None,
) -> RuleSetPage:
    """Rule sets, the newest first, older than rule set `before`, and how many there are of each state."""
    return page_rule_sets(session, search=search.strip(), state=state.value if state else "", before=before)


@api_router.get("/rule-sets/{rule_set_id}/exports/{export_id}/bundle")
def get_bundle(
    caller: ApiViewFleet,  # noqa: ARG001 - the guard
    request: Request,
    session: SessionDep,
    rule_set_id: RuleSetId,
    export_id: ExportId,
) -> Response:
    """An export of a rule set as a zip: the same bytes as on the page."""
    return _zip(get_package(session, rule_set_id, export_id, key=signing_key(request)))


@api_router.get("/rule-sets/{rule_set_id}/exports/{export_id}/files/{name:path}")
def get_file(
    caller: ApiViewFleet,  # noqa: ARG001 - the guard
    request: Request,
    session: SessionDep,
    rule_set_id: RuleSetId,
    export_id: ExportId,
    name: FileName,
) -> Response:
    """One file of an export, such as rules.xml, apply.ps1 or intune/EXE.xml."""
    return _file(get_package(session, rule_set_id, export_id, key=signing_key(request)), name)


def signing_key(request: Request) -> Ed25519PrivateKey:
    """The key that signs manifests. It comes from the server's secret, which is in no database."""
    secret = load_keys(request.app.state.settings).secret
    return Ed25519PrivateKey.from_private_bytes(hmac.digest(secret, b"export signing key", hashlib.sha256))


def _zip(bundle: Package) -> Response:
    return Response(
        bundle.content,
        media_type="application/zip",
        headers={
            "Content-Disposition": f'attachment; filename="{quote(bundle.file_name)}"',
            "Wayleave-Package": "as it left" if bundle.is_as_it_left else "made anew, may differ from what left",
        },
    )


def _file(bundle: Package, name: str) -> Response:
    content = get_package_file(bundle, name)
    # Never shown in place: what an export holds is for reading on the reader's machine.
    return Response(
        content,
        media_type="application/octet-stream",
        headers={"Content-Disposition": f'attachment; filename="{quote(name.rpartition("/")[2])}"'},
    )


def _page(
    request: Request,
    session: Session,
    rule_set_id: int,
    *,
    problem: InvalidError | None = None,
    delivery: str = "",
    ring: str = "",
    status: int = 200,
) -> Response:
    rule_set = get_rule_set(session, rule_set_id)
    reviewed = review_of(session, rule_set)
    approval = held_approval(session, rule_set_id, reviewed=reviewed)
    packages = list_packages(session, rule_set_id)
    key = signing_key(request)
    choices = [
        DeliveryChoice(
            delivery=one.delivery,
            title=one.title,
            sentence=one.sentence,
            refused=refused_delivery(rule_set, one.delivery),
        )
        for one in DELIVERY_CHOICES
    ]
    bundles = {one.export_id: get_package(session, rule_set_id, one.export_id, key=key) for one in packages[:5]}
    fit = [one.delivery.value for one in choices if one.refused is None]
    pilot_done = any(one.ring == "pilot" and one.holds for one in packages)
    return render(
        request,
        "rule_sets/export.html",
        status=status,
        rule_set=rule_set,
        draft=reviewed.draft,
        approval=approval,
        packages=packages,
        bundles=bundles,
        files={export_id: package_files(bundle) for export_id, bundle in bundles.items()},
        public_key=key.public_key().public_bytes_raw().hex(),
        deliveries=choices,
        delivery=delivery or (fit[0] if fit else Delivery.SAME_GPO.value),
        ring=ring or ("pilot" if rule_set.pilot and not pilot_done else "all"),
        problem=problem,
        state_words=STATE_WORDS,
        state_badges=STATE_BADGES,
    )
