"""Rule sets on both databases: patterns from anywhere, terms, voided approvals, two people at once."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from sqlalchemy import Engine, select

from app.audit.record import Actor
from app.audit.tables import AuditEntry
from app.db.session import session_scope
from app.errors import ConflictError, InvalidError, NotFoundError
from app.policies.base_policies import Origin, add_base_policy, get_base_policy, list_base_policies
from app.policies.queries_rule_sets import get_rule_set, list_approvals, page_rule_sets
from app.policies.rule_sets import (
    MAX_SIDS,
    AddedToRuleSet,
    Group,
    State,
    add_to_rule_set,
    choose_for_item,
    create_rule_set,
    remove_from_rule_set,
    retire_rule_set,
    set_details,
    set_terms,
)
from app.policies.tables_rule_sets import RuleSetApproval, RuleSetRow

ADA = Actor(kind="account", name="ada@example.com")
BEN = Actor(kind="account", name="ben@example.com")
SID = "S-1-5-21-1004336348-1177238915-682003330-1234"


def add(engine: Engine, *patterns: str, into: int | None = None, workflows: tuple[str, ...] = ()) -> AddedToRuleSet:
    with session_scope(engine) as session:
        return add_to_rule_set(session, rule_set_id=into, patterns=patterns, workflows=workflows, actor=ADA)


def approve_by_hand(engine: Engine, rule_set_id: int) -> None:
    with session_scope(engine) as session:
        row = session.get(RuleSetRow, rule_set_id)
        assert row is not None
        row.state = State.APPROVED.value
        session.add(
            RuleSetApproval(
                rule_set_id=rule_set_id,
                at=datetime(2026, 11, 21, tzinfo=UTC),
                approved_by="ben@example.com",
                digest="d" * 64,
                base_sha256="b" * 64,
                draft_sha256="e" * 64,
                simulation_sha256="f" * 64,
                note="",
            )
        )


def state_of(engine: Engine, rule_set_id: int) -> State:
    with session_scope(engine, writes=False) as session:
        return get_rule_set(session, rule_set_id).state


def test_a_command_brings_its_patterns_and_says_where_each_came_from(database: Engine) -> None:
    first = add(database, "managed-python-exe", workflows=("sync-build",))
    assert set(first.added) == {"managed-python-exe", "venv-python", "cache-builds-venv-python"}
    again = add(database, into=first.rule_set_id, workflows=("run-with",))
    assert again.added == ("cache-archive-env-python",)
    assert set(again.known) == {"venv-python", "cache-builds-venv-python"}
    with session_scope(database, writes=False) as session:
        rule_set = get_rule_set(session, first.rule_set_id)
        origins = {item.pattern: item.origins for item in rule_set.items}
        assert origins["venv-python"] == ("workflow:run-with", "workflow:sync-build")
        assert origins["managed-python-exe"] == ("pattern",)
        assert rule_set.name == "Open uv sync"
        actions = session.scalars(select(AuditEntry.action).order_by(AuditEntry.id)).all()
    assert actions == ["rule_set.created", "rule_set.patterns_added", "rule_set.patterns_added"]


def test_what_no_rule_can_open_is_refused_with_the_reason(database: Engine) -> None:
    added = add(database, "venv-python", "temp-lock-files", "pip-target-entrypoint-exe")
    assert added.added == ("venv-python",)
    assert {pattern for pattern, _ in added.refused} == {"temp-lock-files", "pip-target-entrypoint-exe"}
    assert all(reason for _, reason in added.refused)


@pytest.mark.parametrize("text", ["no-such", "../../etc", "venv-python\n", "%OSDRIVE%\\Users\\*", ""])
def test_only_ids_of_the_catalogue_get_in(database: Engine, text: str) -> None:
    with pytest.raises(InvalidError) as refused:
        add(database, text)
    assert refused.value.field == "patterns"
    with session_scope(database, writes=False) as session:
        assert page_rule_sets(session).total == 0


def test_every_change_of_the_rules_voids_the_approval_and_names_its_author(database: Engine) -> None:
    rule_set_id = add(database, "venv-python", "managed-python-exe").rule_set_id
    for change in ("add", "choose", "remove", "terms"):
        approve_by_hand(database, rule_set_id)
        with session_scope(database) as session:
            if change == "add":
                add_to_rule_set(session, rule_set_id=rule_set_id, patterns=["tool-env-python"], actor=BEN)
            elif change == "choose":
                choose_for_item(session, rule_set_id, "venv-python", kind="path", actor=BEN)
            elif change == "remove":
                remove_from_rule_set(session, rule_set_id, "tool-env-python", actor=BEN)
            else:
                set_terms(session, rule_set_id, base_id=None, groups=[Group(sid=SID, name="Devs")], actor=BEN)
        assert state_of(database, rule_set_id) is State.DRAFT
        with session_scope(database, writes=False) as session:
            assert all(one.voided_at for one in list_approvals(session, rule_set_id)), change
            assert get_rule_set(session, rule_set_id).authors == ("ada@example.com", "ben@example.com")


def test_words_about_a_rule_set_and_equal_terms_leave_the_approval(database: Engine) -> None:
    rule_set_id = add(database, "venv-python").rule_set_id
    with session_scope(database) as session:
        set_terms(session, rule_set_id, base_id=None, groups=[Group(sid=SID, name="Devs")], actor=ADA)
    approve_by_hand(database, rule_set_id)
    with session_scope(database) as session:
        set_terms(session, rule_set_id, base_id=None, groups=[Group(sid=SID.lower(), name="Devs")], actor=BEN)
        set_details(
            session,
            rule_set_id,
            name="uv for developers",
            purpose="asked for by Research",
            owner="ada@example.com",
            change_number="CHG0012345",
            review_by=datetime(2027, 3, 1, tzinfo=UTC),
            actor=ADA,
        )
        add_to_rule_set(session, rule_set_id=rule_set_id, patterns=["venv-python"], actor=BEN)  # in it already
    assert state_of(database, rule_set_id) is State.APPROVED


def test_who_looked_at_an_older_revision_changes_nothing(database: Engine) -> None:
    rule_set_id = add(database, "venv-python").rule_set_id
    with session_scope(database, writes=False) as session:
        seen = get_rule_set(session, rule_set_id).revision
    add(database, "managed-python-exe", into=rule_set_id)
    with pytest.raises(ConflictError), session_scope(database) as session:
        set_terms(session, rule_set_id, base_id=None, groups=[Group(sid=SID, name="")], revision=seen, actor=BEN)
    with session_scope(database, writes=False) as session:
        assert get_rule_set(session, rule_set_id).groups == ()


@pytest.mark.parametrize(
    ("groups", "field"),
    [
        ([Group(sid="Developers", name="")], "groups"),
        ([Group(sid=SID, name="a\u0000b")], "groups"),
        ([Group(sid=f"S-1-5-21-1-2-3-{number}", name="") for number in range(MAX_SIDS + 1)], "groups"),
    ],
)
def test_groups_are_sids(database: Engine, groups: list[Group], field: str) -> None:
    rule_set_id = add(database, "venv-python").rule_set_id
    with pytest.raises(InvalidError) as refused, session_scope(database) as session:
        set_terms(session, rule_set_id, base_id=None, groups=groups, actor=ADA)
    assert refused.value.field == field


def test_a_retired_rule_set_stays_as_it_is(database: Engine) -> None:
    rule_set_id = add(database, "venv-python").rule_set_id
    with session_scope(database) as session:
        retire_rule_set(session, rule_set_id, actor=ADA)
    with pytest.raises(ConflictError):
        add(database, "managed-python-exe", into=rule_set_id)
    with pytest.raises(NotFoundError):
        add(database, "managed-python-exe", into=999)


def test_the_list_filters_by_words_and_state(database: Engine) -> None:
    with session_scope(database) as session:
        for number in range(3):
            create_rule_set(session, name=f"Set {number}", actor=ADA)
        create_rule_set(session, name="100 % safe_", actor=BEN)
        retire_rule_set(session, 1, actor=ADA)
    with session_scope(database, writes=False) as session:
        assert [one.name for one in page_rule_sets(session, search="0 % safe_").lines] == ["100 % safe_"]
        assert [one.id for one in page_rule_sets(session, state="draft").lines] == [4, 3, 2]
        assert page_rule_sets(session, state="retired").total == 1
        assert page_rule_sets(session).states == {State.DRAFT: 3, State.RETIRED: 1}


def test_the_same_base_policy_is_kept_once(database: Engine, base_policy: str) -> None:
    with session_scope(database) as session:
        first = add_base_policy(session, base_policy.encode(), name="Workstations", actor=ADA)
        same = add_base_policy(session, base_policy.encode("utf-16"), name="Again", actor=BEN)
        other = add_base_policy(session, base_policy.encode(), name="Intune", origin=Origin.INTUNE, actor=ADA)
    assert same.id == first.id
    assert other.id != first.id
    with session_scope(database, writes=False) as session:
        kept = get_base_policy(session, first.id)
        assert [one.name for one in list_base_policies(session)] == ["Intune", "Workstations"]
    assert kept.in_force == ("Exe", "Script")
    assert kept.is_whole


@pytest.mark.parametrize(
    ("content", "field"),
    [
        (b"<AppLockerPolicy Version='1'/>", "base"),
        (b"no xml", "base"),
        (b"<AppLockerPolicy Version='1'><RuleCollection Type='Exe'>", "base"),
    ],
)
def test_a_base_policy_that_is_none_is_refused(database: Engine, content: bytes, field: str) -> None:
    with pytest.raises(InvalidError) as refused, session_scope(database) as session:
        add_base_policy(session, content, name="x", actor=ADA)
    assert refused.value.field == field


def test_a_base_cannot_be_uploaded_as_seen(database: Engine, base_policy: str) -> None:
    with pytest.raises(InvalidError) as refused, session_scope(database) as session:
        add_base_policy(session, base_policy.encode(), name="x", origin="seen", actor=ADA)
    assert refused.value.field == "origin"
