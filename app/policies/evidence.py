"""What speaks for a file: an administrator's baseline, a vendor's archive, and how often hosts report it.

Only the first two are grounds for a rule. What hosts and users report ranks: popularity is not trust, and nothing read
here is ever handed to the planner.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.applocker.model import HashCondition
from app.fleet.tables import Sighting
from app.policies.baselines import TrustedFile
from app.policies.plan import PlannedRule

NEWEST_SIGHTINGS = 5000
SHOWN_FILES = 20
VENDOR_ARCHIVE = "vendor archive"
"""What speaks for a file that the server hashed itself, out of an archive with a verified checksum."""

IN_BASELINE = "in baseline"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedFile:
    """A hash that hosts claim to have tried at a pattern: on how many hosts, by how many users, how often."""

    sha256: str
    hosts: int
    users: int
    times: int
    last_at: datetime

    @property
    def words(self) -> str:
        return rank_words(self.hosts, self.users, self.times)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One thing that is known of a file a rule names. `is_ground`: whether a rule may rest on it."""

    what: str
    detail: str
    is_ground: bool


def read_reported_files(session: Session, pattern: str) -> Mapping[str, ReportedFile]:
    """The hashes among the newest sightings of a pattern, by digest in lower case."""
    newest = (
        select(Sighting.sha256, Sighting.host_id, Sighting.subject_id, Sighting.at)
        .where(Sighting.pattern == pattern)
        .order_by(Sighting.at.desc())
        .limit(NEWEST_SIGHTINGS)
        .subquery()
    )
    rows = session.execute(
        select(
            newest.c.sha256,
            func.count(newest.c.host_id.distinct()),
            func.count(newest.c.subject_id.distinct()),
            func.count(),
            func.max(newest.c.at, type_=newest.c.at.type),
        )
        .where(newest.c.sha256.is_not(None))
        .group_by(newest.c.sha256)
    )
    return {
        sha256.lower(): ReportedFile(sha256=sha256.lower(), hosts=hosts, users=users, times=times, last_at=last_at)
        for sha256, hosts, users, times, last_at in rows
    }


def evidence_for(
    rules: Sequence[PlannedRule], baseline: Sequence[TrustedFile], reported: Mapping[str, ReportedFile]
) -> tuple[Evidence, ...]:
    """What is known of the files that hash rules name, each source once."""
    by_hash = {file.rule_sha256.lower(): file for file in baseline}
    found: dict[str, Evidence] = {}
    for rule in rules:
        if not isinstance(rule.rule.condition, HashCondition):
            continue
        for one in rule.rule.condition.hashes:
            file = by_hash.get(one.data.lower())
            if file is not None:
                trusted = trusted_evidence(file)
                found.setdefault(trusted.detail, trusted)
            seen = reported.get(one.data.lower())
            if seen is not None:
                detail = f"{one.source_name or one.data[:12]}: {seen.words}"
                found.setdefault(detail, Evidence(what="on hosts", detail=detail, is_ground=False))
    return tuple(found.values())


def trusted_evidence(file: TrustedFile) -> Evidence:
    """Why a file of the baseline is trusted."""
    named = f"{file.name} {file.version}" if file.version else file.name
    return Evidence(what=ground_of(file), detail=f"{named}: {file.source}, by {file.added_by}", is_ground=True)


def ground_of(file: TrustedFile) -> str:
    """In a word or two why a file is trusted; no text that somebody typed decides."""
    return VENDOR_ARCHIVE if file.archive is not None else IN_BASELINE


def rank_words(hosts: int, users: int, times: int) -> str:
    """How common a file is by what hosts report: a rank, never a ground.

    >>> rank_words(1, 1, 1), rank_words(2, 1, 5)
    ('seen once', 'reported by 2 hosts of 1 user')
    """
    if times == 1:
        return "seen once"
    return f"reported by {hosts:,} host{'s' * (hosts != 1)} of {users:,} user{'s' * (users != 1)}"


def untrusted(reported: Mapping[str, ReportedFile], baseline: Sequence[TrustedFile]) -> tuple[ReportedFile, ...]:
    """Hashes that hosts report and nobody vouched for, those of most hosts first."""
    trusted = {digest.lower() for file in baseline for digest in (file.rule_sha256, file.sha256)}
    return tuple(
        sorted(
            (one for digest, one in reported.items() if digest not in trusted),
            key=lambda one: (-one.hosts, -one.users, one.sha256),
        )[:SHOWN_FILES]
    )
