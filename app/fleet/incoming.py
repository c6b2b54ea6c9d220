"""A report once it was decoded and checked, how much a host may bring in a day, and what can become of a report."""

from __future__ import annotations

from dataclasses import dataclass, field

from app.fleet.facts import HostColumns
from app.fleet.rows import HostKey, NewSet, SightingRow
from app.fleet.rule_uses import UseRow

RETRY_SOON_S = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one report: 200 recorded (or a replay), else the refusal's status, code and field.

    `probing`: False where an administrator has stopped it for the host's group.
    """

    status: int
    error: str = ""
    message: str = ""
    field: str | None = None
    missing: tuple[str, ...] = ()
    retry_after_s: int | None = None
    probing: bool = True


RECORDED = Outcome(status=200)
REPLAYED = Outcome(status=200)
STOPPED = Outcome(status=200, probing=False)
UNKNOWN_HOST = Outcome(status=401, error="unknown", message="This token is not known here; enrol again.")
REVOKED_HOST = Outcome(status=403, error="revoked", message="This host was revoked.")
SEQUENCE_REUSED = Outcome(
    status=409,
    error="sequence_reused",
    message="Another report came under this sequence: start a new epoch.",
    field="sequence",
)
SEQUENCE_TOO_OLD = Outcome(
    status=409,
    error="sequence_too_old",
    message="Newer reports are known: start a new epoch.",
    field="sequence",
)
TRY_AGAIN = Outcome(status=503, error="busy", message="Try again.", retry_after_s=RETRY_SOON_S)


@dataclass(slots=True, kw_only=True)
class Incoming:
    """One report, decoded and checked. `digests`: of the shared kinds in the order of KIND_NUMBERS.

    `said` is a hash over all digests; `offered` and `host` are the bodies that came with it; the host and subject of
    `sightings` are filled in when they are stored; `left_out`: sightings that were not kept.
    """

    host_id: int
    secret_hash: bytes
    subject: bytes
    report_id: str
    tag: bytes
    epoch: int
    sequence: int
    said: bytes
    digests: tuple[bytes | None, ...]
    host_digest: bytes | None = None
    offered: dict[tuple[int, bytes], NewSet] = field(default_factory=dict)
    host: HostColumns | None = None
    sightings: tuple[SightingRow, ...] = ()
    left_out: int = 0
    rule_uses: tuple[UseRow, ...] = ()

    @property
    def tells(self) -> int:
        """So many sightings came with it."""
        return len(self.sightings) + self.left_out

    @property
    def key(self) -> HostKey:
        return (self.host_id, self.subject)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How many new sets, subjects and sightings a host may bring in a day; more where many users share a machine."""

    new_sets: int = 24
    subjects: int = 32
    sightings: int = 5000
    new_sets_multi: int = 500
    subjects_multi: int = 1000
    sightings_multi: int = 50_000
