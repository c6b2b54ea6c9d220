"""Bodies of sets that were read once and committed: when a policy reaches a group, all its hosts send the same text.

Nobody can put another text in another's place: a body is looked up here only after its digest was computed from what
has just arrived. Nor can a stranger push the others out: only what was committed is remembered, and what a host may
bring in a day is bounded.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from app.fleet.rows import NewSet

SetKey = tuple[int, bytes]
"""Kind and digest."""

MOST_SETS = 2_000
MOST_CHARACTERS = 6_000_000
MOST_OF_ONE = 100_000


class CheckedBodies:
    """Sets by kind and digest, those used last kept. Belongs to one thread."""

    def __init__(self, *, sets: int = MOST_SETS, characters: int = MOST_CHARACTERS) -> None:
        self._most_sets = sets
        self._most_characters = characters
        self._known: OrderedDict[SetKey, NewSet] = OrderedDict()
        self._characters = 0

    def __len__(self) -> int:
        return len(self._known)

    def find(self, key: SetKey) -> NewSet | None:
        """The set with this digest, which the caller has computed from the body at hand."""
        found = self._known.get(key)
        if found is not None:
            self._known.move_to_end(key)
        return found

    def remember(self, committed: Iterable[NewSet]) -> None:
        """Keeps sets that were committed, and forgets those that were used longest ago."""
        for one in committed:
            key = (one.kind, one.digest)
            if key in self._known or len(one.body) > MOST_OF_ONE:
                continue
            self._known[key] = one
            self._characters += len(one.body)
        while len(self._known) > self._most_sets or self._characters > self._most_characters:
            _key, gone = self._known.popitem(last=False)
            self._characters -= len(gone.body)
