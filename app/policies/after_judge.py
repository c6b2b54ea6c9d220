"""Why a pattern is still blocked for users of one kind: by what probes found, the policy in force and the token.

What probes found says whether a pattern is open; the policy and the token, judged by the engine, say why not.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import select
from sqlalchemy.orm import Session

from agent.catalogue import Catalogue
from agent.catalogue import load as load_catalogue
from agent.contract.facts import Engine
from app.applocker.evaluate import CompiledPolicy, compile_policy
from app.applocker.model import STANDARD_USER, Token, Verdict
from app.fleet.probes import mark
from app.fleet.tables import FactSet
from app.fleet.workflows import OPEN_OUTCOMES
from app.policies.arrival import RulesInForce, rules_in_force, stage_of
from app.policies.profiles import group_policy_of, policies_in_use, sids_of
from app.policies.queries_exports import get_kept_export
from app.policies.roots import Places, read_places
from app.policies.tables import ExportRule
from app.policies.whatif import ExportSpecimen, export_forms, export_specimens_at

_ALLOWED = (Verdict.ALLOWED, Verdict.ALLOWED_BY_DEFAULT)
_SETS_AT_ONCE = 500
OURS = ("", "applocker", "unknown")
"""Engines, as probes name them, whose refusal may be AppLocker's."""


class Reason(StrEnum):
    """Why a pattern is still blocked for somebody, the one to look at first first."""

    OTHER_ENGINE = "other-engine"
    UNREADABLE = "unreadable"
    CHANGED = "changed"
    NOT_ARRIVED = "not-arrived"
    INTUNE = "intune"
    DENY_RULE = "deny-rule"
    NOT_IN_GROUP = "not-in-group"
    ELSEWHERE = "elsewhere"
    SERVICE = "service"
    OTHER_FILE = "other-file"
    UNEXPLAINED = "unexplained"


REASONS_IN_ORDER = tuple(Reason)
_ORDER = {reason: place for place, reason in enumerate(REASONS_IN_ORDER)}


@dataclass(frozen=True, slots=True, order=True)
class Because:
    """A reason. `detail`: the engine, the name of the Deny rule, or the SID that the token lacks; else empty."""

    reason: Reason
    detail: str = ""


@dataclass(frozen=True, slots=True)
class State:
    """What became of a pattern for somebody: `because` None is open."""

    because: Because | None = None


@dataclass(frozen=True, slots=True)
class _Policy:
    """A policy in force, as far as an export can ask. `compiled` None: nobody can judge it."""

    rules: RulesInForce
    has_intune: bool
    service_disabled: bool
    compiled: CompiledPolicy | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AfterMarks:
    """Numbers of sets of probes: a pattern is open, blocked perhaps by AppLocker, or by another engine (its name)."""

    open: tuple[int, ...]
    ours: tuple[int, ...]
    others: tuple[tuple[int, str], ...]

    @property
    def blocked(self) -> tuple[int, ...]:
        return (*self.ours, *(number for number, _engine in self.others))


class AfterJudge:
    """One export and the fleet's policies, ready to say what became of each pattern for users of one kind."""

    def __init__(self, session: Session, export_id: int, *, catalogue: Catalogue | None = None) -> None:
        catalogue = catalogue or load_catalogue()
        self.session = session
        rules = session.scalars(select(ExportRule).where(ExportRule.export_id == export_id)).all()
        kept = get_kept_export(session, export_id)
        self.wanted = frozenset(rule.rule_id for rule in rules)
        self.rules_of: dict[str, set[str]] = defaultdict(set)
        for rule in rules:
            for pattern in rule.patterns:
                self.rules_of[pattern].add(rule.rule_id)
        self.patterns = tuple(sorted(self.rules_of))
        self.kinds = {pattern: {rule.kind for rule in rules if pattern in rule.patterns} for pattern in self.patterns}
        self.sids = kept.export.sids
        self._export = kept.export
        self._forms = tuple(export_forms(kept.export, catalogue))
        self._places: dict[int | None, Places] | None = None
        self._specimens: dict[Places, dict[str, list[ExportSpecimen]]] = {}
        self.specimens = self._specimens_at(())
        self.bodies = policies_in_use(session)
        self.policies = {number: self._read_policy(body) for number, body in self.bodies.items()}
        self.named = self._sids_that_matter()
        self._meaning = _meaning(self.patterns)
        self._found: dict[int | None, tuple[tuple[str, str], ...]] = {}
        self._why: dict[tuple[int, int, int, str, Places], Because] = {}

    def has_arrived(self, policy_id: int | None) -> bool:
        """Whether all rules of the export are in a policy."""
        policy = self.policies.get(policy_id or 0)
        return policy is not None and stage_of(self.wanted, policy.rules) == "arrived"

    def early_reason(self, policy_id: int | None, pattern: str) -> Reason | None:
        """Why a pattern that AppLocker blocks stays so, as far as the policy alone tells; None: the token decides."""
        policy = self.policies.get(policy_id or 0)
        if policy is None:
            return Reason.UNREADABLE
        if not policy.rules.changed.isdisjoint(self.rules_of[pattern]):
            return Reason.CHANGED
        if not self.rules_of[pattern] <= policy.rules.ids:
            return Reason.NOT_ARRIVED if policy.rules.is_readable else Reason.UNREADABLE
        return Reason.INTUNE if policy.has_intune else None

    def marks(self, patterns: Iterable[str]) -> AfterMarks:
        """The numbers by which the database finds the sets of probes that say something of patterns."""
        chosen = frozenset(patterns)
        found = [(number, engine) for number, (pattern, engine) in self._meaning.items() if pattern in chosen]
        return AfterMarks(
            open=tuple(number for number, engine in found if engine == _OPEN),
            ours=tuple(number for number, engine in found if engine != _OPEN and engine in OURS),
            others=tuple((number, engine) for number, engine in found if engine != _OPEN and engine not in OURS),
        )

    def read_probes(self, ids: Iterable[int | None]) -> None:
        """Learns what sets of probes say of the export's patterns, from the numbers that the database keeps."""
        self._found.setdefault(None, ())
        missing = sorted({number for number in ids if number is not None} - self._found.keys())
        for begin in range(0, len(missing), _SETS_AT_ONCE):
            some = missing[begin : begin + _SETS_AT_ONCE]
            for number, facts in self.session.execute(select(FactSet.id, FactSet.facts).where(FactSet.id.in_(some))):
                self._found[number] = tuple(self._meaning[fact] for fact in facts or () if fact in self._meaning)
            for number in some:
                self._found.setdefault(number, ())

    def states(
        self, policy_id: int | None, environment_id: int | None, probes_id: int | None, sids: int, deny_only: int
    ) -> dict[str, State]:
        """What became of each pattern that probes tried, for users of one kind. `sids`: bits over `named`."""
        found: dict[str, State] = {}
        for pattern, engine in self._tried(probes_id):
            because = None
            if engine is not None:
                because = self._because(policy_id, environment_id, sids, deny_only, pattern, engine)
            found[pattern] = State(because)
        return found

    def _tried(self, probes_id: int | None) -> Iterable[tuple[str, str | None]]:
        for pattern, engine in self._found[probes_id]:
            yield pattern, None if engine == _OPEN else engine

    def _because(
        self, policy_id: int | None, environment_id: int | None, sids: int, deny_only: int, pattern: str, engine: str
    ) -> Because:
        if engine not in OURS:
            return Because(Reason.OTHER_ENGINE, engine)
        reason = self.early_reason(policy_id, pattern)
        if reason is not None or policy_id is None:
            return Because(reason or Reason.UNREADABLE)
        policy = self.policies[policy_id]
        where = self._where(environment_id)
        key = (policy_id, sids, deny_only, pattern, where)
        known = self._why.get(key)
        if known is None:
            known = self._why[key] = self._judge(
                policy, sids_of(sids, self.named), sids_of(deny_only, self.named), pattern, where
            )
        return known

    def _where(self, environment_id: int | None) -> Places:
        if self._places is None:
            self._places = read_places(self.session)
        return self._places.get(environment_id, ())

    def _specimens_at(self, where: Places) -> dict[str, list[ExportSpecimen]]:
        known = self._specimens.get(where)
        if known is None:
            known = self._specimens[where] = defaultdict(list)
            for specimen in export_specimens_at(self._forms, self._export, where):
                known[specimen.pattern].append(specimen)
        return known

    def _judge(
        self, policy: _Policy, sids: frozenset[str], deny_only: frozenset[str], pattern: str, where: Places
    ) -> Because:
        """Why a pattern is blocked although its rules are there."""
        if policy.compiled is None or not self.specimens[pattern]:
            return Because(Reason.UNEXPLAINED)
        token = Token(sids=sids | STANDARD_USER.sids, deny_only=deny_only)
        member = Token(sids=token.sids | {sid.upper() for sid in self.sids}, deny_only=deny_only)
        is_open = True
        for one in self.specimens[pattern]:
            decision = policy.compiled.decide(one.file, token, one.collection)
            if decision.verdict is Verdict.DENIED:
                return Because(Reason.DENY_RULE, decision.rules[0].name[:200])
            if decision.verdict not in _ALLOWED:
                is_open = False
                if policy.compiled.decide(one.file, member, one.collection).verdict in _ALLOWED:
                    return Because(Reason.NOT_IN_GROUP, ", ".join(self.sids)[:200])
        if not is_open:
            return Because(Reason.UNEXPLAINED)
        real = self._specimens_at(where)[pattern]
        if any(policy.compiled.decide(one.file, token, one.collection).verdict not in _ALLOWED for one in real):
            return Because(Reason.ELSEWHERE)
        if policy.service_disabled:
            return Because(Reason.SERVICE)
        return Because(Reason.OTHER_FILE, ", ".join(sorted(self.kinds[pattern])))

    def _read_policy(self, body: str) -> _Policy:
        found = rules_in_force(body)
        rules = RulesInForce(found.ids & self.wanted, found.changed & self.wanted, found.is_readable)
        value = json.loads(body)
        policy = group_policy_of(body) if rules.ids else None
        return _Policy(
            rules=rules,
            has_intune=value.get("csp", "none") != "none",
            service_disabled=bool(value.get("service_disabled")),
            compiled=None if policy is None else compile_policy(policy),
        )

    def _sids_that_matter(self) -> tuple[str, ...]:
        found = {sid.upper() for sid in self.sids}
        for policy in self.policies.values():
            if policy.compiled is not None:
                for specimens in self.specimens.values():
                    for one in specimens:
                        found |= policy.compiled.sids_that_matter(one.file, one.collection)
        return tuple(sorted(found - STANDARD_USER.sids))


def first_reason(states: Mapping[str, State]) -> Because | None:
    """Of all that keeps a user's patterns closed what is to be looked at first; None if nothing does."""
    found = [state.because for state in states.values() if state.because is not None]
    return min(found, key=lambda why: (_ORDER[why.reason], why.detail), default=None)


def summed(states: Mapping[str, State]) -> str:
    """`blocked`, `open` or `untold` for a user over all patterns.

    >>> summed({}), summed({"a": State()}), summed({"a": State(), "b": State(Because(Reason.NOT_ARRIVED))})
    ('untold', 'open', 'blocked')
    """
    if any(state.because is not None for state in states.values()):
        return "blocked"
    return "open" if states else "untold"


_OPEN = "-"


def _meaning(patterns: Sequence[str]) -> dict[int, tuple[str, str]]:
    """Of each number that a set of probes may have: the pattern, and the engine that blocks or `-` for open."""
    meaning = {}
    for pattern in patterns:
        for engine in ("", *Engine):
            for outcome in OPEN_OUTCOMES:
                meaning[mark(pattern, outcome, engine)] = (pattern, _OPEN)
            # What is denied without an engine's name was no policy's doing.
            meaning[mark(pattern, "denied", engine)] = (pattern, str(engine) or "other")
            meaning[mark(pattern, "blocked", engine)] = (pattern, str(engine))
    return meaning
