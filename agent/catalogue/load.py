"""Reads `uv_paths.toml` into values, once per process, and holds the catalogue that is in use."""

from __future__ import annotations

import functools
import hashlib
import itertools
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent.catalogue.model import Bucket, Catalogue, Pattern, ProbeSpec, Release, Signer, Workflow

FILE = Path(__file__).with_name("uv_paths.toml")

_BRACES = re.compile(r"\{([^{}]*)\}")
_FRAGMENT = re.compile(r"\(\?&([a-z_]+)\)")


_adopted: list[Catalogue] = []


def load() -> Catalogue:
    """The catalogue in use: the one that comes with this release, unless another was adopted."""
    return _adopted[-1] if _adopted else own()


@functools.cache
def own() -> Catalogue:
    """The catalogue that comes with this release."""
    # Asked of the loader, which also reads from inside the library that a packaged agent lies in.
    return parse(__loader__.get_data(str(FILE)))  # type: ignore[name-defined]  # a module's own loader


def put_in_use(catalogue: Catalogue | None) -> None:
    """Make `load` answer another catalogue from now on; None: this release's own again. See `adopt.use`."""
    _adopted[:] = [] if catalogue is None else [catalogue]


def parse(data: bytes) -> Catalogue:
    """A catalogue from the bytes of its TOML. raises: ValueError (tomllib's, or naming the entry that is wrong)."""
    return read_document(tomllib.loads(data.decode()), etag=etag_of(data))


def etag_of(data: bytes) -> str:
    """The name of a catalogue: the beginning of the digest of its bytes."""
    return hashlib.sha256(data).hexdigest()[:32]


def read_document(document: Mapping[str, Any], *, etag: str) -> Catalogue:
    """A catalogue from its parsed TOML. raises: ValueError, KeyError or TypeError for an entry that is wrong."""
    fragments: Mapping[str, str] = document["fragments"]
    patterns = tuple(
        _read_pattern(entry, number, fragments) for number, entry in enumerate(document["pattern"], start=1)
    )
    known = {pattern.id for pattern in patterns}
    if len(known) != len(patterns):
        raise ValueError("two patterns have the same id")
    workflows = tuple(_read_workflow(entry) for entry in document["workflow"])
    for workflow in workflows:
        if unknown := {*workflow.needs, *workflow.optional} - known:
            raise ValueError(f"workflow {workflow.id} names unknown patterns: {', '.join(sorted(unknown))}")
    return Catalogue(
        version=document["version"],
        newest_uv=document["newest_uv"],
        etag=etag,
        patterns=patterns,
        workflows=workflows,
        signers=tuple(Signer(**_with_tuples(entry)) for entry in document["signer"]),
        buckets=tuple(Bucket(**entry) for entry in document["bucket"]),
        releases=tuple(Release(**_with_tuples(entry)) for entry in document.get("release", ())),
        starts_nothing=tuple(document.get("starts_nothing", ())),
    )


def expand_braces(template: str) -> tuple[str, ...]:
    """All spellings of a template with `{a,b}` alternatives.

    >>> expand_braces("{python,pythonw}.exe")
    ('python.exe', 'pythonw.exe')
    """
    parts = _BRACES.split(template)
    choices = [part.split(",") if index % 2 else [part] for index, part in enumerate(parts)]
    return tuple("".join(choice) for choice in itertools.product(*choices))


def _read_pattern(entry: dict[str, Any], priority: int, fragments: Mapping[str, str]) -> Pattern:
    values = _with_tuples(entry)
    canary = values.pop("canary", ())
    posix_canary = values.pop("posix_canary", ())
    why_not = values.pop("real_only", "")
    for name in ("templates", "posix"):
        values[name] = tuple(spelt for template in values.get(name, ()) for spelt in expand_braces(template))
    values["match"] = _FRAGMENT.sub(lambda found: fragments[found[1]], values["match"])
    return Pattern(
        priority=priority,
        is_executed=not values["executed"].startswith("no"),
        probe=ProbeSpec(canary=canary, posix_canary=posix_canary, real_only=bool(why_not), why_not=why_not),
        **values,
    )


def _read_workflow(entry: dict[str, Any]) -> Workflow:
    return Workflow(**_with_tuples(entry))


def _with_tuples(entry: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in entry.items()}
