"""Where a report stands, held against a plain model that remembers every report."""

from __future__ import annotations

import hashlib

from hypothesis import given, strategies

from app.fleet.sequence import EMPTY_RECENT, SLOTS, Place, place, remember

sent = strategies.lists(
    strategies.tuples(strategies.integers(1, 3), strategies.integers(0, 40), strategies.integers(0, 1)), max_size=60
)


@given(reports=sent)
def test_it_agrees_with_a_model_that_forgets_nothing(reports: list[tuple[int, int, int]]) -> None:
    epoch, highest, recent = 0, 0, b""
    known: dict[tuple[int, int], int] = {}
    for its_epoch, its_sequence, variant in reports:
        tag = hashlib.blake2b(f"{its_epoch} {its_sequence} {variant}".encode(), digest_size=8).digest()
        found = place(epoch, highest, recent, its_epoch, its_sequence, tag)
        if its_epoch > epoch or (its_epoch == epoch and its_sequence > highest):
            expected = Place.NEW
        elif its_epoch < epoch or its_sequence <= highest - SLOTS:
            expected = Place.TOO_OLD
        elif (its_epoch, its_sequence) not in known:
            expected = Place.LATE
        else:
            expected = Place.REPLAY if known[its_epoch, its_sequence] == variant else Place.REUSED
        assert found is expected
        if found is Place.NEW:
            before = highest if its_epoch == epoch else its_sequence - 1
            recent = remember(recent if its_epoch == epoch else EMPTY_RECENT, before, its_sequence, tag)
            epoch, highest = its_epoch, its_sequence
        elif found is Place.LATE:
            recent = remember(recent, its_sequence, its_sequence, tag)
        if found in (Place.NEW, Place.LATE):
            known[its_epoch, its_sequence] = variant
