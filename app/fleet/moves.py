"""What the tallies lose and gain when a subject's row changes."""

from __future__ import annotations

from collections import defaultdict

from app.fleet.rows import PointerRow
from app.fleet.standing import Standing
from app.fleet.tables import NO_SET


def count_move(old: PointerRow, new: PointerRow, deltas: defaultdict[tuple[int, int, int], int]) -> None:
    """Adds to `deltas` what the tallies lose and gain when a subject's row changes."""
    for pointers, by in ((old, -1), (new, 1)):
        group_id, standing = pointers.group_id, pointers.standing
        if not Standing(standing).in_tallies:
            continue
        deltas[group_id, standing, NO_SET] += by
        for set_id in pointers[3:]:
            if set_id is not None:
                deltas[group_id, standing, set_id] += by
