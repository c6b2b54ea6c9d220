"""What a rule can know of a file: hashes, publisher, product, original file name, version.

A file that is no PE image has its flat SHA-256 alone. A PE image whose headers are broken is refused; one whose
signature or version resource is broken keeps its hash, counts as unsigned or without version, and says what was wrong.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from agent.pe.digest import flat_sha256, hash_image
from agent.pe.image import has_pe_signature, read_image
from agent.pe.names import publisher_name, upper
from agent.pe.signature import read_signature
from agent.pe.source import PeError, Source, source_of_bytes, source_of_file
from agent.pe.version import read_version_info

SCRIPT_SUFFIXES = frozenset((".ps1", ".psm1", ".psd1", ".bat", ".cmd", ".vbs", ".js"))
INSTALLER_SUFFIXES = frozenset((".msi", ".msp", ".mst"))


@dataclass(frozen=True, slots=True, kw_only=True)
class FileIdentity:
    """What a rule can know of one file.

    `kind`: `exe` or `dll` (PE images), `script` or `msi` (by suffix), else `other`. `publisher`, `product` and
    `binary` are upper-cased as AppLocker writes them; `publisher` is set only if the signature belongs to this very
    file, and says nothing about trust in its chain. `signature`: `none`, `present` or `broken`. `problems`: what could
    not be read.
    """

    name: str
    size_bytes: int
    authenticode_sha256: str | None
    sha256: str
    publisher: str | None = None
    product: str | None = None
    binary: str | None = None
    version: str | None = None
    kind: str = "other"
    signature: str = "none"
    problems: tuple[str, ...] = ()

    @property
    def rule_sha256(self) -> str | None:
        """The hash that a rule compares: Authenticode for PE images, else flat; None for an empty file."""
        if self.size_bytes == 0:
            return None
        return self.authenticode_sha256 or self.sha256


def identify(file: str | os.PathLike[str] | bytes, *, name: str = "") -> FileIdentity:
    """Identify a file by path, or bytes in memory (then `name` gives its kind if it is no PE image).

    raises: PeError for a PE image that cannot be read; OSError if the file cannot be opened.
    """
    if isinstance(file, bytes):
        return identify_source(source_of_bytes(file, name))
    path = Path(file)
    if not stat.S_ISREG(path.stat().st_mode):  # before opening: a pipe would wait for ever
        raise PeError(f"{path} is not a regular file")
    with path.open("rb") as opened:
        return identify_source(source_of_file(path, opened))


def is_checked(source: Source) -> bool:
    """Whether AppLocker checks such a file at all: a PE image, a script or an installer, and not empty.

    raises: PeError if it cannot be read.
    """
    return source.size_bytes > 0 and (_kind_by_suffix(source.name) != "other" or has_pe_signature(source))


def identify_source(source: Source) -> FileIdentity:
    """Identify what a source holds. raises: PeError"""
    if not has_pe_signature(source):
        return FileIdentity(
            name=source.name,
            size_bytes=source.size_bytes,
            authenticode_sha256=None,
            sha256=flat_sha256(source),
            kind=_kind_by_suffix(source.name),
        )
    image = read_image(source)
    problems = []
    signature = version = None
    state = "none"
    try:
        signature = read_signature(source, image)
    except PeError as error:
        problems.append(f"signature: {error}")
        state = "broken"
    try:
        version = read_version_info(source, image)
    except PeError as error:
        problems.append(f"version resource: {error}")
    algorithms = {"sha256"} | ({signature.algorithm} if signature else set())
    flat, digests = hash_image(source, image, algorithms)
    publisher = None
    if signature is not None:
        if digests[signature.algorithm] == signature.digest:
            state = "present"
            publisher = publisher_name(signature.subject)
        else:
            state = "broken"
            problems.append("signature: it belongs to another file, or the file was changed")
    return FileIdentity(
        name=source.name,
        size_bytes=source.size_bytes,
        authenticode_sha256=digests["sha256"].hex(),
        sha256=flat,
        publisher=publisher,
        product=upper(version.product) if version and version.product else None,
        binary=upper(version.original_name) if version and version.original_name else None,
        version=version.version if version else None,
        kind="dll" if image.is_dll else "exe",
        signature=state,
        problems=tuple(problems),
    )


def _kind_by_suffix(name: str) -> str:
    suffix = Path(name).suffix.lower()
    if suffix in SCRIPT_SUFFIXES:
        return "script"
    return "msi" if suffix in INSTALLER_SUFFIXES else "other"
