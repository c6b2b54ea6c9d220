"""How strict each collection is, and which ones a draft makes stricter or laxer: by comparing, never by assuming."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from app.applocker.compare import Change, Kind
from app.applocker.model import COLLECTION_TYPES, Collection, Policy
from app.policies.judgement import Layer

OF_MODES = frozenset({Kind.MODE, Kind.STARTED, Kind.ENDED})
OF_THE_BASE = frozenset({Kind.RULE_REMOVED, Kind.RULE_CHANGED, Kind.RULE_RENAMED, Kind.EXTENSIONS})


def strictness(collection: Collection | None) -> str:
    """What a collection does with a file that no rule of it allows.

    >>> strictness(None)
    'everything runs'
    """
    if collection is None or not collection.rules:
        return "everything runs"
    return "denials are only logged" if collection.is_audited else "denials are enforced"


def strictness_changes(before: Policy, after: Policy) -> tuple[str, ...]:
    """One sentence for each collection that becomes stricter or laxer."""
    found = []
    for name in COLLECTION_TYPES:
        was, will = strictness(before.collection(name)), strictness(after.collection(name))
        if was != will:
            found.append(f"{name}: {was} today, {will} afterwards")
    return tuple(found)


def changes_in_layers(layers: Iterable[Layer]) -> tuple[str, ...]:
    """The same of policies that must all allow a file, each on its own."""
    return tuple(
        dict.fromkeys(one for layer in layers for one in strictness_changes(layer.before.policy, layer.after.policy))
    )


def mode_changes_of(changes: Sequence[Change]) -> tuple[Change, ...]:
    """The differences that change the mode of a collection, or whether it has rules at all."""
    return tuple(one for one in changes if one.kind in OF_MODES)


def base_changes_of(changes: Sequence[Change]) -> tuple[Change, ...]:
    """The differences that touch what the base has already."""
    return tuple(one for one in changes if one.kind in OF_THE_BASE)
