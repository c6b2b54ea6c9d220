"""One pattern under the policies in force: which rule refuses or allows it, for how many, and which rule sets open it.

Judged for an ordinary user, and for one in the groups that rules name, at the catalogue's usual places, with Wayleave's
own engine: an explanation for people. Who is really blocked is what probes found.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from sqlalchemy import select
from sqlalchemy.orm import Session

from agent.catalogue import Catalogue, Pattern
from agent.catalogue import load as load_catalogue
from app.applocker.evaluate import CompiledPolicy, compile_policy
from app.applocker.model import STANDARD_USER, Decision, Effect, Token, Verdict
from app.fleet.tables import FactSet
from app.policies.in_force import PolicyLine, list_policies
from app.policies.queries_rule_sets import HoldsPattern, list_rule_sets_for
from app.policies.reported_policy import reported_policy
from app.policies.roots import file_at, machine_at
from app.policies.specimens import covered_patterns, paths_of

MOST_POLICIES = 8
_COMPILED_AT_ONCE = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class UnderPolicy:
    """What one policy in force says of a file at a pattern.

    `state`: blocked, partly, open; `words`: why; `rules`: names of those that decide.
    """

    policy: PolicyLine
    collection: str
    state: str
    words: str
    rules: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AtPattern:
    """A pattern under the policies of most users, how many more policies there are, and rule sets that hold it."""

    under: tuple[UnderPolicy, ...]
    more: int
    rule_sets: tuple[HoldsPattern, ...]


def read_at_pattern(session: Session, pattern: Pattern, *, catalogue: Catalogue | None = None) -> AtPattern:
    """Judge a pattern under the policies of most users."""
    policies = [one for one in list_policies(session) if one.problem is None]
    shown = policies[:MOST_POLICIES]
    rows = session.execute(select(FactSet.id, FactSet.body).where(FactSet.id.in_([one.id for one in shown])))
    bodies = {set_id: body for set_id, body in rows}  # noqa: C416 - a Row is no pair to the type checker
    source = covered_patterns(catalogue or load_catalogue()).get(pattern.id, pattern)
    paths = paths_of(source, pattern.collections, machine_at(())) if pattern.is_executed else []
    under = []
    for one in shown:
        compiled = _compiled(bodies.get(one.id, "{}"))
        if compiled is None:
            continue
        for collection, path in paths:
            decision = compiled.decide(file_at(path), STANDARD_USER, collection)
            words, state = _words(decision), "blocked" if decision.effect is Effect.BLOCKED else "open"
            if decision.verdict is Verdict.DENIED_BY_DEFAULT and state == "blocked":
                member = compiled.decide(file_at(path), _member(compiled), collection)
                if member.verdict is Verdict.ALLOWED:
                    decision, words, state = member, "allowed for a rule’s group alone", "partly"
            under.append(
                UnderPolicy(
                    policy=one,
                    collection=collection,
                    state=state,
                    words=words,
                    rules=tuple(rule.name for rule in decision.rules),
                )
            )
    return AtPattern(
        under=tuple(under),
        more=len(policies) - len(shown),
        rule_sets=list_rule_sets_for(session, pattern.id),
    )


@lru_cache(maxsize=_COMPILED_AT_ONCE)
def _compiled(body: str) -> CompiledPolicy | None:
    """A reported policy ready to judge. A set's body never changes."""
    policy = reported_policy(body)
    return None if policy is None else compile_policy(policy)


def _member(compiled: CompiledPolicy) -> Token:
    """A user in every group of the domain that a rule names."""
    named = {rule.sid.upper() for _, rule in compiled.policy.rules()}
    return Token(sids=STANDARD_USER.sids | {sid for sid in named if sid.startswith("S-1-5-21-")})


def _words(decision: Decision) -> str:
    audited = " (only audited: it runs)" if decision.effect is Effect.WOULD_BE_BLOCKED else ""
    match decision.verdict:
        case Verdict.DENIED:
            return f"refused by a Deny rule{audited}"
        case Verdict.DENIED_BY_DEFAULT:
            return f"no rule allows it{audited}"
        case Verdict.ALLOWED:
            return "allowed by a rule"
    return "allowed: there are no rules"
