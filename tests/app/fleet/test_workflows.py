"""uv commands judged from outcomes: one function, with which the tallies, the filter and the simulation must agree."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from sqlalchemy import Engine, event, select

from agent import catalogue
from app.db.session import session_scope
from app.errors import InvalidError, NotFoundError
from app.fleet.facts import read_set
from app.fleet.make import make_fleet
from app.fleet.obstacles import MAX_WORD, after_opening, rows_of, verdict_of, words_of
from app.fleet.probes import PatternFact
from app.fleet.queries_hosts import HostFilter, list_hosts
from app.fleet.queries_workflows import read_workflow_matrix, simulate_workflows
from app.fleet.standing import Standing
from app.fleet.tables import FactSet, Subject
from app.fleet.workflows import VERDICTS, Obstacle, WorkflowState, judge_workflows

EVERY = [pattern.id for pattern in catalogue.load().patterns if pattern.is_executed]


def facts(**outcomes: str) -> list[PatternFact]:
    """Everything allowed, but for those named (with `_` for `-`)."""
    named = {name.replace("_", "-"): outcome for name, outcome in outcomes.items()}
    return [
        PatternFact(name, named.get(name, "allowed"), "applocker" if named.get(name) == "blocked" else "")
        for name in EVERY
    ]


def state_of(workflow: str, told: list[PatternFact], version: str | None = None) -> WorkflowState:
    return next(one for one in judge_workflows(told, version) if one.workflow == workflow)


def opened(told: list[PatternFact], patterns: set[str]) -> list[PatternFact]:
    """The outcomes as they would be if AppLocker allowed these patterns: what it refused, and what was not tried."""
    stay = [
        fact
        for fact in told
        if fact.pattern not in patterns or fact.engine not in ("", "applocker") or fact.outcome == "denied"
    ]
    there = {fact.pattern for fact in stay}
    return [*stay, *(PatternFact(name, "allowed", "") for name in patterns - there)]


def test_all_open_all_works() -> None:
    assert {one.verdict for one in judge_workflows(facts())} == {"works"}


def test_a_closed_need_blocks_and_is_named() -> None:
    state = state_of("run-entrypoint", facts(venv_entrypoint_exe="blocked"))
    assert state.verdict == "blocked"
    assert state.blocked_by == (Obstacle(pattern="venv-entrypoint-exe", engine="applocker"),)
    # What closes one command leaves the others alone.
    assert state_of("uvx", facts(venv_entrypoint_exe="blocked")).verdict == "works"


def test_a_closed_part_limits() -> None:
    state = state_of("sync-wheels", facts(venv_entrypoint_exe="denied"))
    assert (state.verdict, state.can_run) == ("partly", True)
    assert [one.pattern for one in state.limited_by] == ["venv-entrypoint-exe"]


def test_what_was_not_tried_is_never_said_to_work() -> None:
    assert state_of("sync-wheels", facts(venv_python="unknown")).verdict == "unknown"
    assert state_of("sync-wheels", [PatternFact("venv-entrypoint-exe", "allowed", "")]).untried == ("venv-python",)
    # ... but one refusal is enough to know that it does not.
    assert state_of("run-entrypoint", facts(venv_python="unknown", venv_entrypoint_exe="blocked")).verdict == "blocked"


def test_a_uv_that_lacks_the_command() -> None:
    assert state_of("format", facts(), "0.8.12").verdict == "missing"
    assert state_of("format", facts(), "0.8.13").verdict == "works"
    assert state_of("format", facts(), "0.13.8+corp").verdict == "works"


def test_a_word_says_of_any_outcomes_what_judging_them_says() -> None:
    chance = random.Random(5)
    outcomes = ("allowed", "audited", "blocked", "denied", "absent", "unknown", "error")
    verdicts: set[str] = set()
    for _ in range(400):
        weights = [chance.random() ** 3 for _ in outcomes]
        told = [
            PatternFact(
                name, chance.choices(outcomes, weights)[0], chance.choice(("", "applocker", "applocker", "wdac"))
            )
            for name in EVERY
            if chance.random() < 0.9
        ]
        words = dict(words_of(told))
        patterns = set(chance.sample(EVERY, chance.choice((1, 2, 5, 30))))
        for before, after in zip(judge_workflows(told), judge_workflows(opened(told, patterns)), strict=True):
            word = words[before.workflow]
            assert len(word) <= MAX_WORD
            assert verdict_of(word) == before.verdict, (word, told)
            assert after_opening(before.workflow, word, patterns) == after.verdict, (word, patterns, told)
            verdicts_counted, words_counted = rows_of(before.workflow, word)
            assert ((before.workflow, "open") in verdicts_counted) == before.can_run
            assert words_counted or before.verdict == after.verdict, "a word that is not counted can't change"
            verdicts.add(f"{before.verdict} {after.verdict}")
    assert len(verdicts) >= 8


@pytest.fixture
def made(database: Engine) -> Engine:
    make_fleet(database, 400, seed=7, profile="hostile")
    return database


def judged(engine: Engine) -> list[tuple[int, int, list[PatternFact]]]:
    """(host, group, outcomes) of every subject that counts: the slow way."""
    with session_scope(engine, writes=False) as session:
        rows = session.execute(
            select(Subject.host_id, Subject.group_id, FactSet.body)
            .join(FactSet, FactSet.id == Subject.probes_id)
            .where(Subject.standing == Standing.COUNTED.value)
        ).all()
    return [(host, group, list(read_set("probes", body).patterns)) for host, group, body in rows]


def test_the_matrix_counts_what_each_subject_would_say(made: Engine) -> None:
    expected: Counter[tuple[int, str, str]] = Counter()
    for _host, group, told in judged(made):
        expected.update((group, state.workflow, state.verdict) for state in judge_workflows(told))
    statements: list[str] = []
    event.listen(made, "before_cursor_execute", lambda *args: statements.append(args[2]))
    with session_scope(made, writes=False) as session:
        matrix = read_workflow_matrix(session)
    assert len([one for one in statements if one.startswith("SELECT")]) <= 6
    counted: Counter[tuple[int, str, str]] = Counter()
    for line in matrix.lines:
        for group, cell in zip(matrix.groups, line.groups, strict=True):
            counted.update({(group.id, line.workflow, verdict): getattr(cell, verdict) for verdict in VERDICTS})
        assert line.total.blocked == sum(cell.blocked for cell in line.groups)
    assert +counted == expected
    blocked = next(line for line in matrix.lines if line.total.blocked)
    assert blocked.total.blocked_by[0].engine == "applocker"
    assert blocked.total.blocked_by[0].pattern in catalogue.load().workflow(blocked.workflow).needs


def test_the_host_list_fits_each_verdict(made: Engine) -> None:
    by_host: dict[int, dict[str, str]] = {
        host: {state.workflow: state.verdict for state in judge_workflows(told)} for host, _group, told in judged(made)
    }
    with session_scope(made, writes=False) as session:
        for workflow in ("sync-build", "tool-install", "run-entrypoint"):
            for verdict in VERDICTS:
                wanted = HostFilter(workflow=workflow, verdict=verdict, standing=Standing.COUNTED)
                found = {row.id for row in list_hosts(session, wanted, rows=1000).rows}
                assert found == {host for host, said in by_host.items() if said[workflow] == verdict}, (
                    workflow,
                    verdict,
                )
        for wanted in (HostFilter(workflow="nothing"), HostFilter(workflow="uvx", verdict="maybe")):
            with pytest.raises(InvalidError):
                list_hosts(session, wanted)
        with pytest.raises(NotFoundError):
            read_workflow_matrix(session, 9999)


def test_what_opening_patterns_would_change(made: Engine) -> None:
    patterns = {"cache-builds-venv-python", "venv-python"}
    expected = Counter(
        state.workflow
        for _h, _g, told in judged(made)
        for state in judge_workflows(opened(told, patterns))
        if state.can_run
    )
    with session_scope(made, writes=False) as session:
        changes = {one.workflow: one for one in simulate_workflows(session, patterns)}
    assert {name: one.after.can_run for name, one in changes.items() if one.after.can_run} == dict(expected)
    assert changes["sync-build"].gained > 0
    assert changes["uvx"].gained == 0
    before = Counter(
        state.workflow for _h, _g, told in judged(made) for state in judge_workflows(told) if state.can_run
    )
    assert {name: one.before.can_run for name, one in changes.items() if one.before.can_run} == dict(before)


def test_openings_in_one_group_read_two_tallies(made: Engine) -> None:
    patterns = set(EVERY)
    group = Counter(group for _host, group, _told in judged(made)).most_common(1)[0][0]
    expected = Counter(
        (state.workflow, state.verdict)
        for _h, of, told in judged(made)
        if of == group
        for state in judge_workflows(opened(told, patterns))
    )
    statements: list[str] = []
    event.listen(made, "before_cursor_execute", lambda *args: statements.append(args[2]))
    with session_scope(made, writes=False) as session:
        changes = simulate_workflows(session, patterns, group)
    assert len([one for one in statements if one.startswith("SELECT")]) == 2
    found = Counter({(one.workflow, verdict): getattr(one.after, verdict) for one in changes for verdict in VERDICTS})
    assert +found == expected


def test_what_runs_in_part_is_counted_within_what_runs() -> None:
    counted = [
        row for workflow, word in words_of(facts(venv_entrypoint_exe="blocked")) for row in rows_of(workflow, word)[0]
    ]
    assert {("sync-wheels", "open"), ("sync-wheels", "partly"), ("run-entrypoint", "blocked")} <= set(counted)
    assert ("uvx", "works") not in counted
