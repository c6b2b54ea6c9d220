"""How often rules were used on a made fleet: some workstations count it, and nothing uses the administrators' rule."""

from __future__ import annotations

import random
from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import Connection, insert

from app.db.base import to_ms
from app.fleet.rule_uses import DAY_MS, KEPT_DAYS, UseRow, fold_uses, write_uses
from app.fleet.tables_rule_use import RuleDay

PROGRAMS, WINDOWS = "921cc481-6e17-4653-8f75-050b80acca20", "a61c8b2c-a319-4cd0-9690-d2177cad7b51"
ADMINISTRATORS = "fd686d83-a829-4351-8ff4-27c7de5755d2"
ENGINEERS = "5f1f4c52-7c53-5a0c-9f7e-2f3f6f0f7f11"
"""Rules of `made_sets`."""

COUNTING = 20
"""One in so many workstations counts, if no administrator uses it."""

ENGINEERS_DAYS = 6


def write_made_uses(connection: Connection, hosts: Iterable[tuple[int, bool]], until: datetime, *, seed: int) -> None:
    """A month of uses of these hosts, each with whether the engineers' rule reached it. Commits."""
    chance = random.Random(seed + 2)  # noqa: S311 - not a secret
    today = to_ms(until) // DAY_MS
    rows: list[UseRow] = []
    for host_id, is_engineers in hosts:
        for ago in range(1, KEPT_DAYS + 1):
            # The first of January 1970 was a Thursday: few work at the week's end.
            if (today - ago + 3) % 7 >= 5 and chance.random() < 0.9:
                continue
            rows.append(UseRow(host_id, today - ago, WINDOWS, chance.randint(150, 900)))
            rows.append(UseRow(host_id, today - ago, PROGRAMS, chance.randint(40, 300)))
            if is_engineers and ago <= ENGINEERS_DAYS:
                rows.append(UseRow(host_id, today - ago, ENGINEERS, chance.randint(1, 40)))
    with connection.begin():
        write_uses(connection, rows)
    while fold_uses(connection, wait=True):
        pass
    with connection.begin():
        # That all rules were there, and looked at, from the first day on.
        known = (WINDOWS, PROGRAMS, ADMINISTRATORS)
        connection.execute(
            insert(RuleDay), [{"rule_id": rule, "day": today - KEPT_DAYS - 1, "uses": 0, "hosts": 0} for rule in known]
        )
