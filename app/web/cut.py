"""Long lists in parts: which part is shown, of how many, and where its neighbours begin."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """Which part of a long list is shown: `first` counts from 1."""

    first: int
    shown: int
    of: int

    @property
    def last(self) -> int:
        return min(self.of, self.first + self.shown - 1)

    @property
    def before(self) -> int | None:
        """Where the part before begins; None at the beginning."""
        return max(1, self.first - self.shown) if self.first > 1 else None

    @property
    def after(self) -> int | None:
        """Where the part after begins; None at the end."""
        return self.first + self.shown if self.first + self.shown <= self.of else None
