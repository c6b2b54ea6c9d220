"""What a server has gathered beside its fleet: days, sightings, tags, a rule set that went its whole way, an export.

With it no page is empty, and every address that names something has one to name.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from sqlalchemy import Engine, func, select, text

from agent import catalogue
from app.audit.record import Actor
from app.db.base import now, to_ms
from app.db.session import session_scope
from app.fleet.retention import write_daily
from app.fleet.sighting_days import count_sightings
from app.fleet.tables import KIND_NUMBERS, FactSet, Tally
from app.fleet.unseen import list_unseen
from app.imports.tables import ImportJob
from app.notices.record import Found, open_notice
from app.policies.base_policies import add_base_policy
from app.policies.export import plan_export
from app.policies.package import export_rule_set
from app.policies.queries_rule_sets import get_rule_set
from app.policies.record_export import record_export
from app.policies.review import approve, review_of, submit_for_review
from app.policies.rule_sets import Group, add_to_rule_set, choose_for_item, set_terms
from app.policies.simulations import ask_for_simulation, run_simulation

DAYS = 90
SIGHTINGS = 300_000
SID = "S-1-5-21-1004336348-1177238915-682003330-1234"
PATTERN = "venv-python"
BASE_POLICY = """<AppLockerPolicy Version="1"><RuleCollection Type="Exe" EnforcementMode="Enabled">
<FilePathRule Id="921cc481-6e17-4653-8f75-050b80acca20" Name="Programs" Description="" UserOrGroupSid="S-1-1-0"
Action="Allow"><Conditions><FilePathCondition Path="%PROGRAMFILES%\\*"/></Conditions></FilePathRule>
</RuleCollection></AppLockerPolicy>"""
ANALYST, APPROVER = (Actor(kind="account", name=f"{one}@example.com") for one in ("analyst", "approver"))

_SIGHTINGS = """
INSERT INTO sighting (host_id, at, channel, record, subject_id, recorded_at, event_id, pattern, path, collection,
  bucket)
SELECT s.host_id, :at - (n::int8 * 7919 % :span), 'Microsoft-Windows-AppLocker/EXE and DLL', n, s.id, :at,
       CASE WHEN n % 3 = 0 THEN 8003 ELSE 8004 END, (CAST(:patterns AS text[]))[n % :count + 1],
       '%USERPROFILE%\\src\\' || n % 400 || '\\.venv\\Scripts\\python.exe', 'exe', s.bucket
FROM generate_series(1, :sightings) AS n JOIN subject s ON s.id = :first + n::int8 * 104729 % :subjects
"""
_TAGS = "INSERT INTO host_tag (tag, host_id, bucket) SELECT 'pilot', id, bucket FROM host WHERE id % 20 = 0"


def fill(engine: Engine, first_host: int) -> Mapping[str, str]:
    """Adds it all; what addresses name, by the names of their parts."""
    add_history(engine)
    rule_set_id, simulated_export_id = add_rule_set(engine)
    at = now()
    with session_scope(engine) as session:
        plain = record_export(session, plan_export([PATTERN, "uv-exe-standalone"], SID), actor=ANALYST)
        imported = ImportJob(
            name="events.evtx", size_bytes=1, fingerprint=b"-", kind="evtx", given={}, is_upload=False, state="done",
            claim="", position={}, read_bytes=1, events=1, added=1, known=0, hosts_made=0, left_out={}, problems=[],
            fault="", took_ms=1, created_at=at, created_by="analyst", beat_at=at, ended_at=at,
        )  # fmt: skip
        session.add(imported)
        found = Found(kind="more", key="more:measured", title="More got worse", users=5, detail={"count": 5})
        notice = open_notice(session, found, at)
        session.flush()  # its number is wanted
        in_force = select(func.min(Tally.set_id)).join(FactSet, FactSet.id == Tally.set_id)
        policy_id = session.scalar(in_force.where(FactSet.kind == KIND_NUMBERS["policy"]))
    return {
        "host_id": str(first_host),
        "pattern_id": PATTERN,
        "pattern": PATTERN,
        "rule_set_id": str(rule_set_id),
        "export_id": str(plain.id),
        "package_id": str(simulated_export_id),
        "policy_id": str(policy_id),
        "import_id": str(imported.id),
        "notice_id": str(notice.id) if notice else "",
    }


def add_history(engine: Engine) -> None:
    """Ninety days of counts, thirty of sightings, a tag on every twentieth host."""
    at = now()
    patterns = [one.id for one in catalogue.load().patterns if one.is_executed]
    with engine.connect() as connection:
        for days in range(DAYS, -1, -1):
            write_daily(connection, at - timedelta(days=days))
        with connection.begin():
            first, last = connection.execute(text("SELECT min(id), max(id) FROM subject")).one()
            values = {
                "at": to_ms(at) - 120_000, "span": 30 * 86_400_000, "patterns": patterns, "count": len(patterns),
                "sightings": SIGHTINGS, "first": first, "subjects": last - first + 1,
            }  # fmt: skip
            connection.execute(text(_SIGHTINGS), values)
            connection.execute(text(_TAGS))
        count_sightings(connection, at)
        list_unseen(connection, at)  # as the clock does every few minutes
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM (ANALYZE) sighting, sighting_day, daily, host_tag"))


def add_rule_set(engine: Engine) -> tuple[int, int]:
    """A rule set that was simulated over the fleet, approved and exported for its pilot: its number, the export's."""
    with session_scope(engine) as session:
        made = add_to_rule_set(session, workflows=["sync-build", "uvx"], actor=ANALYST).rule_set_id
        base = add_base_policy(session, BASE_POLICY.encode(), name="Workstations", actor=ANALYST)
        groups, pilot = [Group(sid=SID, name="Developers")], [Group(sid=f"{SID}5", name="Pilot")]
        set_terms(session, made, base_id=base.id, groups=groups, pilot=pilot, actor=ANALYST)
        choose_for_item(session, made, "cache-archive-env-python", kind="broad", actor=ANALYST)
        asked = ask_for_simulation(session, made, actor=ANALYST)
    run_simulation(engine, asked)
    with session_scope(engine) as session:
        submit_for_review(session, made, actor=ANALYST)
        digest = review_of(session, get_rule_set(session, made)).digest
        if digest is None:
            raise SystemExit("the rule set could not be reviewed")
        approve(session, made, digest=digest, actor=APPROVER)
        return made, export_rule_set(session, made, delivery="same-gpo", ring="pilot", actor=ANALYST)
