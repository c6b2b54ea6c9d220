"""Benchmark of what comes after an export, at a million workstations of a diverse fleet.

An export's rules are put into every other policy in force. Timed: what became of it and why, the lists of hosts behind
two of its figures, what is offered for removal, and two runs of what notices regressions (the first reads everything
for the first time). Prints JSON lines; exits with 1 if a page takes longer than its target. Usage: closing.py [HOSTS]
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

from parts.figures import emit
from parts.postgresql import running_postgresql
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from app.applocker.write import render_rule
from app.audit.record import Actor
from app.db.base import now
from app.db.engine import open_url
from app.db.migrate import upgrade
from app.db.session import session_scope
from app.fleet.fold import ContributionCache, fold
from app.fleet.make_bulk import make_fleet_in_bulk
from app.fleet.tables import FactSet
from app.notices.counts import Remembered
from app.notices.watch import Thresholds, watch_fleet
from app.policies.after import read_after
from app.policies.after_hosts import AfterFilter, list_hosts_after
from app.policies.after_judge import Reason
from app.policies.arrival import read_arrival
from app.policies.export import Export, plan_export
from app.policies.offers import list_offers
from app.policies.record_export import record_export

HOSTS = 1_000_000
SID = "S-1-5-21-1004336348-1177238915-682003330-5120"
PATTERNS = ("venv-python=path", "cache-builds-venv-python=path", "tool-bin-exe=path")
BENCH = Actor(kind="system", name="benchmark")
TARGET_S = 5.0
"""Of the part that follows a page: the page itself reads tallies alone."""


def main(hosts: int) -> int:
    with running_postgresql("fsync=off") as cluster:
        engine = open_url(cluster.make_database("fleet").replace("postgresql://", "postgresql+psycopg://"))
        upgrade(engine)
        make_fleet_in_bulk(engine, hosts, profile="diverse")
        export = plan_export(PATTERNS, SID)
        with session_scope(engine) as session:
            export_id = record_export(session, export, actor=BENCH).id
            _put_in(session, export)
        with engine.connect() as connection:
            while fold(connection, ContributionCache()):
                pass
            connection.exec_driver_sql("ANALYZE")
        return 0 if _measure(engine, export_id, hosts) else 1


def _put_in(session: Session, export: Export) -> None:
    """Every other policy gets the rules. A body is only read here, so its digest may stay as it was."""
    rows = session.scalars(select(FactSet).where(FactSet.kind == 4).order_by(FactSet.id)).all()
    for row in rows[::2]:
        value = json.loads(row.body)
        if value["gpo"] and "Exe" in value["gpo"]:
            value["gpo"]["Exe"]["rules"] += [render_rule(rule.rule) for rule in export.rules]
            row.body = json.dumps(value)


def _measure(engine: Engine, export_id: int, hosts: int) -> bool:
    remembered = Remembered()

    def timed(name: str, work: Callable[[Session], Any]) -> tuple[float, Any]:
        began = time.perf_counter()
        with session_scope(engine, writes=False) as session:
            found = work(session)
        took_s = time.perf_counter() - began
        emit(f"closing_{name}", took_s, "s", hosts=hosts)
        return took_s, found

    slowest = [timed("arrival", lambda session: read_arrival(session, export_id))[0]]
    took_s, after = timed("after", lambda session: read_after(session, export_id))
    slowest.append(took_s)
    reasons = {f"{one.because.reason} {one.because.detail}".strip(): one.users for one in after.reasons}
    print(
        f"{after.base} users: {after.arrived} arrived, {after.open} open, {after.blocked} blocked: {reasons}",
        file=sys.stderr,
    )
    for name, wanted in (
        ("hosts_arrived", AfterFilter(stage="arrived")),
        ("hosts_not_in_group", AfterFilter(reason=Reason.NOT_IN_GROUP)),
    ):
        slowest.append(timed(name, lambda session, wanted=wanted: list_hosts_after(session, export_id, wanted))[0])
    slowest.append(timed("offers", lambda session: list_offers(session, now(), days=90))[0])
    for name in ("watch_first", "watch_again"):
        began = time.perf_counter()
        with engine.connect() as connection:
            run = watch_fleet(connection, now(), Thresholds(), remembered)
        emit(f"closing_{name}", time.perf_counter() - began, "s", hosts=hosts, watched=run.watched)
    return max(slowest) <= TARGET_S


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else HOSTS))
