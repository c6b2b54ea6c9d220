"""What lint says: one finding, its severity, and where it belongs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from app.applocker.model import Rule


class Severity(StrEnum):
    """`error`: it can't do what its author meant. `warning`: a hole or a surprise. `info`: worth knowing."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing lint found. `rule` is None when it concerns a whole collection; `example` is a path that shows it."""

    code: str
    severity: Severity
    collection: str
    rule: Rule | None
    message: str
    remedy: str
    example: str | None = None


def finding(
    code: str,
    severity: Severity,
    collection: str,
    rule: Rule | None,
    message: str,
    remedy: str,
    example: str | None = None,
) -> Finding:
    """A finding, without the names of its fields."""
    return Finding(
        code=code,
        severity=severity,
        collection=collection,
        rule=rule,
        message=message,
        remedy=remedy,
        example=example,
    )
