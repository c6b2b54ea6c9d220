"""One look at the workstation: find uv, try the patterns, and say what was found as fact sets."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from agent import __version__
from agent._platform import (
    CANARY,
    PLATFORM,
    is_link,
    mode_allows_start,
    read_host,
    read_machine_variables,
    read_policy,
    read_principal,
    read_trust,
    start_suspended,
)
from agent.catalogue import load
from agent.contract.facts import Engine, Method, Outcome, Probe, ProbeSet, Specimen, Why
from agent.contract.messages import Report
from agent.discover import Discovery, discover
from agent.options import Options
from agent.placement import Journal, new_token
from agent.policy import PolicyInForce, named_sids, policy_set
from agent.principals import Principal, reportable_token
from agent.probe import Surroundings, plan_trials, run_trials
from agent.report import Facts, build_environment, build_report, build_uv, facts_of, read_settings
from agent.spool import Progress, load_pending, load_progress, locked, new_epoch, next_number

LOCAL_SYSTEM = "S-1-5-18"


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What one look at the workstation found, before anything is made of it."""

    discovery: Discovery
    policy: PolicyInForce
    principal: Principal
    probes: tuple[Probe, ...]
    facts: Facts
    left_behind: tuple[str, ...] = ()


def observe(
    options: Options,
    environment: Mapping[str, str],
    state_dir: Path,
    *,
    last: Mapping[str, Probe] | None = None,
) -> Observation:
    """Look at the workstation once, under the state directory's lock. raises: OSError if the state cannot be kept"""
    journal = Journal(state_dir / "journal.json", is_link)
    journal.sweep()
    catalogue = load()
    policy, principal = read_policy(), read_principal()
    discovery = discover(
        catalogue,
        environment,
        configured_roots=options.project_roots,
        search_projects=options.search_projects,
        may_ask=options.ask_uv and principal.sid != LOCAL_SYSTEM,
    )
    probes: tuple[Probe, ...] = ()
    left: tuple[str, ...] = ()
    if options.probing:
        trials = plan_trials(catalogue, discovery.machine, new_token(), uvs=[uv.path for uv in discovery.uvs])
        try:
            probes = run_trials(
                trials,
                surroundings=Surroundings(
                    platform=PLATFORM, canary=CANARY, start=start_suspended, mode_allows=mode_allows_start
                ),
                journal=journal,
                policy=policy,
                is_administrator=principal.is_administrator,
                last=last,
            )
        finally:
            left = journal.clear()
    sets = [
        ProbeSet(catalogue=catalogue.etag, probes=probes),
        build_uv(discovery, read_trust),
        build_environment(discovery, read_settings(discovery), read_machine_variables()),
        policy_set(policy),
        reportable_token(principal, named_sids(policy)),
        read_host(__version__),
    ]
    return Observation(
        discovery=discovery,
        policy=policy,
        principal=principal,
        probes=probes,
        facts=facts_of(sets),
        left_behind=left,
    )


def preview(options: Options, environment: Mapping[str, str]) -> tuple[Report, Observation]:
    """The report that the next cycle would send, with all bodies; nothing is sent or spooled."""
    with locked(options.state_dir) as state_dir:
        progress = load_progress(state_dir)
        observation = observe(options, environment, state_dir, last=remembered(progress))
        report = build_report(
            observation.facts,
            report_id=str(uuid.uuid4()),
            epoch=progress.epoch or new_epoch(progress, now=time.time()),
            sequence=next_number(progress, load_pending(state_dir)),
            now=time.time(),
            subject=observation.principal.sid,
        )
        return report, observation


def remembered(progress: Progress) -> dict[str, Probe]:
    """The outcomes of the last cycle by pattern; what cannot be read is forgotten."""
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
        found[probe.pattern] = probe
    return found
