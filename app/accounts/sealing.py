"""Sealing: small secrets are stored, and short-lived facts given to browsers, only encrypted under the server's key.

A copy of the database alone opens nothing; what a browser brings back is authentic, and no older than allowed.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

from cryptography.fernet import Fernet, InvalidToken


class Sealer:
    """Seals under one key of 32 bytes. source: the Fernet specification (AES-128-CBC with HMAC-SHA256, a time)."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._fernet = Fernet(base64.urlsafe_b64encode(key))

    def seal(self, purpose: str, value: Any) -> str:
        """The sealed text of a JSON value. What is sealed for one purpose opens for no other."""
        return self._fernet.encrypt(json.dumps([purpose, value]).encode()).decode()

    def digest(self, purpose: str, text: str) -> str:
        """A keyed hash, for secrets that are too short for a plain one."""
        return hmac.digest(self._key, f"{purpose}\n{text}".encode(), hashlib.sha256).hex()

    def open(self, purpose: str, sealed: str, *, valid_for_s: int | None = None) -> Any:
        """The value, or None if it was not sealed here, not for this purpose, or longer ago than allowed."""
        try:
            said, value = json.loads(self._fernet.decrypt(sealed.encode(), ttl=valid_for_s))
        except (InvalidToken, ValueError):
            return None
        return value if said == purpose else None
