"""Tables of how often rules were used: by host and day as agents count it, and what pages show of it.

Report writers append to `rule_use_delta`; only the folder writes `rule_day`, which all of them would wait for.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Index, Integer, SmallInteger, String
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import BIG_ID, Base
from app.fleet.buckets import bucket_of_row, key_in_bucket, refer_in_bucket


class RuleUse(Base):
    """How often a rule let something start on a host on a day (UTC), by the host's own count. No user, no path."""

    __tablename__ = "rule_use"
    __table_args__ = (
        *refer_in_bucket("host_id", "host"),
        key_in_bucket("host_id", "day", "rule_id"),
        Index(None, "day"),
    )

    host_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    bucket: Mapped[int] = mapped_column(SmallInteger, default=bucket_of_row)
    day: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    """Days since 1970."""
    rule_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    """In small letters, without braces."""
    uses: Mapped[int] = mapped_column(BigInteger)


class RuleDay(Base):
    """How often a rule was used on a day in the whole fleet, and on how many hosts; '' as the rule: of any rule.

    A row without uses says that the rule was in force on a host that counts, so that nothing used it is worth telling.
    """

    __tablename__ = "rule_day"

    rule_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    day: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    uses: Mapped[int] = mapped_column(BigInteger)
    hosts: Mapped[int] = mapped_column(BigInteger)


class RuleUseDelta(Base):
    """By how much a rule's day changes; appended by report writers, taken away by the folder."""

    __tablename__ = "rule_use_delta"

    id: Mapped[int] = mapped_column(BIG_ID, primary_key=True)
    bucket: Mapped[int] = mapped_column(SmallInteger, default=0)
    """Of the commit that it came with, where commits are made by bucket; else 0."""
    rule_id: Mapped[str] = mapped_column(String(36))
    day: Mapped[int] = mapped_column(Integer)
    uses: Mapped[int] = mapped_column(BigInteger)
    hosts: Mapped[int] = mapped_column(Integer)


class RuleCounted(Base):
    """On how many of the hosts that count uses a rule is in force; '' as the rule: how many hosts count at all."""

    __tablename__ = "rule_counted"

    rule_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    hosts: Mapped[int] = mapped_column(BigInteger)
