"""Policies in force beyond those that the list shows: found, read and compared all the same."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, select

from agent.contract.facts import CollectionInForce, PolicySet
from app.db.session import session_scope
from app.errors import InvalidError, NotFoundError
from app.fleet.tables import FactSet
from app.policies.in_force import (
    MAX_POLICIES,
    compare_policies,
    find_policy,
    get_policy,
    list_policies,
    page_policies,
)

RULE = (
    '<FilePathRule Id="921cc481-6e17-4653-8f75-050b80acca20" Name="Folder" Description="" UserOrGroupSid="S-1-1-0" '
    'Action="Allow"><Conditions><FilePathCondition Path="C:\\{}\\*" /></Conditions></FilePathRule>'
)


def test_a_policy_of_few_users_has_its_page_too(database: Engine, make_fleet: type) -> None:
    with session_scope(database) as session:
        fleet = make_fleet(session)
        for number in range(MAX_POLICIES + 2):
            fleet.add(PolicySet(collections={"Exe": CollectionInForce(mode="Enabled", rules=(RULE.format(number),))}))
    with session_scope(database, writes=False) as session:
        shown = [one.id for one in list_policies(session)]
        assert len(shown) == MAX_POLICIES
        (beyond, *_) = sorted(set(session.scalars(select(FactSet.id))) - set(shown))
        found = get_policy(session, beyond)
        assert (found.line.id, found.line.subjects, len(found.rules)) == (beyond, 1, 1)
        assert len(compare_policies(session, shown[0], beyond)) == 1
        with pytest.raises(NotFoundError):
            get_policy(session, 987_654)
        first = page_policies(session)
        assert (first.total, first.subjects) == (MAX_POLICIES + 2, MAX_POLICIES + 2), "all are counted"
        rest = page_policies(session, after=first.next_after)
        assert [one.id for one in (*first.policies, *rest.policies)] == [*shown, *(one.id for one in rest.policies)]
        assert len({one.id for one in (*first.policies, *rest.policies)}) == MAX_POLICIES + 2
        assert (rest.next_after, len(rest.policies)) == (None, 2)
        for wrong in ("0000000000", "xyz", "ab", "'; --"):
            with pytest.raises(InvalidError):
                find_policy(session, wrong)
        with pytest.raises(InvalidError):
            page_policies(session, after=987_654)
