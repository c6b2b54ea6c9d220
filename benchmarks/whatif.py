"""Benchmark of simulations: a draft against a million workstations, in a process that has just started.

The fleet is `diverse`, and harder than that: policies of 500 rules that name many groups, tokens in ever other
combinations of them. How many profiles (tuples of policy, environment, probes and token) are distinct as reported is
printed, at least 50,000 of a million hosts, and how many stay so when tokens are seen as the rules see them. The naive
way, one user after another with policies read and judged from the start, is timed on 1,000 random users, and must say
the same of each of them.

Prints JSON lines; exits with 1 if the simulation takes longer than 2 s or differs. Usage: whatif.py [HOSTS]
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

from parts.figures import emit
from parts.postgresql import running_postgresql
from sqlalchemy import Engine, func, select, text
from sqlalchemy.orm import Session

from agent.contract.facts import CollectionInForce, PolicySet, TokenSet
from app.audit.record import Actor
from app.db.base import now
from app.db.engine import open_url
from app.db.migrate import upgrade
from app.db.session import session_scope
from app.fleet.made_sets import stored
from app.fleet.make_bulk import make_fleet_in_bulk
from app.fleet.standing import Standing
from app.fleet.tables import FactSet, Subject
from app.policies.base_policies import Origin, add_base_policy
from app.policies.baselines import list_baseline_files
from app.policies.drafts import build_draft
from app.policies.profiles import read_profiles, read_told
from app.policies.queries_rule_sets import get_rule_set
from app.policies.rule_sets import Group, add_to_rule_set, set_terms
from app.policies.simulate import CATEGORIES, Simulator, categories

ROOT = Path(__file__).resolve().parents[1]
SPEC = spec_from_file_location("naive_simulation", ROOT / "tests" / "app" / "policies" / "naive_simulation.py")
assert SPEC is not None
assert SPEC.loader is not None
naive = module_from_spec(SPEC)
SPEC.loader.exec_module(naive)

HOSTS = 1_000_000
RULES = 500
GROUPS = tuple(f"S-1-5-21-1004336348-1177238915-682003330-{number}" for number in (5120, 7001, 7002, 7003, 7004, 7005))
TARGET_S = 2.0
LEAST_PROFILES = 50_000
COMPARED = 1000
BENCH = Actor(kind="system", name="benchmark")
WORKFLOWS = ("sync-build", "uvx", "run-with", "run-script")

COLD = """
import sys, time
began = time.perf_counter()
from app.db.engine import open_url
from sqlalchemy.orm import Session
from app.policies.baselines import list_baseline_files
from app.policies.drafts import build_draft
from app.policies.queries_rule_sets import get_rule_set
from app.policies.simulate import simulate
imported = time.perf_counter()
with Session(open_url(sys.argv[1])) as session:
    rule_set = get_rule_set(session, int(sys.argv[2]))
    draft = build_draft(rule_set, list_baseline_files(session))
    drafted = time.perf_counter()
    found = simulate(session, rule_set, draft)
done = time.perf_counter()
print(found.base, found.profiles, found.judgements, found.policies, found.sha256)
told = {"import": imported - began, "draft": drafted - imported, "judge": done - drafted, "cpu": time.process_time()}
print(" ".join(f"{name} {took_s:.2f}" for name, took_s in told.items()), file=sys.stderr)
"""


def main(hosts: int) -> int:
    with running_postgresql("fsync=off") as cluster:
        url = cluster.make_database("fleet").replace("postgresql://", "postgresql+psycopg://")
        engine = open_url(url)
        upgrade(engine)
        began = time.perf_counter()
        make_fleet_in_bulk(engine, hosts, profile="diverse")
        emit("whatif_fleet", time.perf_counter() - began, "s", hosts=hosts)
        rule_set_id = _make_hard(engine)
        sound = _measure(engine, url, rule_set_id, hosts)
        return 0 if _compare(engine, rule_set_id) and sound else 1


def _make_hard(engine: Engine) -> int:
    """Policies of 500 rules in force, tokens in 64 combinations of the groups that rules name, and a draft."""
    with session_scope(engine) as session:
        policies = session.scalars(select(FactSet).where(FactSet.kind == 4)).all()
        for row in policies:
            gpo = json.loads(row.body)["gpo"]
            collections = {
                name: CollectionInForce(mode=one["mode"], rules=(*one["rules"], *_rules(name)))
                for name, one in gpo.items()
            }
            row.body = PolicySet(collections=collections).body()
        tokens = []
        for combination in range(1, 1 << len(GROUPS)):
            sids = ("S-1-1-0", "S-1-5-32-545", "S-1-5-4", "S-1-5-11")
            mine = tuple(sid for place, sid in enumerate(GROUPS) if combination >> place & 1)
            made = stored(TokenSet(sids=(*sids, *mine)))
            tokens.append(
                FactSet(kind=made.kind, digest=made.digest, body=made.body, flags=made.flags, created_at=now())
            )
        session.add_all(tokens)
        session.flush()
        ids = ", ".join(str(token.id) for token in tokens)
        session.execute(
            text(f"UPDATE subject SET token_id = (ARRAY[{ids}])[1 + (id * 7919) % {len(tokens)}] WHERE id % 3 > 0")
        )
        added = add_to_rule_set(session, actor=BENCH, workflows=WORKFLOWS, patterns=["managed-python-exe"])
        base = add_base_policy(session, _base().encode(), name="Base", origin=Origin.GPO, actor=BENCH)
        set_terms(
            session,
            added.rule_set_id,
            base_id=base.id,
            groups=[Group(sid=GROUPS[0], name="Developers"), Group(sid=GROUPS[1], name="Research")],
            project_roots=["C:\\src"],
            actor=BENCH,
        )
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE subject"))
        connection.execute(text("VACUUM ANALYZE fact_set"))
    return added.rule_set_id


def _rules(collection: str) -> tuple[str, ...]:
    """Half of the rules for each of Exe and Script: paths, hashes and publishers, for everybody and for groups."""
    made = []
    for number in range(RULES // 2 - 4):
        sid = GROUPS[number % len(GROUPS)] if number % 4 == 0 else "S-1-1-0"
        rule_id = f"00000000-0000-4000-{len(collection):04d}-{number:012d}"
        head = f'Action="Allow" Description="" Id="{rule_id}" Name="Rule {number}" UserOrGroupSid="{sid}"'
        if number % 3 == 0:
            path = f"%PROGRAMFILES%\\Vendor {number}\\*" if number % 2 else f"%OSDRIVE%\\Apps{number}\\*\\tool*.exe"
            made.append(
                f'<FilePathRule {head}><Conditions><FilePathCondition Path="{path}"/></Conditions></FilePathRule>'
            )
        elif number % 3 == 1:
            data = f"{number:064X}"
            made.append(
                f'<FileHashRule {head}><Conditions><FileHashCondition><FileHash Type="SHA256" Data="0x{data}" '
                f'SourceFileName="a{number}.exe" SourceFileLength="1000"/>'
                "</FileHashCondition></Conditions></FileHashRule>"
            )
        else:
            made.append(
                f"<FilePublisherRule {head}><Conditions><FilePublisherCondition "
                f'PublisherName="O=VENDOR {number}, C=US" ProductName="*" BinaryName="*">'
                '<BinaryVersionRange LowSection="*" HighSection="*"/>'
                "</FilePublisherCondition></Conditions></FilePublisherRule>"
            )
    return tuple(made)


def _base() -> str:
    collections = "".join(
        f'<RuleCollection Type="{name}" EnforcementMode="Enabled">{"".join(_rules(name))}</RuleCollection>'
        for name in ("Exe", "Script")
    )
    return f'<AppLockerPolicy Version="1">{collections}</AppLockerPolicy>'


def _measure(engine: Engine, url: str, rule_set_id: int, hosts: int) -> bool:
    with session_scope(engine, writes=False) as session:
        sets = (Subject.policy_id, Subject.environment_id, Subject.probes_id, Subject.token_id)
        alike = select(*sets).where(Subject.standing == Standing.COUNTED.value).distinct().subquery()
        reported = session.scalar(select(func.count()).select_from(alike))
    best = None
    for _ in range(3):
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", COLD, url, str(rule_set_id)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        took_s = time.perf_counter() - began
        print(f"{took_s:.2f} s: {done.stderr.strip()}", file=sys.stderr)
        best = took_s if best is None else min(best, took_s)
    assert best is not None
    base, profiles, judgements, policies, _ = done.stdout.split()
    assert reported is not None
    emit(
        "whatif_distinct_profiles",
        reported,
        "profiles",
        least=LEAST_PROFILES if hosts >= HOSTS else None,
        as_rules_tell_them=int(profiles),
        hosts=hosts,
    )
    emit(
        "whatif_cold",
        best,
        "s",
        target=TARGET_S if hosts >= HOSTS else None,
        hosts=hosts,
        users=int(base),
        profiles_as_reported=reported,
        profiles_as_rules_tell_them=int(profiles),
        judgements=int(judgements),
        policies=int(policies),
        rules_in_each=RULES,
    )
    return hosts < HOSTS or (best <= TARGET_S and reported >= LEAST_PROFILES)


def _compare(engine: Engine, rule_set_id: int) -> bool:
    """The naive way on random users: how long it would take for all, and whether it says the same."""
    with session_scope(engine, writes=False) as session:
        rule_set = get_rule_set(session, rule_set_id)
        draft = build_draft(rule_set, list_baseline_files(session))
        simulator = Simulator(session, rule_set, draft)
        chance = random.Random(1)
        ids = session.scalars(select(Subject.id).where(Subject.standing == Standing.COUNTED.value)).all()
        subjects = session.scalars(
            select(Subject).where(Subject.id.in_(chance.sample(ids, min(COMPARED, len(ids)))))
        ).all()
        differing = 0
        naive_s = 0.0
        for subject in subjects:
            began = time.perf_counter()
            slow = naive.judge_naively(session, subject, rule_set, draft)
            naive_s += time.perf_counter() - began
            differing += slow != _quick(session, simulator, subject)
    each_s = naive_s / len(subjects)
    emit(
        "whatif_one_user_naively",
        each_s * 1000,
        "ms",
        for_all_hours=round(each_s * len(ids) / 3600, 1),
        compared=len(subjects),
        differing=differing,
    )
    return differing == 0


def _quick(session: Session, simulator: Simulator, subject: Subject) -> dict[str, str]:
    """What the simulation says of one user: the category of each pattern."""
    (profile,) = read_profiles(session, simulator.named, subject_ids=[subject.id])
    told = read_told(session, [profile.probes_id], simulator.catalogue)[profile.probes_id]
    places = simulator.places[profile.environment_id]
    assert profile.policy_id is not None
    found = simulator.masks_of(profile.policy_id, profile.sids, profile.deny_only, places)
    if found is None:
        return {}
    masks = categories(found[0], told)
    return {
        pattern.id: category
        for place, pattern in enumerate(simulator.catalogue.patterns)
        for category, mask in zip(CATEGORIES, masks, strict=True)
        if mask >> place & 1
    }


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else HOSTS))
