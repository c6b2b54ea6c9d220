"""Simulations on both databases: equal to the naive way user by user, and what each figure means."""

from __future__ import annotations

import random
from collections import Counter
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from agent.catalogue import load
from agent.contract.facts import CollectionInForce, Method, Outcome, PolicySet, Probe, ProbeSet, Specimen, TokenSet
from agent.contract.facts import Engine as Blocker
from app.applocker.model import STANDARD_USER
from app.audit.record import Actor
from app.db.session import session_scope
from app.fleet.make import make_fleet
from app.fleet.standing import Standing
from app.fleet.tables import Subject
from app.policies.base_policies import Origin, add_base_policy
from app.policies.drafts import Draft, build_draft
from app.policies.outcome import PatternOutcome, Simulated, from_kept, to_kept
from app.policies.profiles import read_profiles, read_told
from app.policies.queries_rule_sets import RuleSet, get_rule_set
from app.policies.rule_sets import Group, add_to_rule_set, choose_for_item, set_terms
from app.policies.simulate import CATEGORIES, Simulator, categories, simulate

ADA = Actor(kind="account", name="ada@example.com")
SID = "S-1-5-21-1004336348-1177238915-682003330-1234"
OTHER = "S-1-5-21-1004336348-1177238915-682003330-7777"
BUILD, VENV = "cache-builds-venv-python", "venv-python"
WAYS: dict[int, dict[str, str | None]] = {
    7: {
        BUILD: "hash",
        VENV: "path",
        "managed-python-exe": "hash",
        "cache-archive-env-entrypoint-exe": None,
        "cache-builds-venv-scripts": None,
    },
    8: {
        "managed-python-exe": "relocate",
        "tool-env-python": "relocate",
        "tool-bin-exe": "relocate",
        "uv-exe-standalone": "relocate",
        "uv-exe-pipx": "publisher",
        "cache-archive-env-python": "broad",
    },
}
SEEN = {7: {"newly_builds"}, 8: {"newly_blocked"}}
RULE = '<FilePathRule Action="{action}" Description="" Id="{id}" Name="{name}" UserOrGroupSid="{sid}"><Conditions><FilePathCondition Path="{path}"/></Conditions></FilePathRule>'  # noqa: E501 - XML as a policy has it, on one line


def load_naive() -> ModuleType:
    spec = spec_from_file_location("naive_simulation", Path(__file__).with_name("naive_simulation.py"))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


naive = load_naive()


def rule(number: int, path: str, *, sid: str = "S-1-1-0", action: str = "Allow", name: str = "a rule") -> str:
    return RULE.format(action=action, id=f"00000000-0000-4000-8000-{number:012d}", name=name, sid=sid, path=path)


def exe(*rules: str, mode: str = "Enabled", csp: str = "none") -> PolicySet:
    default = rule(1, "%WINDIR%\\*", name="Windows")
    return PolicySet(collections={"Exe": CollectionInForce(mode=mode, rules=(default, *rules))}, csp=csp)


def probes(**outcomes: str) -> ProbeSet:
    """Of each pattern (with _ for -) its outcome: allowed, blocked, wdac, ..."""
    made = []
    for name, outcome in outcomes.items():
        engine = {"blocked": Blocker.APPLOCKER, "wdac": Blocker.WDAC}.get(outcome)
        made.append(
            Probe(
                pattern=name.replace("_", "-"),
                specimen=Specimen.CANARY,
                method=Method.START,
                outcome=Outcome("blocked" if outcome == "wdac" else outcome),
                engine=engine,
                error=1260 if engine else 0,
                collection="Exe",
            )
        )
    return ProbeSet(catalogue=load().etag, probes=tuple(made))


def token(*more: str, deny_only: tuple[str, ...] = ()) -> TokenSet:
    return TokenSet(sids=(*sorted(STANDARD_USER.sids), *more), deny_only=deny_only)


def draft_of(
    session: Session,
    base_policy: str,
    *patterns: str,
    kinds: dict[str, str] | None = None,
    origin: Origin = Origin.GPO,
    baseline: tuple[object, ...] = (),
) -> tuple[RuleSet, Draft]:
    added = add_to_rule_set(session, patterns=patterns, actor=ADA)
    base = add_base_policy(session, base_policy.encode(), name="base", origin=origin, actor=ADA)
    set_terms(session, added.rule_set_id, base_id=base.id, groups=[Group(sid=SID, name="Devs")], actor=ADA)
    for pattern, kind in (kinds or {}).items():
        choose_for_item(session, added.rule_set_id, pattern, kind=kind, actor=ADA)
    rule_set = get_rule_set(session, added.rule_set_id)
    return rule_set, build_draft(rule_set, baseline)


def of(found: Simulated, pattern: str) -> PatternOutcome:
    return next(one for one in found.patterns if one.pattern == pattern)


def quick(session: Session, simulator: Simulator, subject: Subject) -> dict[str, str]:
    (profile,) = read_profiles(session, simulator.named, subject_ids=[subject.id])
    told = read_told(session, [profile.probes_id], simulator.catalogue)[profile.probes_id]
    places = simulator.places[profile.environment_id]
    assert profile.policy_id is not None
    found = simulator.masks_of(profile.policy_id, profile.sids, profile.deny_only, places)
    if found is None:
        return {}
    return {
        pattern.id: category
        for place, pattern in enumerate(simulator.catalogue.patterns)
        for category, mask in zip(CATEGORIES, categories(found[0], told), strict=True)
        if mask >> place & 1
    }


@pytest.mark.parametrize("seed", [7, 8])
def test_the_whole_is_what_the_naive_way_says_of_each_user(
    database: Engine, base_policy: str, trust: object, make_fleet: type, seed: int
) -> None:
    """Random policies, tokens and probes: every user's every pattern is in the category that the slow way gives."""
    chance = random.Random(seed)
    catalogue = load()
    executed = [one.id for one in catalogue.patterns if one.is_executed and one.collections]
    paths = [path for one in catalogue.patterns for path in one.applocker_paths if not path.startswith("<")]
    with session_scope(database) as session:
        fleet = make_fleet(session)
        for number in range(60):
            rules = [
                rule(
                    100 * number + place,
                    chance.choice([*paths, "%OSDRIVE%\\Users\\*", "%PROGRAMFILES%\\*"]),
                    sid=chance.choice(["S-1-1-0", SID, OTHER, "S-1-5-32-545"]),
                    action=chance.choice(["Allow", "Allow", "Allow", "Deny"]),
                )
                for place in range(2, chance.randrange(2, 7))
            ]
            policy = exe(
                *rules,
                mode=chance.choice(["Enabled", "NotConfigured"]),
                csp=chance.choice(["none"] * 9 + ["present-unreadable"]),
            )
            who = token(
                *chance.sample([SID, OTHER], chance.randrange(3)),
                deny_only=tuple(chance.sample([OTHER], chance.randrange(2))),
            )
            outcomes = {
                name.replace("-", "_"): chance.choice(["allowed", "blocked", "blocked", "wdac", "unknown"])
                for name in chance.sample(executed, 25)
            }
            fleet.add(policy, probes(**outcomes), who, group=f"group {number % 3}")
        python = trust(1, "python.exe", version="3.13.2.0")
        rule_set, draft = draft_of(
            session,
            base_policy,
            *WAYS[seed],
            kinds={pattern: kind for pattern, kind in WAYS[seed].items() if kind},
            baseline=(python,),
        )
        session.flush()
        simulator = Simulator(session, rule_set, draft)
        totals: Counter[tuple[str, str]] = Counter()
        for subject in session.scalars(select(Subject).where(Subject.standing == Standing.COUNTED.value)):
            slow = naive.judge_naively(session, subject, rule_set, draft)
            assert quick(session, simulator, subject) == slow
            totals.update(slow.items())
        found = simulate(session, rule_set, draft)
    assert {category for _, category in totals} >= {*SEEN[seed], "newly", "still", "others", "open", "unexplained"}
    assert {
        (one.pattern, category): getattr(one, category)
        for one in found.patterns
        for category in CATEGORIES
        if getattr(one, category)
    } == dict(totals)
    assert from_kept(to_kept(found)) == found


def test_a_hash_opens_its_file_wherever_it_stands(
    database: Engine, base_policy: str, trust: object, make_fleet: type
) -> None:
    """A launcher is in environments of every kind, and a junction is judged by its target: the reviewer is told."""
    files = tuple(
        trust(number, name, version="3.13.2.0") for number, name in enumerate(("python.exe", "venvlauncher.exe"), 1)
    )
    tried = (BUILD, VENV, "cache-script-env-python", "managed-python-exe", "managed-python-minor-link", "tool-bin-exe")
    with session_scope(database) as session:
        outcomes = {name.replace("-", "_"): "blocked" for name in tried}
        make_fleet(session).add(exe(), probes(**outcomes), token(SID))
        rule_set, draft = draft_of(
            session,
            base_policy,
            BUILD,
            "managed-python-exe",
            kinds={BUILD: "hash", "managed-python-exe": "hash"},
            baseline=files,
        )
        found = simulate(session, rule_set, draft)
    assert {one.pattern for one in found.patterns if one.newly_builds} == set(tried) - {"tool-bin-exe"}
    assert {one.pattern for one in found.beyond} == {VENV, "cache-script-env-python"}
    assert of(found, VENV).opened_by


def test_what_is_moved_is_judged_where_it_will_be(database: Engine, base_policy: str, make_fleet: type) -> None:
    tried = ("tool-env-python", "tool-bin-exe", "managed-python-exe", "managed-python-minor-link")
    with session_scope(database) as session:
        outcomes = {name.replace("-", "_"): "blocked" for name in tried}
        fleet = make_fleet(session)
        fleet.add(exe(rule(9, "%PROGRAMFILES%\\*")), probes(**outcomes), token(SID))
        fleet.add(exe(), probes(**outcomes), token(SID))  # nothing is allowed there
        rule_set, draft = draft_of(
            session,
            base_policy,
            "tool-env-python",
            "managed-python-exe",
            kinds={"tool-env-python": "relocate", "managed-python-exe": "relocate"},
        )
        assert not draft.added
        found = simulate(session, rule_set, draft)
    for pattern in ("tool-env-python", "managed-python-exe", "managed-python-minor-link"):
        line = of(found, pattern)
        assert (line.newly, line.still, line.opened_by) == (1, 1, ()), pattern
        ((why, users),) = line.moved_by
        assert users == 1
        assert why.startswith("UV_")
        assert why.endswith("to where the rule 'a rule' allows it")
    assert (of(found, "tool-bin-exe").newly, of(found, "tool-bin-exe").still) == (0, 2)


def test_it_counts_users_by_group_and_names_the_rule(database: Engine, base_policy: str, make_fleet: type) -> None:
    with session_scope(database) as session:
        fleet = make_fleet(session)
        for _ in range(3):
            fleet.add(exe(), probes(cache_builds_venv_python="blocked"), token(SID), group="Research")
        fleet.add(exe(), probes(cache_builds_venv_python="allowed"), token(SID), group="Office")
        fleet.add(exe(), probes(cache_builds_venv_python="wdac"), token(SID), group="Office")
        rule_set, draft = draft_of(session, base_policy, BUILD)
        found = simulate(session, rule_set, draft)
    line = of(found, BUILD)
    assert (line.newly, line.open, line.others, line.still) == (3, 1, 1, 0)
    assert line.of_group("newly") == (("Research", 3),)
    assert [(rule_id, users) for rule_id, _, users in line.opened_by] == [(draft.added[0].id, 3)]
    assert line.asked
    assert found.beyond == ()


def test_it_tells_why_something_stays_closed(database: Engine, base_policy: str, make_fleet: type) -> None:
    named = rule(5, "%OSDRIVE%\\elsewhere\\*", sid=SID)  # agents tell membership of groups that a policy names
    deny = rule(6, "%OSDRIVE%\\Users\\*", action="Deny", name="No profiles")
    with session_scope(database) as session:
        fleet = make_fleet(session)
        fleet.add(exe(named), probes(cache_builds_venv_python="blocked"), token())
        fleet.add(exe(deny), probes(cache_builds_venv_python="blocked"), token(SID))
        fleet.add(exe(), probes(cache_builds_venv_scripts="blocked", tool_env_python="blocked"), token(SID))
        rule_set, draft = draft_of(session, base_policy, BUILD)
        found = simulate(session, rule_set, draft)
    assert dict(of(found, BUILD).closed_by) == {
        "the user is not in the rules' group": 1,
        "the Deny rule 'No profiles'": 1,
    }
    assert of(found, "tool-env-python").closed_by == (("no rule matches", 1),)
    assert found.assumed == 0


def test_a_membership_that_nobody_tells_is_assumed_and_said(
    database: Engine, base_policy: str, make_fleet: type
) -> None:
    named = rule(5, "%OSDRIVE%\\elsewhere\\*", sid=SID)
    with session_scope(database) as session:
        fleet = make_fleet(session)
        fleet.add(exe(), probes(cache_builds_venv_python="blocked"), token())
        fleet.add(exe(named), probes(cache_builds_venv_python="blocked"), token())
        rule_set, draft = draft_of(session, base_policy, BUILD)
        found = simulate(session, rule_set, draft)
    assert (found.assumed, of(found, BUILD).newly, of(found, BUILD).still) == (1, 1, 1)


def test_what_nobody_asked_for_is_the_reviewers_list(database: Engine, base_policy: str, make_fleet: type) -> None:
    with session_scope(database) as session:
        make_fleet(session).add(
            exe(), probes(cache_builds_venv_python="blocked", cache_archive_env_python="blocked"), token(SID)
        )
        rule_set, draft = draft_of(session, base_policy, BUILD, kinds={BUILD: "broad"})
        found = simulate(session, rule_set, draft)
    assert [one.pattern for one in found.beyond] == ["cache-archive-env-python"]


def test_a_first_rule_would_block_the_rest(database: Engine, base_policy: str, make_fleet: type) -> None:
    """The draft has Exe rules, and somewhere no policy does: there it would switch default deny on."""
    with session_scope(database) as session:
        scripts = PolicySet(collections={"Script": CollectionInForce(mode="Enabled", rules=(rule(1, "%WINDIR%\\*"),))})
        make_fleet(session).add(
            scripts, probes(cache_builds_venv_python="allowed", tool_env_python="allowed"), token(SID)
        )
        rule_set, draft = draft_of(session, base_policy, BUILD)
        found = simulate(session, rule_set, draft)
    assert found.starts_default_deny == (("Exe", 1),)
    assert [one.pattern for one in found.newly_blocked] == ["tool-env-python"]


def test_intune_and_group_policy_must_both_allow(database: Engine, base_policy: str, make_fleet: type) -> None:
    path = "%OSDRIVE%\\Users\\*\\AppData\\Local\\uv\\cache\\*"
    with session_scope(database) as session:
        fleet = make_fleet(session)
        blocked = probes(cache_builds_venv_python="blocked")
        fleet.add(exe(csp="present-unreadable"), blocked, token(SID))
        fleet.add(exe(rule(3, path), csp="present-unreadable"), blocked, token(SID))
        fleet.add(exe(), blocked, token(SID))  # Intune's policy is not in force there
        rule_set, draft = draft_of(session, base_policy, BUILD, origin=Origin.INTUNE)
        found = simulate(session, rule_set, draft)
    line = of(found, BUILD)
    assert (line.newly, line.still, found.not_reached) == (1, 1, 1)
    assert dict(line.closed_by) == {"Group Policy and Intune must both allow it, and one does not": 1}
    # That Intune has some policy there is known, and not that it is this base.
    assert (found.with_base, found.base_assumed) == (0, 2)


@pytest.mark.parametrize("mode", ["AuditOnly"])
def test_collections_that_only_log_are_told(database: Engine, base_policy: str, make_fleet: type, mode: str) -> None:
    with session_scope(database) as session:
        make_fleet(session).add(exe(mode=mode), probes(cache_builds_venv_python="allowed"), token(SID))
        rule_set, draft = draft_of(session, base_policy, BUILD)
        assert simulate(session, rule_set, draft).only_audited == (("Exe", 1),)


def test_the_same_fleet_gives_the_same_digest(database: Engine, base_policy: str) -> None:
    make_fleet(database, 40)
    with session_scope(database) as session:
        rule_set, draft = draft_of(session, base_policy, BUILD, VENV)
        first, second = simulate(session, rule_set, draft), simulate(session, rule_set, draft)
    assert first.sha256 == second.sha256
    assert first.judgements > 0


def test_more_groups_than_one_number_has_bits(database: Engine, base_policy: str, make_fleet: type) -> None:
    """Policies name 130 groups; whoever is in the last one gets through by its rule."""
    many = [f"S-1-5-21-1-2-3-{1000 + number}" for number in range(130)]
    rules = [rule(number + 2, f"%OSDRIVE%\\for{number}\\*", sid=sid) for number, sid in enumerate(many[:-1])]
    last = rule(999, "%OSDRIVE%\\Users\\*", sid=many[-1], action="Deny", name="Never")
    with session_scope(database) as session:
        fleet = make_fleet(session)
        fleet.add(exe(*rules, last), probes(cache_builds_venv_python="blocked"), token(SID, many[-1]))
        fleet.add(exe(*rules, last), probes(cache_builds_venv_python="blocked"), token(SID))
        rule_set, draft = draft_of(session, base_policy, BUILD)
        line = of(simulate(session, rule_set, draft), BUILD)
    assert (line.newly, line.still) == (1, 1)
