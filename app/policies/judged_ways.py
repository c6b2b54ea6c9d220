"""How many users each way to open a pattern would open it for: each judged as a draft of its own, as What if judges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy.orm import Session

from app.policies.baselines import TrustedFile
from app.policies.candidates import Candidate
from app.policies.drafts import build_draft
from app.policies.queries_rule_sets import Item, RuleSet
from app.policies.simulate import simulate


def judge_ways(
    session: Session,
    rule_set: RuleSet,
    item: Item,
    candidates: Sequence[Candidate],
    baseline: Sequence[TrustedFile],
) -> tuple[int | None, ...]:
    """For each way the users whom AppLocker refuses the pattern today and would not with this way alone.

    None where nobody can tell: something is missing, or the rule set has no base or group yet. Takes as long as a
    simulation for each way.
    """
    found: list[int | None] = []
    for one in candidates:
        chosen = replace(item, kind=one.kind, files=one.files)
        trial = replace(rule_set, items=(chosen,), pilot=(), removes=())
        draft = build_draft(trial, baseline)
        if not one.is_ready or one.kind == "leave" or draft.missing:
            found.append(None)
        elif not draft.is_ready:
            found.append(0)  # the base has it already, so it changes nothing
        else:
            told = simulate(session, trial, draft, with_sightings=False)
            found.append(sum(line.opens for line in told.patterns if line.pattern == item.pattern))
    return tuple(found)
