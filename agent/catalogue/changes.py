"""What changes on a machine when uv is upgraded: places that appear or vanish, buckets, signers, workflows."""

from __future__ import annotations

import re
from dataclasses import dataclass

from agent.catalogue.model import Bucket, Catalogue, Pattern, Signer, Workflow

_VERSION = re.compile(r"(\d{1,6})\.(\d{1,6})(?:\.(\d{1,6}))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """The difference between two uv versions. An upgrade makes `new_*` appear and `old_*` go; a downgrade the reverse.

    `beyond`: one of the versions is newer than what the catalogue knows.
    """

    new_patterns: tuple[Pattern, ...]
    old_patterns: tuple[Pattern, ...]
    new_buckets: tuple[Bucket, ...]
    old_buckets: tuple[Bucket, ...]
    new_signers: tuple[Signer, ...]
    old_signers: tuple[Signer, ...]
    new_workflows: tuple[Workflow, ...]
    old_workflows: tuple[Workflow, ...]
    beyond: bool


def compare_versions(catalogue: Catalogue, before: str, after: str) -> Changes:
    """What the catalogue says of an upgrade from one uv version to another. raises: ValueError naming the version

    Python's signer is left out: its `since` is a version of Python.
    """
    first, second = read_version(before), read_version(after)
    ours = tuple(signer for signer in catalogue.signers if signer.id != "psf")
    return Changes(
        new_patterns=tuple(found for found in catalogue.patterns if not _is_at(found, first) and _is_at(found, second)),
        old_patterns=tuple(found for found in catalogue.patterns if _is_at(found, first) and not _is_at(found, second)),
        new_buckets=tuple(found for found in catalogue.buckets if not _is_at(found, first) and _is_at(found, second)),
        old_buckets=tuple(found for found in catalogue.buckets if _is_at(found, first) and not _is_at(found, second)),
        new_signers=tuple(found for found in ours if first < read_version(found.since) <= second),
        old_signers=tuple(found for found in ours if second < read_version(found.since) <= first),
        new_workflows=tuple(
            found for found in catalogue.workflows if found.since and first < read_version(found.since) <= second
        ),
        old_workflows=tuple(
            found for found in catalogue.workflows if found.since and second < read_version(found.since) <= first
        ),
        beyond=max(first, second) > read_version(catalogue.newest_uv),
    )


def read_version(text: str) -> tuple[int, int, int]:
    """(major, minor, patch) of a uv version such as `0.13.8` or `0.13`. raises: ValueError"""
    found = _VERSION.fullmatch(text.strip().removeprefix("v"))
    if not found:
        raise ValueError(f"{text!r} is not a uv version such as 0.13.8")
    return int(found[1]), int(found[2]), int(found[3] or 0)


def _is_at(found: Pattern | Bucket, version: tuple[int, int, int]) -> bool:
    """Whether a place is there in a version; where its first version is not known, it counts as always there."""
    if found.since and version < read_version(found.since):
        return False
    return not found.until or version <= read_version(found.until)
