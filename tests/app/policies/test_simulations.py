"""Running simulations on both databases: one at a time, failures told, a different result voids the approval."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine

from agent.contract.facts import PolicySet, TokenSet
from app.audit.record import Actor
from app.db.session import session_scope
from app.errors import ConflictError, ForbiddenError, InvalidError
from app.fleet.make import make_fleet
from app.policies import simulations
from app.policies.base_policies import add_base_policy
from app.policies.queries_rule_sets import Simulation, find_simulation, get_rule_set, list_approvals
from app.policies.review import approve, held_approval, review_of, send_back, submit_for_review
from app.policies.rule_sets import Group, State, add_to_rule_set, choose_for_item, set_details, set_terms
from app.policies.simulations import ask_for_simulation, find_simulating, run_simulation, simulation_of
from app.work.rows import Asked, Work, cancel_work
from app.work.run import Progress, Workers

ADA = Actor(kind="account", name="ada@example.com")
BEN = Actor(kind="account", name="ben@example.com")
SID = "S-1-5-21-1004336348-1177238915-682003330-1234"


@pytest.fixture
def rule_set_id(database: Engine, base_policy: str) -> int:
    with session_scope(database) as session:
        made = add_to_rule_set(session, patterns=["venv-python"], actor=ADA).rule_set_id
        base = add_base_policy(session, base_policy.encode(), name="base", actor=ADA)
        set_terms(session, made, base_id=base.id, groups=[Group(sid=SID, name="Devs")], actor=ADA)
    return made


def ask(engine: Engine, rule_set_id: int) -> Asked:
    with session_scope(engine) as session:
        return ask_for_simulation(session, rule_set_id, actor=ADA)


def newest(engine: Engine, rule_set_id: int) -> Simulation:
    with session_scope(engine, writes=False) as session:
        found = find_simulation(session, rule_set_id)
    assert found is not None
    return found


def asked_last(engine: Engine, rule_set_id: int) -> Work:
    with session_scope(engine, writes=False) as session:
        found = find_simulating(session, rule_set_id)
    assert found is not None
    return found


def approve_it(engine: Engine, rule_set_id: int) -> str:
    with session_scope(engine) as session:
        submit_for_review(session, rule_set_id, actor=ADA)
        digest = review_of(session, get_rule_set(session, rule_set_id)).digest
        assert digest is not None
        approve(session, rule_set_id, digest=digest, actor=BEN)
    return digest


def test_one_at_a_time_and_its_result_is_kept(database: Engine, rule_set_id: int) -> None:
    make_fleet(database, 30)
    first = ask(database, rule_set_id)
    with pytest.raises(ConflictError):
        ask(database, rule_set_id)
    assert asked_last(database, rule_set_id).is_under_way
    run_simulation(database, first)
    assert asked_last(database, rule_set_id).state == "done"
    found = newest(database, rule_set_id)
    assert found.result["base"] > 0
    assert found.asked_by == ADA.name
    run_simulation(database, first)  # it ran already: nothing happens
    assert newest(database, rule_set_id) == found


def test_a_thread_runs_it_while_pages_ask(database: Engine, rule_set_id: int) -> None:
    make_fleet(database, 10)
    asked, workers = ask(database, rule_set_id), Workers(database, patience_s=30)
    workers.start_work(asked, simulation_of(asked.work))
    assert workers.wait_for(asked.work).state == "done"
    workers.stop()
    assert newest(database, rule_set_id).sha256


def test_a_failure_is_told_and_the_last_result_stays(
    database: Engine, rule_set_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("out of luck")

    run_simulation(database, ask(database, rule_set_id))
    before = newest(database, rule_set_id)
    monkeypatch.setattr(simulations, "simulate", fail)
    run_simulation(database, ask(database, rule_set_id))
    found = asked_last(database, rule_set_id)
    assert found.state == "failed"
    assert "log" in (found.problem or "")
    assert "luck" not in (found.problem or "")
    assert newest(database, rule_set_id) == before


def test_cancelled_while_the_fleet_is_judged_it_keeps_nothing(
    database: Engine, rule_set_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole way: another connection cancels, the next stretch of the fleet is not judged, nothing is kept."""
    asked = ask(database, rule_set_id)
    assert asked.claim is not None
    make_fleet(database, 10)
    heard: list[int] = []

    def tell(self: Progress, doing: str, done: int = 0, total: int = 0) -> None:
        heard.append(total)
        if total:
            with session_scope(database) as session:
                cancel_work(session, asked.work.id, actor=BEN)
        self._told_s = 0.0
        real(self, doing, done, total)

    real = Progress.tell
    monkeypatch.setattr(Progress, "tell", tell)
    run_simulation(database, asked)
    assert len(heard) == 2  # after the cancelled step there is none
    found = asked_last(database, rule_set_id)
    assert (found.state, found.problem) == ("cancelled", "Cancelled by ben@example.com.")
    with session_scope(database, writes=False) as session:
        assert find_simulation(session, rule_set_id) is None


def test_a_draft_that_is_not_ready_is_not_simulated(database: Engine) -> None:
    with session_scope(database) as session:
        made = add_to_rule_set(session, patterns=["venv-python"], actor=ADA).rule_set_id
    with pytest.raises(InvalidError):
        ask(database, made)


def test_a_result_that_differs_voids_the_approval(database: Engine, rule_set_id: int, make_fleet: type) -> None:
    run_simulation(database, ask(database, rule_set_id))
    approve_it(database, rule_set_id)
    run_simulation(database, ask(database, rule_set_id))
    with session_scope(database, writes=False) as session:
        assert held_approval(session, rule_set_id) is not None  # the same came out
    with session_scope(database) as session:
        make_fleet(session).add(PolicySet(collections={}), None, TokenSet(sids=("S-1-1-0",)))
    run_simulation(database, ask(database, rule_set_id))
    with session_scope(database, writes=False) as session:
        assert held_approval(session, rule_set_id) is None
        (approval,) = list_approvals(session, rule_set_id)
        assert approval.voided_why == "A later simulation came out differently."
        assert get_rule_set(session, rule_set_id).state is State.IN_REVIEW


def test_approvals_are_by_others_and_for_what_was_seen(database: Engine, rule_set_id: int) -> None:
    run_simulation(database, ask(database, rule_set_id))
    with session_scope(database) as session:
        submit_for_review(session, rule_set_id, actor=ADA)
        digest = review_of(session, get_rule_set(session, rule_set_id)).digest
        assert digest is not None
        with pytest.raises(ForbiddenError):
            approve(session, rule_set_id, digest=digest, actor=ADA)
        with pytest.raises(ConflictError):
            approve(session, rule_set_id, digest="0" * 64, actor=BEN)
    with session_scope(database) as session:
        approve(session, rule_set_id, digest=digest, actor=BEN)
    with session_scope(database) as session:
        set_details(session, rule_set_id, name="n", purpose="", owner="o", change_number="C", review_by=None, actor=ADA)
        assert held_approval(session, rule_set_id) is not None  # words change no rule
        send_back(session, rule_set_id, actor=ADA)
        assert held_approval(session, rule_set_id) is None


def test_a_draft_that_changed_has_to_be_simulated_again(database: Engine, rule_set_id: int) -> None:
    run_simulation(database, ask(database, rule_set_id))
    with session_scope(database) as session:
        choose_for_item(session, rule_set_id, "venv-python", kind="broad", actor=ADA)
        reviewed = review_of(session, get_rule_set(session, rule_set_id))
        assert reviewed.digest is None
        assert any("run the simulation again" in text for text in reviewed.missing)
        with pytest.raises(InvalidError):
            submit_for_review(session, rule_set_id, actor=ADA)
