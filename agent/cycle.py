"""One cycle: look at the workstation, try the patterns, put a report into the spool if there is news, and deliver."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import httpx

from agent import __version__
from agent._platform import (
    CANARY,
    PLATFORM,
    is_link,
    mode_allows_start,
    read_host,
    read_machine_id,
    read_policy,
    read_principal,
    read_trust,
    start_suspended,
)
from agent.catalogue import load
from agent.client import open_client
from agent.contract.facts import Engine, Method, Outcome, Probe, ProbeSet, Specimen, Why
from agent.contract.messages import Report
from agent.delivery import Delivered, deliver, spread
from agent.discover import Discovery, discover
from agent.options import Options
from agent.placement import Journal, new_token
from agent.policy import PolicyInForce, named_sids, policy_set
from agent.principals import Principal, reportable_token
from agent.probe import Surroundings, plan_trials, run_trials
from agent.report import Facts, build_environment, build_report, build_uv, facts_of, read_settings
from agent.spool import (
    Identity,
    Progress,
    add_pending,
    cap_spool,
    hash_machine,
    load_identity,
    load_pending,
    load_progress,
    locked,
    new_epoch,
    next_number,
    save_progress,
)

LOCAL_SYSTEM = "S-1-5-18"
HEARTBEAT_S = 86_400
CLOCK_SLACK_S = 2 * 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What one look at the workstation found, before anything is made of it."""

    discovery: Discovery
    policy: PolicyInForce
    principal: Principal
    probes: tuple[Probe, ...]
    facts: Facts
    left_behind: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CycleResult:
    """What one cycle came to. `report`: the one put into the spool, None without news."""

    observation: Observation
    report: Report | None
    delivered: Delivered | None
    dropped: int = 0


class NotEnrolled(Exception):
    """There is no identity here, or it belongs to another machine."""


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
        build_environment(discovery, read_settings(discovery)),
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


def run_cycle(
    options: Options,
    environment: Mapping[str, str],
    *,
    clock: Callable[[], float] = time.time,
    transport: httpx.BaseTransport | None = None,
    force: bool = False,
) -> CycleResult:
    """One whole cycle. `force`: report also without news. raises: NotEnrolled, AgentBusy, OSError"""
    with locked(options.state_dir) as state_dir:
        identity = get_identity(state_dir)
        progress = load_progress(state_dir)
        if progress.epoch == 0:
            progress = replace(progress, epoch=new_epoch(progress, now=clock()))
            save_progress(state_dir, progress)
        observation = observe(options, environment, state_dir, last=remembered(progress))
        pending, dropped = cap_spool(load_pending(state_dir), now=clock())
        report = None
        if force or is_due(progress, observation.facts, now=clock()):
            report = build_report(
                observation.facts,
                report_id=str(uuid.uuid4()),
                epoch=progress.epoch,
                sequence=next_number(progress, pending),
                now=clock(),
                subject=observation.principal.sid,
            )
            # A report without news takes the place of one that still waits without any: one heartbeat is enough.
            if pending and pending[-1].report.sets == report.sets and not pending[-1].report.sightings:
                report = None
            else:
                add_pending(state_dir, report, now=clock())
        progress = replace(
            progress,
            sets=observation.facts.digests(),
            probes=tuple(probe.to_json() for probe in observation.probes),
            cycle_at=clock(),
            dropped=progress.dropped + dropped,
        )
        save_progress(state_dir, progress)
        host = read_host(__version__)
        with open_client(
            identity.server,
            ca_file=options.ca_file or (Path(identity.ca_file) if identity.ca_file else None),
            transport=transport,
        ) as http:
            delivered = deliver(state_dir, http, identity, progress, now=clock(), host=(host.name, host.os))
        return CycleResult(observation=observation, report=report, delivered=delivered, dropped=dropped)


def is_due(progress: Progress, facts: Facts, *, now: float) -> bool:
    """Whether a report has to be made: something changed, or it is time to be heard of."""
    if facts.digests() != dict(progress.sets):
        return True
    # A time far ahead was set by a clock that has been put right since.
    return now >= progress.next_report_at or progress.next_report_at > now + CLOCK_SLACK_S or progress.sent_at == 0.0


def next_cycle_s(options: Options, progress: Progress, host_id: str, *, now: float) -> float:
    """Seconds until the next cycle: the configured time, spread by host; sooner if a delivery is to be tried again."""
    wait_s = options.cycle_s * (0.9 + 0.2 * spread(host_id))
    if progress.failures:
        wait_s = min(wait_s, max(1.0, progress.next_report_at - now))
    return wait_s


def get_identity(state_dir: Path) -> Identity:
    """The identity of this very machine. raises: NotEnrolled"""
    identity = load_identity(state_dir)
    if identity is None:
        raise NotEnrolled("not enrolled yet: wayleave-agent enrol --server URL --secret SECRET")
    if identity.machine != hash_machine(read_machine_id()):
        raise NotEnrolled("this machine is a clone of the enrolled one, or was renamed: enrol it again")
    return identity


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
