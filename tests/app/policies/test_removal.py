"""Taking rules out, in the form that each delivery needs: a script that knows its target, or Intune's collections."""

from __future__ import annotations

import io
import re
import zipfile

import pytest
from sqlalchemy import Engine

from app.applocker.model import Policy
from app.applocker.read import parse_policy
from app.audit.record import Actor
from app.db.session import session_scope
from app.errors import InvalidError
from app.policies.base_policies import Origin, add_base_policy
from app.policies.bundle import MAX_INTUNE_BYTES, Delivery
from app.policies.export import Export, plan_export
from app.policies.kept import kept_rule
from app.policies.package import export_rule_set, get_package
from app.policies.queries_rule_sets import get_rule_set
from app.policies.record_export import record_export
from app.policies.removal import removal_files
from app.policies.review import approve, review_of, submit_for_review
from app.policies.rule_sets import remove_rules
from app.policies.simulations import ask_for_simulation, run_simulation
from app.policies.target_scripts import policy_state

ADA = Actor(kind="account", name="ada@example.com")
BEN = Actor(kind="account", name="ben@example.com")


@pytest.fixture
def export(developers: str, base_policy: str) -> Export:
    """Rules that are in force by now: with them the base is `export.xml`."""
    return plan_export(["venv-python", "managed-python-exe"], developers, base=base_policy)


def packed(engine: Engine, export: Export, origin: Origin, delivery: Delivery) -> dict[str, bytes]:
    """The package that takes an export's rules out of the policy that it gave."""
    with session_scope(engine) as session:
        record_export(session, export)
        base = add_base_policy(session, export.xml.encode(), name="base", origin=origin, actor=ADA)
        made = remove_rules(
            session,
            [{**kept_rule(rule), "id": rule.id} for rule in export.added],
            name="Take out",
            purpose="",
            base_id=base.id,
            actor=ADA,
        )
        simulation = ask_for_simulation(session, made, actor=ADA)
    run_simulation(engine, simulation)
    with session_scope(engine) as session:
        submit_for_review(session, made, actor=ADA)
        digest = review_of(session, get_rule_set(session, made)).digest
        assert digest is not None
        approve(session, made, digest=digest, actor=BEN)
        export_id = export_rule_set(session, made, delivery=delivery, ring="all", actor=ADA)
        with zipfile.ZipFile(io.BytesIO(get_package(session, made, export_id).content)) as archive:
            return {name: archive.read(name) for name in archive.namelist()}


def collection(content: bytes) -> Policy:
    return parse_policy(f'<AppLockerPolicy Version="1">{content.decode()}</AppLockerPolicy>')


def values_in(script: bytes, name: str) -> list[str]:
    found = re.search(rf"\${name} = @\((.*?)\)", script.decode(), re.DOTALL)
    assert found is not None
    return re.findall(r"'([^']*)'", found[1])


def test_intune_gets_the_collections_without_the_rules_and_those_with_them(
    database: Engine, export: Export, base_policy: str
) -> None:
    files = packed(database, export, Origin.INTUNE, Delivery.INTUNE)
    assert not [name for name in files if name.endswith(".ps1")]
    assert {name for name in files if name.startswith("intune")} == {"intune/EXE.xml", "intune-before/EXE.xml"}
    new, old = collection(files["intune/EXE.xml"]), collection(files["intune-before/EXE.xml"])
    assert new.collections == (parse_policy(base_policy).collection("Exe"),)
    assert old.collections == (export.policy.collection("Exe"),)
    readme = files["README.txt"].decode()
    assert "/EXE/Policy  =  intune/EXE.xml" in readme
    assert "put back the values from intune-before" in readme
    assert "SAME grouping" in readme


def test_a_script_takes_the_policy_that_was_reviewed_and_no_other(database: Engine, export: Export) -> None:
    files = packed(database, export, Origin.GPO, Delivery.SAME_GPO)
    script = files["remove.ps1"]
    assert values_in(script, "ExpectedStates") == [policy_state(export.policy)]
    assert values_in(script, "RuleIds") == sorted(rule.id for rule in export.added)
    assert not [name for name in files if name.startswith("intune")]


def test_an_object_of_its_own_has_another_state_than_the_base(export: Export) -> None:
    state = policy_state(export.policy)
    separate = removal_files(export.added, None, Delivery.SEPARATE_GPO, states=[state])["remove.ps1"]
    assert values_in(separate, "ExpectedStates") == []
    assert b"$IsSeparate = 'yes' -eq 'yes'" in separate
    same = removal_files(export.added, None, Delivery.LOCAL, states=[state], seen_ids=["b", "a"])["remove.ps1"]
    assert values_in(same, "ExpectedStates") == [state]
    assert values_in(same, "SeenIds") == ["a", "b"]


def test_what_would_leave_a_collection_empty_or_is_too_large_is_refused(
    export: Export, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = Policy(collections=parse_policy(plan_export(["venv-python"], "S-1-1-0").xml).collections)
    rules = plan_export(["venv-python"], "S-1-1-0").added
    with pytest.raises(InvalidError, match="everything of that kind would run"):
        removal_files(rules, alone, Delivery.INTUNE)
    monkeypatch.setattr("app.policies.removal.MAX_INTUNE_BYTES", MAX_INTUNE_BYTES // 10_000)
    with pytest.raises(InvalidError, match="Intune takes 35"):
        removal_files(export.added, export.policy, Delivery.INTUNE)
