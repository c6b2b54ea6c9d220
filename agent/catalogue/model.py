"""The values of the catalogue: patterns, workflows and known signers."""

from __future__ import annotations

from dataclasses import dataclass, field

RULE_KINDS = ("publisher", "hash", "path", "covered-by", "avoid", "none")
"""Kinds of rule that can open a pattern. `covered-by`: another pattern's rule does; `avoid`: change uv's behaviour
instead; `none`: nothing is executed there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeSpec:
    """How a pattern may be tried.

    `canary` and `posix_canary` are templates of places where the canary may be put (see docs/catalogue.md for the
    markers). `real_only`: only a file that is already there may be tried, for the reason in `why_not`.
    """

    canary: tuple[str, ...] = ()
    posix_canary: tuple[str, ...] = ()
    real_only: bool = False
    why_not: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """A place where uv writes or runs a file.

    `templates` are Windows globs: `?` one character, `*` within a segment, `**` across segments, `{a,b}` already
    expanded; roots as `<cache>`, `<python dir>`, `<tool dir>`, `<bin>`, `<project>` or a variable. `posix` the same for
    Linux. `applocker_paths` are path rules as AppLocker writes them, `project_paths` the same under `<project>`.
    `match` is the classifying expression, with `<NAME>` where a machine's own value goes. `needs_evidence` lists the
    context keys that can settle a path which is not conclusive by itself.
    """

    id: str
    group: str
    title: str
    description: str
    collections: tuple[str, ...]
    executed: str
    is_executed: bool
    executed_by: str
    templates: tuple[str, ...]
    match: str
    default_path: str
    rule_kinds: tuple[str, ...]
    rule_advice: str
    sources: tuple[str, ...]
    confidence: str
    priority: int
    since: str | None = None
    until: str | None = None
    posix: tuple[str, ...] = ()
    applocker_paths: tuple[str, ...] = ()
    project_paths: tuple[str, ...] = ()
    volatile: tuple[str, ...] = ()
    relocations: tuple[str, ...] = ()
    needs_evidence: tuple[str, ...] = ()
    evidence: str = ""
    covered_by: str | None = None
    risk: str = ""
    signer: str | None = None
    signed: str = ""
    notes: str = ""
    probe: ProbeSpec = field(default_factory=ProbeSpec)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workflow:
    """A uv command as a person types it, and the patterns that must be open for it (`optional`: for parts of it).

    `also`: the other commands that start the same.
    """

    id: str
    command: str
    title: str
    needs: tuple[str, ...]
    optional: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    since: str | None = None
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """A publisher whose signature on files of uv's patterns is known. `publisher` is AppLocker's string."""

    id: str
    name: str
    publisher: str
    product: str
    binary: str
    since: str
    admits: str
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A uv.exe that is known by its hash: one of those that nobody signed."""

    version: str
    target: str
    authenticode_sha256: str
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """A folder of uv's cache. `since` and `until` are the first and the last uv version that writes there."""

    folder: str
    since: str
    until: str | None = None
    holds: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """All patterns in the order in which they are tried, the workflows, the known signers, the cache's buckets.

    `starts_nothing`: uv's commands that start no program from any pattern's places.
    """

    version: int
    newest_uv: str
    etag: str
    patterns: tuple[Pattern, ...]
    workflows: tuple[Workflow, ...]
    signers: tuple[Signer, ...]
    buckets: tuple[Bucket, ...] = ()
    releases: tuple[Release, ...] = ()
    starts_nothing: tuple[str, ...] = ()

    def pattern(self, pattern_id: str) -> Pattern:
        """The pattern of an id. raises: KeyError"""
        for pattern in self.patterns:
            if pattern.id == pattern_id:
                return pattern
        raise KeyError(pattern_id)

    def workflow(self, workflow_id: str) -> Workflow:
        """The workflow of an id. raises: KeyError"""
        for workflow in self.workflows:
            if workflow.id == workflow_id:
                return workflow
        raise KeyError(workflow_id)

    def signer(self, signer_id: str) -> Signer:
        """The signer of an id. raises: KeyError"""
        for signer in self.signers:
            if signer.id == signer_id:
                return signer
        raise KeyError(signer_id)
