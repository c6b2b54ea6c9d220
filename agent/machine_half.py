"""The system's half: reads policies, event logs and the users' notes, and is alone in talking to the server.

It probes nothing and runs nothing of the users'. Every user of the machine is a subject of one host: reports, sequence
and spool are kept by user in a folder that only the system account can open. What is said of a user is said again only
after that user left another note: a user who went away falls silent, as it should be.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from agent import __version__
from agent._platform import query_service, read_channel, read_host, read_policy
from agent.contract.facts import FactSet
from agent.contract.messages import RuleUse, Sighting
from agent.cycle import (
    Revoked,
    forget_other_machine,
    get_identity,
    has_come,
    is_due,
    is_other_machine,
    may_deliver,
    newcomer,
)
from agent.events import Person
from agent.inbox import Refusal, Taken, list_people, make_inbox, take_notes
from agent.kept import adopt_kept
from agent.notes import Note, TextSet, with_event_logs
from agent.options import Options
from agent.places import Orders, Places, write_orders
from agent.policy import PolicyInForce, policy_set, rule_ids
from agent.report import Facts, build_report, facts_of
from agent.service import APPID_SERVICE, service_word
from agent.spool import (
    Delivered,
    Identity,
    Progress,
    add_pending,
    cap_spool,
    load_pending,
    load_progress,
    locked,
    new_epoch,
    next_number,
    restart_epoch,
    save_identity,
    save_progress,
)
from agent.uses import Counting, choose_uses, count_uses, remember_told, without_use_records
from agent.watch import Reading, read_events_of_all

Deliver = Callable[[Path, Identity, Progress], Delivered]
"""Brings what waits in one user's spool to the server; see `agent.delivery.deliver`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineResult:
    """What one cycle of the system's half came to. `made`: inboxes that were made; `people`: users with a note."""

    people: int = 0
    made: int = 0
    reports: int = 0
    sent: int = 0
    left: int = 0
    dropped: int = 0
    refused: tuple[Refusal, ...] = ()
    findings: tuple[str, ...] = ()
    sightings: int = 0
    trouble: str = ""
    revoked: bool = False
    progress: Progress = field(default_factory=Progress)


def run_machine_cycle(
    options: Options,
    environment: Mapping[str, str],
    places: Places,
    *,
    deliver: Deliver,
    people: Sequence[str] | None = None,
    clock: Callable[[], float] = time.time,
    force: bool = False,
) -> MachineResult:
    """One whole cycle. `people`: SIDs of those who may have left a note, by default all who have a profile.

    raises: NotEnrolled, Revoked, AgentBusy, OSError
    """
    with locked(places.machine) as state_dir:
        sids = list_people() if people is None else tuple(people)
        made, unmade = _make_inboxes(places, sids)
        identity = get_identity(state_dir, ephemeral=options.ephemeral)
        progress = load_progress(state_dir)
        if progress.revoked:
            raise Revoked(progress.trouble or "revoked by the server")
        if is_other_machine(state_dir, identity):
            progress = _forget_other_machine(state_dir, progress)
            save_progress(state_dir, progress)
            save_identity(state_dir, identity)
        adopt_kept(places.orders, identity.catalogue_key)
        taken = take_notes(places.inbox, sids)
        reading, sightings = _read_events(options, environment, taken, progress)
        policy = read_policy()
        counting = _count_uses(options, policy, taken, progress, now=clock())
        untold = choose_uses(counting.uses, progress.uses_told, now=clock())
        told: tuple[RuleUse, ...] = ()
        service = service_word(query_service(APPID_SERVICE))
        shared = (policy_set(policy), replace(read_host(__version__), attested=True, appid_service=service))
        reports = 0
        for sid, note in sorted(taken.notes.items()):
            subject_dir = _open_subject(state_dir, sid)
            facts = _facts_of(note, shared, {**reading.states, **counting.states})
            if _spool_report(
                subject_dir, sid, note, facts, sightings.get(sid, ()), rule_uses=untold, now=clock(), force=force
            ):
                # They are the host's: the first report of whichever user tells them.
                reports, told, untold = reports + 1, told or untold, ()
        dropped = _cap(state_dir, now=clock())
        findings = (
            *dict.fromkeys((*reading.findings, *counting.findings)),
            *(f"{one.sid}: {one.reason}" for one in (*taken.refused, *unmade)),
        )
        progress = replace(
            progress,
            records={**reading.records, **counting.records},
            uses=counting.uses,
            uses_told=remember_told(progress.uses_told, told, now=clock()) if options.count_rule_uses else {},
            left_out=_added(progress.left_out, reading.left_out, counting.left_out, _count(taken.refused)),
            findings=findings,
            cycle_at=clock(),
            dropped=progress.dropped + dropped,
        )
        # Saved after the reports are on disk: killed in between, events are read twice and counted once.
        save_progress(state_dir, progress)
        result = _deliver_all(state_dir, identity, progress, deliver, now=clock(), force=force)
        write_orders(places, Orders(probing=not result.progress.stopped))
        return replace(
            result,
            people=len(taken.notes),
            made=made,
            reports=reports,
            dropped=dropped,
            refused=(*taken.refused, *unmade),
            findings=findings,
            sightings=len(reading.sightings),
        )


@contextlib.contextmanager
def deferred_delivery(places: Places, options: Options) -> Iterator[Deliver]:
    """What brings reports to the server, with one connection for all of them, opened at the first."""
    # What talks to the network is the slow half of a start, and most cycles have nothing to say.
    delivery = None
    with contextlib.ExitStack() as stack:
        http: Any = None

        def deliver(subject_dir: Path, identity: Identity, progress: Progress) -> Delivered:
            nonlocal delivery, http
            if delivery is None:
                delivery = importlib.import_module("agent.delivery")
                http = stack.enter_context(delivery.open_for(identity, ca_file=options.ca_file))
            result: Delivered = delivery.deliver(
                subject_dir,
                http,
                identity,
                progress,
                now=time.time(),
                host=newcomer(ephemeral=options.ephemeral),
                identity_dir=places.machine,
            )
            if result.catalogue:
                delivery.refresh_catalogue(places.orders, http, result)
            return result

        yield deliver


def _make_inboxes(places: Places, sids: Sequence[str]) -> tuple[int, tuple[Refusal, ...]]:
    made, refused = 0, []
    for sid in sids:
        try:
            made += make_inbox(places.inbox, sid)
        except (OSError, ValueError) as error:
            refused.append(Refusal(sid=sid, reason=f"no inbox could be made: {error}"))
    return made, tuple(refused)


def _read_events(
    options: Options, environment: Mapping[str, str], taken: Taken, progress: Progress
) -> tuple[Reading, Mapping[str, tuple[Sighting, ...]]]:
    # Before anybody has left a note no event is anybody's. On a machine that was just set up they are the most telling
    # ones, and wait for the first note.
    if not options.read_events or not taken.notes:
        return Reading(records=without_use_records(progress.records)), {}
    people = [
        Person(
            sid=sid,
            # The machine's own variables are not the user's to say.
            machine=replace(note.machine, env={**environment, **note.machine.env}),
            windows=note.windows,
        )
        for sid, note in sorted(taken.notes.items())
    ]
    return read_events_of_all(read_channel, without_use_records(progress.records), people)


def _count_uses(options: Options, policy: PolicyInForce, taken: Taken, progress: Progress, *, now: float) -> Counting:
    if not options.read_events or not options.count_rule_uses:
        return Counting()
    windows = {sid.upper(): note.windows for sid, note in taken.notes.items()}
    return count_uses(
        read_channel,
        progress.records,
        progress.uses,
        rules=rule_ids(policy),
        windows=windows,
        now=now,
        everybody=True,
    )


def _facts_of(note: Note, shared: Sequence[FactSet], states: Mapping[str, str]) -> Facts:
    bodies = dict(note.bodies)
    bodies["environment"] = with_event_logs(bodies["environment"], states)
    return facts_of([*(TextSet(name=kind, text=text) for kind, text in bodies.items()), *shared])


def _spool_report(
    subject_dir: Path,
    sid: str,
    note: Note,
    facts: Facts,
    sightings: tuple[Sighting, ...],
    *,
    rule_uses: tuple[RuleUse, ...] = (),
    now: float,
    force: bool,
) -> bool:
    """Whether a report was put into the user's spool."""
    progress = load_progress(subject_dir)
    if progress.epoch == 0:
        progress = replace(progress, epoch=new_epoch(progress, now=now))
    seen = _mark(note)
    is_news = seen != progress.fingerprint and is_due(progress, facts, now=now)
    report = None
    if force or sightings or is_news:
        pending = load_pending(subject_dir)
        waits = pending[-1].report if pending else None
        # A report without news takes the place of one that still waits without any: one heartbeat is enough.
        if waits is None or waits.sets != facts.digests() or waits.has_news or sightings or rule_uses:
            report = build_report(
                facts,
                report_id=str(uuid.uuid4()),
                epoch=progress.epoch,
                sequence=next_number(progress, pending),
                now=now,
                subject=sid,
                sightings=sightings,
                rule_uses=rule_uses,
            )
            add_pending(subject_dir, report, now=now)
        progress = replace(progress, sets=facts.digests(), fingerprint=seen)
    save_progress(subject_dir, replace(progress, cycle_at=now))
    return report is not None


def _mark(note: Note) -> str:
    """What tells one note from the next: its time and its content."""
    texts = "\n".join(f"{kind} {text}" for kind, text in sorted(note.bodies.items()))
    return hashlib.sha256(f"{note.made_at}\n{texts}".encode()).hexdigest()


def _deliver_all(
    state_dir: Path, identity: Identity, progress: Progress, deliver: Deliver, *, now: float, force: bool
) -> MachineResult:
    """Send what waits, user after user, over one identity. Trouble with the server stops it, a user's own does not."""
    sent, left, trouble = 0, 0, ""
    may_go_on = force or may_deliver(progress, now=now)
    for subject_dir in _subject_dirs(state_dir):
        waiting = len(load_pending(subject_dir))
        subject = load_progress(subject_dir)
        has_patience = subject.failures and not has_come(subject.next_report_at, now)
        if not waiting or not may_go_on or (has_patience and not force):
            left += waiting
            continue
        result = deliver(subject_dir, identity, replace(subject, failures=max(subject.failures, progress.failures)))
        sent, left = sent + result.sent, left + result.left
        trouble = result.trouble or trouble
        if result.identity.host_id != identity.host_id:
            identity = result.identity
            _begin_anew(state_dir, besides=subject_dir, now=now)
        if result.progress.revoked:
            progress = replace(progress, revoked=True, trouble=result.progress.trouble)
            may_go_on = False
        elif result.left and result.status != 429:
            progress = replace(
                progress,
                failures=result.progress.failures,
                next_report_at=result.progress.next_report_at,
                trouble=result.progress.trouble,
            )
            # It was the server or the way there: the other users' reports would fare no better.
            save_progress(subject_dir, replace(result.progress, failures=0))
            may_go_on = False
        elif result.sent:
            progress = replace(
                progress, failures=0, trouble="", stopped=result.progress.stopped, sent_at=result.progress.sent_at
            )
    save_progress(state_dir, progress)
    return MachineResult(sent=sent, left=left, trouble=trouble, revoked=progress.revoked, progress=progress)


def _begin_anew(state_dir: Path, *, besides: Path, now: float) -> None:
    """The host has another identity: what the server knew of the other users under the old one is not known."""
    for subject_dir in _subject_dirs(state_dir):
        if subject_dir != besides:
            progress = replace(load_progress(subject_dir), known=())
            restart_epoch(subject_dir, progress, load_pending(subject_dir), now=now)


def _forget_other_machine(state_dir: Path, progress: Progress) -> Progress:
    """Begin anew on a machine that was made from another's image: what waits is the other's to tell."""
    for subject_dir in _subject_dirs(state_dir):
        save_progress(subject_dir, forget_other_machine(subject_dir, load_progress(subject_dir)))
    return replace(Progress(), epoch=progress.epoch)


def _open_subject(state_dir: Path, sid: str) -> Path:
    folder = state_dir / "subjects" / sid
    for place in (folder.parent, folder, folder / "spool"):
        place.mkdir(exist_ok=True, mode=0o700)
    for leftover in (*folder.glob("*.new"), *(folder / "spool").glob("*.new")):
        leftover.unlink(missing_ok=True)
    return folder


def _subject_dirs(state_dir: Path) -> tuple[Path, ...]:
    return tuple(sorted(path for path in (state_dir / "subjects").glob("S-1-*") if (path / "spool").is_dir()))


def _cap(state_dir: Path, *, now: float) -> int:
    waiting = tuple(item for folder in _subject_dirs(state_dir) for item in load_pending(folder))
    return cap_spool(waiting, now=now)[1]


def _count(refused: Sequence[Refusal]) -> dict[str, int]:
    return {"notes that were not taken": len(refused)} if refused else {}


def _added(*counts: Mapping[str, int]) -> dict[str, int]:
    names = sorted({name for one in counts for name in one})
    return {name: sum(one.get(name, 0) for one in counts) for name in names}
