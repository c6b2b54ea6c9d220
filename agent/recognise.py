"""Whether a uv.exe is one that somebody vouches for: only such a one is run to be asked for its directories.

A program called uv.exe on somebody's PATH may be anything. Known is what carries a signature that Windows trusts, of
the publisher that the catalogue names for uv; what has the hash of a release that the catalogue lists; and what an
administrator listed in the settings (the baseline of a company's own build).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection
from pathlib import Path

from agent.catalogue import Catalogue
from agent.pe.identity import FileIdentity, identify
from agent.pe.source import PeError

TRUSTED = "trusted"


def is_known_uv(
    path: str,
    catalogue: Catalogue,
    trust: Callable[[str], str | None],
    *,
    baseline: Collection[str] = (),
) -> bool:
    """Whether the file at a path is a known uv.

    `trust`: what Windows says of a file's signature; `baseline`: Authenticode SHA-256 that an administrator listed.
    """
    identity = identity_of(path)
    if identity is None:
        return False
    hashes = {release.authenticode_sha256 for release in catalogue.releases} | {one.lower() for one in baseline}
    if identity.authenticode_sha256 is not None and identity.authenticode_sha256.lower() in hashes:
        return True
    return identity.publisher in publishers_of_uv(catalogue) and trust(path) == TRUSTED


def identity_of(path: str) -> FileIdentity | None:
    """What a rule can know of a program; None if it cannot be read. A file that stays as it was is read once."""
    try:
        status = Path(path).stat()
        return _identify(path, status.st_size, status.st_mtime_ns)
    except (OSError, PeError):
        return None


@functools.lru_cache(maxsize=64)
def _identify(path: str, _size: int, _modified_ns: int) -> FileIdentity:
    return identify(path)


def publishers_of_uv(catalogue: Catalogue) -> frozenset[str]:
    """The publishers that sign uv itself, as AppLocker writes them."""
    named = {pattern.signer for pattern in catalogue.patterns if pattern.group == "uv-binary"}
    return frozenset(signer.publisher for signer in catalogue.signers if signer.id in named)
