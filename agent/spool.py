"""What the agent keeps on disk: who it is, how far it has come, and the reports not yet acknowledged.

    identity.json   server, host id, token; readable by its owner alone
    progress.json   epoch, sequence, digests that the server has, the last outcomes, when to report next
    spool/          one file per report, oldest first by name
    journal.json    what a running cycle has placed (see `placement`)
    lock            held by the one agent that works here

Every file is replaced whole. A report's file is written before anything else knows of it and removed after the
server's acknowledgement is on disk: killed at any point, nothing acknowledged is lost and nothing is counted twice.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import IO, Any

from agent._platform import open_lock
from agent.contract.messages import Report, RuleUse, Sighting
from agent.storage import read_json, write_json

MAX_SPOOL_BYTES = 50 << 20
MAX_SPOOL_AGE_S = 30 * 86_400
MAX_KNOWN = 200


class AgentBusy(Exception):
    """Another agent works with the same state directory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who this agent is to its server. `machine`: digest of what tells this installation from a clone."""

    server: str
    host_id: str
    token: str
    machine: str
    secret: str | None = None
    ca_file: str | None = None
    catalogue_key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far the agent has come. Times are seconds since 1970; `probes` are the last outcomes as JSON.

    `accepted_epoch`: the newest under which the server took a report. `stopped`: the server said that nothing is to be
    probed, until it says otherwise. `uses`, `uses_told`: uses of rules by "rule day", counted and told (see `uses`).
    """

    epoch: int = 0
    accepted_epoch: int = 0
    sequence: int = 0
    known: tuple[str, ...] = ()
    sets: Mapping[str, str] = field(default_factory=dict)
    probes: tuple[Mapping[str, Any], ...] = ()
    records: Mapping[str, int] = field(default_factory=dict)
    uses: Mapping[str, int] = field(default_factory=dict)
    uses_told: Mapping[str, int] = field(default_factory=dict)
    windows: tuple[Mapping[str, Any], ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)
    findings: tuple[str, ...] = ()
    fingerprint: str = ""
    probed_at: float = 0.0
    starts_day: int = 0
    starts: int = 0
    cycle_at: float = 0.0
    sent_at: float = 0.0
    next_report_at: float = 0.0
    failures: int = 0
    revoked: bool = False
    stopped: bool = False
    dropped: int = 0
    trouble: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """A report that waits: the file it lies in, when it was made, and the report with all its bodies."""

    path: Path
    made_at: float
    report: Report


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """What a delivery came to: reports sent, refused for good and left waiting, and what was in the way.

    `catalogue`: the etag of the server's catalogue, where it told one. `status`: of the answer for which a report is
    left waiting; 0 without an answer.
    """

    identity: Identity
    progress: Progress
    sent: int = 0
    refused: int = 0
    left: int = 0
    wait_s: int = 0
    status: int = 0
    trouble: str = ""
    catalogue: str = ""


@contextlib.contextmanager
def locked(state_dir: Path) -> Iterator[Path]:
    """Work with a state directory alone; makes it if need be. raises: AgentBusy, OSError"""
    state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    (state_dir / "spool").mkdir(exist_ok=True, mode=0o700)
    lock: IO[bytes] | None = open_lock(state_dir / "lock")
    if lock is None:
        raise AgentBusy(f"another agent works in {state_dir}")
    with lock:
        for leftover in (*state_dir.glob("*.new"), *(state_dir / "spool").glob("*.new")):
            leftover.unlink(missing_ok=True)
        yield state_dir


def hash_machine(machine_id: str) -> str:
    """The digest under which a machine is recognised; the id itself is not kept."""
    return hashlib.sha256(b"wayleave-agent machine\n" + machine_id.encode()).hexdigest()


def load_identity(state_dir: Path) -> Identity | None:
    """The identity given by enrolment; None before it."""
    data = read_json(state_dir / "identity.json")
    return None if data is None else _read_identity(data)


def save_identity(state_dir: Path, identity: Identity) -> None:
    """Keep an identity. raises: OSError"""
    write_json(state_dir / "identity.json", asdict(identity))


def load_progress(state_dir: Path) -> Progress:
    """How far the agent has come; from the beginning if nothing is kept."""
    data = read_json(state_dir / "progress.json")
    return Progress() if data is None else _read_progress(data)


def save_progress(state_dir: Path, progress: Progress) -> None:
    """Keep the progress. raises: OSError"""
    kept = replace(progress, known=progress.known[-MAX_KNOWN:])
    write_json(state_dir / "progress.json", asdict(kept))


def next_number(progress: Progress, pending: tuple[Pending, ...]) -> int:
    """The sequence number for a new report: above all that were kept or wait, also those that a kill left uncounted."""
    waiting = [item.report.sequence for item in pending if item.report.epoch == progress.epoch]
    return max((progress.sequence, *waiting)) + 1


def add_pending(state_dir: Path, report: Report, *, now: float) -> Pending:
    """Put a report into the spool. raises: OSError"""
    path = state_dir / "spool" / f"{report.epoch:016d}-{report.sequence:012d}.json"
    write_json(path, {"made_at": now, "report": report.to_json()})
    return Pending(path=path, made_at=now, report=report)


def load_pending(state_dir: Path) -> tuple[Pending, ...]:
    """The reports that wait, oldest first. A file that is no report is removed, and so is an older copy of one."""
    found: list[Pending] = []
    for path in sorted((state_dir / "spool").glob("*.json")):
        data = read_json(path)
        report = _read_report(data.get("report")) if data else None
        if data is None or report is None:
            path.unlink(missing_ok=True)
            continue
        made_at = data.get("made_at")
        found.append(
            Pending(path=path, made_at=float(made_at) if isinstance(made_at, (int, float)) else 0.0, report=report)
        )
    newest = {item.report.report_id: item for item in found}  # a kill while numbering anew leaves both
    for item in found:
        if newest[item.report.report_id] is not item:
            item.path.unlink(missing_ok=True)
    return tuple(item for item in found if newest[item.report.report_id] is item)


def cap_spool(pending: tuple[Pending, ...], *, now: float) -> tuple[tuple[Pending, ...], int]:
    """Drop what is too old or too much, reports without sightings first. Returns what stays and how many went."""
    sizes = {item.path: item.path.stat().st_size for item in pending}
    # A made_at in the future comes from a clock that was wrong: such a report is not old.
    drop = {item.path for item in pending if now - item.made_at > MAX_SPOOL_AGE_S}
    total = sum(size for path, size in sizes.items() if path not in drop)
    by_worth = sorted(pending[:-1], key=lambda item: (item.report.has_news, item.report.epoch, item.report.sequence))
    for item in by_worth:
        if total <= MAX_SPOOL_BYTES:
            break
        if item.path not in drop:
            drop.add(item.path)
            total -= sizes[item.path]
    for path in drop:
        path.unlink(missing_ok=True)
    return tuple(item for item in pending if item.path not in drop), len(drop)


def new_epoch(progress: Progress, *, now: float) -> int:
    """A beginning later than any before, also when the clock went back."""
    return max(int(now * 1000), progress.epoch + 1)


def restart_epoch(
    state_dir: Path, progress: Progress, pending: tuple[Pending, ...], *, now: float, epoch: int | None = None
) -> tuple[Progress, tuple[Pending, ...]]:
    """Begin a new epoch, one later than any before if none is given, and number what waits anew under it.

    raises: OSError
    """
    epoch = new_epoch(progress, now=now) if epoch is None else epoch
    moved = []
    for number, item in enumerate(pending, start=1):
        report = replace(item.report, epoch=epoch, sequence=number)
        moved.append(add_pending(state_dir, report, now=item.made_at))
    progress = replace(progress, epoch=epoch, sequence=0)
    save_progress(state_dir, progress)
    for item in pending:
        item.path.unlink(missing_ok=True)
    return progress, tuple(moved)


def _read_report(value: object) -> Report | None:
    if not isinstance(value, dict):
        return None
    try:
        known = {name.name for name in fields(Report)}
        parts = {name: part for name, part in value.items() if name in known}
        sighting_fields = {name.name for name in fields(Sighting)}
        parts["sightings"] = tuple(
            Sighting(**{name: part for name, part in item.items() if name in sighting_fields})
            for item in value.get("sightings", ())
        )
        parts["rule_uses"] = tuple(
            RuleUse(rule_id=item["rule_id"], day=item["day"], count=item["count"])
            for item in value.get("rule_uses", ())
        )
        report = Report(**parts)
        valid = isinstance(report.epoch, int) and isinstance(report.sequence, int) and isinstance(report.sets, dict)
    except (TypeError, AttributeError, KeyError):
        return None
    return report if valid else None


def _read_identity(data: Mapping[str, Any]) -> Identity | None:
    texts = {item.name: data.get(item.name) for item in fields(Identity)}
    # Without a token, but with a secret, it is one that has yet to be enrolled.
    required = ("server", "machine") if texts["secret"] else ("server", "host_id", "token", "machine")
    if any(not isinstance(texts[name], str) or not texts[name] for name in required):
        return None
    if not isinstance(texts["host_id"], str) or not isinstance(texts["token"], str):
        return None
    if any(value is not None and not isinstance(value, str) for value in texts.values()):
        return None
    return Identity(**texts)  # type: ignore[arg-type]  # checked above, key by key


def _read_progress(data: Mapping[str, Any]) -> Progress:
    """Progress from JSON; what is missing or of another type begins anew."""
    default = Progress()
    values: dict[str, Any] = {}
    for item in fields(Progress):
        value, usual = data.get(item.name), getattr(default, item.name)
        if isinstance(usual, tuple) and isinstance(value, list):
            values[item.name] = tuple(value)
        elif isinstance(usual, float) and isinstance(value, (int, float)):
            values[item.name] = float(value)
        elif type(value) is type(usual):
            values[item.name] = value
    return replace(default, **values)
