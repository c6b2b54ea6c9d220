"""Errors that have an answer: a status, a code that programs read, a sentence for people, the field at fault."""

from __future__ import annotations


class AppError(Exception):
    """An error with an HTTP status. `main` maps it to a page, a fragment or JSON."""

    status = 500
    code = "error"

    def __init__(
        self,
        message: str = "",
        *,
        status: int | None = None,
        code: str | None = None,
        field: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.retry_after_s = retry_after_s
        if status is not None:
            self.status = status
        if code is not None:
            self.code = code

    def to_json(self) -> dict[str, object]:
        return {"error": self.code, "message": self.message, "field": self.field}


class MalformedError(AppError):
    """The text could not be read at all."""

    status = 400
    code = "malformed"


class UnauthenticatedError(AppError):
    """Nobody known is asking."""

    status = 401
    code = "unknown"


class ForbiddenError(AppError):
    """Somebody known, who may not."""

    status = 403
    code = "forbidden"


class NotFoundError(AppError):
    status = 404
    code = "not_found"


class ConflictError(AppError):
    status = 409
    code = "conflict"


class TooLargeError(AppError):
    status = 413
    code = "too_large"


class InvalidError(AppError):
    """The text could be read, and what it says is not allowed."""

    status = 422
    code = "invalid"


class BusyError(AppError):
    """Come back later."""

    status = 503
    code = "busy"
