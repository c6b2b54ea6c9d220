"""What people did with a made fleet: asked for access, drafted rules, approved and exported them; for `make demo`.

Everything goes the way that pages go, so it is simulated, approved by a second person and in the audit log. The base is
what the made fleet's default rules say. Usage: demo_story.py [EMAIL...] (accounts to make, with the password on the
standard input: the first drafts, the second approves)
"""

from __future__ import annotations

import hashlib
import sys
from collections import defaultdict
from dataclasses import replace
from datetime import timedelta
from itertools import islice

from sqlalchemy import Engine, select

from app.accounts.create import create_account
from app.applocker.write import render_policy, render_rule
from app.audit.record import COMMAND_LINE, Actor
from app.cli.database import opened_database, read_settings
from app.db.base import now, to_ms
from app.db.session import session_scope
from app.fleet.fold import ContributionCache, fold
from app.fleet.groups import make_standard_groups
from app.fleet.hosts import find_named_hosts
from app.fleet.made_sets import policy_set, policy_set_with, probe_set
from app.fleet.make import DEPARTMENTS, NEWEST, MadeHost, make_report, plan_story_hosts
from app.fleet.record import record_reports
from app.fleet.sets import SetCache
from app.fleet.tables import Host
from app.fleet.tags import tag_hosts
from app.imports.model import Given
from app.imports.uploads import accept_upload, uploads_dir
from app.ingest.enrolment import EnrolmentRequest, enrol
from app.ingest.secrets import make_secret
from app.policies.base_policies import add_base_policy
from app.policies.package import export_rule_set
from app.policies.queries_exports import get_kept_export
from app.policies.queries_rule_sets import get_rule_set
from app.policies.review import add_comment, approve, review_of, submit_for_review
from app.policies.rule_sets import Group, add_to_rule_set, choose_for_item, set_details, set_terms
from app.policies.simulations import ask_for_simulation, run_simulation
from app.policies.whatif import reported_policy
from app.requests.record import record_request
from app.settings import Settings

DOMAIN = "S-1-5-21-1004336348-1177238915-682003330"
RESEARCH = Group(sid=f"{DOMAIN}-5140", name="Research")
PILOT = Group(sid=f"{DOMAIN}-5141", name="Research, pilot")
FINANCE = Group(sid=f"{DOMAIN}-5130", name="Finance")
PILOTS = 24
"""So many hosts take part in the pilot; on every sixth the policy has not arrived."""
ASKED = (
    ("cache-builds-venv-python", "sync-build", "uv sync fails while it builds our wheel since Monday."),
    ("cache-builds-venv-python", "sync-build", ""),
    ("cache-archive-env-python", "uvx", "I need uvx ruff for the checks before a commit."),
    ("tool-env-python", "tool-install", ""),
)
NEWCOMERS = (
    (DEPARTMENTS[2], "FIELD", "agent by hand", "Field station, until its package comes", True),
    (DEPARTMENTS[0], "EXT", "contractor", "Contractors, to be looked at first", False),
)
"""Department, begin of the hosts' names, tag, note of the secret, whether users start the agent themselves."""
EVENTS = """TimeGenerated,Computer,EventID,FilePath
{day}T08:01:00Z,LAB-0001,8004,C:\\Users\\kim\\src\\model\\.venv\\Scripts\\python.exe
{day}T08:04:00Z,LAB-0001,8004,C:\\Users\\kim\\AppData\\Local\\uv\\cache\\builds-v0\\.tmpA1b2C3\\Scripts\\python.exe
{day}T08:09:00Z,LAB-0002,8003,C:\\Users\\sam\\AppData\\Roaming\\uv\\tools\\ruff\\Scripts\\python.exe
{day}T08:11:00Z,LAB-0002,8004,C:\\Tools\\setup.exe
"""


def main(emails: list[str]) -> int:
    """Exit code 2: not two addresses, or no password."""
    password = sys.stdin.readline().strip() if len(emails) == 2 else ""
    if not password:
        print(__doc__, file=sys.stderr)
        return 2
    settings = read_settings()
    analyst, approver = (Actor(kind="account", name=email) for email in emails)
    with opened_database(settings) as engine:
        with session_scope(engine) as session:
            for email, role in zip(emails, ("analyst", "approver"), strict=True):
                create_account(session, email, password, role)
        ask_for_access(engine)
        roll_out(engine, add_approved_rule_set(engine, analyst, approver))
        tag_some(engine, COMMAND_LINE)
        enrol_newcomers(engine, COMMAND_LINE)
        with engine.connect() as connection:
            while fold(connection, ContributionCache()):
                pass
        add_draft(engine, analyst)
        import_events(engine, settings, analyst)
    return 0


def ask_for_access(engine: Engine) -> None:
    """What people sent from the page Blocked?"""
    for number, (pattern, workflow, message) in enumerate(ASKED):
        with session_scope(engine) as session:
            record_request(
                session,
                engine="applocker-or-srp",
                patterns=[pattern],
                workflow=workflow,
                contact=f"user{number}@wayleave.example",
                message=message,
                asker=b"asker-%d" % number,
                actor=Actor(kind="anonymous", name=""),
            )


def add_approved_rule_set(engine: Engine, analyst: Actor, approver: Actor) -> int:
    """Rule set 1, for researchers: simulated, discussed, approved, exported for its pilot; the number of the export."""
    policy = reported_policy(policy_set("defaults").body)
    if policy is None:
        raise SystemExit("the made fleet's policy could not be read")
    with session_scope(engine) as session:
        made = add_to_rule_set(session, workflows=["sync-build", "uvx"], actor=analyst).rule_set_id
        base = add_base_policy(session, render_policy(policy).encode(), name="Workstations", actor=analyst)
        set_terms(session, made, base_id=base.id, groups=[RESEARCH], pilot=[PILOT], actor=analyst)
        set_details(
            session,
            made,
            name="Builds and uvx for Research",
            purpose="Researchers build wheels from source distributions and check code with tools from uvx.",
            change_number="CHG-20417",
            owner="Workplace engineering",
            review_by=now() + timedelta(days=365),
            actor=analyst,
        )
        choose_for_item(session, made, "cache-archive-env-python", kind="broad", actor=analyst)
        simulation = ask_for_simulation(session, made, actor=analyst)
    run_simulation(engine, simulation)
    with session_scope(engine) as session:
        add_comment(session, made, "The pilot runs for two weeks; then everybody in Research.", actor=analyst)
        submit_for_review(session, made, actor=analyst)
        digest = review_of(session, get_rule_set(session, made)).digest
        if digest is None:
            raise SystemExit("the rule set could not be reviewed")
        approve(session, made, digest=digest, note="Looked at the paths with the security team.", actor=approver)
        return export_rule_set(session, made, delivery="same-gpo", ring="pilot", actor=analyst)


def roll_out(engine: Engine, export_id: int) -> None:
    """The pilot reports: on most of its hosts the exported rules are in force and open what they should."""
    with session_scope(engine, writes=False) as session:
        rules = get_kept_export(session, export_id).export.rules
        ids = {name: number for number, name in session.execute(select(Host.id, Host.name))}
        _default, linux_group = make_standard_groups(session)
    pilots = list(islice((host for host in plan_story_hosts(len(ids), seed=1) if is_pilot(host)), PILOTS))
    added: dict[str, list[str]] = defaultdict(list)
    for one in rules:
        added[one.collection].append(render_rule(one.rule))
    opened = frozenset(pattern for one in rules for pattern in one.patterns)
    epoch = to_ms(now())
    reports = []
    for place, host in enumerate(pilots):
        arrived = place % 6 != 5
        uv_at = host.uv_at if host.version else -1
        probes = probe_set("defaults", False, host.has_projects, opened=opened, uv_at=uv_at)
        instead = [policy_set_with(added), probes] if arrived else []
        sids = (RESEARCH.sid, PILOT.sid)
        reports.append(make_report(ids[host.name], host, "defaults", 1, epoch, sids=sids, instead=instead))
    with engine.connect() as connection:
        record_reports(connection, reports, now_ms=epoch, sets=SetCache(), linux_group=linux_group)


def is_pilot(host: MadeHost) -> bool:
    """Whether a host may take part in the pilot."""
    return host.department.sid == RESEARCH.sid and host.policy == "defaults" and not (host.administrator or host.silent)


def tag_some(engine: Engine, actor: Actor) -> None:
    """Words that administrators find hosts by: the pilot's, those that go from desk to desk, the build machines."""
    with session_scope(engine) as session:
        hosts = list(plan_story_hosts(len(session.scalars(select(Host.id)).all()), seed=1))
        for tag, some in (
            ("pilot uv", list(islice(filter(is_pilot, hosts), PILOTS))),
            ("loaner", [host for host in hosts if host.number % 41 == 0]),
            ("build machine", [host for host in hosts if host.department.code == "ENG" and host.number % 29 == 0]),
        ):
            if some:
                tag_hosts(session, tag, find_named_hosts(session, (host.name for host in some)), actor=actor)


def enrol_newcomers(engine: Engine, actor: Actor) -> None:
    """Two researchers start the agent themselves before the package reaches them, so it is unattested what they report.

    Two contractors' machines enrolled while new hosts wait in quarantine; nobody has looked at them yet.
    """
    with session_scope(engine, writes=False) as session:
        known = len(session.scalars(select(Host.id)).all())
        _default, linux_group = make_standard_groups(session)
    reports = []
    for (department, code, tag, note, trial), first in zip(NEWCOMERS, (known + 1, known + 3), strict=True):
        names = []
        with session_scope(engine) as session:
            expires_at = now() + timedelta(days=7)
            secret = make_secret(
                session,
                uses=4,
                expires_at=expires_at,
                network=None,
                group=department.name,
                note=note,
                actor=actor,
                trial=trial,
            )
        for number in (first, first + 1):
            host = MadeHost(
                number=number,
                department=replace(department, code=code),
                policy="defaults",
                administrator=False,
                version=NEWEST,
                has_projects=True,
                silent=False,
                uv_at=1,
            )
            with session_scope(engine) as session:
                asked = EnrolmentRequest(secret=secret, name=host.name, os="Windows 11 Enterprise 24H2")
                host_id, token = enrol(session, asked, address=None, quarantine=not trial)
            report = make_report(host_id, host, "defaults", 1, to_ms(now()), sids=(department.sid,), attested=not trial)
            # The token is kept nowhere: nobody else can report for this host.
            report.secret_hash = hashlib.sha256(token.split("_", 2)[2].encode()).digest()
            reports.append(report)
            names.append(host.name)
        with session_scope(engine) as session:
            tag_hosts(session, tag, find_named_hosts(session, names), actor=actor)
    with engine.connect() as connection:
        record_reports(connection, reports, now_ms=to_ms(now()), sets=SetCache(), linux_group=linux_group)


def add_draft(engine: Engine, analyst: Actor) -> None:
    """Rule set 2: begun, and not finished."""
    with session_scope(engine) as session:
        made = add_to_rule_set(session, workflows=["run-script"], actor=analyst).rule_set_id
        set_terms(session, made, base_id=None, groups=[FINANCE], pilot=[], actor=analyst)


def import_events(engine: Engine, settings: Settings, analyst: Actor) -> None:
    """A list of events from a laboratory without agents; the running server reads it."""
    folder = uploads_dir(settings.data_dir)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "laboratory.csv"
    file.write_text(EVENTS.format(day=now().date().isoformat()))
    given = Given(computer="", event_type="", at=to_ms(now()))
    accept_upload(engine, settings, file, name=file.name, given=given, actor=analyst)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
