"""What all tables share: names of constraints, times, identifiers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import BigInteger, Dialect, Integer, LargeBinary, MetaData, TypeDecorator
from sqlalchemy.dialects.postgresql import BYTEA
from sqlalchemy.orm import DeclarativeBase

BIG_ID = BigInteger().with_variant(Integer(), "sqlite")
"""An identifier; SQLite counts up only columns of the plain type INTEGER."""

BYTES = LargeBinary().with_variant(BYTEA(), "postgresql")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_ms(at: datetime) -> int:
    """Milliseconds since 1970 of a time with a zone.

    >>> to_ms(datetime(1970, 1, 1, 0, 0, 1, 5000, tzinfo=UTC))
    1005
    """
    return (at - _EPOCH) // timedelta(milliseconds=1)


def from_ms(at_ms: int) -> datetime:
    """The UTC time of milliseconds since 1970."""
    return _EPOCH + timedelta(milliseconds=at_ms)


class Moment(TypeDecorator[datetime]):
    """A time in UTC, stored as milliseconds since 1970: small, sortable, the same on both databases."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        return None if value is None else to_ms(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        return None if value is None else from_ms(value)


class Base(DeclarativeBase):
    """The base of all tables."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {datetime: Moment(), bytes: BYTES}  # noqa: RUF012 - SQLAlchemy reads it as it stands


def now() -> datetime:
    """The time now, in UTC."""
    return datetime.now(UTC)
