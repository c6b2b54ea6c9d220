"""The JSON API about rules: policies in force, rule sets, exports, requests and imports, as the pages show them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query
from sqlalchemy.orm import Session

from agent.catalogue import load as load_catalogue
from app.accounts.roles import Permission
from app.accounts.sessions import Person
from app.accounts.tokens import TokenBearer
from app.applocker.compare import Change
from app.applocker.findings import Finding
from app.db.session import SessionDep
from app.errors import NotFoundError
from app.imports.jobs import Import, get_import, list_imports
from app.policies.arrival import read_arrival
from app.policies.at_pattern import AtPattern, read_at_pattern
from app.policies.in_force import compare_policies, get_policy
from app.policies.package import PackageLine, list_packages
from app.policies.plan import PlannedRule
from app.policies.queries_exports import get_kept_export
from app.policies.queries_rule_sets import RuleSet, get_rule_set, list_approvals, list_comments
from app.policies.review import review_of
from app.policies.simulations import find_simulating
from app.policies.verified import Verified, list_verified
from app.requests.queries import Group, list_groups
from app.web.guards import ApiGuard, ApiManageAgents, ApiViewFleet

router = APIRouter(prefix="/api/v1", tags=["rules"])

ApiAnswerRequests = Annotated[Person | TokenBearer, Depends(ApiGuard(Permission.ANSWER_REQUESTS))]
Number = Annotated[int, Path(ge=1, le=2**31)]
Rows = Annotated[int, Query(ge=1, le=500)]
SetNumber = Annotated[int, Path(ge=1, le=2**62)]


@router.get("/patterns/{pattern_id}/rules")
def get_rules_at_pattern(
    caller: ApiViewFleet,  # noqa: ARG001 - the guard
    session: SessionDep,
    pattern_id: Annotated[str, Path(max_length=100)],
) -> AtPattern:
    """What each policy in force says of a pattern, by which rule, and the rule sets that hold it."""
    catalogue = load_catalogue()
    try:
        pattern = catalogue.pattern(pattern_id)
    except KeyError as error:
        raise NotFoundError("The catalogue has no such pattern.", field="pattern_id") from error
    return read_at_pattern(session, pattern, catalogue=catalogue)


@router.get("/policies/{policy_id}")
def get_one_policy(caller: ApiViewFleet, session: SessionDep, policy_id: SetNumber) -> dict[str, Any]:  # noqa: ARG001 - the guard
    """One policy in force: who is under it, its rules, and what lint says."""
    found = get_policy(session, policy_id)
    return {
        "policy": asdict(found.line),
        "rules": [asdict(rule) for rule in found.rules],
        "findings": [_finding(one) for one in found.findings],
    }


@router.get("/policies/{policy_id}/changes")
def get_policy_changes(
    caller: ApiViewFleet,  # noqa: ARG001 - the guard
    session: SessionDep,
    policy_id: SetNumber,
    against: Annotated[int, Query(ge=1, le=2**62)],
) -> list[dict[str, Any]]:
    """What a policy in force changes against another."""
    return [_change(one) for one in compare_policies(session, against, policy_id)]


@router.get("/rule-sets/{rule_set_id}")
def get_one_rule_set(caller: ApiViewFleet, session: SessionDep, rule_set_id: Number) -> dict[str, Any]:  # noqa: ARG001 - the guard
    """One rule set: its terms and patterns, the rules it comes to, its simulation, review and approvals."""
    rule_set = get_rule_set(session, rule_set_id)
    reviewed = review_of(session, rule_set)
    simulating = find_simulating(session, rule_set_id)
    simulation = reviewed.simulation
    return {
        **_terms(rule_set),
        "rules": [_rule(one) for one in reviewed.draft.rules],
        "settings": [asdict(one) for one in reviewed.draft.settings],
        "left_out": [asdict(one) for one in reviewed.draft.left_out],
        "draft_sha256": reviewed.draft.sha256,
        "simulation": None if simulation is None else asdict(simulation),
        "simulating": None if simulating is None or not simulating.is_under_way else simulating.id,
        "digest": reviewed.digest,
        "missing": list(reviewed.missing),
        "findings": [_finding(one) for one in reviewed.findings.new],
        "changes": [_change(one) for one in reviewed.changes],
        "comments": [asdict(one) for one in list_comments(session, rule_set_id)],
        "approvals": [asdict(one) for one in list_approvals(session, rule_set_id)],
    }


@router.get("/rule-sets/{rule_set_id}/exports")
def get_rule_set_exports(
    caller: ApiViewFleet,  # noqa: ARG001 - the guard
    session: SessionDep,
    rule_set_id: Number,
) -> list[PackageLine]:
    """What a rule set gave so far, the newest first: for which delivery and ring, and whether its approval holds."""
    get_rule_set(session, rule_set_id)
    return list(list_packages(session, rule_set_id))


@router.get("/rule-sets/{rule_set_id}/simulation")
def get_simulation(caller: ApiViewFleet, session: SessionDep, rule_set_id: Number) -> dict[str, Any]:  # noqa: ARG001 - the guard
    """What a rule set would do to the fleet, as it was judged last, and the work if it is being judged."""
    return _simulation(session, rule_set_id)


@router.get("/exports/{export_id}")
def get_one_export(caller: ApiViewFleet, session: SessionDep, export_id: Number) -> dict[str, Any]:  # noqa: ARG001 - the guard
    """One export: its rules, and on how many users they have arrived."""
    kept = get_kept_export(session, export_id)
    return {
        "id": kept.id,
        "made_at": kept.made_at,
        "made_by": kept.made_by,
        "patterns": kept.patterns,
        "sids": list(kept.export.sids),
        "is_whole_policy": kept.export.is_whole_policy,
        "rules": [_rule(one) for one in kept.export.rules],
        "arrival": asdict(read_arrival(session, export_id)),
    }


@router.get("/verified")
def get_verified(caller: ApiViewFleet, session: SessionDep) -> list[Verified]:  # noqa: ARG001 - the guard
    """What real PCs did with the cases of the conformance kit, each recorded answer."""
    return list(list_verified(session))


@router.get("/requests")
def get_requests(
    caller: ApiAnswerRequests,  # noqa: ARG001 - the guard
    session: SessionDep,
    skip: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
    rows: Rows = 100,
) -> list[Group]:
    """Requests for access, grouped by pattern and engine: the open ones first, the most asked for on top; after the
    first `skip` of them."""
    return list(list_groups(session, skip=skip, limit=rows))


@router.get("/imports")
def get_imports(
    caller: ApiManageAgents,  # noqa: ARG001 - the guard
    session: SessionDep,
    before: Annotated[int | None, Query(ge=1, le=2**31 - 1)] = None,
    rows: Rows = 50,
) -> list[dict[str, Any]]:
    """Imports, and how far each is: the newest first, older than import `before`."""
    return [_import(one) for one in list_imports(session, before=before, limit=rows)]


@router.get("/imports/{import_id}")
def get_one_import(caller: ApiManageAgents, session: SessionDep, import_id: Number) -> dict[str, Any]:  # noqa: ARG001 - the guard
    """One import: what became of its events."""
    return _import(get_import(session, import_id))


def _simulation(session: Session, rule_set_id: int) -> dict[str, Any]:
    reviewed = review_of(session, get_rule_set(session, rule_set_id))
    work = find_simulating(session, rule_set_id)
    return {
        "result": None if reviewed.simulation is None else asdict(reviewed.simulation),
        "is_of_this_draft": reviewed.simulation is not None
        and reviewed.simulation.draft_sha256 == reviewed.draft.sha256,
        "work": None if work is None else asdict(work),
    }


def _terms(rule_set: RuleSet) -> dict[str, Any]:
    base = rule_set.base
    return {
        "id": rule_set.id,
        "name": rule_set.name,
        "purpose": rule_set.purpose,
        "state": rule_set.state.value,
        "base": None
        if base is None
        else {"id": base.id, "name": base.name, "origin": base.origin, "sha256": base.sha256},
        "groups": [asdict(one) for one in rule_set.groups],
        "pilot": [asdict(one) for one in rule_set.pilot],
        "project_roots": list(rule_set.project_roots),
        "roots": dict(rule_set.roots),
        "owner": rule_set.owner,
        "change_number": rule_set.change_number,
        "review_by": rule_set.review_by,
        "revision": rule_set.revision,
        "authors": list(rule_set.authors),
        "updated_at": rule_set.updated_at,
        "patterns": [asdict(one) for one in rule_set.items],
    }


def _rule(rule: PlannedRule) -> dict[str, Any]:
    return {
        "id": rule.id,
        "name": rule.name,
        "collection": rule.collection,
        "kind": rule.kind,
        "sid": rule.rule.sid,
        "patterns": list(rule.patterns),
        "admits": rule.reach.admits,
        "in_base": rule.in_base,
    }


def _finding(one: Finding) -> dict[str, Any]:
    return {
        "code": one.code,
        "severity": one.severity,
        "collection": one.collection,
        "rule_id": one.rule.id if one.rule else None,
        "message": one.message,
        "remedy": one.remedy,
        "example": one.example,
    }


def _change(one: Change) -> dict[str, Any]:
    return {
        "kind": one.kind,
        "collection": one.collection,
        "message": one.message,
        "before": one.before.id if one.before else None,
        "after": one.after.id if one.after else None,
        "is_semantic": one.is_semantic,
    }


def _import(one: Import) -> dict[str, Any]:
    """Without who reads it and where: that is the server's own affair."""
    told = {name: value for name, value in asdict(one).items() if name not in ("claim", "position", "given", "kind")}
    return told | {"kind": one.kind.format.value, "is_over": one.is_over}
