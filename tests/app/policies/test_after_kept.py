"""Figures of an export that are kept: the same as fresh ones, told as of when, and made anew when they must be."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import Engine, select

from agent.contract.facts import (
    CollectionInForce,
    Method,
    Outcome,
    PolicySet,
    Probe,
    ProbeSet,
    Specimen,
    TokenSet,
)
from agent.contract.facts import Engine as Blocker
from app.applocker.write import render_rule
from app.audit.record import SYSTEM
from app.db.base import now
from app.db.session import session_scope
from app.fleet.tables import HostGroup
from app.policies import after_kept
from app.policies.after import read_after
from app.policies.after_kept import KeptAfter, after_of, ask_for_after, find_after, from_kept, to_kept
from app.policies.export import Export, plan_export
from app.policies.record_export import record_export
from app.work.rows import FAILED, cancel_work, end_work
from app.work.run import do_work
from tests.app.policies.conftest import DEVELOPERS, Fleet

PATTERN = "venv-python"
EXPORT = plan_export([f"{PATTERN}=path"], DEVELOPERS)
DEFAULT = '<FilePathRule Id="921cc481-6e17-4653-8f75-050b80acca20" Name="Windows" Description="" UserOrGroupSid="S-1-1-0" Action="Allow"><Conditions><FilePathCondition Path="%WINDIR%\\*"/></Conditions></FilePathRule>'  # noqa: E501 - XML as a policy has it, on one line


def policy(export: Export | None = None, **more: object) -> PolicySet:
    rules = tuple(render_rule(one.rule) for one in export.rules if one.collection == "Exe") if export else ()
    return PolicySet(collections={"Exe": CollectionInForce(mode="Enabled", rules=(DEFAULT, *rules))}, **more)


def probes(outcome: Outcome, engine: Blocker | None = None) -> ProbeSet:
    one = Probe(pattern=PATTERN, specimen=Specimen.CANARY, method=Method.START, outcome=outcome, engine=engine)
    return ProbeSet(catalogue="etag", probes=(one,))


BLOCKED, OPEN = probes(Outcome.BLOCKED, Blocker.APPLOCKER), probes(Outcome.ALLOWED)
MEMBER = TokenSet(sids=("S-1-1-0", DEVELOPERS))


@pytest.fixture
def export_id(database: Engine) -> int:
    """An export that reached three users of five, and is open for two of them."""
    with session_scope(database) as session:
        fleet = Fleet(session)
        for found in (OPEN, OPEN, BLOCKED):
            fleet.add(policy(EXPORT), found, MEMBER)
        fleet.add(policy(), BLOCKED, MEMBER)
        fleet.add(policy(), None, MEMBER)
        return record_export(session, EXPORT).id


def work_out(database: Engine, export_id: int, group_id: int | None = None) -> None:
    with session_scope(database) as session:
        asked = ask_for_after(session, export_id, actor=SYSTEM, group_id=group_id)
    assert asked.claim is not None
    do_work(database, asked.work.id, asked.claim, after_of(export_id, group_id))


def found(database: Engine, export_id: int, group_id: int | None = None) -> KeptAfter:
    with session_scope(database, writes=False) as session:
        return find_after(session, export_id, group_id=group_id)


def test_kept_figures_are_the_fresh_ones(database: Engine, export_id: int) -> None:
    assert found(database, export_id).is_due
    before = now()
    work_out(database, export_id)
    kept = found(database, export_id)
    with session_scope(database, writes=False) as session:
        fresh = read_after(session, export_id)
    assert kept.after == fresh
    assert (fresh.base, fresh.open, fresh.blocked, fresh.untold, len(fresh.reasons)) == (5, 2, 2, 1, 2)
    assert from_kept(to_kept(fresh)) == fresh
    assert kept.as_of is not None
    assert before <= kept.as_of <= now()
    assert not kept.is_due
    assert not kept.is_of_other_policies


def test_old_figures_stay_and_are_due(database: Engine, export_id: int, monkeypatch: pytest.MonkeyPatch) -> None:
    work_out(database, export_id)
    with session_scope(database) as session:
        Fleet(session, hosts=5).add(policy(), OPEN, MEMBER, group="Pilot")
    kept = found(database, export_id)
    assert not kept.is_due
    assert kept.after is not None
    assert kept.after.open == 2, "what probes found since then is not in them"
    monkeypatch.setattr(after_kept, "FRESH", timedelta(0))
    kept = found(database, export_id)
    assert kept.is_due
    assert kept.after is not None
    work_out(database, export_id)
    again = found(database, export_id).after
    assert again is not None
    assert again.open == 3


def test_other_policies_make_them_due(database: Engine, export_id: int, monkeypatch: pytest.MonkeyPatch) -> None:
    work_out(database, export_id)
    with session_scope(database) as session:
        Fleet(session, hosts=5).add(policy(csp="present-unreadable"), OPEN, MEMBER, group="Pilot")
    kept = found(database, export_id)
    assert kept.is_of_other_policies
    assert not kept.is_due, "at most once a minute"
    monkeypatch.setattr(after_kept, "AT_MOST_EVERY", timedelta(0))
    assert found(database, export_id).is_due
    work_out(database, export_id)
    kept = found(database, export_id)
    assert not kept.is_of_other_policies
    assert not kept.is_due


def test_figures_stay_while_newer_ones_are_worked_out_and_when_that_fails(
    database: Engine, export_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    work_out(database, export_id)
    figures = found(database, export_id).after
    monkeypatch.setattr(after_kept, "FRESH", timedelta(0))
    with session_scope(database) as session:
        asked = ask_for_after(session, export_id, actor=SYSTEM)
    kept = found(database, export_id)
    assert kept.work is not None
    assert kept.work.is_under_way
    assert not kept.is_due, "once at a time"
    assert kept.after == figures
    with session_scope(database) as session:
        end_work(session, asked.work.id, asked.claim or "", FAILED, problem="The disk is full.")
    kept = found(database, export_id)
    assert not kept.is_due, "what failed is begun anew by who asks for it"
    assert kept.after == figures
    with session_scope(database) as session:
        asked = ask_for_after(session, export_id, actor=SYSTEM)
        cancel_work(session, asked.work.id, actor=SYSTEM)
    kept = found(database, export_id)
    assert (kept.is_due, kept.after) == (False, figures)
    # A server that was stopped meanwhile cut it off: that is begun anew.
    with session_scope(database) as session:
        asked = ask_for_after(session, export_id, actor=SYSTEM)
        end_work(session, asked.work.id, asked.claim or "", "interrupted")
    assert found(database, export_id).is_due


def test_another_export_has_figures_of_its_own(database: Engine, export_id: int) -> None:
    work_out(database, export_id)
    with session_scope(database) as session:
        other = record_export(session, plan_export(["managed-python-exe=path"], DEVELOPERS)).id
    assert found(database, other).after is None
    assert found(database, other).is_due


def test_a_group_has_figures_of_its_own(database: Engine, export_id: int) -> None:
    with session_scope(database) as session:
        Fleet(session, hosts=5).add(policy(EXPORT), OPEN, MEMBER, group="Pilot")
        pilot = session.scalars(select(HostGroup.id).where(HostGroup.name == "Pilot")).one()
    work_out(database, export_id)
    assert found(database, export_id, pilot).is_due
    work_out(database, export_id, pilot)
    of_all, of_group = found(database, export_id).after, found(database, export_id, pilot)
    assert of_all is not None
    assert of_group.after is not None
    assert (of_all.base, of_all.open) == (6, 3)
    assert (of_group.after.base, of_group.after.open, of_group.is_due) == (1, 1, False)
    assert of_group.work is not None
    assert of_group.work.title == f"What became of export {export_id} in group Pilot"
    assert found(database, export_id + 1, pilot).after is None
