"""When a workstation is probed, and how often at most."""

from __future__ import annotations

from agent.contract.facts import Method, Outcome, Probe, Specimen
from agent.occasion import (
    DAY_S,
    MAX_STARTS_A_DAY,
    Memory,
    choose_trials,
    fingerprint,
    is_occasion,
    remember,
    starts_left,
)
from agent.trials import Trial

NOW = 20_000.5 * DAY_S


def probe(pattern: str, outcome: Outcome) -> Probe:
    return Probe(pattern=pattern, specimen=Specimen.CANARY, method=Method.START, outcome=outcome)


def trials(count: int) -> tuple[Trial, ...]:
    return tuple(Trial(pattern=f"p{number}", specimen=Specimen.CANARY, paths=("/x",)) for number in range(count))


def test_only_a_change_a_day_or_a_wrong_clock_is_an_occasion() -> None:
    known = Memory(fingerprint=fingerprint(["a"]), probed_at=NOW)
    assert is_occasion(Memory(), fingerprint(["a"]), now=NOW)
    assert not is_occasion(known, fingerprint(["a"]), now=NOW)
    assert not is_occasion(known, fingerprint(["a"]), now=NOW + DAY_S - 1)
    assert is_occasion(known, fingerprint(["b"]), now=NOW + 1)
    assert is_occasion(known, fingerprint(["a"]), now=NOW + DAY_S)
    assert is_occasion(known, fingerprint(["a"]), now=NOW - 1)


def test_starts_are_counted_by_day() -> None:
    memory = remember(Memory(), {}, found="f", starts=40, complete=True, now=NOW)
    assert starts_left(memory, now=NOW) == MAX_STARTS_A_DAY - 40
    memory = remember(memory, {}, found="f", starts=20, complete=True, now=NOW + 60)
    assert starts_left(memory, now=NOW + 60) == 0
    assert starts_left(memory, now=NOW + DAY_S) == MAX_STARTS_A_DAY


def test_what_was_closed_comes_first_when_the_day_is_full() -> None:
    probes = {f"p{number} Exe canary": probe(f"p{number}", Outcome.ALLOWED) for number in range(50)}
    probes["p40 Exe canary"] = probe("p40", Outcome.BLOCKED)
    del probes["p41 Exe canary"]
    memory = Memory(probes=probes, day=int(NOW // DAY_S), starts=MAX_STARTS_A_DAY - 5)
    chosen = [trial.pattern for trial in choose_trials(trials(50), memory, now=NOW)]
    assert chosen == ["p40", "p41", "p0", "p1", "p2"]


def test_a_probing_that_did_not_fit_is_taken_up_again() -> None:
    memory = remember(Memory(), {}, found="f", starts=60, complete=False, now=NOW)
    assert is_occasion(memory, "f", now=NOW + 60)
    assert choose_trials(trials(3), memory, now=NOW + 60) == ()
    assert len(choose_trials(trials(3), memory, now=NOW + DAY_S)) == 3


def test_a_trial_of_nothing_costs_nothing() -> None:
    memory = Memory(day=int(NOW // DAY_S), starts=MAX_STARTS_A_DAY)
    absent = Trial(pattern="p", specimen=Specimen.NONE, otherwise=Outcome.ABSENT)
    assert choose_trials([absent, *trials(2)], memory, now=NOW) == (absent,)


def test_a_canary_beside_something_better_waits_for_room_and_a_question_costs_no_start() -> None:
    second = Trial(pattern="a", specimen=Specimen.CANARY, paths=("/x",), is_second=True)
    script = Trial(pattern="s", specimen=Specimen.CANARY, paths=("/y",), collection="Script")
    memory = Memory(day=int(NOW // DAY_S), starts=MAX_STARTS_A_DAY - 2)
    assert choose_trials([second, *trials(2), script], memory, now=NOW) == (*trials(2), script)
    memory = Memory(day=int(NOW // DAY_S), starts=MAX_STARTS_A_DAY - 3)
    assert choose_trials([second, *trials(2), script], memory, now=NOW) == (*trials(2), script, second)
