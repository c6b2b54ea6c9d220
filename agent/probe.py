"""Trying: what came of each trial. Nothing that is started or loaded runs.

Processes are created suspended and ended, libraries are loaded without their entry point being called, and of a script
the policy is asked, as PowerShell asks it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from agent.contract.facts import Engine, Method, Outcome, Probe, Specimen, Why
from agent.judge import Engines, SaferAnswer, judge_errno, judge_error, judge_placing, judge_safer, severity
from agent.placement import Journal, place, plan_placement
from agent.policy import PolicyInForce, explain_allowed, names_canary
from agent.trials import COLLECTION, MAX_LAUNCHER_BYTES, Trial

METHODS: Mapping[str, Method] = {"Exe": Method.START, "Dll": Method.LOAD, "Script": Method.SAFER}


def _ask_nobody(_path: str) -> SaferAnswer:
    return SaferAnswer(identified=False, error=50)  # not supported


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a try needs of the platform.

    `start`, `load`: a path's error number; `ask`: what the system says of a script; `mode_allows`: whether a file's
    mode permits a start. `canary`, `library`, `script`: what is put down where nothing real stands.
    """

    platform: str
    canary: bytes
    start: Callable[[str], int]
    mode_allows: Callable[[str], bool]
    library: bytes = b""
    script: bytes = b""
    load: Callable[[str], int] = lambda _path: 50
    ask: Callable[[str], SaferAnswer] = field(default=_ask_nobody)


def run_trials(
    trials: Iterable[Trial],
    *,
    surroundings: Surroundings,
    journal: Journal,
    policy: PolicyInForce,
    is_administrator: bool,
    is_full_administrator: bool | None = None,
    last: Mapping[str, Probe] | None = None,
) -> tuple[Probe, ...]:
    """Try everything. `last`: earlier probes by their trial's key; they stay where the moment was in the way.

    `is_administrator`: to rules for programs, which see a limited administrator's full token; `is_full_administrator`:
    to all other rules, by the token at hand; the same if nothing is said.
    """
    trials = tuple(trials)
    canary_is_named = names_canary(policy)
    placed = (trial for trial in trials if trial.specimen in (Specimen.CANARY, Specimen.LAUNCHER))
    if canary_is_named:
        placed = (trial for trial in trials if trial.specimen is Specimen.LAUNCHER)
    journal.add(plan_placement(path) for trial in placed for path in trial.paths)
    full = is_administrator if is_full_administrator is None else is_full_administrator
    probes = []
    for trial in trials:
        if canary_is_named and trial.specimen is Specimen.CANARY:
            # A rule for the canary itself: what happens to it says nothing of any other program.
            probes.append(_untried(trial, Outcome.UNKNOWN, Why.CANARY_NAMED))
            continue
        engines = Engines(applocker=policy.has_rules(trial.collection), srp=policy.srp)
        probe = _run_trial(trial, surroundings, journal, engines)
        if probe is None:
            earlier = (last or {}).get(trial.key)
            if earlier is not None:
                probes.append(earlier)
            continue
        if probe.outcome is Outcome.ALLOWED:
            counts_as_one = is_administrator if trial.collection == COLLECTION else full
            why = explain_allowed(policy, trial.collection, is_administrator=counts_as_one)
            probe = replace(probe, why=why)
        probes.append(probe)
    return tuple(probes)


def _untried(trial: Trial, outcome: Outcome, why: Why | None = None) -> Probe:
    return Probe(
        pattern=trial.pattern,
        specimen=trial.specimen,
        method=Method.NONE,
        outcome=outcome,
        why=why,
        collection=trial.collection,
    )


def leave_to_server(trial: Trial) -> Probe:
    """A pattern that is not tried: what stands there is told, and the server judges by the policy in force."""
    if not trial.paths:
        return _untried(trial, trial.otherwise)
    return replace(_untried(trial, Outcome.UNKNOWN), method=Method.POLICY)


def _run_trial(trial: Trial, surroundings: Surroundings, journal: Journal, engines: Engines) -> Probe | None:
    if not trial.paths:
        return _untried(trial, trial.otherwise)
    results = []
    for path in trial.paths:
        if trial.specimen is Specimen.REAL:
            result = _try_file(path, trial.collection, surroundings, engines)
        else:
            result = _try_placed(path, trial, surroundings, journal, engines)
        if result is not None:
            results.append(result)
    if not results:
        return None
    # Where several files stand for a pattern, the worst that happened to one of them is what a person meets.
    outcome, engine, error = min(results, key=lambda result: severity(result[0]))
    return Probe(
        pattern=trial.pattern,
        specimen=trial.specimen,
        method=METHODS[trial.collection],
        outcome=outcome,
        engine=engine,
        error=error,
        collection=trial.collection,
    )


_Result = tuple[Outcome, Engine | None, int]


def _try_file(path: str, collection: str, surroundings: Surroundings, engines: Engines) -> _Result | None:
    if collection == "Script":
        answer = surroundings.ask(path)
        asked = judge_safer(answer, engines)
        return None if asked is None else (*asked, answer.error)
    error = surroundings.load(path) if collection == "Dll" else surroundings.start(path)
    if surroundings.platform == "windows":
        judged = judge_error(error, engines)
    else:
        judged = judge_errno(error, mode_allows=surroundings.mode_allows(path) if error else True)
    return None if judged is None else (*judged, error)


def _try_placed(
    path: str, trial: Trial, surroundings: Surroundings, journal: Journal, engines: Engines
) -> _Result | None:
    """Put the specimen down, try it, take it away."""
    placement = plan_placement(path)
    try:
        content = _content(trial, surroundings)
        if trial.specimen is Specimen.LAUNCHER:
            placement = replace(placement, copy_bytes=len(content))
        journal.add((placement,))
        place(placement, content)
        return _try_file(path, trial.collection, surroundings, engines)
    except OSError as error:
        number = getattr(error, "winerror", None) or error.errno or -1
        judged = judge_placing(number, is_windows=surroundings.platform == "windows")
        return None if judged is None else (*judged, number)
    finally:
        journal.remove(placement)


def _content(trial: Trial, surroundings: Surroundings) -> bytes:
    if trial.specimen is Specimen.LAUNCHER and trial.source is not None:
        with Path(trial.source).open("rb") as file:
            return file.read(MAX_LAUNCHER_BYTES)
    return {"Dll": surroundings.library, "Script": surroundings.script}.get(trial.collection, surroundings.canary)
