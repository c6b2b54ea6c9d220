"""The server's keys, in files of mode 0600: for hashes of SIDs, for signing the catalogue, for sealing secrets."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from app.settings import Settings

KEY_FILE = "server.key"
SUBJECT_BYTES = 16


@dataclass(frozen=True, slots=True)
class ServerKeys:
    """All keys come from one secret, so that an operator has one thing to keep and to set on every server."""

    secret: bytes

    def hash_sid(self, sid: str) -> bytes:
        """The keyed hash under which a user is known: the same on every host, of no use without the key."""
        return hmac.digest(self.secret, b"sid\n" + sid.upper().encode(), "sha256")[:SUBJECT_BYTES]

    def signing_key(self) -> Ed25519PrivateKey:
        """The key that signs the catalogue."""
        seed = hmac.digest(self.secret, b"catalogue signing key", hashlib.sha256)
        return Ed25519PrivateKey.from_private_bytes(seed)

    def sealing_key(self) -> bytes:
        """The key under which small secrets of accounts are sealed."""
        return hmac.digest(self.secret, b"sealing key", hashlib.sha256)

    def public_text(self) -> str:
        """The public half, base64 of its 32 bytes, as agents get it at enrolment."""
        return base64.b64encode(self.signing_key().public_key().public_bytes_raw()).decode()


def load_keys(settings: Settings) -> ServerKeys:
    """The keys from WAYLEAVE_SERVER_KEY, else from the data directory, where they are made at the first start."""
    if settings.server_key is not None:
        return ServerKeys(bytes.fromhex(settings.server_key.get_secret_value()))
    path = settings.data_dir / KEY_FILE
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    _make_key(path)
    return ServerKeys(bytes.fromhex(path.read_text().strip()))


def _make_key(path: Path) -> None:
    """Written whole under another name first: a second process that starts now must never read half a key."""
    if path.exists():
        return
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_hex(32) + "\n")
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(fresh, path)
    except FileExistsError:
        pass
    finally:
        fresh.unlink()
