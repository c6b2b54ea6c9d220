"""Where a report stands, held against a plain model that remembers every report."""

from __future__ import annotations

import hashlib

from hypothesis import given, strategies

from app.fleet.sequence import EMPTY_RECENT, SLOTS, Place, list_recent, place, remember

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


@given(sequences=strategies.lists(strategies.integers(1, 60), min_size=1, unique=True))
def test_the_newest_numbers_are_told_as_they_came(sequences: list[int]) -> None:
    """Also those that fill a hole later; what is too old by then is refused, as the server does."""
    highest, recent, missed, came = 0, EMPTY_RECENT, 0, set()
    for sequence in sequences:
        if highest and sequence <= highest - SLOTS:
            continue
        if not came:
            recent = remember(EMPTY_RECENT, sequence - 1, sequence, b"told tag")
        elif sequence > highest:
            missed += sequence - highest - 1
            recent = remember(recent, highest, sequence, b"told tag")
        else:
            missed, recent = max(missed - 1, 0), remember(recent, sequence, sequence, b"told tag")
        highest = max(highest, sequence)
        came.add(sequence)
    told = list_recent(highest, recent, missed)
    assert [one.number for one in told] == list(range(told[0].number, highest + 1))
    assert {one.number for one in told if one.arrived} == {n for n in came if n > highest - SLOTS}
    assert len(told) <= SLOTS
    # Before the first that arrived nothing is called missing that the server does not know of.
    assert told[0].arrived or missed


def test_what_was_sent_before_the_server_knew_is_not_called_missing() -> None:
    recent = remember(EMPTY_RECENT, 6, 7, b"report-7")
    assert [(one.number, one.arrived) for one in list_recent(7, recent, 0)] == [(7, True)]
    assert [one.number for one in list_recent(0, remember(EMPTY_RECENT, 0, 0, b"report-0"), 0)] == [0]


def test_after_a_long_silence_all_but_the_newest_are_missing() -> None:
    recent = remember(remember(EMPTY_RECENT, 0, 1, b"report-1"), 1, 100, b"report-n")
    assert [one.number for one in list_recent(100, recent, 98) if not one.arrived] == list(range(85, 100))
