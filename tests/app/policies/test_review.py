"""Who may approve, on both databases: nobody who wrote some of it, by hand or by a token that they made."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine

from app.accounts.tokens import create_token, find_bearer
from app.audit.record import Actor
from app.db.session import session_scope
from app.errors import ForbiddenError
from app.policies.base_policies import add_base_policy
from app.policies.queries_rule_sets import get_rule_set
from app.policies.review import approve, review_of, submit_for_review
from app.policies.rule_sets import Group, add_to_rule_set, set_terms
from app.policies.simulations import ask_for_simulation, run_simulation

ADA = Actor(kind="account", name="ada@example.com")
BEN = Actor(kind="account", name="ben@example.com")
CAT = Actor(kind="account", name="cat@example.com")
SID = "S-1-5-21-1004336348-1177238915-682003330-1234"


def submitted(engine: Engine, base_policy: str, author: Actor, second: Actor) -> tuple[int, str]:
    with session_scope(engine) as session:
        made = add_to_rule_set(session, patterns=["venv-python"], actor=author).rule_set_id
        base = add_base_policy(session, base_policy.encode(), name="base", actor=author)
        set_terms(session, made, base_id=base.id, groups=[Group(sid=SID, name="Devs")], actor=second)
        asked = ask_for_simulation(session, made, actor=author)
    run_simulation(engine, asked)
    with session_scope(engine) as session:
        submit_for_review(session, made, actor=author)
        digest = review_of(session, get_rule_set(session, made)).digest
    assert digest is not None
    return made, digest


@pytest.mark.parametrize("token_first", [True, False])
def test_whoever_made_the_token_that_drafted_is_an_author(
    database: Engine, base_policy: str, token_first: bool
) -> None:
    with session_scope(database) as session:
        token = create_token(session, "analyst", "pipeline", None, actor=BEN)
    with session_scope(database) as session:
        bearer = find_bearer(session, token)
    assert bearer is not None
    writers = (bearer.actor, ADA) if token_first else (ADA, bearer.actor)
    made, digest = submitted(database, base_policy, *writers)
    with session_scope(database) as session:
        assert set(get_rule_set(session, made).authors) == {"ada@example.com", "ben@example.com", "pipeline"}
    for author in (ADA, BEN, bearer.actor):
        with pytest.raises(ForbiddenError), session_scope(database) as session:
            approve(session, made, digest=digest, actor=author)
    with session_scope(database) as session:
        approve(session, made, digest=digest, actor=CAT)


def test_a_token_approves_nothing_that_its_maker_wrote(database: Engine, base_policy: str) -> None:
    with session_scope(database) as session:
        token = create_token(session, "approver", "signer", None, actor=ADA)
    with session_scope(database) as session:
        bearer = find_bearer(session, token)
    assert bearer is not None
    made, digest = submitted(database, base_policy, ADA, ADA)
    with pytest.raises(ForbiddenError), session_scope(database) as session:
        approve(session, made, digest=digest, actor=bearer.actor)
