"""One look at the workstation: find uv, try the patterns, and say what was found as fact sets."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from agent import __version__
from agent._platform import (
    CANARY,
    PLATFORM,
    ask_safer,
    is_link,
    long_name,
    mode_allows_start,
    open_place,
    query_service,
    read_channel,
    read_controls,
    read_host,
    read_machine_variables,
    read_policy,
    read_principal,
    read_trust,
    start_suspended,
)
from agent.canary import WINDOWS_LIBRARY, WINDOWS_SCRIPT
from agent.catalogue import load
from agent.catalogue.load import own
from agent.contract.canonical import Json
from agent.contract.facts import Engine, FactSet, Method, Outcome, Probe, ProbeSet, Specimen, Why
from agent.contract.messages import Report
from agent.controls import choose_method, find_controls
from agent.discover import Discovery, discover
from agent.events import MAX_WINDOWS, Window, path_digest
from agent.kept import adopt_kept
from agent.language import find_language_mode
from agent.loading import Loader
from agent.occasion import Memory, choose_trials, fingerprint, is_occasion, remember
from agent.options import Options
from agent.placement import Journal, new_token
from agent.policy import PolicyInForce, named_sids, policy_set, rule_ids
from agent.principals import ADMINISTRATORS, Principal, reportable_token
from agent.probe import Surroundings, leave_to_server, run_trials
from agent.recognise import is_known_uv
from agent.report import Facts, build_environment, build_report, build_uv, facts_of, read_settings
from agent.service import APPID_SERVICE, service_word
from agent.spool import Progress, load_pending, load_progress, locked, new_epoch, next_number, save_progress
from agent.trials import Trial, find_launcher, plan_trials, probe_key
from agent.uses import Counting, choose_uses, count_uses, without_use_records
from agent.watch import Reading, add_counts, read_events

LOCAL_SYSTEM = "S-1-5-18"


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What one look at the workstation found, before anything is made of it. `probed`: False if it was no occasion."""

    discovery: Discovery
    policy: PolicyInForce
    principal: Principal
    probes: tuple[Probe, ...]
    facts: Facts
    memory: Memory
    probed: bool
    reading: Reading
    counting: Counting = field(default_factory=Counting)
    windows: tuple[Window, ...] = ()
    left_behind: tuple[str, ...] = ()

    @property
    def findings(self) -> tuple[str, ...]:
        """What a person should know of the event logs, each once."""
        return tuple(dict.fromkeys((*self.reading.findings, *self.counting.findings)))

    @property
    def left_out(self) -> dict[str, int]:
        """Events that stay here, counted by reason."""
        counts = dict(self.reading.left_out)
        add_counts(counts, self.counting.left_out)
        return counts


def observe(
    options: Options,
    environment: Mapping[str, str],
    state_dir: Path,
    *,
    memory: Memory,
    now: float,
    records: Mapping[str, int],
    uses: Mapping[str, int] | None = None,
    windows: tuple[Window, ...] = (),
    force: bool = False,
    catalogue_dir: Path | None = None,
) -> Observation:
    """Look at the workstation once, under the state directory's lock.

    `records`: the last event read, by channel; `uses`: of rules, as counted so far;
    `windows`: when earlier cycles probed; `force`: probe on any occasion;
    `catalogue_dir`: where the server's catalogue is kept, the state directory if nothing else is said.

    raises: OSError if the state cannot be kept
    """
    journal = Journal(state_dir / "journal.json", is_link)
    journal.sweep()
    catalogue_refused = adopt_kept(catalogue_dir or state_dir)
    catalogue = load()
    policy, principal = read_policy(), read_principal()
    host = read_host(__version__)
    controls = find_controls(read_controls())
    starts = choose_method(options.method, controls) == "start"
    asked_at = time.time()
    discovery = discover(
        catalogue,
        environment,
        configured_roots=options.project_roots,
        search_projects=options.search_projects,
        may_ask=options.ask_uv and starts and principal.sid != LOCAL_SYSTEM,
        long_name=long_name,
        is_known=lambda path: PLATFORM != "windows" or is_known_uv(path, own(), read_trust, baseline=options.known_uv),
    )
    # Asking a uv that is refused makes an event as well.
    asked = Window(
        begun=asked_at,
        ended=time.time(),
        process_id=os.getpid(),
        paths=frozenset(path_digest(uv.path) for uv in discovery.uvs),
    )
    windows = (*windows, asked)[-MAX_WINDOWS:]
    surroundings = build_environment(
        discovery, read_settings(discovery), read_machine_variables(), open_place=open_place
    )
    sets: list[FactSet] = [
        build_uv(discovery, read_trust),
        policy_set(policy),
        reportable_token(principal, named_sids(policy)),
        host,
    ]
    probes: tuple[Probe, ...] = ()
    left: tuple[str, ...] = ()
    probed = False
    language_mode = ""
    if options.probing and starts and PLATFORM == "windows" and principal.sid != LOCAL_SYSTEM:
        language_mode = find_language_mode(state_dir, sets[1].digest(), environment)
    if options.probing:
        trials = plan_trials(
            catalogue,
            discovery.machine,
            new_token(),
            uvs=[uv.path for uv in discovery.uvs],
            launcher=find_launcher(discovery.machine),
        )
        answers_to: list[Json] = [
            catalogue.etag,
            starts,
            list(discovery.machine.project_roots),
            *(facts.digest() for facts in (surroundings, *sets)),
        ]
        found = fingerprint([*answers_to, *(_trial_state(trial) for trial in trials)])
        probes = tuple(memory.probes[trial.key] for trial in trials if trial.key in memory.probes)
        probed = starts and (force or is_occasion(memory, found, now=now))
        if not starts:
            # What stands where is told, and nothing of what was once tried: the server judges by the policy.
            probes = tuple(leave_to_server(trial) for trial in trials if not trial.is_second)
        elif probed:
            begun = time.time()
            chosen = trials if force else choose_trials(trials, memory, now=now)
            loader = Loader()
            try:
                made = run_trials(
                    chosen,
                    surroundings=_surroundings_of_trials(loader),
                    journal=journal,
                    policy=policy,
                    is_administrator=principal.is_administrator,
                    is_full_administrator=ADMINISTRATORS in principal.groups,
                    last=memory.probes,
                )
            finally:
                loader.close()
                left = journal.clear()
            tried = frozenset(path_digest(path) for trial in chosen for path in trial.paths)
            window = Window(begun=begun, ended=time.time(), process_id=os.getpid(), paths=tried)
            windows = (*windows, window)[-MAX_WINDOWS:]
            known = {probe_key(probe): probe for probe in (*probes, *made)}
            probes = tuple(known.values())
            first = [trial for trial in trials if not trial.is_second]
            memory = remember(
                memory,
                known,
                found=found,
                starts=sum(trial.starts for trial in chosen),
                complete=all(trial in chosen and trial.key in known for trial in first),
                now=now,
            )
    reading, counting = Reading(records=without_use_records(records)), Counting()
    if options.read_events:
        reading = read_events(
            read_channel, reading.records, machine=discovery.machine, sid=principal.sid, windows=windows
        )
    if options.read_events and options.count_rule_uses:
        counting = count_uses(
            read_channel,
            records,
            uses or {},
            rules=rule_ids(policy),
            windows={principal.sid.upper(): windows},
            now=now,
        )
    return Observation(
        discovery=discovery,
        policy=policy,
        principal=principal,
        probes=probes,
        # How the logs and a service stand changes by the hour, so it was not among what gives a reason to probe.
        facts=facts_of(
            [
                ProbeSet(catalogue=catalogue.etag, probes=probes, refused=catalogue_refused),
                replace(
                    surroundings,
                    event_logs={**reading.states, **counting.states},
                    language_mode=language_mode,
                    controls=() if starts else controls,
                ),
                *sets[:-1],
                replace(host, appid_service=service_word(query_service(APPID_SERVICE))),
            ]
        ),
        memory=memory,
        probed=probed,
        reading=reading,
        counting=counting,
        windows=windows,
        left_behind=left,
    )


def _surroundings_of_trials(loader: Loader) -> Surroundings:
    return Surroundings(
        platform=PLATFORM,
        canary=CANARY,
        start=start_suspended,
        mode_allows=mode_allows_start,
        library=WINDOWS_LIBRARY,
        script=WINDOWS_SCRIPT,
        load=loader.load,
        ask=ask_safer,
    )


def _trial_state(trial: Trial) -> list[Json]:
    """What of a trial could change its answer: a canary is always the same, a real file is its size and time."""
    state: list[Json] = [trial.pattern, trial.specimen.value, trial.collection]
    if trial.specimen in (Specimen.REAL, Specimen.LAUNCHER):
        for path in (trial.source,) if trial.source else trial.paths:
            try:
                status = Path(path).stat()
            except OSError:
                continue
            state.append([path, status.st_size, str(status.st_mtime_ns)])
    return state


def preview(options: Options, environment: Mapping[str, str]) -> tuple[Report, Observation]:
    """The report that the next cycle would send, with all bodies; nothing is sent or spooled.

    What was started is remembered, so that the next cycle does not take the events of it for somebody's own.
    """
    with locked(options.state_dir) as state_dir:
        progress = load_progress(state_dir)
        observation = observe(
            options,
            environment,
            state_dir,
            memory=recall(progress),
            now=time.time(),
            records=progress.records,
            uses=progress.uses,
            windows=recall_windows(progress),
            force=True,
        )
        save_progress(state_dir, replace(progress, windows=tuple(window_json(each) for each in observation.windows)))
        report = build_report(
            observation.facts,
            report_id=str(uuid.uuid4()),
            epoch=progress.epoch or new_epoch(progress, now=time.time()),
            sequence=next_number(progress, load_pending(state_dir)),
            now=time.time(),
            subject=observation.principal.sid,
            sightings=observation.reading.sightings,
            rule_uses=choose_uses(observation.counting.uses, progress.uses_told, now=time.time()),
        )
        return report, observation


def recall_windows(progress: Progress) -> tuple[Window, ...]:
    """When the last cycles probed; what cannot be read is forgotten."""
    found = []
    for value in progress.windows:
        try:
            found.append(
                Window(
                    begun=float(value["begun"]),
                    ended=float(value["ended"]),
                    process_id=int(value["process_id"]),
                    paths=frozenset(map(str, value["paths"])),
                )
            )
        except (KeyError, ValueError, TypeError):
            continue
    return tuple(found)


def window_json(window: Window) -> dict[str, object]:
    """A window as it is kept."""
    return {
        "begun": window.begun,
        "ended": window.ended,
        "process_id": window.process_id,
        "paths": sorted(window.paths),
    }


def recall(progress: Progress) -> Memory:
    """What the last cycles left to remember; outcomes that cannot be read are forgotten."""
    found = {}
    for value in progress.probes:
        try:
            probe = Probe(
                pattern=value["pattern"],
                specimen=Specimen(value["specimen"]),
                method=Method(value["method"]),
                outcome=Outcome(value["outcome"]),
                why=Why(value["why"]) if value.get("why") else None,
                engine=Engine(value["engine"]) if value.get("engine") else None,
                error=value.get("error"),
                collection=value.get("collection"),
            )
        except (KeyError, ValueError, TypeError, AttributeError):
            continue
        found[probe_key(probe)] = probe
    return Memory(
        probes=found,
        fingerprint=progress.fingerprint if len(found) == len(progress.probes) else "",
        probed_at=progress.probed_at,
        day=progress.starts_day,
        starts=progress.starts,
    )
