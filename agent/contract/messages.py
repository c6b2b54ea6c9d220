"""What is sent and answered, as values. The server decodes reports with its own validators against the same shape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.contract import CONTRACT
from agent.contract.canonical import Json

REPORTS_PATH = "/api/v1/reports"
ENROL_PATH = "/api/v1/enrol"
CATALOGUE_PATH = "/api/v1/catalogue"

MAX_BODY_BYTES = 1 << 20
"""The largest report, after decompression. A larger one is answered 413."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """A file that was really tried, from an event log. `path` is templated; `record` is the event's record id."""

    channel: str
    record: int
    event_id: int
    at: str
    pattern: str
    path: str
    collection: str | None = None
    rule_id: str | None = None
    sha256: str | None = None
    fqbn: str | None = None

    def to_json(self) -> dict[str, Json]:
        return {
            "channel": self.channel,
            "record": self.record,
            "event_id": self.event_id,
            "at": self.at,
            "pattern": self.pattern,
            "path": self.path,
            "collection": self.collection,
            "rule_id": self.rule_id,
            "sha256": self.sha256,
            "fqbn": self.fqbn,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleUse:
    """How often a rule let something start on this host on one day (`2026-01-31`, UTC), as far as is known now."""

    rule_id: str
    day: str
    count: int

    def to_json(self) -> dict[str, Json]:
        return {"rule_id": self.rule_id, "day": self.day, "count": self.count}


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One report of one subject. `epoch`: ms since 1970 when the agent's identity began; `sent_at`: ISO 8601, UTC.

    `rule_uses`: of the host, not of the subject, and only where an administrator switched counting on.
    """

    report_id: str
    epoch: int
    sequence: int
    sent_at: str
    subject: str
    sets: Mapping[str, str]
    bodies: Mapping[str, str] = field(default_factory=dict)
    sightings: tuple[Sighting, ...] = ()
    rule_uses: tuple[RuleUse, ...] = ()
    contract: int = CONTRACT

    @property
    def has_news(self) -> bool:
        """Whether it tells what no later report would tell again."""
        return bool(self.sightings or self.rule_uses)

    def to_json(self) -> dict[str, Json]:
        value: dict[str, Json] = {
            "contract": self.contract,
            "report_id": self.report_id,
            "epoch": self.epoch,
            "sequence": self.sequence,
            "sent_at": self.sent_at,
            "subject": self.subject,
            "sets": dict(self.sets),
            "bodies": dict(self.bodies),
            "sightings": [sighting.to_json() for sighting in self.sightings],
        }
        if self.rule_uses:
            value["rule_uses"] = [use.to_json() for use in self.rule_uses]
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Newcomer:
    """A host that enrols. `account`: of a machine that is made anew at each start, by which it is known again."""

    name: str
    system: str
    account: str | None = None

    def to_json(self) -> dict[str, Json]:
        value: dict[str, Json] = {"name": self.name, "os": self.system}
        if self.account is not None:
            value |= {"account": self.account, "ephemeral": True}
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledged:
    """200: committed. `probing`: False while an administrator has stopped probing for this host."""

    report_id: str
    next_report_s: int
    catalogue: str
    probing: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolled:
    """201: the host's identity and its token, which is shown only here."""

    host_id: str
    token: str
    next_report_s: int
    catalogue_key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """Any other answer: `{"error", "message", "field"}`, with the digests of bodies asked for in `missing`.

    `answered_at`: the server's clock, in seconds since 1970, where the answer tells it.
    """

    status: int
    error: str
    message: str = ""
    field: str | None = None
    missing: tuple[str, ...] = ()
    retry_after_s: int | None = None
    answered_at: float | None = None
