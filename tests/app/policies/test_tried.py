"""Files that hosts say they tried: judged for each group, and one host's flood hides, moves and voids nothing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import Engine, insert, select
from sqlalchemy.orm import Session

from agent.catalogue import canary_paths, load, templated
from agent.contract.facts import CollectionInForce, PolicySet, TokenSet
from app.audit.record import Actor
from app.db.base import now
from app.db.session import session_scope
from app.fleet.tables import Sighting, Subject
from app.policies import tried
from app.policies.base_policies import Origin, add_base_policy
from app.policies.drafts import Draft, build_draft
from app.policies.outcome import SightingOutcome, Simulated, from_kept, to_kept
from app.policies.queries_rule_sets import RuleSet, get_rule_set
from app.policies.roots import machine_at
from app.policies.rule_sets import Group, add_to_rule_set, choose_for_item, set_terms
from app.policies.simulate import simulate
from app.policies.told_pattern import pattern_of_told

ADA = Actor(kind="account", name="ada@example.com")
DEVELOPERS = "S-1-5-21-1004336348-1177238915-682003330-1234"
TESTERS = "S-1-5-21-1004336348-1177238915-682003330-7777"
CACHE = "%OSDRIVE%\\Users\\*\\AppData\\Local\\uv\\cache"
BUILD = f"{CACHE}\\builds-v0\\.tmpAB12CD\\Scripts\\python.exe"
ARCHIVE = f"{CACHE}\\archive-v0\\Xq3hTn1J5kkPqL2m\\Scripts\\python.exe"
RULE = '<FilePathRule Action="{action}" Description="" Id="{id}" Name="{name}" UserOrGroupSid="{sid}"><Conditions><FilePathCondition Path="{path}"/></Conditions></FilePathRule>'  # noqa: E501 - XML as a policy has it, on one line


def in_force(*rules: str) -> PolicySet:
    windows = RULE.format(
        action="Allow",
        id="00000000-0000-4000-8000-000000000001",
        name="Windows",
        sid="S-1-1-0",
        path="%WINDIR%\\*",
    )
    return PolicySet(collections={"Exe": CollectionInForce(mode="Enabled", rules=(windows, *rules))})


def deny(sid: str) -> str:
    return RULE.format(
        action="Deny", id="00000000-0000-4000-8000-000000000002", name="no caches", sid=sid, path=f"{CACHE}\\*"
    )


def draft_of(session: Session, base_policy: str, *, groups: Sequence[str] = (DEVELOPERS,)) -> tuple[RuleSet, Draft]:
    """A broad rule, asked for alone for the environments in uv's cache."""
    added = add_to_rule_set(session, patterns=["cache-archive-env-python"], actor=ADA)
    base = add_base_policy(session, base_policy.encode(), name="base", origin=Origin.GPO, actor=ADA)
    named = [Group(sid=sid, name=f"group {number}") for number, sid in enumerate(groups)]
    set_terms(session, added.rule_set_id, base_id=base.id, groups=named, actor=ADA)
    choose_for_item(session, added.rule_set_id, "cache-archive-env-python", kind="broad", actor=ADA)
    rule_set = get_rule_set(session, added.rule_set_id)
    return rule_set, build_draft(rule_set, ())


def add_hosts(session: Session, make_fleet: type, *policies: PolicySet) -> list[Subject]:
    fleet = make_fleet(session)
    for policy in policies:
        fleet.add(policy, token=TokenSet(sids=("S-1-1-0",)))
    session.flush()
    return list(session.scalars(select(Subject).order_by(Subject.id)))


def tell(session: Session, subject: Subject, files: Sequence[tuple[str, str]], **more: object) -> None:
    """What a host says: (pattern, path) of each event, the newest last, one more record each."""
    at = now() - timedelta(days=1)
    known = session.query(Sighting).filter_by(host_id=subject.host_id).count()
    session.execute(
        insert(Sighting),
        [
            {
                "host_id": subject.host_id,
                "at": at + timedelta(milliseconds=number),
                "channel": "Microsoft-Windows-AppLocker/EXE and DLL",
                "record": known + number,
                "subject_id": subject.id,
                "bucket": subject.bucket,
                "recorded_at": at,
                "event_id": 8004,
                "pattern": pattern,
                "path": path,
                "collection": "Exe",
                "rule_id": None,
                "sha256": None,
                "fqbn": None,
                **more,
            }
            for number, (pattern, path) in enumerate(files)
        ],
    )
    session.flush()


def verdicts(found: Simulated, path: str) -> dict[str, SightingOutcome]:
    return {one.verdict: one for one in found.sightings if one.path == path}


def test_a_file_is_judged_before_and_after(database: Engine, base_policy: str, make_fleet: type) -> None:
    """What was asked for, what is opened besides, what stays closed, and what was open: each with its hosts."""
    system = "%WINDIR%\\System32\\where.exe"
    profile = "%OSDRIVE%\\Users\\*\\x.exe"
    with session_scope(database) as session:
        first, second = add_hosts(session, make_fleet, in_force(), in_force())
        told = [
            ("cache-archive-env-python", ARCHIVE),
            ("cache-builds-venv-python", BUILD),
            ("venv-python", profile),
            ("venv-python", system),
        ]
        tell(session, first, told)
        tell(session, second, told[:2])
        rule_set, draft = draft_of(session, base_policy)
        found = simulate(session, rule_set, draft)
    asked, beyond = verdicts(found, ARCHIVE)["newly allowed"], verdicts(found, BUILD)["newly allowed"]
    assert (asked.asked, asked.hosts, asked.rule) == (True, 2, draft.added[0].name)
    assert (beyond.asked, beyond.hosts, beyond.pattern) == (False, 2, "cache-builds-venv-python")
    assert verdicts(found, profile).keys() == {"still blocked"}
    assert verdicts(found, system).keys() == {"allowed already"}
    assert found.beyond_sightings == (beyond,)
    assert (found.sighting_counts.files, found.sighting_counts.left_out) == (4, 0)
    assert from_kept(to_kept(found)) == found


def test_the_path_says_what_was_asked_for_and_not_the_host(
    database: Engine, base_policy: str, make_fleet: type
) -> None:
    """A file that nobody asked for is on the reviewer's list, though the host calls it by the pattern asked for."""
    with session_scope(database) as session:
        (host,) = add_hosts(session, make_fleet, in_force())
        tell(session, host, [("cache-archive-env-python", BUILD), ("cache-archive-env-python", f"{CACHE}\\evil.exe")])
        found = simulate(session, *draft_of(session, base_policy))
    assert {(one.path, one.pattern) for one in found.beyond_sightings} == {
        (BUILD, "cache-builds-venv-python"),
        (f"{CACHE}\\evil.exe", ""),
    }


def test_a_deny_for_one_group_hides_nothing_that_opens_for_another(
    database: Engine, base_policy: str, make_fleet: type
) -> None:
    with session_scope(database) as session:
        (host,) = add_hosts(session, make_fleet, in_force(deny(TESTERS)))
        tell(session, host, [("cache-archive-env-python", ARCHIVE)])
        both = simulate(session, *draft_of(session, base_policy, groups=(DEVELOPERS, TESTERS)))
        denied = simulate(session, *draft_of(session, base_policy, groups=(TESTERS,)))
    assert verdicts(both, ARCHIVE).keys() == {"newly allowed"}
    assert verdicts(denied, ARCHIVE).keys() == {"still blocked"}


def test_one_hosts_flood_pushes_nothing_off_and_voids_nothing(
    database: Engine, base_policy: str, make_fleet: type
) -> None:
    """Thousands of invented events, newer than all others, of each verdict: what other hosts told is still there."""
    invented = [
        ("cache-builds-venv-python", f"{CACHE}\\builds-v0\\.tmp{number:06}\\Scripts\\python.exe")
        if number % 2
        else ("venv-python", f"%OSDRIVE%\\Users\\*\\{number}.exe")
        for number in range(4_000)
    ]
    with session_scope(database) as session:
        first, second, liar = add_hosts(session, make_fleet, in_force(), in_force(), in_force())
        real = [("cache-builds-venv-python", BUILD), ("venv-python", "%OSDRIVE%\\Users\\*\\real.exe")]
        tell(session, first, real)
        tell(session, second, real[:1])
        rule_set, draft = draft_of(session, base_policy)
        honest = simulate(session, rule_set, draft)
        tell(session, liar, invented)
        flooded = simulate(session, rule_set, draft)
    assert flooded.sha256 == honest.sha256
    for one in honest.sightings:
        assert one in flooded.sightings
    assert flooded.beyond_sightings[0].path == BUILD
    counts = flooded.sighting_counts
    assert counts.of_loud_hosts == 1
    assert counts.files == 2 + 2 * tried.NEWEST_OF_HOST
    assert sum(one.path not in {BUILD, real[1][1]} for one in flooded.sightings) <= 2 * tried.NEWEST_OF_HOST


def test_what_several_hosts_tell_changes_the_digest(database: Engine, base_policy: str, make_fleet: type) -> None:
    """One host's word does not, in however many forms and for however many of its users it tells it."""
    with session_scope(database) as session:
        first, second = add_hosts(session, make_fleet, in_force(), in_force())
        rule_set, draft = draft_of(session, base_policy)
        none = simulate(session, rule_set, draft)
        for number in range(3):
            tell(session, first, [("cache-builds-venv-python", BUILD)], fqbn=f"O=X\\*\\*\\{number}.0.0.0")
        alone = simulate(session, rule_set, draft)
        tell(session, second, [("cache-builds-venv-python", BUILD)])
        several = simulate(session, rule_set, draft)
    assert [one.hosts for one in alone.beyond_sightings] == [1]
    assert several.beyond_sightings[0].hosts > 1
    assert none.sha256 == alone.sha256 != several.sha256


def test_a_long_list_of_one_verdict_hides_no_other(database: Engine, base_policy: str, make_fleet: type) -> None:
    """Many hosts with one file each: each verdict has its share of what is shown, the rest is counted."""
    many = tried.SHOWN_OF_EACH // 5 + 3
    with session_scope(database) as session:
        hosts = add_hosts(session, make_fleet, *[in_force()] * (many + 1))
        for place, host in enumerate(hosts[:-1]):
            paths = [f"{CACHE}\\builds-v0\\.tmpAB{place:02}{number:02}\\Scripts\\python.exe" for number in range(5)]
            tell(session, host, [("cache-builds-venv-python", path) for path in paths])
        tell(session, hosts[-1], [("venv-python", "%OSDRIVE%\\Users\\*\\last.exe")])
        found = simulate(session, *draft_of(session, base_policy))
    assert len(found.beyond_sightings) == tried.SHOWN_OF_EACH
    assert found.sighting_counts.not_shown == 5 * many - tried.SHOWN_OF_EACH
    assert verdicts(found, "%OSDRIVE%\\Users\\*\\last.exe").keys() == {"still blocked"}


def test_templates_say_which_pattern_they_are_of() -> None:
    """What agents tell of the catalogue's own probes is of the pattern that they tried, and lies are of none."""
    catalogue, machine = load(), machine_at(())
    tried_there = [
        (one.id, templated(path, machine))
        for one in catalogue.patterns
        if one.is_executed and one.collections
        for path in canary_paths(one, machine, "wlv000")
    ]
    told = {(word, path): pattern_of_told(path, word, catalogue) for word, path in tried_there}
    assert len(told) > 30
    assert {told_of for (word, _), told_of in told.items() if told_of != word} == set()
    for path in ("*", "**\\python.exe", "%OSDRIVE%\\**\\python.exe", f"{CACHE}\\**\\python.exe", f"{CACHE}\\evil.exe"):
        assert pattern_of_told(path, "cache-archive-env-python", catalogue) == "", path


def test_a_file_of_a_project_is_judged_under_its_root(database: Engine, base_policy: str, make_fleet: type) -> None:
    path = "<project>\\.venv\\Scripts\\python.exe"
    with session_scope(database) as session:
        (host,) = add_hosts(session, make_fleet, in_force())
        tell(session, host, [("venv-python", path)])
        added = add_to_rule_set(session, patterns=["venv-python"], actor=ADA)
        base = add_base_policy(session, base_policy.encode(), name="base", origin=Origin.GPO, actor=ADA)
        named = [Group(sid=DEVELOPERS, name="Developers")]
        set_terms(session, added.rule_set_id, base_id=base.id, groups=named, project_roots=["C:\\src"], actor=ADA)
        choose_for_item(session, added.rule_set_id, "venv-python", kind="path", actor=ADA)
        rule_set = get_rule_set(session, added.rule_set_id)
        found = simulate(session, rule_set, build_draft(rule_set, ()))
    assert verdicts(found, path)["newly allowed"].asked
