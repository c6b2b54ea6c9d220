"""Rules that could go: unused, shadowed, of a uv that is gone; the draft that takes them out, and what it would do."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from agent.contract.facts import CollectionInForce, Method, Outcome, PolicySet, Probe, ProbeSet, Specimen, TokenSet
from app.applocker.write import render_rule
from app.audit.record import Actor
from app.audit.tables import AuditEntry
from app.db.base import now, to_ms
from app.db.session import session_scope
from app.errors import ConflictError, InvalidError
from app.fleet.rule_uses import DAY_MS
from app.fleet.tables import Daily, VersionTally
from app.fleet.tables_rule_use import RuleCounted, RuleDay
from app.notices.counts import Remembered, read_counts
from app.policies.baselines import list_baseline_files
from app.policies.bundle import Delivery
from app.policies.drafts import build_draft
from app.policies.export import Export, plan_export
from app.policies.offers import list_offers
from app.policies.outcome import to_kept
from app.policies.package import export_rule_set, get_package, list_packages
from app.policies.queries_rule_sets import get_rule_set
from app.policies.record_export import record_export
from app.policies.removal import draft_removal, find_pending
from app.policies.review import approve, review_of, submit_for_review
from app.policies.rule_sets import add_to_rule_set, keep_rule, stored_now
from app.policies.simulate import simulate
from app.policies.tables import ExportRow
from app.policies.tables_rule_sets import RuleSetSimulation

MakeFleet = Callable[[Session], Any]
ADA = Actor(kind="account", name="ada@example.com")
BOB = Actor(kind="account", name="bob@example.com")
DAYS = 90
LONG_AGO = timedelta(days=200)
DEFAULT = '<FilePathRule Id="921cc481-6e17-4653-8f75-050b80acca20" Name="Windows" Description="" UserOrGroupSid="S-1-1-0" Action="Allow"><Conditions><FilePathCondition Path="%WINDIR%\\*"/></Conditions></FilePathRule>'  # noqa: E501 - XML as a policy has it, on one line
WIDE = '<FilePathRule Id="921cc481-6e17-4653-8f75-050b80acca21" Name="All of profiles" Description="" UserOrGroupSid="S-1-1-0" Action="Allow"><Conditions><FilePathCondition Path="%OSDRIVE%\\Users\\*"/></Conditions></FilePathRule>'  # noqa: E501 - XML as a policy has it, on one line


@pytest.fixture
def session(database: Engine) -> Iterator[Session]:
    with session_scope(database) as session:
        yield session


def policy(export: Export | None, *more: str) -> PolicySet:
    rules = tuple(render_rule(rule.rule) for rule in export.rules) if export else ()
    return PolicySet(collections={"Exe": CollectionInForce(mode="1", rules=(DEFAULT, *rules, *more))})


def probes(*names: str) -> ProbeSet:
    return ProbeSet(
        catalogue="x",
        probes=tuple(
            Probe(pattern=name, specimen=Specimen.CANARY, method=Method.START, outcome=Outcome.ALLOWED)
            for name in names
        ),
    )


def kept_long_ago(session: Session, export: Export, *, ago: timedelta = LONG_AGO) -> int:
    made = record_export(session, export)
    row = session.get_one(ExportRow, made.id)
    row.made_at = now() - ago
    session.flush()
    return made.id


def count_uses(session: Session, rule_ids: list[str], at: datetime, *, used: tuple[str, ...] = ()) -> None:
    """Seven hosts have counted for half a year."""
    first = to_ms(at) // DAY_MS - 180
    for rule_id in ["", *rule_ids]:
        session.add(RuleCounted(rule_id=rule_id, hosts=7))
        session.add(RuleDay(rule_id=rule_id, day=first, uses=0, hosts=7))
    for rule_id in ("", *used):
        session.add(RuleDay(rule_id=rule_id, day=to_ms(at) // DAY_MS - 3, uses=9, hosts=2))
    session.flush()


def grounds(session: Session) -> dict[str, list[str]]:
    return {
        one.rule.patterns[0]: [ground.kind for ground in one.grounds]
        for one in list_offers(session, now(), days=DAYS).offers
    }


def test_nothing_is_unused_where_nobody_counts(session: Session, make_fleet: MakeFleet, developers: str) -> None:
    export = plan_export(["venv-python=path"], developers)
    kept_long_ago(session, export)
    make_fleet(session).add(policy(export))
    found = list_offers(session, now(), days=DAYS)
    assert (found.offers, found.looked_at, found.counting, found.counted_since) == ((), 1, 0, None)


def test_what_nothing_used_is_offered_with_its_evidence(
    session: Session, make_fleet: MakeFleet, developers: str
) -> None:
    export = plan_export(["venv-python=path", "tool-bin-exe=path"], developers)
    kept_long_ago(session, export)
    fleet = make_fleet(session)
    for _ in range(3):
        fleet.add(policy(export))
    used, unused = (rule.id.lower() for rule in export.rules)
    count_uses(session, [used, unused], now(), used=(used,))
    (offer,) = list_offers(session, now(), days=DAYS).offers
    assert (offer.rule.id.lower(), offer.users) == (unused, 3)
    assert offer.grounds[0].sentence == "Nothing used it in 90 days on 7 hosts that count uses."


def test_a_young_rule_and_one_that_is_not_in_force_are_not_offered(
    session: Session, make_fleet: MakeFleet, developers: str
) -> None:
    young, nowhere = plan_export(["venv-python=path"], developers), plan_export(["tool-bin-exe=path"], developers)
    kept_long_ago(session, young, ago=timedelta(days=5))
    kept_long_ago(session, nowhere)
    make_fleet(session).add(policy(young))
    count_uses(session, [rule.id.lower() for one in (young, nowhere) for rule in one.rules], now())
    assert grounds(session) == {}


def test_a_rule_within_another_is_shadowed_only_where_that_is_everywhere(
    session: Session, make_fleet: MakeFleet, developers: str
) -> None:
    export = plan_export(["venv-python=path"], developers, project_roots=[r"%USERPROFILE%\src"])
    record_export(session, export)
    fleet = make_fleet(session)
    fleet.add(policy(export, WIDE))
    offers = list_offers(session, now(), days=DAYS).offers
    assert len(offers) == len(export.rules)
    for offer in offers:
        assert [ground.kind for ground in offer.grounds] == ["shadowed"]
        assert "“All of profiles” allows all that it allows" in offer.grounds[0].sentence
    fleet.add(policy(export))
    assert grounds(session) == {}


def test_a_uv_release_that_no_host_has_had(
    session: Session, make_fleet: MakeFleet, developers: str, trust: Any
) -> None:
    builds = [trust(1, "uv.exe", version="0.11.7"), trust(2, "uv.exe", version="0.13.8")]
    export = plan_export(["uv-exe-standalone=hash"], developers, baseline=builds)
    kept_long_ago(session, export)
    make_fleet(session).add(policy(export))
    today = to_ms(now()) // DAY_MS
    assert grounds(session) == {}, "nobody knows what was there 90 days ago"
    session.add(Daily(day=today - 100, group_id=1, what="version", name="0.11.7", value="", subjects=5))
    session.add(VersionTally(group_id=1, standing=1, version="0.13.8", subjects=5))
    session.flush()
    (offer,) = list_offers(session, now(), days=DAYS).offers
    assert offer.rule.build == "uv.exe 0.11.7"
    assert offer.grounds[0].sentence == "No host has had uv 0.11.7 for 90 days."
    session.add(Daily(day=today - 20, group_id=1, what="version", name="0.11.7", value="", subjects=1))
    session.flush()
    assert grounds(session) == {}


@pytest.fixture
def removing(session: Session, make_fleet: MakeFleet, developers: str, trust: Any) -> tuple[Session, int, Export]:
    """A draft that takes out a path rule and a hash rule, of a fleet where both are in force."""
    export = plan_export(["tool-bin-exe=path", "venv-python=hash"], developers, baseline=[trust(1, "python.exe")])
    kept_long_ago(session, export)
    fleet = make_fleet(session)
    member = TokenSet(sids=("S-1-1-0", developers))
    for _ in range(4):
        fleet.add(policy(export), probes("tool-bin-exe", "venv-python"), member)
    fleet.add(policy(export, WIDE), probes("tool-bin-exe", "venv-python"), member)
    fleet.add(policy(export), probes("tool-bin-exe", "venv-python"), TokenSet(sids=("S-1-1-0",)))
    made = draft_removal(session, [rule.id for rule in export.rules], at=now(), days=DAYS, actor=ADA)
    return session, made, export


def test_the_draft_says_what_would_be_newly_blocked(removing: tuple[Session, int, Export]) -> None:
    session, made, export = removing
    rule_set = get_rule_set(session, made)
    assert {rule.id for rule in rule_set.removes} == {rule.id for rule in export.rules}
    assert rule_set.base is not None
    assert rule_set.base.origin.value == "seen"
    draft = build_draft(rule_set, list_baseline_files(session))
    assert draft.missing == ()
    assert draft.is_ready
    found = simulate(session, rule_set, draft)
    lost = {one.pattern: one.newly_blocked for one in found.patterns if one.newly_blocked}
    # Of six users one has a rule besides that allows all in profiles, and one is not in the group.
    assert lost == {"tool-bin-exe": 4, "venv-python": 5}
    assert all(not one.newly for one in found.patterns)
    assert find_pending(session) == {rule.id.lower(): made for rule in export.rules}
    entry = session.scalars(select(AuditEntry).where(AuditEntry.action == "rule_set.rules_to_remove")).one()
    assert (entry.actor, entry.detail["rule_set"]) == ("ada@example.com", made)


def test_a_rule_may_stay_after_all(removing: tuple[Session, int, Export]) -> None:
    session, made, export = removing
    before = build_draft(get_rule_set(session, made), ()).sha256
    keep_rule(session, made, export.rules[0].id, actor=ADA)
    rule_set = get_rule_set(session, made)
    assert [rule.id for rule in rule_set.removes] == [export.rules[1].id]
    assert build_draft(rule_set, ()).sha256 != before
    with pytest.raises(ConflictError):
        add_to_rule_set(session, rule_set_id=made, patterns=["venv-python"], actor=ADA)


def test_it_is_approved_and_exported_with_a_script(database: Engine, removing: tuple[Session, int, Export]) -> None:
    session, made, export = removing
    rule_set = get_rule_set(session, made)
    draft = build_draft(rule_set, list_baseline_files(session))
    found = simulate(session, rule_set, draft)
    session.add(
        RuleSetSimulation(
            rule_set_id=made,
            asked_at=stored_now(),
            asked_by="ada",
            ended_at=stored_now(),
            draft_sha256=draft.sha256,
            sha256=found.sha256,
            result=to_kept(found),
        )
    )
    session.flush()
    reviewed = review_of(session, get_rule_set(session, made))
    assert len(reviewed.changes) == 2
    submit_for_review(session, made, actor=ADA)
    assert reviewed.digest is not None
    approve(session, made, digest=reviewed.digest, actor=BOB)
    export_id = export_rule_set(session, made, delivery=Delivery.SAME_GPO, ring="all", actor=ADA)
    bundle = get_package(session, made, export_id)
    assert bundle.content == get_package(session, made, export_id).content
    with zipfile.ZipFile(io.BytesIO(bundle.content)) as archive:
        script = archive.read("remove.ps1").decode()
        readme = archive.read("README.txt").decode()
        assert "rules.xml" not in archive.namelist()
    for rule in export.rules:
        assert f"'{rule.id.lower()}'" in script
    assert "No rule is added: remove.ps1 takes rules out." in readme
    assert list_packages(session, made)[0].rules == 0
    # That they vanish is what was wanted: it is no longer watched.
    assert not [key for key in read_counts(session, Remembered()) if key.what == "rule"]


def test_only_rules_of_ours_are_taken_out(session: Session, make_fleet: MakeFleet, developers: str) -> None:
    make_fleet(session).add(policy(None))
    for wanted in ([], ["921cc481-6e17-4653-8f75-050b80acca20"], ["x"], [str(number) for number in range(300)]):
        with pytest.raises(InvalidError):
            draft_removal(session, wanted, at=now(), days=DAYS, actor=ADA)
