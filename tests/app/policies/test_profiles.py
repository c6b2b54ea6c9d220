"""The fleet read for simulations: whatever way the database takes, every counted user is in exactly one profile."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from sqlalchemy import Engine, select

from agent.catalogue import load
from agent.contract.facts import PolicySet, ProbeSet, TokenSet
from app.db.session import session_scope
from app.fleet.tables import Subject
from app.policies import profiles
from app.policies.profiles import Profile, read_profiles

NAMED = tuple(f"S-1-5-21-1004336348-1177238915-682003330-{number}" for number in range(5001, 5004))


def totals(found: list[Profile]) -> Counter[tuple[object, ...]]:
    counted: Counter[tuple[object, ...]] = Counter()
    for one in found:
        counted[one.group_id, one.policy_id, one.environment_id, one.probes_id, one.sids, one.deny_only] += one.subjects
    return counted


@pytest.mark.parametrize("most_kinds", [0, 1000])
def test_users_are_counted_by_their_tokens(
    database: Engine, make_fleet: type, monkeypatch: pytest.MonkeyPatch, most_kinds: int
) -> None:
    """Each combination of groups, enabled and deny-only, counted side by side and by a join: the same as one by one."""
    monkeypatch.setattr(profiles, "_MOST_KINDS", most_kinds)
    with session_scope(database) as session:
        fleet = make_fleet(session)
        expected: Counter[tuple[int, int]] = Counter()
        for number, states in enumerate(itertools.product((None, "sids", "deny_only"), repeat=len(NAMED))):
            told = {
                kind: tuple(sid for sid, state in zip(NAMED, states, strict=True) if state == kind)
                for kind in ("sids", "deny_only")
            }
            who = TokenSet(sids=("S-1-1-0", *told["sids"]), deny_only=told["deny_only"])
            for _ in range(1 + number % 3):
                fleet.add(
                    PolicySet(collections={}),
                    ProbeSet(catalogue=load().etag, probes=()),
                    who,
                    group=f"group {number % 2}",
                )
            key = tuple(
                sum(1 << place for place, state in enumerate(states) if state == kind) for kind in ("sids", "deny_only")
            )
            expected[key[0], key[1]] += 1 + number % 3
        session.flush()
        whole = read_profiles(session, NAMED)
        alone = [
            one
            for subject_id in session.scalars(select(Subject.id))
            for one in read_profiles(session, NAMED, subject_ids=[subject_id])
        ]
    assert totals(whole) == totals(alone)
    by_token: Counter[tuple[int, int]] = Counter()
    for one in whole:
        by_token[one.sids, one.deny_only] += one.subjects
    assert by_token == expected
    assert len(totals(whole)) == len(whole)


def test_a_user_without_a_token_is_counted_too(database: Engine, make_fleet: type) -> None:
    with session_scope(database) as session:
        fleet = make_fleet(session)
        fleet.add(
            PolicySet(collections={}), ProbeSet(catalogue=load().etag, probes=()), TokenSet(sids=("S-1-1-0", NAMED[0]))
        )
        fleet.add(PolicySet(collections={}), ProbeSet(catalogue=load().etag, probes=()), TokenSet(sids=("S-1-1-0",)))
        session.flush()
        session.scalars(select(Subject)).first().token_id = None
        session.flush()
        found = read_profiles(session, NAMED)
    assert sum(one.subjects for one in found) == 2
    assert all(one.sids == 0 for one in found)
