"""Trying the catalogue's patterns: what is tried where, and what came of it.

For every pattern that uv executes a program of, the real file is started where there is one, else the canary. Nothing
that is started runs: processes are created suspended and ended.
"""

# ruff: noqa: PTH114, PTH116, PTH117
# Paths are text here: the catalogue's globs are, and no step may normalise them behind our back.
from __future__ import annotations

import fnmatch
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from agent.canary import WINDOWS_AUTHENTICODE_SHA256
from agent.catalogue import Catalogue, Machine, Pattern, canary_paths, classify, expand
from agent.contract.facts import Engine, Method, Outcome, Probe, Specimen
from agent.judge import Engines, judge_errno, judge_error, judge_placing, severity
from agent.placement import Journal, has_marker, place, plan_placement
from agent.policy import PolicyInForce, explain_allowed, names_hash
from agent.search import find_files

COLLECTION = "Exe"
MAX_FILES = 2
MAX_CANARIES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What one pattern is tried with: paths of real files or of canaries to be; without any, `otherwise` is told."""

    pattern: str
    specimen: Specimen
    paths: tuple[str, ...] = ()
    otherwise: Outcome = Outcome.UNKNOWN


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a try needs of the platform: `start` gives an error number, `mode_allows` whether a mode permits a start."""

    platform: str
    canary: bytes
    start: Callable[[str], int]
    mode_allows: Callable[[str], bool]


def plan_trials(catalogue: Catalogue, machine: Machine, token: str, *, uvs: Sequence[str] = ()) -> tuple[Trial, ...]:
    """One trial for every pattern that uv starts programs of, in the catalogue's order. `uvs`: every uv found."""
    return tuple(
        _plan_trial(pattern, machine, token, uvs)
        for pattern in catalogue.patterns
        if pattern.is_executed and COLLECTION in pattern.collections and _places(pattern, machine)
    )


def _places(pattern: Pattern, machine: Machine) -> tuple[str, ...]:
    return pattern.templates if machine.platform == "windows" else pattern.posix


def _plan_trial(pattern: Pattern, machine: Machine, token: str, uvs: Sequence[str]) -> Trial:
    is_uv = pattern.group == "uv-binary"
    globs = [glob for glob in expand(pattern, machine) if os.path.isabs(glob)]
    files = find_real_files(pattern, globs, machine, known=uvs if is_uv else ())
    if files:
        return Trial(pattern=pattern.id, specimen=Specimen.REAL, paths=files)
    places = canary_paths(pattern, machine, token)[:MAX_CANARIES]
    if places:
        return Trial(pattern=pattern.id, specimen=Specimen.CANARY, paths=places)
    # Without a place to look at (no project root, no such variable) nothing is known; an empty place is an answer.
    otherwise = Outcome.ABSENT if globs or is_uv else Outcome.UNKNOWN
    return Trial(pattern=pattern.id, specimen=Specimen.NONE, otherwise=otherwise)


def find_real_files(
    pattern: Pattern, globs: Sequence[str], machine: Machine, *, known: Sequence[str] = ()
) -> tuple[str, ...]:
    """Programs that stand at a pattern, newest first: those that the catalogue counts to this pattern and no other."""
    found = [path for path in (*known, *find_files(globs, limit=50)) if not has_marker(path)]
    if machine.platform == "windows":
        matching = [path for path in found if classify(path, machine=machine) == pattern.id]
    else:
        found = [path for path in found if path not in known or _matches_any(path, globs)]
        # A link runs where its target lies, which says nothing of the place that it is in.
        matching = [path for path in found if not os.path.islink(path) and _is_executable(path)]
    return tuple(dict.fromkeys(matching))[:MAX_FILES]


def _matches_any(path: str, globs: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(path, glob) for glob in globs)


def _is_executable(path: str) -> bool:
    try:
        return bool(os.stat(path).st_mode & 0o111)
    except OSError:
        return False


def run_trials(
    trials: Iterable[Trial],
    *,
    surroundings: Surroundings,
    journal: Journal,
    policy: PolicyInForce,
    is_administrator: bool,
    last: Mapping[str, Probe] | None = None,
) -> tuple[Probe, ...]:
    """Try everything. `last`: earlier probes by pattern; they stay where the moment was in the way."""
    trials = tuple(trials)
    if names_hash(policy, WINDOWS_AUTHENTICODE_SHA256):
        # A rule for the canary itself: what happens to it says nothing of any other program.
        trials = tuple(
            Trial(pattern=trial.pattern, specimen=Specimen.NONE) if trial.specimen is Specimen.CANARY else trial
            for trial in trials
        )
    journal.add(plan_placement(path) for trial in trials if trial.specimen is Specimen.CANARY for path in trial.paths)
    engines = Engines(applocker=policy.has_rules(COLLECTION), srp=policy.srp)
    probes = []
    for trial in trials:
        probe = _run_trial(trial, surroundings, journal, engines)
        if probe is None:
            earlier = (last or {}).get(trial.pattern)
            if earlier is not None:
                probes.append(earlier)
            continue
        if probe.outcome is Outcome.ALLOWED:
            probe = replace(probe, why=explain_allowed(policy, COLLECTION, is_administrator=is_administrator))
        probes.append(probe)
    return tuple(probes)


def _run_trial(trial: Trial, surroundings: Surroundings, journal: Journal, engines: Engines) -> Probe | None:
    if not trial.paths:
        return Probe(
            pattern=trial.pattern,
            specimen=Specimen.NONE,
            method=Method.NONE,
            outcome=trial.otherwise,
            collection=COLLECTION,
        )
    results = []
    for path in trial.paths:
        if trial.specimen is Specimen.CANARY:
            result = _try_canary(path, surroundings, journal, engines)
        else:
            result = _try_file(path, surroundings, engines)
        if result is not None:
            results.append(result)
    if not results:
        return None
    # Where several files stand for a pattern, the worst that happened to one of them is what a person meets.
    outcome, engine, error = min(results, key=lambda result: severity(result[0]))
    return Probe(
        pattern=trial.pattern,
        specimen=trial.specimen,
        method=Method.START,
        outcome=outcome,
        engine=engine,
        error=error,
        collection=COLLECTION,
    )


_Result = tuple[Outcome, Engine | None, int]


def _try_file(path: str, surroundings: Surroundings, engines: Engines) -> _Result | None:
    error = surroundings.start(path)
    if surroundings.platform == "windows":
        judged = judge_error(error, engines)
    else:
        judged = judge_errno(error, mode_allows=surroundings.mode_allows(path) if error else True)
    return None if judged is None else (*judged, error)


def _try_canary(path: str, surroundings: Surroundings, journal: Journal, engines: Engines) -> _Result | None:
    placement = plan_placement(path)
    journal.add((placement,))
    try:
        place(placement, surroundings.canary)
        return _try_file(path, surroundings, engines)
    except OSError as error:
        number = getattr(error, "winerror", None) or error.errno or -1
        judged = judge_placing(number, is_windows=surroundings.platform == "windows")
        return None if judged is None else (*judged, number)
    finally:
        journal.remove(placement)
