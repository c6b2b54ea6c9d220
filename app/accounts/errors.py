"""What the verbs of accounts refuse, with the form field it is about."""

from __future__ import annotations


class AccountError(ValueError):
    """A refused input. `field` is the form field that it is about (`email`, `password`, ...), or None."""

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field
