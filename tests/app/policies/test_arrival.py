"""Exported rules are found again in reported policies, and counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from agent.contract.facts import CollectionInForce, Method, Outcome, PolicySet, Probe, ProbeSet, Specimen
from agent.contract.facts import Engine as Blocker
from app.applocker.write import render_rule
from app.db.session import session_scope
from app.errors import NotFoundError
from app.fleet.standing import Standing
from app.policies.after_judge import AfterJudge
from app.policies.arrival import read_arrival
from app.policies.export import Export, plan_export
from app.policies.record_export import record_export

MakeFleet = Callable[[Session], Any]
PATTERNS = ["managed-python-exe", "venv-python"]


@pytest.fixture
def session(database: Engine) -> Iterator[Session]:
    with session_scope(database) as session:
        yield session


def policy_set(export: Export | None, *, rules: int | None = None, csp: str = "none") -> PolicySet:
    """A reported policy with the first `rules` of an export; with no export, one that could not be read."""
    if export is None:
        return PolicySet(collections=None, csp=csp)
    texts = tuple(render_rule(rule.rule) for rule in export.rules[:rules])
    return PolicySet(collections={"Exe": CollectionInForce(mode="1", rules=texts)}, csp=csp)


def probe_set(outcome: Outcome, engine: Blocker | None = None) -> ProbeSet:
    probes = tuple(
        Probe(pattern=pattern, specimen=Specimen.CANARY, method=Method.START, outcome=outcome, engine=engine)
        for pattern in PATTERNS
    )
    return ProbeSet(catalogue="x", probes=probes)


def test_how_far_an_export_has_come(session: Session, make_fleet: MakeFleet, developers: str) -> None:
    export = plan_export(PATTERNS, developers)
    kept = record_export(session, export)
    fleet = make_fleet(session)
    opened, closed = probe_set(Outcome.ALLOWED), probe_set(Outcome.BLOCKED, Blocker.APPLOCKER)
    for _ in range(3):
        fleet.add(policy_set(export), opened)
    fleet.add(policy_set(export), probe_set(Outcome.BLOCKED, Blocker.WDAC))
    fleet.add(policy_set(export), None)
    fleet.add(policy_set(export, rules=1), closed)
    fleet.add(policy_set(export, rules=0), closed)
    fleet.add(policy_set(None), closed)
    fleet.add(policy_set(export, rules=0, csp="present-unreadable"), closed)
    fleet.add(policy_set(export), opened, standing=Standing.ADMINISTRATOR)  # counts nowhere

    arrival = read_arrival(session, kept.id)
    assert (arrival.base, arrival.arrived, arrival.partly, arrival.missing, arrival.unreadable) == (9, 5, 1, 1, 2)
    assert sorted(rule.subjects for rule in arrival.rules) == [5, 6]


def test_a_rule_that_does_something_else_under_our_id_has_not_arrived(
    session: Session, make_fleet: MakeFleet, developers: str
) -> None:
    export = plan_export(PATTERNS, developers)
    kept = record_export(session, export)
    texts = tuple(render_rule(rule.rule) for rule in export.rules)
    changes = (
        ('Path="', 'Path="*'),
        (developers, "S-1-1-0"),
        ('Action="Allow"', 'Action="Deny"'),
    )
    fleet = make_fleet(session)
    fleet.add(policy_set(export))
    for old, new in changes:
        assert old in texts[0]
        fleet.add(
            PolicySet(collections={"Exe": CollectionInForce(mode="1", rules=(texts[0].replace(old, new), texts[1]))})
        )
    # In another collection it is another rule; in both it was changed, too.
    elsewhere = CollectionInForce(mode="1", rules=(texts[0],))
    fleet.add(PolicySet(collections={"Exe": CollectionInForce(mode="1", rules=(texts[1],)), "Dll": elsewhere}))
    fleet.add(PolicySet(collections={"Exe": CollectionInForce(mode="1", rules=texts), "Dll": elsewhere}))
    # Names, descriptions and the case of a path do nothing.
    harmless = tuple(text.replace('Name="', 'Name="Renamed ').replace("%OSDRIVE%", "%osdrive%") for text in texts)
    assert harmless != texts
    fleet.add(PolicySet(collections={"Exe": CollectionInForce(mode="1", rules=harmless)}))

    arrival = read_arrival(session, kept.id)
    assert (arrival.base, arrival.arrived, arrival.changed, arrival.partly, arrival.missing) == (7, 2, 5, 0, 0)
    assert {rule.rule_id: rule.changed for rule in arrival.rules}[export.rules[0].id] == 5
    judge = AfterJudge(session, kept.id)
    assert sum(judge.has_arrived(number) for number in judge.policies) == 2


def test_ids_in_junk_have_not_arrived(session: Session, make_fleet: MakeFleet, developers: str) -> None:
    export = plan_export(PATTERNS, developers)
    kept = record_export(session, export)
    ids = [rule.id for rule in export.rules]
    other = render_rule(plan_export(["tool-bin-exe=path"], developers).rules[0].rule)
    fleet = make_fleet(session)
    for forged in (
        tuple(f'<x Id="{one}"/>' for one in ids),
        tuple(f'Id="{one}"' for one in ids),
        tuple(f'<FilePathRule Id="{one}"' for one in ids),
        (other.replace('Name="', f"Name=\"Id=&quot;{ids[0]}&quot; Id='{ids[1]}' "),),
        (f"<!-- {ids[0]} {ids[1]} -->" + other,),
    ):
        fleet.add(PolicySet(collections={"Exe": CollectionInForce(mode="1", rules=forged)}))
    arrival = read_arrival(session, kept.id)
    assert (arrival.base, arrival.arrived, arrival.partly, arrival.changed, arrival.missing) == (5, 0, 0, 0, 5)


def test_one_group_of_hosts(session: Session, make_fleet: MakeFleet, developers: str) -> None:
    export = plan_export(PATTERNS, developers)
    kept = record_export(session, export)
    fleet = make_fleet(session)
    fleet.add(policy_set(export), probe_set(Outcome.BLOCKED, Blocker.APPLOCKER), group="Pilot")
    fleet.add(policy_set(export, rules=0), probe_set(Outcome.ALLOWED), group="Rest")
    pilot = read_arrival(session, kept.id, group_id=fleet.groups["Pilot"])
    assert (pilot.base, pilot.arrived) == (1, 1)
    rest = read_arrival(session, kept.id, group_id=fleet.groups["Rest"])
    assert (rest.base, rest.arrived, rest.missing) == (1, 0, 1)


def test_an_empty_fleet_and_an_unknown_export(session: Session, developers: str) -> None:
    kept = record_export(session, plan_export(PATTERNS, developers))
    arrival = read_arrival(session, kept.id)
    assert (arrival.base, arrival.arrived) == (0, 0)
    assert {name for rule in arrival.rules for name in rule.patterns} == set(PATTERNS)
    with pytest.raises(NotFoundError):
        read_arrival(session, kept.id + 1)
