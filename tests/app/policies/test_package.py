"""Packages of approved rule sets on both databases: fit for their delivery, the same bytes, only what was approved."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Engine, select

from agent.contract.facts import CollectionInForce, PolicySet
from app.applocker.read import parse_policy
from app.audit.record import Actor
from app.audit.tables import AuditEntry
from app.db.session import session_scope
from app.errors import ConflictError, InvalidError, NotFoundError
from app.fleet.tables import FactSet
from app.policies import bundle as bundle_module
from app.policies.arrival import read_arrival
from app.policies.base_policies import Origin, add_base_policy, take_seen_policy
from app.policies.package import Package, export_rule_set, get_package, get_package_file, list_packages
from app.policies.queries_exports import page_exports
from app.policies.queries_rule_sets import get_rule_set, list_approvals
from app.policies.review import approve, review_of, submit_for_review
from app.policies.rule_sets import Group, add_to_rule_set, choose_for_item, set_details, set_terms
from app.policies.simulations import ask_for_simulation, run_simulation
from app.policies.tables_rule_sets import RuleSetPackage

ADA = Actor(kind="account", name="ada@example.com")
BEN = Actor(kind="account", name="ben@example.com")
GROUPS = [Group(sid=f"S-1-5-21-1004336348-1177238915-682003330-{number}", name=f"G{number}") for number in range(1, 9)]
DEFAULT = '<FilePathRule Action="Allow" Description="" Id="921cc481-6e17-4653-8f75-050b80acca20" Name="Programs" UserOrGroupSid="S-1-1-0"><Conditions><FilePathCondition Path="%PROGRAMFILES%\\*"/></Conditions></FilePathRule>'  # noqa: E501 - XML as a policy has it, on one line


def drafted(
    engine: Engine,
    base_policy: str,
    *patterns: str,
    origin: Origin = Origin.GPO,
    kinds: dict[str, str] | None = None,
    groups: list[Group] = GROUPS[:1],
    base_id: int | None = None,
) -> int:
    with session_scope(engine) as session:
        made = add_to_rule_set(session, patterns=patterns, actor=ADA).rule_set_id
        if base_id is None:
            base_id = add_base_policy(session, base_policy.encode(), name="base", origin=origin, actor=ADA).id
        set_terms(session, made, base_id=base_id, groups=groups, actor=ADA)
        for pattern, kind in (kinds or {}).items():
            choose_for_item(session, made, pattern, kind=kind, actor=ADA)
    return made


def approved(engine: Engine, rule_set_id: int) -> int:
    with session_scope(engine) as session:
        simulation = ask_for_simulation(session, rule_set_id, actor=ADA)
    run_simulation(engine, simulation)
    with session_scope(engine) as session:
        submit_for_review(session, rule_set_id, actor=ADA)
        digest = review_of(session, get_rule_set(session, rule_set_id)).digest
        assert digest is not None
        approve(session, rule_set_id, digest=digest, actor=BEN)
    return rule_set_id


def export(engine: Engine, rule_set_id: int, delivery: str, ring: str = "all") -> tuple[int, dict[str, bytes]]:
    with session_scope(engine) as session:
        export_id = export_rule_set(session, rule_set_id, delivery=delivery, ring=ring, actor=ADA)
    with session_scope(engine, writes=False) as session:
        bundle = get_package(session, rule_set_id, export_id)
        assert bundle.content == get_package(session, rule_set_id, export_id).content
    return export_id, files_of(bundle)


def files_of(bundle: Package) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(bundle.content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_a_package_is_kept_and_given_again(database: Engine, base_policy: str) -> None:
    made = approved(database, drafted(database, base_policy, "venv-python", "managed-python-exe", groups=GROUPS))
    export_id, files = export(database, made, "same-gpo")
    evidence = json.loads(files["evidence.json"])
    assert evidence["rule_set"]["approval"]["by"] == "ben@example.com"
    assert [one["sid"] for one in evidence["rule_set"]["groups"]] == [group.sid for group in GROUPS]
    rules = {rule.sid for _, rule in parse_policy(files["rules.xml"]).rules()}
    assert rules == {group.sid for group in GROUPS}
    with session_scope(database, writes=False) as session:
        (line,) = list_packages(session, made)
        assert (line.export_id, line.ring, line.holds) == (export_id, "all", True)
        (listed,) = page_exports(session).lines
        assert listed.sid == f"{GROUPS[0].sid} and 7 more"
        assert read_arrival(session, export_id).rules
        bundle = get_package(session, made, export_id)
        assert get_package_file(bundle, "rules.xml") == files["rules.xml"]
        for missing in ("nothing.xml", "../rules.xml"):
            with pytest.raises(NotFoundError):
                get_package_file(bundle, missing)
        with pytest.raises(NotFoundError):
            get_package(session, made + 1, export_id)


def test_intune_gets_the_groupings_collections_whole(database: Engine, base_policy: str) -> None:
    made = approved(database, drafted(database, base_policy, "venv-python", origin=Origin.INTUNE))
    with pytest.raises(InvalidError):
        export(database, made, "same-gpo")
    _, files = export(database, made, "intune")
    collection = parse_policy(files["intune/EXE.xml"]).collections[0]
    old = {rule.id for _, rule in parse_policy(base_policy).rules()}
    assert len(collection.rules) > len({rule.id for rule in collection.rules} & old) == 2
    assert "rules.xml" not in files
    assert "apply.ps1" not in files


def test_a_base_seen_in_force_gives_added_rules_alone(database: Engine, base_policy: str, make_fleet: type) -> None:
    with session_scope(database) as session:
        make_fleet(session).add(PolicySet(collections={"Exe": CollectionInForce(mode="Enabled", rules=(DEFAULT,))}))
        seen = session.scalars(select(FactSet.id).where(FactSet.kind == 4)).one()
        base = take_seen_policy(session, seen, actor=ADA)
        assert not base.is_whole
    made = approved(database, drafted(database, base_policy, "venv-python", base_id=base.id))
    _, files = export(database, made, "same-gpo")
    assert "whole-policy.xml" not in files
    assert b"921cc481" not in files["rules.xml"]
    assert b"    '921cc481-6e17-4653-8f75-050b80acca20'" in files["apply.ps1"]  # what the target may hold
    _, separate = export(database, made, "separate-gpo")
    assert b"'Exe 921cc481-6e17-4653-8f75-050b80acca20'" in separate["check-machine.ps1"]
    with pytest.raises(InvalidError):
        export(database, made, "intune")


def test_moved_folders_may_need_no_rule(database: Engine, base_policy: str) -> None:
    made = approved(database, drafted(database, base_policy, "tool-env-python", kinds={"tool-env-python": "relocate"}))
    _, files = export(database, made, "same-gpo")
    assert b'name="UV_TOOL_DIR"' in files["environment.xml"]
    assert "rules.xml" not in files  # the base allows Program Files already


def test_nothing_leaves_without_an_approval(database: Engine, base_policy: str) -> None:
    made = drafted(database, base_policy, "venv-python")
    with pytest.raises(ConflictError):
        export(database, made, "same-gpo")


def test_a_package_stays_as_it_left_whatever_release_and_key_come(
    database: Engine, base_policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = approved(database, drafted(database, base_policy, "venv-python"))
    with session_scope(database) as session:
        key = Ed25519PrivateKey.generate()
        export_id = export_rule_set(session, made, delivery="same-gpo", ring="all", key=key, actor=ADA)
        left = get_package(session, made, export_id)
        detail = session.scalars(select(AuditEntry.detail).where(AuditEntry.action == "rule_set.exported")).one()
    assert detail["package_sha256"] == left.sha256 == hashlib.sha256(left.content).hexdigest()
    assert left.is_as_it_left
    assert "manifest.sig" in files_of(left)
    monkeypatch.setattr(bundle_module, "render_review", lambda *_, **__: "as a later release words it")
    other_key = Ed25519PrivateKey.generate()
    with session_scope(database) as session:
        assert get_package(session, made, export_id, key=other_key) == left
        row = session.get(RuleSetPackage, export_id)
        assert row is not None
        session.delete(row)  # as for exports of before packages were kept
        session.flush()
        anew = get_package(session, made, export_id, key=other_key)
        assert not anew.is_as_it_left
        assert anew.sha256 != left.sha256
        assert get_package_file(anew, "rules.xml") == get_package_file(left, "rules.xml")


def test_a_kept_package_that_was_changed_is_refused(database: Engine, base_policy: str) -> None:
    made = approved(database, drafted(database, base_policy, "venv-python"))
    export_id, _ = export(database, made, "same-gpo")
    with session_scope(database) as session:
        row = session.get(RuleSetPackage, export_id)
        assert row is not None
        row.content = row.content.replace(b"AppLockerPolicy", b"AppLockerPolicx", 1)
        session.flush()
        with pytest.raises(ConflictError):
            get_package(session, made, export_id)


def test_an_approval_keeps_the_words_under_which_it_was_given(database: Engine, base_policy: str) -> None:
    made = drafted(database, base_policy, "venv-python")

    def say(name: str, owner: str, change: str, year: int) -> None:
        with session_scope(database) as session:
            review_by = datetime(year, 3, 1, tzinfo=UTC)
            set_details(
                session,
                made,
                name=name,
                purpose=f"why {year}",
                owner=owner,
                change_number=change,
                review_by=review_by,
                actor=ADA,
            )

    say("uv for developers", "ada@example.com", "CHG0012345", 2027)
    approved(database, made)
    say("Something else", "eve@example.com", "CHG9999999", 2099)
    _, files = export(database, made, "same-gpo")
    page, evidence = files["approval.html"].decode(), json.loads(files["evidence.json"])["rule_set"]
    for then, later in (
        ("uv for developers", "Something else"),
        ("ada@example.com", "eve@example.com"),
        ("CHG0012345", "CHG9999999"),
        ("2027-03-01", "2099-03-01"),
        ("why 2027", "why 2099"),
    ):
        assert then in page
        assert later not in page
        assert then in evidence.values()
        assert later not in evidence.values()
    with session_scope(database, writes=False) as session:
        (held,) = list_approvals(session, made)
    assert (held.name, held.owner, held.change_number) == ("uv for developers", "ada@example.com", "CHG0012345")


EVERYONE = Group(sid="S-1-1-0", name="Everyone")
WDAC_BASE = "a244370e-44c9-4c06-b551-f6016e563076"


@pytest.mark.parametrize("groups", [GROUPS[:1], GROUPS[:3]])
def test_app_control_gets_no_policy_that_carries_nothing(
    database: Engine, base_policy: str, groups: list[Group]
) -> None:
    made = approved(database, drafted(database, base_policy, "venv-python", "managed-python-exe", groups=groups))
    with session_scope(database) as session, pytest.raises(InvalidError, match="knows no users") as refused:
        export_rule_set(session, made, delivery="same-gpo", ring="all", wdac_base_id=WDAC_BASE, actor=ADA)
    assert refused.value.field == "wdac_base_id"


def test_app_control_gets_the_rules_for_everyone_alone_and_names_the_others(database: Engine, base_policy: str) -> None:
    groups = [EVERYONE, GROUPS[0]]
    made = approved(database, drafted(database, base_policy, "venv-python", groups=groups))
    with session_scope(database) as session:
        # Nothing covers the group's rule here: each group has its own.
        added = review_of(session, get_rule_set(session, made)).draft.added
        export_id = export_rule_set(session, made, delivery="same-gpo", ring="all", wdac_base_id=WDAC_BASE, actor=ADA)
        files = files_of(get_package(session, made, export_id))
    everyones = [rule for rule in added if rule.rule.sid == EVERYONE.sid]
    assert everyones
    assert files["wdac-supplemental.xml"].count(b"<Allow ") == len(everyones)
    notes = files["wdac-notes.txt"].decode()
    assert notes.startswith(f"{len(everyones)} rules were carried over.")
    assert notes.count("Left out: ") == len(added) - len(everyones)
    readme = files["README.txt"].decode()
    assert "only rules for everyone (S-1-1-0) are in it" in readme
