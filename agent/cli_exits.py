"""How commands end: exit codes, as docs/agent.md tells them, and the words before them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from agent.options import PREFIX

DONE, FAILED, WRONG_USE, NOT_ENROLLED, BUSY, NOT_DELIVERED, REVOKED = 0, 1, 2, 3, 4, 5, 6


def fail(message: str, code: int) -> int:
    """Say why, and give the code back."""
    print(f"wayleave-agent: {message}", file=sys.stderr)
    return code


def read_secret(file: Path | None, given: str | None = None) -> str:
    """The enrolment secret, from a file, else as given, else from the environment. raises: ValueError, OSError"""
    if file is not None:
        # Windows PowerShell writes a byte order mark before UTF-8.
        secret = file.read_text(encoding="utf-8-sig").strip()
    else:
        secret = given or os.environ.get(PREFIX + "SECRET", "")
    if not secret:
        raise ValueError(f"no enrolment secret: give --secret-file, --secret or {PREFIX}SECRET")
    return secret
