"""The fleet: what hosts are, what their subjects last said, what changed, and how many say what.

`subject` points to shared fact sets; `pulse` alone is written by every report, so it has no index on what those
change, and room on each page for updates in place (PostgreSQL's HOT). Tallies are written by the folder only, from
deltas that the report path appends. See docs/decisions/0201-fact-sets-and-tallies.md.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import (
    ARRAY,
    DDL,
    JSON,
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Index,
    Integer,
    SmallInteger,
    String,
    Text,
    UniqueConstraint,
    and_,
    event,
    false,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import BIG_ID, BYTES, Base
from app.fleet.buckets import bucket_of_row, key_in_bucket, number_host, one_of, refer_in_bucket

KIND_NUMBERS = {"probes": 1, "uv": 2, "environment": 3, "policy": 4, "token": 5}
"""The shared kinds of fact sets and the numbers under which they are stored."""

KIND_NAMES = {number: name for name, number in KIND_NUMBERS.items()}

NO_SET = 0
"""In tallies, in the place of a set: counts the subjects themselves."""


class HostGroup(Base):
    """Hosts by enrolment tag, unit or imported list; set by the server, never by a report."""

    __tablename__ = "host_group"
    __table_args__ = (CheckConstraint("source IN ('default','tag','unit','import','linux')", name="source"),)

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    name: Mapped[str] = mapped_column(String(120), unique=True)
    source: Mapped[str] = mapped_column(String(16))
    created_at: Mapped[datetime]


class FactSet(Base):
    """What many subjects share, stored once. `facts`: of probes, one number per pattern (see `facts.py`)."""

    __tablename__ = "fact_set"
    __table_args__ = (
        UniqueConstraint("kind", "digest"),
        Index("ix_fact_set_facts", "facts", postgresql_using="gin").ddl_if(dialect="postgresql"),
    )

    id: Mapped[int] = mapped_column(BIG_ID, primary_key=True)
    kind: Mapped[int] = mapped_column(SmallInteger)
    digest: Mapped[bytes] = mapped_column(BYTES)
    body: Mapped[str] = mapped_column(Text)
    flags: Mapped[int] = mapped_column(SmallInteger)
    """What a subject's standing needs to know of the set (see `facts.Flag`)."""
    facts: Mapped[list[int] | None] = mapped_column(ARRAY(Integer).with_variant(JSON(none_as_null=True), "sqlite"))
    created_at: Mapped[datetime]
    retired_at: Mapped[datetime | None]


SERVICE_STOPPED = "substr(appid_service, 1, 7) = 'stopped'"
"""Hosts whose Application Identity service does not run, word for word as their index has it."""


class Host(Base):
    """One workstation, from its enrolment on. `facts_digest` and what follows come from its own reports.

    PostgreSQL has one index more, on lower(name) (see migration 0002): Alembic can't compare such an index.
    """

    __tablename__ = "host"
    __table_args__ = (
        Index(None, "name", "id"),
        Index(None, "group_id", "name", "id"),
        Index(None, "agent_version", "name", "id"),
        Index(None, "account_hash"),
        key_in_bucket("id"),
        Index(
            "ix_host_inactive",
            "state",
            postgresql_where=text("state <> 1"),
            sqlite_where=text("state <> 1"),
        ),
        Index(
            "ix_host_unattested",
            "group_id",
            postgresql_where=text("NOT attested"),
            sqlite_where=text("NOT attested"),
        ),
        Index(
            "ix_host_service_stopped",
            "id",
            postgresql_where=text(SERVICE_STOPPED),
            sqlite_where=text(SERVICE_STOPPED),
        ),
    )

    id: Mapped[int] = mapped_column(BIG_ID, primary_key=True)
    bucket: Mapped[int] = mapped_column(SmallInteger)
    group_id: Mapped[int] = mapped_column(ForeignKey("host_group.id"))
    state: Mapped[int] = mapped_column(SmallInteger)
    token_hash: Mapped[bytes] = mapped_column(BYTES)
    enrolled_at: Mapped[datetime]
    multi_session: Mapped[bool] = mapped_column(default=False)
    ephemeral: Mapped[bool] = mapped_column(default=False)
    name: Mapped[str] = mapped_column(String(255))
    platform: Mapped[str] = mapped_column(String(16))
    os: Mapped[str] = mapped_column(String(255), default="")
    os_build: Mapped[str] = mapped_column(String(64), default="")
    domain: Mapped[str | None] = mapped_column(String(255))
    unit: Mapped[str | None] = mapped_column(String(1024))
    agent_version: Mapped[str] = mapped_column(String(64), default="")
    attested: Mapped[bool] = mapped_column(default=False)
    """The system account took what users left and sent it. Of a host that enrolled for a trial it is never so."""
    appid_service: Mapped[str] = mapped_column(String(32), default="", server_default="")
    """How the Application Identity service stands, as one of SERVICE_WORDS; empty where the agent did not say."""
    trial: Mapped[bool] = mapped_column(default=False, server_default=false())
    account_hash: Mapped[bytes | None] = mapped_column(BYTES)
    """Of a host that is made anew at each start: a hash of its account, by which it is found again."""
    facts_digest: Mapped[bytes | None] = mapped_column(BYTES)
    quota_day: Mapped[int] = mapped_column(Integer, default=0)
    new_sets_today: Mapped[int] = mapped_column(Integer, default=0)
    subjects_today: Mapped[int] = mapped_column(Integer, default=0)
    sightings_today: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    sightings_left_out: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    """So many it told since its enrolment that no page could name: of another pattern or event than we know."""


class HostTag(Base):
    """A word that administrators gave to a host, beside its one group."""

    __tablename__ = "host_tag"
    __table_args__ = (*refer_in_bucket("host_id", "host"),)

    tag: Mapped[str] = mapped_column(String(60), primary_key=True)
    host_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, index=True, autoincrement=False)
    bucket: Mapped[int] = mapped_column(SmallInteger, default=bucket_of_row)


class Subject(Base):
    """One user on one host, and the sets it last reported. `group_id`, `standing`: as which it is in the tallies.

    The set columns have no foreign key: a policy that reaches 100,000 subjects at once would queue them all on one
    row's lock. Sets are deleted only a day after nothing pointed to them.
    """

    __tablename__ = "subject"
    __table_args__ = (
        *one_of("host_id", "sid_hmac"),
        *refer_in_bucket("host_id", "host"),
        key_in_bucket("id"),
        Index(None, "probes_id"),
        Index(None, "uv_id"),
        Index(None, "policy_id"),
        # Few are silent: they are found without looking at the others.
        Index("ix_subject_silent", "host_id", postgresql_where=text("standing = 6"), sqlite_where=text("standing = 6")),
    )

    id: Mapped[int] = mapped_column(BIG_ID, primary_key=True)
    bucket: Mapped[int] = mapped_column(SmallInteger, default=bucket_of_row)
    host_id: Mapped[int] = mapped_column(BIG_ID)
    sid_hmac: Mapped[bytes] = mapped_column(BYTES)
    group_id: Mapped[int] = mapped_column(Integer)
    standing: Mapped[int] = mapped_column(SmallInteger)
    first_seen_at: Mapped[datetime]
    changed_at: Mapped[datetime]
    probes_id: Mapped[int | None] = mapped_column(BigInteger)
    uv_id: Mapped[int | None] = mapped_column(BigInteger)
    environment_id: Mapped[int | None] = mapped_column(BigInteger)
    policy_id: Mapped[int | None] = mapped_column(BigInteger)
    token_id: Mapped[int | None] = mapped_column(BigInteger)


class Pulse(Base):
    """The one row that every report writes. `recent`: 16 slots of 8 bytes, the tag of sequence n in slot n mod 16.

    `said` is a hash of all digests of the newest report: one that says the same changes nothing else. Whoever moves a
    subject (another group, silence, approval) empties it, and the next report is looked at in full.
    """

    __tablename__ = "pulse"
    __table_args__ = (
        # Reports seldom change `missed`, so an index of the few that have it spoils no update in place.
        *refer_in_bucket("subject_id", "subject"),
        Index("ix_pulse_missed", "subject_id", postgresql_where=text("missed > 0"), sqlite_where=text("missed > 0")),
        {"postgresql_with": {"fillfactor": 50}},
    )

    subject_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    bucket: Mapped[int] = mapped_column(SmallInteger)
    epoch: Mapped[int] = mapped_column(BigInteger)
    sequence: Mapped[int] = mapped_column(BigInteger)
    recent: Mapped[bytes] = mapped_column(BYTES)
    said: Mapped[bytes] = mapped_column(BYTES)
    last_seen_at: Mapped[datetime]
    received: Mapped[int] = mapped_column(BigInteger)
    """Reports recorded since the subject is known."""
    missed: Mapped[int] = mapped_column(BigInteger)
    """Holes in the sequence of this epoch."""


class Transition(Base):
    """A subject's set of one kind gave way to another. By month of `at`."""

    __tablename__ = "transition"
    __table_args__ = {"postgresql_partition_by": "RANGE (at)"}  # noqa: RUF012 - SQLAlchemy reads it as it stands

    subject_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    at: Mapped[datetime] = mapped_column(primary_key=True)
    kind: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    bucket: Mapped[int] = mapped_column(SmallInteger)
    old_id: Mapped[int | None] = mapped_column(BigInteger)
    new_id: Mapped[int | None] = mapped_column(BigInteger)


class Sighting(Base):
    """A file that was really tried. The event's channel, record and time make a second delivery add nothing."""

    __tablename__ = "sighting"
    __table_args__ = (
        Index(None, "pattern", "at"),
        # Rows come in the order of this time, so ranges of blocks say where the newest are.
        Index("ix_sighting_recorded_at", "recorded_at", postgresql_using="brin"),
        {"postgresql_partition_by": "RANGE (at)"},
    )

    host_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    at: Mapped[datetime] = mapped_column(primary_key=True)
    channel: Mapped[str] = mapped_column(String(120), primary_key=True)
    record: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    bucket: Mapped[int] = mapped_column(SmallInteger, default=bucket_of_row)
    subject_id: Mapped[int] = mapped_column(BigInteger)
    recorded_at: Mapped[datetime]
    event_id: Mapped[int] = mapped_column(Integer)
    pattern: Mapped[str] = mapped_column(String(80))
    path: Mapped[str] = mapped_column(String(1024))
    collection: Mapped[str | None] = mapped_column(String(16))
    rule_id: Mapped[str | None] = mapped_column(String(64))
    sha256: Mapped[str | None] = mapped_column(String(64))
    fqbn: Mapped[str | None] = mapped_column(String(1024))


class SightingDay(Base):
    """How often a pattern was seen by an event on a day (UTC), counted from what was recorded since the last count."""

    __tablename__ = "sighting_day"

    day: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    """Days since 1970."""
    pattern: Mapped[str] = mapped_column(String(80), primary_key=True)
    event_id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    sightings: Mapped[int] = mapped_column(BigInteger)


class TallyDelta(Base):
    """By how much a count changes; appended by report writers, taken away by the folder."""

    __tablename__ = "tally_delta"

    id: Mapped[int] = mapped_column(BIG_ID, primary_key=True)
    bucket: Mapped[int] = mapped_column(SmallInteger, default=0)
    """Of the commit that it came with, where commits are made by bucket; else 0."""
    group_id: Mapped[int] = mapped_column(Integer)
    standing: Mapped[int] = mapped_column(SmallInteger)
    set_id: Mapped[int] = mapped_column(BigInteger)
    delta: Mapped[int] = mapped_column(Integer)


class CountOfGroup:
    """What every count has: the group that it is of."""

    group_id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False, sort_order=-2)


class TallyByStanding(CountOfGroup):
    """What every tally of the folder has: subjects of a group, counted by their standing."""

    standing: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False, sort_order=-1)
    subjects: Mapped[int] = mapped_column(BigInteger, sort_order=1)


class HourlyCount(CountOfGroup):
    """What every count has that is made once an hour."""

    counted_at: Mapped[datetime] = mapped_column(sort_order=2)


class Tally(TallyByStanding, Base):
    """How many subjects of a group and standing have a set (NO_SET: how many there are)."""

    __tablename__ = "tally"
    __table_args__ = (Index(None, "set_id"),)

    set_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)


class PatternTally(TallyByStanding, Base):
    """How many subjects got an outcome at a pattern, from an engine ('' where none acted)."""

    __tablename__ = "pattern_tally"

    pattern: Mapped[str] = mapped_column(String(80), primary_key=True)
    outcome: Mapped[str] = mapped_column(String(16), primary_key=True)
    engine: Mapped[str] = mapped_column(String(16), primary_key=True)
    since_at: Mapped[datetime] = mapped_column(sort_order=2)
    """When the count last rose from nothing."""


class WorkflowTally(TallyByStanding, Base):
    """How many subjects can (`open`), can't (`blocked`) or may not be able to (`unknown`) run a uv command.

    `partly` counts those of the `open` ones once more for whom something is closed that parts of the command need.
    """

    __tablename__ = "workflow_tally"

    workflow: Mapped[str] = mapped_column(String(80), primary_key=True)
    verdict: Mapped[str] = mapped_column(String(16), primary_key=True)


class ObstacleTally(TallyByStanding, Base):
    """How many subjects have something in the way of a uv command that a rule could change (see `obstacles.py`)."""

    __tablename__ = "obstacle_tally"

    workflow: Mapped[str] = mapped_column(String(80), primary_key=True)
    word: Mapped[str] = mapped_column(String(40), primary_key=True)


class JudgedSet(Base):
    """What a set of probes comes to by the catalogue: which uv commands work under it, and who closed anything.

    Written by the folder for the sets in its counts: narrow rows, which are gone over faster than any index of what
    probes say finds those of which something is not known.
    """

    __tablename__ = "judged_set"

    set_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    verdicts: Mapped[int] = mapped_column(BigInteger)
    """Two bits for each command, in the order of the catalogue: the number of its verdict."""
    engines: Mapped[int] = mapped_column(Integer)
    """Of whoever closed something: one bit for each engine, in the order of the wire's."""
    outcomes: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    """Of what came of any pattern: one bit for each outcome, by its rank."""


class VersionTally(TallyByStanding, Base):
    """How many subjects have a version of uv as the one they run ('' where none was found)."""

    __tablename__ = "version_tally"

    version: Mapped[str] = mapped_column(String(64), primary_key=True)


class Daily(Base):
    """The tallies of patterns, workflows and versions at the end of each day, for ever."""

    __tablename__ = "daily"

    day: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    """Days since 1970."""
    group_id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    what: Mapped[str] = mapped_column(String(10), primary_key=True)
    """`pattern`, `workflow`, `version` or `subjects`."""
    name: Mapped[str] = mapped_column(String(80), primary_key=True)
    value: Mapped[str] = mapped_column(String(40), primary_key=True)
    """Outcome and engine, or verdict."""
    subjects: Mapped[int] = mapped_column(BigInteger)


class Absence(HourlyCount, Base):
    """How many subjects of a group are silent or have gaps in what they sent, counted once an hour."""

    __tablename__ = "absence"

    what: Mapped[str] = mapped_column(String(10), primary_key=True)
    """`silent` or `gap`."""
    subjects: Mapped[int] = mapped_column(BigInteger)


class AgentVersionCount(HourlyCount, Base):
    """How many active hosts of a group run a version of the agent, counted once an hour."""

    __tablename__ = "agent_version_count"

    version: Mapped[str] = mapped_column(String(64), primary_key=True)
    hosts: Mapped[int] = mapped_column(BigInteger)


class Unseen(Base):
    """A subject in the counts that was not seen for a day, as of some minutes ago (see `unseen.py`)."""

    __tablename__ = "unseen"
    __table_args__ = (Index(None, "name", "host_id"),)

    subject_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    host_id: Mapped[int] = mapped_column(BigInteger)
    name: Mapped[str] = mapped_column(String(255))
    """The host's: those who are away don't change theirs."""
    last_seen_at: Mapped[datetime] = mapped_column(index=True)


event.listen(Host, "before_insert", number_host)

SUBJECT_OF_HOST = and_(Subject.host_id == Host.id, Subject.bucket == Host.bucket)
PULSE_OF_SUBJECT = and_(Pulse.subject_id == Subject.id, Pulse.bucket == Subject.bucket)
"""How these are joined: also by their bucket, so that a cluster need not look on every node."""

PARTITIONED = ("transition", "sighting")
"""Tables kept by month on PostgreSQL."""

for _name in PARTITIONED:
    # Rows with a time that no month's partition covers still have a home.
    event.listen(
        Base.metadata.tables[_name],
        "after_create",
        DDL(f"CREATE TABLE {_name}_default PARTITION OF {_name} DEFAULT").execute_if(dialect="postgresql"),  # type: ignore[no-untyped-call]  # DDL comes without types
    )
