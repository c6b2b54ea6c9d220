"""One cycle: look at the workstation, put a report into the spool if there is news, and have it delivered."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from agent import __version__
from agent._platform import read_host, read_machine_account, read_machine_id
from agent.contract.messages import Newcomer, Report
from agent.observe import Observation, observe, recall, recall_windows, window_json
from agent.options import Options
from agent.report import Facts, build_report
from agent.schedule import spread
from agent.spool import (
    Delivered,
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
    save_identity,
    save_progress,
)
from agent.uses import choose_uses, remember_told

CLOCK_SLACK_S = 2 * 86_400


class Deliver(Protocol):
    """Brings what waits to the server: `delivery.deliver_over_network`, given from outside to load it only then."""

    def __call__(
        self,
        state_dir: Path,
        identity: Identity,
        progress: Progress,
        *,
        now: float,
        host: Newcomer,
        ca_file: Path | None,
    ) -> Delivered: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CycleResult:
    """What one cycle came to. `report`: the one put into the spool, None without news."""

    observation: Observation
    report: Report | None
    delivered: Delivered
    dropped: int = 0


class NotEnrolled(Exception):
    """There is no identity here, or it belongs to another machine and cannot be renewed."""


class Revoked(Exception):
    """The server has revoked this agent: it stops until it is enrolled again."""


def run_cycle(
    options: Options,
    environment: Mapping[str, str],
    *,
    deliver: Deliver,
    clock: Callable[[], float] = time.time,
    force: bool = False,
) -> CycleResult:
    """One whole cycle. `force`: probe, report and deliver now, whatever was before or was asked for.

    raises: NotEnrolled, Revoked, AgentBusy, OSError
    """
    with locked(options.state_dir) as state_dir:
        identity = get_identity(state_dir, ephemeral=options.ephemeral)
        progress = load_progress(state_dir)
        if progress.revoked:
            raise Revoked(progress.trouble or "revoked by the server")
        if is_other_machine(state_dir, identity):
            progress = forget_other_machine(state_dir, progress)
            save_progress(state_dir, progress)
            save_identity(state_dir, identity)
        if progress.epoch == 0:
            progress = replace(progress, epoch=new_epoch(progress, now=clock()))
            save_progress(state_dir, progress)
        observation = observe(
            # What the server stopped stays stopped until it says otherwise, also without it and after a restart.
            replace(options, probing=options.probing and not progress.stopped),
            environment,
            state_dir,
            memory=recall(progress),
            now=clock(),
            records=progress.records,
            uses=progress.uses,
            windows=recall_windows(progress),
            force=force,
        )
        pending, dropped = cap_spool(load_pending(state_dir), now=clock())
        report = None
        reading, counting = observation.reading, observation.counting
        if force or reading.sightings or is_due(progress, observation.facts, now=clock()):
            report = build_report(
                observation.facts,
                report_id=str(uuid.uuid4()),
                epoch=progress.epoch,
                sequence=next_number(progress, pending),
                now=clock(),
                subject=observation.principal.sid,
                sightings=reading.sightings,
                rule_uses=choose_uses(counting.uses, progress.uses_told, now=clock()),
            )
            # A report without news takes the place of one that still waits without any: one heartbeat is enough.
            waits = pending[-1].report if pending else None
            if waits is not None and waits.sets == report.sets and not (waits.has_news or report.has_news):
                report = None
            else:
                add_pending(state_dir, report, now=clock())
        progress = replace(
            progress,
            sets=observation.facts.digests(),
            probes=tuple(probe.to_json() for probe in observation.memory.probes.values()),
            records={**reading.records, **counting.records},
            uses=counting.uses,
            uses_told=remember_told(progress.uses_told, report.rule_uses if report else (), now=clock())
            if options.count_rule_uses
            else {},
            windows=tuple(window_json(window) for window in observation.windows),
            left_out=_added(progress.left_out, observation.left_out),
            findings=observation.findings,
            fingerprint=observation.memory.fingerprint,
            probed_at=observation.memory.probed_at,
            starts_day=observation.memory.day,
            starts=observation.memory.starts,
            cycle_at=clock(),
            dropped=progress.dropped + dropped,
        )
        save_progress(state_dir, progress)
        waiting = load_pending(state_dir)
        delivered = Delivered(identity=identity, progress=progress, left=len(waiting))
        if waiting and (force or may_deliver(progress, now=clock())):
            delivered = deliver(
                state_dir,
                identity,
                progress,
                now=clock(),
                host=newcomer(ephemeral=options.ephemeral),
                ca_file=options.ca_file,
            )
        return CycleResult(observation=observation, report=report, delivered=delivered, dropped=dropped)


def _added(counts: Mapping[str, int], more: Mapping[str, int]) -> dict[str, int]:
    return {name: counts.get(name, 0) + more.get(name, 0) for name in sorted({*counts, *more})}


def is_due(progress: Progress, facts: Facts, *, now: float) -> bool:
    """Whether a report has to be made: something changed, or it is time to be heard of."""
    return facts.digests() != dict(progress.sets) or progress.sent_at == 0.0 or has_come(progress.next_report_at, now)


def may_deliver(progress: Progress, *, now: float) -> bool:
    """Whether what waits may be sent now: always, unless the server or the network asked for patience."""
    return progress.failures == 0 or has_come(progress.next_report_at, now)


def has_come(moment: float, now: float) -> bool:
    """Whether a time is here. One far ahead was set by a clock that has been put right since, and counts as here."""
    return now >= moment or moment > now + CLOCK_SLACK_S


def next_cycle_s(options: Options, progress: Progress, host_id: str, *, now: float) -> float:
    """Seconds until the next cycle: the configured time, spread by host; sooner if a delivery is to be tried again."""
    wait_s = options.cycle_s * (0.9 + 0.2 * spread(host_id))
    if progress.failures:
        wait_s = min(wait_s, max(1.0, progress.next_report_at - now))
    return wait_s


def recognise_machine(*, ephemeral: bool = False) -> str:
    """The digest by which this machine is told from a clone; of one made anew at each start, that of its account."""
    return hash_machine(read_machine_account() if ephemeral else read_machine_id())


def newcomer(*, ephemeral: bool = False) -> Newcomer:
    """This machine as it enrols."""
    host = read_host(__version__)
    return Newcomer(name=host.name, system=host.os, account=read_machine_account() if ephemeral else None)


def is_other_machine(state_dir: Path, identity: Identity) -> bool:
    """Whether what is kept here is another machine's, from whose image this one was made."""
    known = load_identity(state_dir)
    return known is not None and known.machine != identity.machine


def get_identity(state_dir: Path, *, ephemeral: bool = False) -> Identity:
    """The identity of this machine; without a token if it came here in an image of another and can be renewed.

    raises: NotEnrolled
    """
    identity = load_identity(state_dir)
    if identity is None:
        raise NotEnrolled("not enrolled yet: wayleave-agent enrol --server URL --secret-file FILE")
    machine = recognise_machine(ephemeral=ephemeral)
    if identity.machine == machine:
        return identity
    if identity.secret is None:
        raise NotEnrolled("this machine is a clone of the enrolled one, or was renamed: enrol it again")
    return replace(identity, token="", host_id="", machine=machine)


def forget_other_machine(state_dir: Path, progress: Progress) -> Progress:
    """Begin anew on a machine that was made from another's image: what waits is the other's to tell."""
    for item in load_pending(state_dir):
        item.path.unlink(missing_ok=True)
    return Progress(epoch=new_epoch(progress, now=time.time()))
