"""From a report's bytes to a checked `Incoming`: hostile until proven otherwise, every fault with its field."""

from __future__ import annotations

import hashlib
import re
import zlib
from datetime import date, datetime
from functools import lru_cache
from typing import Annotated

from pydantic import Field, StringConstraints, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from agent import catalogue
from agent.contract.canonical import ContractError, digest, is_digest
from agent.contract.facts import KINDS
from agent.contract.messages import MAX_BODY_BYTES
from app.db.base import to_ms
from app.errors import InvalidError, MalformedError, TooLargeError, UnauthenticatedError
from app.fleet.facts import HostColumns, read_host, read_set
from app.fleet.incoming import Incoming
from app.fleet.rows import NewSet, SightingRow
from app.fleet.rule_uses import DAY_MS, TOLD_DAYS, UseRow
from app.fleet.sighting_events import SIGHTING_EVENTS
from app.fleet.tables import KIND_NUMBERS
from app.ingest.checked import CheckedBodies
from app.ingest.keys import ServerKeys

MAX_SIGHTINGS = 500
MAX_RULE_USES = 500
MAX_USES = 10_000_000
"""No host starts more than a hundred programs a second all day."""
EPOCH_AHEAD_MS = 86_400_000
MAX_COMPRESSION = 200
"""A body that grows by more than this is a bomb, whatever its size."""

_Text = Annotated[str, StringConstraints(max_length=1024, pattern=r"^[^\x00-\x1f\x7f]*$")]
_Short = Annotated[str, StringConstraints(max_length=64, pattern=r"^[^\x00-\x1f\x7f]*$")]
_Counter = Annotated[int, Field(ge=0, le=2**53)]


class _Sighting(TypedDict):
    channel: Annotated[str, StringConstraints(min_length=1, max_length=120, pattern=r"^[^\x00-\x1f\x7f]*$")]
    record: _Counter
    event_id: Annotated[int, Field(ge=0, le=2**31 - 1)]
    at: _Short
    pattern: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,79}$")]
    path: _Text


class _SightingAll(_Sighting, total=False):
    collection: Annotated[str, StringConstraints(max_length=16, pattern=r"^[A-Za-z]*$")] | None
    rule_id: Annotated[str, StringConstraints(max_length=64, pattern=r"^[0-9A-Za-z{}-]*$")] | None
    sha256: Annotated[str, StringConstraints(pattern=r"^(0x)?[0-9A-Fa-f]{64}$")] | None
    fqbn: _Text | None


class _RuleUse(TypedDict):
    rule_id: Annotated[str, StringConstraints(pattern=r"^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$")]
    day: Annotated[str, StringConstraints(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$")]
    count: Annotated[int, Field(ge=1, le=MAX_USES)]


class _Report(TypedDict):
    contract: Annotated[int, Field(ge=1, le=2**31)]
    report_id: Annotated[str, StringConstraints(min_length=8, max_length=64, pattern=r"^[0-9A-Za-z-]+$")]
    epoch: Annotated[int, Field(ge=1, le=2**53)]
    sequence: _Counter
    sent_at: _Short
    subject: Annotated[str, StringConstraints(pattern=r"^[Ss]-1-[0-9]{1,15}(-[0-9]{1,10}){1,15}$")]
    sets: Annotated[dict[_Short, str], Field(min_length=1, max_length=32)]


class _ReportAll(_Report, total=False):
    bodies: Annotated[dict[str, str], Field(max_length=64)]
    sightings: Annotated[list[_SightingAll], Field(max_length=MAX_SIGHTINGS)]
    rule_uses: Annotated[list[_RuleUse], Field(max_length=MAX_RULE_USES)]


_REPORT = TypeAdapter(_ReportAll)
_TOKEN = re.compile(r"wl_([0-9]{1,18})_([0-9A-Za-z_-]{20,100})")
_SHARED = tuple(KIND_NUMBERS)


def parse_token(authorization: str | None) -> tuple[int, bytes]:
    """Host id and hash of the secret, of an Authorization header.

    raises: UnauthenticatedError.
    """
    if authorization is not None and authorization[:7].lower() == "bearer ":
        match = _TOKEN.fullmatch(authorization[7:].strip())
        if match is not None:
            return int(match[1]), hashlib.sha256(match[2].encode()).digest()
    raise UnauthenticatedError("Send `Authorization: Bearer wl_<host>_<secret>`.", field="Authorization")


def inflate(body: bytes, limit: int = MAX_BODY_BYTES) -> bytes:
    """The content of a gzip body, read no further than the limit.

    raises: MalformedError, TooLargeError.
    """
    inflater = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        text = inflater.decompress(body, limit + 1)
    except zlib.error as error:
        raise MalformedError(f"not gzip: {error}", field="body") from error
    if len(text) > limit or len(text) > MAX_COMPRESSION * len(body) + 4096:
        raise TooLargeError(f"The report is larger than {limit} bytes after decompression.", field="body")
    if not inflater.eof or inflater.unused_data:
        raise MalformedError("not one whole gzip member", field="body")
    return text


def decode_report(
    text: bytes,
    *,
    host_id: int,
    secret_hash: bytes,
    keys: ServerKeys,
    now_ms: int,
    checked: CheckedBodies | None = None,
) -> Incoming:
    """A report, checked as far as it can be without the database. `checked`: bodies that needn't be read again.

    raises: MalformedError when it is not JSON, InvalidError naming the field otherwise.
    """
    try:
        report = _REPORT.validate_json(text, strict=True)
    except ValidationError as error:
        raise _fault(error) from None
    if report["epoch"] > now_ms + EPOCH_AHEAD_MS:
        raise InvalidError("The epoch lies in the future: is the clock right?", field="epoch")
    _read_moment(report["sent_at"], "sent_at")
    named = report["sets"]
    said = hashlib.blake2b(digest_size=16)
    found: dict[str, bytes] = {}
    for kind in KINDS:
        name = named.get(kind)
        if name is None:
            said.update(b"-")
            continue
        if not is_digest(name):
            raise InvalidError("Not `sha256:` and 64 lower-case hex digits.", field=f"sets.{kind}")
        found[kind] = bytes.fromhex(name[7:])
        said.update(found[kind])
    incoming = Incoming(
        host_id=host_id,
        secret_hash=secret_hash,
        subject=keys.hash_sid(report["subject"]),
        tag=hashlib.blake2b(report["report_id"].lower().encode(), digest_size=8).digest(),
        epoch=report["epoch"],
        sequence=report["sequence"],
        said=said.digest(),
        report_id=report["report_id"],
        digests=tuple(found.get(kind) for kind in _SHARED),
        host_digest=found.get("host"),
    )
    if bodies := report.get("bodies"):
        incoming.offered, incoming.host = _read_bodies(named, bodies, checked)
    if sightings := report.get("sightings"):
        read = [_read_sighting(one, index, now_ms) for index, one in enumerate(sightings)]
        patterns = _known_patterns(catalogue.load().etag)
        incoming.sightings = tuple(one for one in read if one.pattern in patterns and one.event_id in SIGHTING_EVENTS)
        incoming.left_out = len(read) - len(incoming.sightings)
    if uses := report.get("rule_uses"):
        incoming.rule_uses = tuple(
            _read_use(one, index, host_id=host_id, now_ms=now_ms) for index, one in enumerate(uses)
        )
    return incoming


def _read_use(one: _RuleUse, index: int, *, host_id: int, now_ms: int) -> UseRow:
    try:
        day = (date.fromisoformat(one["day"]) - date(1970, 1, 1)).days
    except ValueError as error:
        raise InvalidError("Not a day like `2026-01-31`.", field=f"rule_uses.{index}.day") from error
    today = now_ms // DAY_MS
    if not today - TOLD_DAYS <= day <= today + 1:
        raise InvalidError("Not a day of the last month.", field=f"rule_uses.{index}.day")
    return UseRow(host_id, day, one["rule_id"].lower(), one["count"])


def _read_bodies(
    named: dict[str, str], bodies: dict[str, str], checked: CheckedBodies | None
) -> tuple[dict[tuple[int, bytes], NewSet], HostColumns | None]:
    kinds_of: dict[str, list[str]] = {}
    for kind, name in named.items():
        kinds_of.setdefault(name, []).append(kind)
    offered: dict[tuple[int, bytes], NewSet] = {}
    host = None
    for name, body in bodies.items():
        field = f"bodies.{name[:71]}"
        kinds = kinds_of.get(name)
        if kinds is None:
            raise InvalidError("No set of this report has this digest.", field=field)
        # One text can't have the same digest under two kinds, as the kind is in it.
        for kind in kinds:
            if digest(kind, body) != name:
                raise InvalidError(f"The body's digest as `{kind}` is another.", field=field)
            if kind not in KINDS:
                continue
            try:
                if kind == "host":
                    host = read_host(body)
                else:
                    key = (KIND_NUMBERS[kind], bytes.fromhex(name[7:]))
                    known = checked.find(key) if checked is not None else None
                    if known is None:
                        facts = read_set(kind, body)
                        known = NewSet(*key, body, int(facts.flags), facts.marks)
                    offered[key] = known
            except ContractError as error:
                place = f"{field}.{error.field}" if error.field else field
                raise InvalidError(f"{kind}: {error}", field=place) from None
    return offered, host


@lru_cache(maxsize=2)
def _known_patterns(_etag: str) -> frozenset[str]:
    return frozenset(pattern.id for pattern in catalogue.load().patterns)


def _read_sighting(one: _SightingAll, index: int, now_ms: int) -> SightingRow:
    at = _read_moment(one["at"], f"sightings.{index}.at")
    if at > now_ms + EPOCH_AHEAD_MS:
        raise InvalidError("This event lies in the future.", field=f"sightings.{index}.at")
    sha256 = one.get("sha256")
    return SightingRow(
        host_id=0,
        at=at,
        channel=one["channel"],
        record=one["record"],
        subject_id=0,
        recorded_at=now_ms,
        event_id=one["event_id"],
        pattern=one["pattern"],
        path=one["path"],
        collection=one.get("collection"),
        rule_id=one.get("rule_id"),
        sha256=sha256.lower().removeprefix("0x") if sha256 else None,
        fqbn=one.get("fqbn"),
    )


def _read_moment(value: str, field: str) -> int:
    try:
        at = datetime.fromisoformat(value)
        if at.tzinfo is None:
            raise InvalidError("A time needs its zone: `2026-01-31T08:00:00Z`.", field=field)
        at_ms = to_ms(at)
    except (ValueError, OverflowError) as error:
        raise InvalidError("Not a time like `2026-01-31T08:00:00Z`.", field=field) from error
    if at_ms < 0:
        raise InvalidError("A time before 1970.", field=field)
    return at_ms


def _fault(error: ValidationError) -> MalformedError | InvalidError:
    first = error.errors(include_url=False, include_input=False)[0]
    field = ".".join(str(part)[:80] for part in first["loc"]) or None
    if first["type"] == "json_invalid":
        return MalformedError(f"not JSON: {first['msg']}", field="body")
    return InvalidError(first["msg"], field=field)
