"""One pattern under the policies in force: which rule refuses or allows it, for how many, and which rule sets open it.

Judged for an ordinary user at the catalogue's usual places, with Wayleave's own engine: an explanation for people. Who
is really blocked is what probes found.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from sqlalchemy import select
from sqlalchemy.orm import Session

from agent.catalogue import Catalogue, Pattern
from agent.catalogue import load as load_catalogue
from app.applocker.evaluate import CompiledPolicy, compile_policy
from app.applocker.model import STANDARD_USER, Decision, Effect, Verdict
from app.fleet.tables import FactSet
from app.policies.in_force import PolicyLine, list_policies
from app.policies.queries_rule_sets import HoldsPattern, list_rule_sets_for
from app.policies.roots import file_at, machine_at
from app.policies.specimens import covered_patterns, paths_of
from app.policies.whatif import reported_policy

MOST_POLICIES = 8
_COMPILED_AT_ONCE = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class UnderPolicy:
    """What one policy in force says of a file at a pattern. `words`: the verdict; `rules`: names of what decides."""

    policy: PolicyLine
    collection: str
    is_refused: bool
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
            under.append(
                UnderPolicy(
                    policy=one,
                    collection=collection,
                    is_refused=decision.effect is Effect.BLOCKED,
                    words=_words(decision),
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
