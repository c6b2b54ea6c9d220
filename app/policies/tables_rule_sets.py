"""The tables of rule sets: base policies, drafts and what they are made of, simulations, comments, approvals."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, CheckConstraint, ForeignKey, Index, Integer, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base


class BasePolicyRow(Base):
    """A policy that rules are added to, as its text. `seen_set_id`: the reported set that one seen in force is."""

    __tablename__ = "base_policy"
    __table_args__ = (
        UniqueConstraint("origin", "sha256"),
        CheckConstraint("origin IN ('gpo','intune','seen')", name="origin"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    origin: Mapped[str] = mapped_column(String(8))
    sha256: Mapped[str] = mapped_column(String(64))
    content: Mapped[str] = mapped_column(Text)
    seen_set_id: Mapped[int | None] = mapped_column(BigInteger)
    added_at: Mapped[datetime]
    added_by: Mapped[str] = mapped_column(String(254))


class RuleSetRow(Base):
    """A draft of rules for one base policy and some groups. `revision` counts its changes; `authors` made them.

    `sids`: [SID, name] pairs; `pilot_sids`: the groups that get the rules first; `roots`: where uv's
    directories will be moved to; `slider`: the last plan's, per cent; `removes`: rules of ours to take out, as kept.
    """

    __tablename__ = "rule_set"
    __table_args__ = (
        CheckConstraint("state IN ('draft','in_review','approved','exported','retired')", name="state"),
        Index(None, "state", "updated_at"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    purpose: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(String(12))
    base_id: Mapped[int | None] = mapped_column(ForeignKey("base_policy.id"), index=True)
    sids: Mapped[list[list[str]]] = mapped_column(JSON)
    pilot_sids: Mapped[list[list[str]]] = mapped_column(JSON)
    project_roots: Mapped[list[str]] = mapped_column(JSON)
    roots: Mapped[dict[str, str]] = mapped_column(JSON)
    owner: Mapped[str] = mapped_column(String(254))
    change_number: Mapped[str] = mapped_column(String(80))
    review_by: Mapped[datetime | None]
    slider: Mapped[int] = mapped_column(Integer)
    removes: Mapped[list[dict[str, Any]]] = mapped_column(JSON, default=list, server_default="[]")
    revision: Mapped[int] = mapped_column(Integer)
    authors: Mapped[list[str]] = mapped_column(JSON)
    created_at: Mapped[datetime]
    created_by: Mapped[str] = mapped_column(String(254))
    updated_at: Mapped[datetime]


class RuleSetItem(Base):
    """One pattern that a rule set opens. `kind` None: what the catalogue advises first.

    `origins`: why it is in, such as `pattern`, `workflow:uv-sync`, `sighting`, `request:7`, `plan`; `files`: ids of
    baseline files, None for those that fit by name.
    """

    __tablename__ = "rule_set_item"
    __table_args__ = (UniqueConstraint("rule_set_id", "pattern"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    rule_set_id: Mapped[int] = mapped_column(ForeignKey("rule_set.id", ondelete="CASCADE"))
    pattern: Mapped[str] = mapped_column(String(100))
    kind: Mapped[str | None] = mapped_column(String(12))
    files: Mapped[list[int] | None] = mapped_column(JSON(none_as_null=True))
    origins: Mapped[list[str]] = mapped_column(JSON)
    added_at: Mapped[datetime]
    added_by: Mapped[str] = mapped_column(String(254))


class RuleSetSimulation(Base):
    """What base and draft would do to the fleet. `draft_sha256`: of what was judged; `sha256`: of the result."""

    __tablename__ = "rule_set_simulation"

    id: Mapped[int] = mapped_column(primary_key=True)
    rule_set_id: Mapped[int] = mapped_column(ForeignKey("rule_set.id", ondelete="CASCADE"), index=True)
    asked_at: Mapped[datetime]
    asked_by: Mapped[str] = mapped_column(String(254))
    ended_at: Mapped[datetime]
    draft_sha256: Mapped[str] = mapped_column(String(64))
    sha256: Mapped[str] = mapped_column(String(64))
    result: Mapped[dict[str, Any]] = mapped_column(JSON)


class RuleSetComment(Base):
    """What somebody said about a rule set, or about one of its rules."""

    __tablename__ = "rule_set_comment"

    id: Mapped[int] = mapped_column(primary_key=True)
    rule_set_id: Mapped[int] = mapped_column(ForeignKey("rule_set.id", ondelete="CASCADE"), index=True)
    at: Mapped[datetime]
    author: Mapped[str] = mapped_column(String(254))
    text: Mapped[str] = mapped_column(Text)
    rule_id: Mapped[str | None] = mapped_column(String(36))


class RuleSetApproval(Base):
    """Somebody's yes to one digest of base, draft and simulation, until something voids it.

    `name`, `purpose`, `owner`, `change_number` and `review_by` are the rule set's words when it was approved.
    """

    __tablename__ = "rule_set_approval"

    id: Mapped[int] = mapped_column(primary_key=True)
    rule_set_id: Mapped[int] = mapped_column(ForeignKey("rule_set.id", ondelete="CASCADE"), index=True)
    at: Mapped[datetime]
    approved_by: Mapped[str] = mapped_column(String(254))
    digest: Mapped[str] = mapped_column(String(64))
    base_sha256: Mapped[str] = mapped_column(String(64))
    draft_sha256: Mapped[str] = mapped_column(String(64))
    simulation_sha256: Mapped[str] = mapped_column(String(64))
    note: Mapped[str] = mapped_column(Text)
    name: Mapped[str] = mapped_column(String(200), default="", server_default="")
    purpose: Mapped[str] = mapped_column(Text, default="", server_default="")
    owner: Mapped[str] = mapped_column(String(254), default="", server_default="")
    change_number: Mapped[str] = mapped_column(String(80), default="", server_default="")
    review_by: Mapped[datetime | None]
    voided_at: Mapped[datetime | None]
    voided_why: Mapped[str | None] = mapped_column(String(300))


class RuleSetExport(Base):
    """An export that a rule set gave, for everybody or for a pilot group first. `ring`: 'pilot' or 'all'."""

    __tablename__ = "rule_set_export"

    rule_set_id: Mapped[int] = mapped_column(ForeignKey("rule_set.id", ondelete="CASCADE"), primary_key=True)
    export_id: Mapped[int] = mapped_column(ForeignKey("export.id", ondelete="CASCADE"), primary_key=True, index=True)
    approval_id: Mapped[int] = mapped_column(ForeignKey("rule_set_approval.id", ondelete="CASCADE"))
    ring: Mapped[str] = mapped_column(String(12))
    delivery: Mapped[str] = mapped_column(String(20))
    sids: Mapped[list[str]] = mapped_column(JSON)


class RuleSetPackage(Base):
    """The zip of an export as it left, byte for byte, and its digest."""

    __tablename__ = "rule_set_package"

    export_id: Mapped[int] = mapped_column(
        ForeignKey("export.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    file_name: Mapped[str] = mapped_column(String(200))
    sha256: Mapped[str] = mapped_column(String(64))
    content: Mapped[bytes]
