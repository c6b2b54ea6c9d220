"""The catalogue as agents fetch it: its file, byte for byte, with its etag and the server's signature."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from importlib import resources

from agent import catalogue
from app.ingest.keys import ServerKeys

SIGNATURE_HEADER = "Wayleave-Signature"


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedCatalogue:
    """`signature`: base64 of the Ed25519 signature over `body`."""

    body: bytes
    etag: str
    signature: str


def sign_catalogue(keys: ServerKeys) -> SignedCatalogue:
    """The catalogue of this release, signed."""
    body = resources.files("agent.catalogue").joinpath("uv_paths.toml").read_bytes()
    signature = base64.b64encode(keys.signing_key().sign(body)).decode()
    return SignedCatalogue(body=body, etag=catalogue.load().etag, signature=signature)
