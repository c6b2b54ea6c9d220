"""Whether a report may be recorded: what it names must be here or come with it, within a host's share of a day."""

from __future__ import annotations

from collections.abc import Container

from app.fleet.incoming import Incoming, Limits, Outcome
from app.fleet.rows import HostRow

DAY_MS = 86_400_000

KnownSets = Container[tuple[int, bytes]]
"""Kind and digest of the sets that have a row."""


def missing_bodies(report: Incoming, host: HostRow, known: KnownSets) -> Outcome | None:
    """409 with every digest whose body the server lacks and the report does not bring."""
    missing = [
        digest
        for number, digest in enumerate(report.digests, 1)
        if digest is not None and (number, digest) not in known and (number, digest) not in report.offered
    ]
    if report.host_digest is not None and report.host_digest != host.facts_digest and report.host is None:
        missing.append(report.host_digest)
    if not missing:
        return None
    return Outcome(
        status=409,
        error="missing",
        message="Send the same report again with the bodies of these digests.",
        field="bodies",
        missing=tuple(f"sha256:{digest.hex()}" for digest in missing),
    )


def lacks_sets(report: Incoming, known: KnownSets) -> bool:
    """Whether a set of the report has no row yet."""
    return any(digest is not None and (number, digest) not in known for number, digest in enumerate(report.digests, 1))


def over_subjects(host: HostRow, now_ms: int, limits: Limits) -> Outcome | None:
    """429 when one more user exceeds the host's day, else None."""
    today = host.subjects_today if host.quota_day == now_ms // DAY_MS else 0
    allowed = limits.subjects_multi if host.multi_session else limits.subjects
    if today >= allowed:
        return _over_quota("subject", f"more than {allowed} new users of this host today", now_ms)
    return None


def over_sets(report: Incoming, host: HostRow, known: KnownSets, now_ms: int, limits: Limits) -> Outcome | None:
    """429 when the report's new sets exceed the host's day, else None."""
    brought = sum(1 for key in report.offered if key not in known)
    today = host.new_sets_today if host.quota_day == now_ms // DAY_MS else 0
    allowed = limits.new_sets_multi if host.multi_session else limits.new_sets
    if brought and today + brought > allowed:
        return _over_quota("bodies", f"more than {allowed} new fact sets from this host today", now_ms)
    return None


def over_sightings(report: Incoming, host: HostRow, told: int, now_ms: int, limits: Limits) -> Outcome | None:
    """429 when the report's sightings exceed the host's day, else None. `told`: in reports of the same group."""
    today = told + (host.sightings_today if host.quota_day == now_ms // DAY_MS else 0)
    allowed = limits.sightings_multi if host.multi_session else limits.sightings
    if today + report.tells > allowed:
        return _over_quota("sightings", f"more than {allowed} events of this host today", now_ms)
    return None


def _over_quota(place_of_fault: str, message: str, now_ms: int) -> Outcome:
    left_s = (DAY_MS - now_ms % DAY_MS) // 1000 + 1
    return Outcome(status=429, error="quota", message=message, field=place_of_fault, retry_after_s=left_s)
