"""Exporting an approved rule set: for the pilot's groups first, then for all, fit for how it will be delivered.

What leaves is what was approved: the digest is computed anew and must be the approval's. The package is kept as it
left, so the same bytes come whenever somebody asks again, whatever release or key the server has by then.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from html import escape
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.applocker.model import Policy
from app.applocker.read import parse_policy
from app.applocker.write import render_policy
from app.audit.record import Actor, record
from app.errors import ConflictError, InvalidError, NotFoundError
from app.policies.base_policies import BasePolicy, Origin
from app.policies.bundle import Bundle, Delivery, build_bundle
from app.policies.describe import STYLE
from app.policies.drafts import Setting
from app.policies.export import Export, digest_of
from app.policies.kept import kept_rule, planned_rule
from app.policies.preferences import render_preferences
from app.policies.queries_exports import get_kept_export
from app.policies.queries_rule_sets import RuleSet, get_rule_set
from app.policies.record_export import record_export
from app.policies.removal import removal_files
from app.policies.review import held_approval, review_of
from app.policies.rule_sets import Group, State, lock_rule_set, stored_now
from app.policies.tables import ExportRow
from app.policies.tables_rule_sets import RuleSetApproval, RuleSetExport, RuleSetPackage
from app.policies.target_scripts import policy_state
from app.policies.wdac_files import plan_wdac, refuse_empty, wdac_files

RINGS = ("pilot", "all")


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageLine:
    """One export of a rule set."""

    export_id: int
    ring: str
    delivery: str
    made_at: datetime
    made_by: str
    sids: tuple[str, ...]
    rules: int
    holds: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """A zip. `is_as_it_left`: the very bytes; else it was made anew from what was kept, and nobody knows whether they
    are the same: scripts and words may have changed with a release since."""

    file_name: str
    content: bytes
    sha256: str
    is_as_it_left: bool


def refused_delivery(rule_set: RuleSet, delivery: Delivery) -> str | None:
    """Why a rule set with this base is not fit for a way of delivery; None if it is."""
    origin = rule_set.base.origin if rule_set.base else None
    if delivery is Delivery.INTUNE and origin is not Origin.INTUNE:
        return "Needs the grouping’s own policy as the base: Intune takes each collection whole."
    if delivery is not Delivery.INTUNE and origin is Origin.INTUNE:
        return "The base is an Intune grouping’s policy: the rules go back into that grouping."
    return None


def export_rule_set(
    session: Session,
    rule_set_id: int,
    *,
    delivery: Delivery | str,
    ring: str,
    skip_pilot: bool = False,
    wdac_base_id: str = "",
    key: Ed25519PrivateKey | None = None,
    actor: Actor,
) -> int:
    """Keep an export of an approved rule set and its package, signed if there is a key; its id.

    raises: NotFoundError; ConflictError when nothing is approved, or not this; InvalidError about `delivery`, `ring`
    or `wdac_base_id`.
    """
    row = lock_rule_set(session, rule_set_id)
    approval = held_approval(session, rule_set_id)
    if approval is None:
        raise ConflictError("Only what is approved, and is still what was approved, can be exported.")
    rule_set = get_rule_set(session, rule_set_id)
    kind = _checked_delivery(rule_set, delivery)
    reviewed = review_of(session, rule_set)
    draft = reviewed.draft
    if ring not in RINGS:
        raise InvalidError("Choose the pilot or all groups.", field="ring")
    if ring == "pilot" and not rule_set.pilot:
        raise InvalidError("This rule set names no pilot group.", field="ring")
    if ring == "all" and rule_set.pilot and not skip_pilot and not _had_pilot(session, rule_set_id, approval.id):
        raise InvalidError(
            "Export for the pilot first and see it arrive, or say that the pilot is to be skipped.", field="ring"
        )
    groups = rule_set.pilot if ring == "pilot" else rule_set.groups
    if draft.removed:
        groups = tuple(Group(sid=sid, name="") for sid in dict.fromkeys(rule.rule.sid for rule in draft.removed))
    export = (draft.pilot if ring == "pilot" else draft.export) or _without_rules(rule_set, groups)
    kept = {
        "id": rule_set_id,
        # As they were when it was approved: they may be changed later, and the approval stays.
        "name": approval.name,
        "purpose": approval.purpose,
        "owner": approval.owner,
        "change_number": approval.change_number,
        "review_by": approval.review_by.date().isoformat() if approval.review_by else None,
        "authors": list(rule_set.authors),
        "ring": ring,
        "groups": [{"sid": group.sid, "name": group.name} for group in groups],
        "settings": [{"name": one.name, "value": one.value, "patterns": list(one.patterns)} for one in draft.settings],
        "base": _base_in_words(rule_set.base),
        "approval": {
            "by": approval.approved_by,
            "at": approval.at.isoformat(),
            "digest": approval.digest,
            "draft_sha256": approval.draft_sha256,
            "simulation_sha256": approval.simulation_sha256,
            "note": approval.note,
        },
        "simulation": reviewed.simulation.result if reviewed.simulation else None,
        "lint": [
            {"code": one.code, "severity": one.severity.value, "collection": one.collection, "message": one.message}
            for one in reviewed.findings.new
        ],
        "wdac_base_id": wdac_base_id.strip(),
    }
    if ring == "all" and draft.pilot is not None:
        kept["earlier"] = [{**kept_rule(one), "id": one.id} for one in draft.pilot.added]
    if draft.removed:
        kept["removes"] = [{**kept_rule(one), "id": one.id.lower()} for one in draft.removed]
        kept["base_xml"] = rule_set.base.content if rule_set.base and kind is Delivery.INTUNE else None
        if rule_set.base and rule_set.base.origin is Origin.GPO:
            kept["base_state"] = policy_state(rule_set.base.policy)
    if wdac_base_id.strip():
        refuse_empty(plan_wdac(export, wdac_base_id.strip(), approval.name))
    bundle = _package(export, kind, kept, key)
    recorded = record_export(session, export, actor=actor)
    stored = session.get(ExportRow, recorded.id)
    assert stored is not None  # noqa: S101 - just made
    stored.choices = {**stored.choices, "rule_set": kept}
    session.add(
        RuleSetExport(
            rule_set_id=rule_set_id,
            export_id=recorded.id,
            approval_id=approval.id,
            ring=ring,
            delivery=kind.value,
            sids=[group.sid for group in groups],
        )
    )
    session.add(
        RuleSetPackage(export_id=recorded.id, file_name=bundle.file_name, sha256=bundle.sha256, content=bundle.content)
    )
    row.state = State.EXPORTED.value
    row.updated_at = stored_now()
    record(
        session,
        actor,
        "rule_set.exported",
        row.name,
        rule_set=rule_set_id,
        export=recorded.id,
        ring=ring,
        delivery=kind.value,
        digest=approval.digest,
        package_sha256=bundle.sha256,
    )
    session.flush()
    return recorded.id


def get_package(session: Session, rule_set_id: int, export_id: int, *, key: Ed25519PrivateKey | None = None) -> Package:
    """The zip of one of a rule set's exports as it left. `key`: for one of before packages were kept.

    raises: NotFoundError; ConflictError when what is kept is not what left.
    """
    link = session.get(RuleSetExport, (rule_set_id, export_id))
    if link is None:
        raise NotFoundError(f"Rule set {rule_set_id} has no export {export_id}.")
    stored = session.get(RuleSetPackage, export_id)
    if stored is not None:
        if hashlib.sha256(stored.content).hexdigest() != stored.sha256:
            raise ConflictError("The kept package is not what left: its SHA-256 differs. Restore it from a backup.")
        return Package(file_name=stored.file_name, content=stored.content, sha256=stored.sha256, is_as_it_left=True)
    row = session.get(ExportRow, export_id)
    assert row is not None  # noqa: S101 - a foreign key holds it
    export = get_kept_export(session, export_id).export
    bundle = _package(export, Delivery(link.delivery), row.choices["rule_set"], key)
    return Package(file_name=bundle.file_name, content=bundle.content, sha256=bundle.sha256, is_as_it_left=False)


def get_package_file(bundle: Package, name: str) -> bytes:
    """One file of a package. raises: NotFoundError"""
    with zipfile.ZipFile(io.BytesIO(bundle.content)) as archive:
        if name not in archive.namelist():
            raise NotFoundError(f"This package has no file {name[:80]!a}.")
        return archive.read(name)


def package_files(bundle: Package) -> tuple[tuple[str, int], ...]:
    """Names and sizes of the files in a package."""
    with zipfile.ZipFile(io.BytesIO(bundle.content)) as archive:
        return tuple((entry.filename, entry.file_size) for entry in archive.infolist())


def list_packages(session: Session, rule_set_id: int) -> tuple[PackageLine, ...]:
    """What a rule set gave so far, newest first. `holds`: its approval has not been voided since."""
    rows = session.execute(
        select(RuleSetExport, ExportRow.made_at, ExportRow.made_by, ExportRow.choices, RuleSetApproval.voided_at)
        .join(ExportRow, ExportRow.id == RuleSetExport.export_id)
        .join(RuleSetApproval, RuleSetApproval.id == RuleSetExport.approval_id)
        .where(RuleSetExport.rule_set_id == rule_set_id)
        .order_by(RuleSetExport.export_id.desc())
    )
    return tuple(
        PackageLine(
            export_id=link.export_id,
            ring=link.ring,
            delivery=link.delivery,
            made_at=made_at,
            made_by=made_by,
            sids=tuple(link.sids),
            rules=len(choices["plan"]["rules"]),
            holds=voided_at is None,
        )
        for link, made_at, made_by, choices, voided_at in rows
    )


def _package(export: Export, delivery: Delivery, kept: Mapping[str, Any], key: Ed25519PrivateKey | None) -> Bundle:
    more = {"approval.html": _approval_page(kept).encode()}
    settings = [
        Setting(name=one["name"], value=one["value"], patterns=tuple(one["patterns"])) for one in kept["settings"]
    ]
    if settings:
        changed_at = datetime.fromisoformat(kept["approval"]["at"])
        more["environment.xml"] = render_preferences(settings, changed_at=changed_at).encode()
    if kept.get("removes"):
        base = parse_policy(kept["base_xml"]) if kept["base_xml"] else None
        removed = [planned_rule(one) for one in kept["removes"]]
        seen = (kept["base"] or {}).get("rules", {})
        more |= removal_files(
            removed,
            base,
            delivery,
            states=[kept["base_state"]] if kept.get("base_state") else (),
            seen_ids=[one for ids in seen.values() for one in ids],
        )
    if kept["wdac_base_id"]:
        more |= wdac_files(plan_wdac(export, kept["wdac_base_id"], kept["name"]))
    return build_bundle(
        export,
        delivery,
        key=key,
        more=more,
        evidence={"rule_set": dict(kept)},
        # Exports of before these were kept have none.
        seen_base=(kept["base"] or {}).get("rules"),
        earlier=[planned_rule(one) for one in kept.get("earlier", ())],
        is_approved=True,
    )


def _approval_page(kept: Mapping[str, Any]) -> str:
    """Who approved what, on what evidence: a page to print, beside review.html with the rules."""
    approval, simulation = kept["approval"], kept["simulation"] or {}
    rows = [
        ("Rule set", f"{kept['name']} (number {kept['id']})"),
        ("Why", kept["purpose"] or "–"),
        ("Change number", kept["change_number"] or "–"),
        ("Owner", kept["owner"]),
        ("Look again by", kept["review_by"] or "–"),
        ("Written by", ", ".join(kept["authors"])),
        ("For", ", ".join(f"{one['name']} {one['sid']}".strip() for one in kept["groups"])),
        ("Ring", kept["ring"]),
        ("Base policy", f"{kept['base']['name']}, SHA-256 {kept['base']['sha256']}" if kept["base"] else "–"),
        ("Approved by", f"{approval['by']}, {approval['at']}"),
        ("Note", approval["note"] or "–"),
        ("Digest approved", approval["digest"]),
        ("Simulated for", f"{simulation.get('base', 0):,} users, {simulation.get('judgements', 0):,} judgements"),
    ]
    table = "".join(f"<tr><th>{escape(name)}</th><td>{escape(str(text))}</td></tr>\n" for name, text in rows)
    lines = "".join(
        f"<tr><td>{escape(one['pattern'])}{'' if one['asked'] else ' (not asked for)'}</td>"
        f"<td>{one['newly'] + one['newly_builds']:,}</td><td>{one['open']:,}</td>"
        f"<td>{one['still'] + one['others'] + one['unexplained']:,}</td><td>{one['newly_blocked']:,}</td></tr>\n"
        for one in simulation.get("patterns", ())
        if one["asked"] or one["newly"] or one["newly_builds"] or one["newly_blocked"]
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>Approval</title>\n'
        f"<style>\n{STYLE}\n</style>\n</head>\n<body>\n<h1>Approval of {escape(kept['name'])}</h1>\n"
        f"<table>\n{table}</table>\n<h2>What it would do, in users who tried it</h2>\n<table>\n<tr><th>Pattern</th>"
        "<th>Newly allowed</th><th>Open already</th><th>Still blocked</th><th>Newly blocked</th></tr>\n"
        f"{lines}</table>\n</body>\n</html>\n"
    )


def _base_in_words(base: BasePolicy | None) -> dict[str, Any] | None:
    """What is kept of the base; of one that was seen in force its rule ids too, which no whole policy holds."""
    if base is None:
        return None
    told: dict[str, Any] = {"name": base.name, "origin": base.origin.value, "sha256": base.sha256}
    if not base.is_whole:
        told["rules"] = {
            one.type: sorted(rule.id for rule in one.rules) for one in base.policy.collections if one.rules
        }
    return told


def _without_rules(rule_set: RuleSet, groups: tuple[Group, ...]) -> Export:
    """An export of settings alone."""
    xml = render_policy(Policy())
    sha256 = digest_of(xml)
    return Export(
        rules=(),
        left_out=(),
        stays_closed=(),
        also_opens=(),
        policy=Policy(),
        xml=xml,
        comment="",
        notes=(
            "Rules are taken out, and none is added."
            if rule_set.removes
            else "No rule has to be added: moved folders are allowed by the base already.",
        ),
        effect_on_empty_machine="No rule is added, so AppLocker does what it did before.",
        file_name=f"wayleave-settings-{sha256[:8]}.xml",
        sha256=sha256,
        sid=", ".join(group.sid for group in groups),
        base_sha256=rule_set.base.sha256 if rule_set.base else None,
    )


def _checked_delivery(rule_set: RuleSet, delivery: Delivery | str) -> Delivery:
    try:
        kind = Delivery(delivery)
    except ValueError:
        raise InvalidError(f"Choose a delivery: {', '.join(Delivery)}.", field="delivery") from None
    why = refused_delivery(rule_set, kind)
    if why is not None:
        raise InvalidError(why, field="delivery")
    return kind


def _had_pilot(session: Session, rule_set_id: int, approval_id: int) -> bool:
    found = session.scalar(
        select(RuleSetExport.export_id).where(
            RuleSetExport.rule_set_id == rule_set_id,
            RuleSetExport.approval_id == approval_id,
            RuleSetExport.ring == "pilot",
        )
    )
    return found is not None
