"""Random tokens for cookies, links and programs. The database only ever holds their SHA-256."""

from __future__ import annotations

import hashlib
import secrets

TOKEN_BYTES = 32


def new_token(prefix: str = "") -> str:
    """A new random token of 256 bits, URL-safe, with a prefix by which a secret scanner can know it."""
    return prefix + secrets.token_urlsafe(TOKEN_BYTES)


def hash_token(token: str) -> bytes:
    """What is stored of a token. A plain hash does: nobody can guess 256 random bits."""
    return hashlib.sha256(token.encode()).digest()
