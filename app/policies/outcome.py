"""What a simulation says: per pattern, per uv command, per file really tried. Kept as JSON, known by a digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

Counts = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PatternOutcome:
    """One pattern, in users who tried it.

    `newly`: AppLocker refuses it today and would let any file there start; `newly_builds`: only the files that the
    draft names; `still`: AppLocker would go on refusing; `others`: another engine refuses, whatever AppLocker says;
    `newly_blocked`: starts today and would not; `open`: starts today and would; `unexplained`: AppLocker refuses,
    though its rules as reported allow it. `by_group`: category -> users by group; `opened_by`: rule id, name, users;
    `moved_by`: of what moving folders opens, which variables do it and which rule in force allows files there, users.
    """

    pattern: str
    asked: bool
    newly: int
    newly_builds: int
    still: int
    others: int
    newly_blocked: int
    open: int
    unexplained: int
    by_group: tuple[tuple[str, Counts], ...]
    opened_by: tuple[tuple[str, str, int], ...]
    closed_by: Counts
    moved_by: Counts = ()

    @property
    def opens(self) -> int:
        return self.newly + self.newly_builds

    @property
    def is_beyond(self) -> bool:
        """Whether it is opened although nobody asked for it."""
        return not self.asked and self.opens > 0

    def of_group(self, *categories: str) -> Counts:
        """Users by group over some categories, most first."""
        found: dict[str, int] = {}
        for category, counts in self.by_group:
            if category in categories:
                for group, users in counts:
                    found[group] = found.get(group, 0) + users
        return tuple(sorted(found.items(), key=lambda one: (-one[1], one[0])))


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowOutcome:
    """One uv command, in users who tried all that it needs: works, would begin to, still not, would cease to."""

    workflow: str
    works: int
    newly: int
    still: int
    newly_blocked: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SightingOutcome:
    """A file that hosts say they tried. `verdict`: newly allowed, still blocked, newly blocked, allowed already.

    `pattern`: the one that its path belongs to, whatever the host called it; empty if it is none of uv's.
    """

    path: str
    pattern: str
    collection: str
    sha256: str | None
    hosts: int
    verdict: str
    rule: str | None
    asked: bool = False

    @property
    def is_beyond(self) -> bool:
        return not self.asked and self.verdict == "newly allowed"

    @property
    def is_changed(self) -> bool:
        return self.verdict.startswith("newly")


@dataclass(frozen=True, slots=True, kw_only=True)
class SightingCounts:
    """How much of the files that hosts say they tried was judged.

    `files`: distinct ones that were; `of_loud_hosts`: how many hosts told more of a pattern than one may, so that only
    their newest counted; `left_out`: distinct ones beyond what is judged at once; `not_shown`: judged, beyond the list.
    """

    files: int = 0
    of_loud_hosts: int = 0
    left_out: int = 0
    not_shown: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulated:
    """What a draft would do to the fleet.

    `base`: users that count; `unreadable`: their policy could not be judged; `not_reached`: the base is not in force
    there (Intune); `assumed`: nobody knows whether they are in the rules' groups, so they were judged as if they
    were; `with_base`: all rules of the base are in force for them; `base_assumed`: taken to be so, as Intune has a
    policy there, and which one agents cannot tell; `profiles`: distinct combinations judged; `judgements`: distinct
    (file, policy, projected token), before and after; `mode_changes`: what becomes stricter or laxer, and for how many.
    """

    base: int
    unreadable: int
    not_reached: int
    assumed: int
    with_base: int
    policies: int
    profiles: int
    judgements: int
    patterns: tuple[PatternOutcome, ...]
    workflows: tuple[WorkflowOutcome, ...]
    sightings: tuple[SightingOutcome, ...]
    starts_default_deny: Counts
    only_audited: Counts
    groups: tuple[str, ...]
    mode_changes: Counts | None = None
    base_assumed: int = 0
    sighting_counts: SightingCounts = SightingCounts()

    @property
    def beyond(self) -> tuple[PatternOutcome, ...]:
        return tuple(one for one in self.patterns if one.is_beyond)

    @property
    def beyond_sightings(self) -> tuple[SightingOutcome, ...]:
        return tuple(one for one in self.sightings if one.is_beyond)

    @property
    def asked(self) -> tuple[PatternOutcome, ...]:
        return tuple(one for one in self.patterns if one.asked)

    @property
    def newly_blocked(self) -> tuple[PatternOutcome, ...]:
        return tuple(one for one in self.patterns if one.newly_blocked)

    @property
    def sha256(self) -> str:
        """The digest of all that it says, of sightings only what several hosts tell: one host's word voids nothing."""
        kept = to_kept(self)
        del kept["sighting_counts"], kept["judgements"]
        kept["sightings"] = sorted(
            (one.path, one.pattern, one.collection, one.sha256 or "", one.verdict, one.rule or "", one.asked)
            for one in self.sightings
            if one.hosts > 1 and one.is_changed
        )
        return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def to_kept(simulated: Simulated) -> dict[str, Any]:
    """As JSON values."""
    return asdict(simulated)


def from_kept(kept: Mapping[str, Any]) -> Simulated:
    """What `to_kept` gave, read from JSON."""
    value = dict(kept)
    value["patterns"] = tuple(
        PatternOutcome(
            **{
                **one,
                "by_group": tuple((category, _counts(counts)) for category, counts in one["by_group"]),
                "opened_by": tuple((rule_id, name, users) for rule_id, name, users in one["opened_by"]),
                "closed_by": _counts(one["closed_by"]),
                "moved_by": _counts(one.get("moved_by", ())),
            }
        )
        for one in kept["patterns"]
    )
    value["workflows"] = tuple(WorkflowOutcome(**one) for one in kept["workflows"])
    value["sightings"] = tuple(SightingOutcome(**one) for one in kept["sightings"])
    value["starts_default_deny"] = _counts(kept["starts_default_deny"])
    value["only_audited"] = _counts(kept["only_audited"])
    value["mode_changes"] = None if kept.get("mode_changes") is None else _counts(kept["mode_changes"])
    value["groups"] = tuple(kept["groups"])
    value["sighting_counts"] = SightingCounts(**kept.get("sighting_counts", {}))
    return Simulated(**value)


def _counts(stored: Any) -> Counts:
    return tuple((name, count) for name, count in stored)
