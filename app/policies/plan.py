"""From chosen patterns to rules: which kind, in which collections, with what reach.

Paths come from the catalogue's templates and the administrator's folders, publishers from the catalogue's known signers
or the baseline, hashes from the baseline alone.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from agent.catalogue import Catalogue, Pattern
from app.applocker.identify import rule_id
from app.applocker.model import (
    Action,
    AppLockerError,
    Condition,
    FileHash,
    HashCondition,
    PathCondition,
    PublisherCondition,
    Rule,
)
from app.applocker.suggest import Suggestion, hash_rule, path_rule, publisher_rule
from app.errors import InvalidError
from app.policies.baselines import TrustedFile
from app.policies.choices import COLLECTIONS, DEFAULT_ROOTS, PLAN_KINDS, RULE_KINDS, PatternChoice
from app.policies.reach import (
    Reach,
    narrower_than_path,
    reach_of_file,
    reach_of_path,
    reach_of_signer,
    reach_of_trusted_publisher,
)

COLLECTION_OF_KIND = {"exe": "Exe", "dll": "Dll", "script": "Script", "msi": "Msi"}
_COLLECTION_OF_SUFFIX = {
    ".exe": "Exe",
    ".com": "Exe",
    ".dll": "Dll",
    ".pyd": "Dll",
    ".ps1": "Script",
    ".bat": "Script",
    ".cmd": "Script",
    ".vbs": "Script",
    ".js": "Script",
    ".msi": "Msi",
}
# What CPython 3.13 and later call the launchers that a virtual environment gets as python.exe and pythonw.exe.
# source: CPython, Lib/venv/__init__.py (setup_python on Windows)
_LAUNCHERS = {
    "venvlauncher.exe": "python.exe",
    "venvwlauncher.exe": "pythonw.exe",
    "venvlaunchert.exe": "python3.13t.exe",
    "venvwlaunchert.exe": "pythonw3.13t.exe",
}
# The patterns whose python.exe is a copy of the base Python's launcher, so signed if that Python is.
# source: uv 0.13.8, crates/uv-virtualenv/src/virtualenv.rs (copy_launcher_windows)
LAUNCHER_PATTERNS = frozenset(
    {
        "cache-builds-venv-python",
        "cache-archive-env-python",
        "cache-script-env-python",
        "tool-env-python",
        "venv-python",
    }
)
SYSTEM_SIGNER = "psf"
_UNSAFE = re.compile(r'[<>"|?\x00-\x1f\x7f]')


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRule:
    """One rule of an export, for the patterns it opens.

    `build`: the trusted file (name and version) that it was made from; `in_base`: the base policy has it already.
    """

    collection: str
    kind: str
    patterns: tuple[str, ...]
    suggestion: Suggestion
    reach: Reach
    build: str | None = None
    in_base: bool = False

    @property
    def rule(self) -> Rule:
        return self.suggestion.rule

    @property
    def id(self) -> str:
        return self.rule.id

    @property
    def name(self) -> str:
        return self.rule.name


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """Something that was asked for and got no rule, and why. `collection` None: the whole pattern."""

    pattern: str
    collection: str | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The rules for what was chosen, and what was left out."""

    rules: tuple[PlannedRule, ...]
    left_out: tuple[LeftOut, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What holds for all patterns of one plan. `in_force`: collections that may get rules; None: not known."""

    sid: str
    in_force: frozenset[str] | None
    has_base: bool
    baseline: tuple[TrustedFile, ...]
    project_roots: tuple[str, ...]
    roots: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """One condition that opens one pattern in one collection."""

    pattern: Pattern
    collection: str
    kind: str
    condition: Condition
    file: TrustedFile | None = None
    signer: str | None = None


def plan_rules(catalogue: Catalogue, choices: Sequence[PatternChoice], terms: Terms) -> Plan:
    """Rules for the chosen patterns, each rule once, in the catalogue's order.

    raises: InvalidError about `patterns`, `kind` or `collections` when something chosen can have no rule.
    """
    wanted: list[_Wanted] = []
    left_out: list[LeftOut] = []
    position = {pattern.id: index for index, pattern in enumerate(catalogue.patterns)}
    chosen: dict[str, PatternChoice] = {}
    for choice in choices:
        if choice.pattern not in position:
            raise InvalidError(f"There is no pattern {choice.pattern[:80]!a}.", field="patterns")
        if choice.pattern in chosen:
            raise InvalidError(f"{choice.pattern} is chosen twice.", field="patterns")
        chosen[choice.pattern] = choice
    if not chosen:
        raise InvalidError("Choose at least one pattern.", field="patterns")
    for choice in sorted(chosen.values(), key=lambda choice: position[choice.pattern]):
        pattern = catalogue.pattern(choice.pattern)
        source = rule_giver(catalogue, pattern)
        collections = _collections(pattern, source, terms, left_out)
        if not collections:
            continue
        kind = choice.kind or _best_kind(source, choice, collections, terms)
        if kind not in PLAN_KINDS:
            raise InvalidError(f"There is no rule kind {kind[:40]!a}; choose {', '.join(PLAN_KINDS)}.", field="kind")
        found = [
            replace(condition, pattern=pattern)
            for condition in _conditions(catalogue, source, kind, choice, collections, terms)
        ]
        if not found:
            raise InvalidError(_why_impossible(source, kind, collections), field="kind")
        wanted += found
        for collection in sorted(collections - {condition.collection for condition in found}):
            left_out.append(
                LeftOut(
                    pattern=pattern.id, collection=collection, reason=f"No {kind} rule is known for this collection."
                )
            )
    return Plan(rules=tuple(_grouped(catalogue, wanted, terms)), left_out=tuple(left_out))


def rule_giver(catalogue: Catalogue, pattern: Pattern) -> Pattern:
    """The pattern whose rules open this one: mostly itself. raises: InvalidError if none does."""
    kinds = pattern.rule_kinds
    advice = pattern.rule_advice
    if kinds and kinds[0] == "covered-by" and pattern.covered_by:
        return catalogue.pattern(pattern.covered_by)
    if not kinds or kinds[0] == "none" or not pattern.is_executed:
        raise InvalidError(
            f"{pattern.id} needs no rule. {advice}",
            field="patterns",
        )
    if not any(kind in RULE_KINDS for kind in kinds) or kinds[0] == "avoid":
        raise InvalidError(f"{pattern.id} should not get a rule. {advice}", field="patterns")
    return pattern


def _collections(pattern: Pattern, source: Pattern, terms: Terms, left_out: list[LeftOut]) -> frozenset[str]:
    """The collections in which a pattern gets rules: only such as are in force, so that none is switched on."""
    offered = [name for name in COLLECTIONS if name in pattern.collections and name in source.collections]
    if terms.in_force is not None:
        for name in offered:
            if name not in terms.in_force:
                reason = (
                    f"The base policy has no {name} rules, so it allows everything there; "
                    "a first rule would block all the rest."
                    if terms.has_base
                    else f"{name} is not among the collections that were said to be in force."
                )
                left_out.append(LeftOut(pattern=pattern.id, collection=name, reason=reason))
        return frozenset(offered) & terms.in_force
    first = next((name for name in offered if name != "Dll"), None)
    if first is None:
        raise InvalidError(
            f"{pattern.id} needs Dll rules. Where a policy has none yet, a first one blocks every other library: "
            "give the base policy, or say that Dll is in force.",
            field="collections",
        )
    for name in offered:
        if name != first:
            reason = f"Nobody said whether the policy has {name} rules already: a first one would block all the rest."
            left_out.append(LeftOut(pattern=pattern.id, collection=name, reason=reason))
    return frozenset((first,))


def _best_kind(source: Pattern, choice: PatternChoice, collections: frozenset[str], terms: Terms) -> str:
    """The first kind of the catalogue's advice for which there is what it needs; a path where nothing else is there."""
    if choice.files is not None:
        return "hash"
    for kind in source.rule_kinds:
        if kind == "publisher" and (source.signer or _signed(_fitting(source, choice, collections, terms))):
            return kind
        if kind == "hash" and _fitting(source, choice, collections, terms):
            return kind
        if kind == "path" and any(_paths(source, collection, terms) for collection in collections):
            return kind
    if any(_paths(source, collection, terms) for collection in collections):
        return "path"
    return next(kind for kind in source.rule_kinds if kind in RULE_KINDS)


def _conditions(
    catalogue: Catalogue,
    source: Pattern,
    kind: str,
    choice: PatternChoice,
    collections: frozenset[str],
    terms: Terms,
) -> Iterator[_Wanted]:
    if kind in ("path", "broad"):
        for collection in sorted(collections):
            paths = _paths(source, collection, terms)
            for path in dict.fromkeys(_broadened(path, terms) for path in paths) if kind == "broad" else paths:
                yield _Wanted(pattern=source, collection=collection, kind="path", condition=PathCondition(path=path))
        return
    if kind == "system":
        if source.id in LAUNCHER_PATTERNS and "Exe" in collections:
            signer = catalogue.signer(SYSTEM_SIGNER)
            condition = PublisherCondition(
                publisher=signer.publisher, product=signer.product or "*", binary=signer.binary or "*"
            )
            yield _Wanted(pattern=source, collection="Exe", kind="publisher", condition=condition, signer=SYSTEM_SIGNER)
        return
    if kind == "publisher" and source.signer and choice.files is None:
        signer = catalogue.signer(source.signer)
        condition = PublisherCondition(
            publisher=signer.publisher, product=signer.product or "*", binary=signer.binary or "*"
        )
        for collection in sorted(collections):
            yield _Wanted(pattern=source, collection=collection, kind=kind, condition=condition, signer=signer.id)
        return
    files = _fitting(source, choice, collections, terms)
    for file in _signed(files) if kind == "publisher" else files:
        yield _Wanted(
            pattern=source,
            collection=COLLECTION_OF_KIND[file.kind],
            kind=kind,
            condition=_publisher_condition(file) if kind == "publisher" else _hash_condition(file),
            file=file,
        )


def _paths(source: Pattern, collection: str, terms: Terms) -> tuple[str, ...]:
    """The path rules of a pattern in one collection, narrowed to project roots and moved roots where there are any."""
    paths: Iterable[str] = source.applocker_paths
    if source.project_paths and terms.project_roots:
        paths = [path.replace("<project>", root) for root in terms.project_roots for path in source.project_paths]
    found: dict[str, None] = {}
    for path in paths:
        suffix = re.search(r"\.[a-z0-9]+$", path.lower())
        of_suffix = _COLLECTION_OF_SUFFIX.get(suffix[0]) if suffix else None
        if of_suffix not in (None, collection) or _UNSAFE.search(path) or "<" in path:
            continue
        found[_moved(path, terms.roots)] = None
    return tuple(found)


def _moved(path: str, roots: Mapping[str, str]) -> str:
    for name, folder in roots.items():
        prefix = DEFAULT_ROOTS[name]
        if path.lower().startswith(prefix.lower() + "\\"):
            return folder + path[len(prefix) :]
    return path


def _broadened(path: str, terms: Terms) -> str:
    """All of the folder of uv's, or of the projects, in which a path lies; the path itself where it is in none."""
    for folder in (*terms.roots.values(), *DEFAULT_ROOTS.values(), *terms.project_roots):
        if path.lower().startswith(folder.lower() + "\\"):
            return f"{folder}\\*"
    before, venv, _ = path.partition("\\.venv\\")
    return f"{before}{venv}*" if venv else path


def _fitting(
    source: Pattern, choice: PatternChoice, collections: frozenset[str], terms: Terms
) -> tuple[TrustedFile, ...]:
    """Baseline files for a pattern: those chosen, else those whose name the pattern's templates name."""
    usable = [file for file in terms.baseline if COLLECTION_OF_KIND.get(file.kind) in collections]
    if choice.files is not None:
        by_id = {file.id: file for file in usable}
        missing = [number for number in choice.files if number not in by_id]
        if missing:
            raise InvalidError(f"No baseline file {missing[0]} fits {choice.pattern}.", field="files")
        return tuple(by_id[number] for number in choice.files)
    # Pythons that uv downloads are not signed: a signed python.exe of the baseline is another build than theirs.
    # source: python-build-standalone #89; the catalogue's `signed` of managed-python-exe
    unsigned_only = source.group == "managed-python"
    return tuple(file for file in usable if not (unsigned_only and file.publisher) and may_be_called(file.name, source))


def may_be_called(name: str, source: Pattern) -> bool:
    """Whether a pattern's templates name a file. `*.exe` says nothing about which: such a pattern names none."""
    names = {template.rpartition("\\")[2].lower() for template in source.templates}
    called = _LAUNCHERS.get(name.lower(), name.lower())
    return any(fnmatch.fnmatchcase(called, one) for one in names if not one.startswith("*"))


def also_stands_at(rule: PlannedRule, catalogue: Catalogue) -> frozenset[str]:
    """The patterns beside its own at which the very files of a rule stand too: a hash or a publisher knows no place.

    A launcher is copied into environments of every kind; a program's other places are those of its group; what leads
    to a pattern through a junction is that pattern.
    """
    own = set(rule.patterns)
    condition = rule.rule.condition
    found = {one.id for one in catalogue.patterns if one.covered_by in own}
    if isinstance(condition, HashCondition):
        if own & LAUNCHER_PATTERNS:
            found |= LAUNCHER_PATTERNS
        names = [one.source_name for one in condition.hashes if one.source_name]
        groups = {catalogue.pattern(name).group for name in own}
        found |= {
            one.id
            for one in catalogue.patterns
            if one.group in groups and any(may_be_called(name, one) for name in names)
        }
    elif isinstance(condition, PublisherCondition):
        signers = {one.id for one in catalogue.signers if one.publisher.upper() == condition.publisher.upper()}
        found |= {one.id for one in catalogue.patterns if one.signer in signers}
    return frozenset(found - own)


def _signed(files: Iterable[TrustedFile]) -> tuple[TrustedFile, ...]:
    return tuple(file for file in files if file.publisher)


def _publisher_condition(file: TrustedFile) -> PublisherCondition:
    assert file.publisher  # noqa: S101 - `_signed` let it through
    for text in (file.publisher, file.product or "", file.binary or ""):
        # A product that calls itself * would make the rule one for all products.
        if re.search(r"[*?]", text):
            raise InvalidError(
                f"{file.name} says {text[:60]!a} of itself, which AppLocker takes for a wildcard: use its hash.",
                field="files",
            )
    return PublisherCondition(publisher=file.publisher, product=file.product or "*", binary=file.binary or "*")


def _hash_condition(file: TrustedFile) -> HashCondition:
    data = FileHash(data=file.rule_sha256.upper(), source_name=file.name, source_length=file.size_bytes)
    return HashCondition(hashes=(data,))


def _grouped(catalogue: Catalogue, wanted: Iterable[_Wanted], terms: Terms) -> Iterator[PlannedRule]:
    """Equal conditions become one rule for all their patterns."""
    groups: dict[str, list[_Wanted]] = {}
    for item in wanted:
        groups.setdefault(rule_id(item.collection, Action.ALLOW, terms.sid, [item.condition]), []).append(item)
    for items in groups.values():
        first = items[0]
        patterns = tuple({item.pattern.id: item.pattern for item in items}.values())
        reach = _reach(catalogue, first, patterns, terms)
        suggestion = _suggest(first, patterns, reach, terms.sid)
        yield PlannedRule(
            collection=first.collection,
            kind=first.kind,
            patterns=tuple(pattern.id for pattern in patterns),
            suggestion=suggestion,
            build=_build(first.file) if first.file else None,
            reach=reach,
        )


def _build(file: TrustedFile) -> str:
    return f"{file.name} {file.version}" if file.version else file.name


def _suggest(item: _Wanted, patterns: tuple[Pattern, ...], reach: Reach, sid: str) -> Suggestion:
    """The rule itself. raises: InvalidError if the engine finds it unfit (a baseline file with an odd publisher)."""
    more = f" and {len(patterns) - 1} more" if len(patterns) > 1 else ""
    what = _build(item.file) if item.file else f"{patterns[0].title}{more}"
    name = f"uv: {what} ({item.kind})"
    description = f"Opens {', '.join(pattern.id for pattern in patterns)}. {reach.lasts}"
    try:
        match item.condition:
            case PathCondition(path=path):
                return path_rule(item.collection, path, name=name, description=description, risk=reach.risk, sid=sid)
            case PublisherCondition(publisher=publisher, product=product, binary=binary):
                return publisher_rule(
                    item.collection,
                    publisher,
                    product=product,
                    binary=binary,
                    name=name,
                    description=description,
                    risk=reach.risk,
                    sid=sid,
                )
            case HashCondition(hashes=hashes):
                files = [(file.source_name or "", file.source_length or 0, file.data) for file in hashes]
                return hash_rule(item.collection, files, name=name, description=description, risk=reach.risk, sid=sid)
    except AppLockerError as error:
        raise InvalidError(str(error), field="files" if item.file else "patterns") from error


def _reach(catalogue: Catalogue, item: _Wanted, patterns: tuple[Pattern, ...], terms: Terms) -> Reach:
    if isinstance(item.condition, PathCondition):
        narrower = narrower_than_path(
            item.condition.path,
            patterns,
            has_project_roots=bool(terms.project_roots),
            has_hash=any("hash" in pattern.rule_kinds for pattern in patterns),
        )
        return reach_of_path(item.condition.path, item.collection, patterns, narrower)
    if item.file is not None and item.kind == "hash":
        return reach_of_file(item.file, patterns)
    if item.file is not None:
        return reach_of_trusted_publisher(item.file, patterns, "A hash rule admits this one file alone.")
    assert item.signer  # noqa: S101 - the only publisher without a file
    narrower = (
        "A hash per release (`wayleave baseline add`) admits that one file. Deployed by IT under Program Files, "
        "it needs no rule of its own under AppLocker's default rules."
    )
    return reach_of_signer(catalogue, catalogue.signer(item.signer), patterns, narrower)


def _why_impossible(source: Pattern, kind: str, collections: frozenset[str]) -> str:
    where = ", ".join(sorted(collections))
    if kind == "hash":
        return (
            f"No trusted file of the baseline fits {source.id} ({where}): record one with "
            "`wayleave baseline add FILE...`, or choose files."
        )
    if kind == "system":
        return f"{source.id} is no Python that a Python of administrators could stand in for."
    if kind == "publisher":
        return (
            f"No publisher is known for {source.id}: neither a known signer of the catalogue nor a signed file of the "
            f"baseline. {source.rule_advice}"
        )
    if source.project_paths:
        return f"{source.id} lies in project folders: name the project roots."
    return f"No path rule is known for {source.id} ({where}). {source.rule_advice}"
