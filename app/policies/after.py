"""After an export: for whom its patterns are open, for whom they are still blocked, and why.

Users that are alike to the rules (policy, the SIDs that rules can tell apart, what probes found) are judged once. What
probes found says whether a pattern is open; the policy in force and the token, judged by the engine, say why not.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from agent.catalogue import Catalogue
from agent.catalogue import load as load_catalogue
from agent.contract.facts import Engine
from app.applocker.evaluate import CompiledPolicy, compile_policy
from app.applocker.model import STANDARD_USER, Token, Verdict
from app.fleet.probes import mark
from app.fleet.tables import SERVICE_STOPPED, FactSet, Host, Subject
from app.fleet.workflows import OPEN_OUTCOMES
from app.policies.arrival import RulesInForce, rules_in_force, stage_of
from app.policies.profiles import group_policy_of, policies_in_use, read_profiles, sids_of
from app.policies.queries_exports import get_kept_export
from app.policies.roots import Places, read_places
from app.policies.tables import ExportRule
from app.policies.whatif import ExportSpecimen, export_forms, export_specimens_at

_ALLOWED = (Verdict.ALLOWED, Verdict.ALLOWED_BY_DEFAULT)
_SETS_AT_ONCE = 500
AT_ONCE_USERS = 5_000
"""Fleets up to this size are judged anew each time a page is looked at: within 0.1 s."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockedFor:
    """For how many users one reason holds. `patterns`: those that it keeps closed."""

    because: Because
    users: int
    patterns: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PatternAfter:
    """One of the export's patterns: users for whom it is open, blocked, not told, and why it is blocked."""

    pattern: str
    open: int
    blocked: int
    untold: int
    reasons: tuple[tuple[Because, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class After:
    """What became of an export, in counted users. A user is blocked if any of its patterns is, else open if one was
    found open. `arrived_*`: the same among those who have all rules. `reasons`: each user once, by the first reason.
    `service_disabled`, `service_stopped`: blocked users on whose host AppIDSvc cannot start, or does not run.
    """

    base: int
    open: int
    blocked: int
    untold: int
    arrived: int
    arrived_open: int
    arrived_blocked: int
    arrived_untold: int
    service_disabled: int
    service_stopped: int
    reasons: tuple[BlockedFor, ...]
    patterns: tuple[PatternAfter, ...]


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


def read_after(
    session: Session, export_id: int, *, group_id: int | None = None, catalogue: Catalogue | None = None
) -> After:
    """What became of an export in the fleet, or in one group of hosts. raises: NotFoundError"""
    judge = AfterJudge(session, export_id, catalogue=catalogue)
    profiles = [one for one in read_profiles(session, judge.named) if group_id is None or one.group_id == group_id]
    judge.read_probes(one.probes_id for one in profiles)
    totals: Counter[tuple[bool, str]] = Counter()
    because: Counter[Because] = Counter()
    kept_closed: dict[Because, set[str]] = defaultdict(set)
    by_pattern: dict[str, Counter[Because | None]] = {pattern: Counter() for pattern in judge.patterns}
    service_disabled = 0
    for one in profiles:
        states = judge.states(one.policy_id, one.environment_id, one.probes_id, one.sids, one.deny_only)
        for pattern, state in states.items():
            by_pattern[pattern][state.because] += one.subjects
        first = first_reason(states)
        totals[judge.has_arrived(one.policy_id), summed(states)] += one.subjects
        if first is not None:
            because[first] += one.subjects
            kept_closed[first] |= {pattern for pattern, state in states.items() if state.because == first}
            policy = judge.policies.get(one.policy_id or 0)
            service_disabled += one.subjects if policy is not None and policy.service_disabled else 0
    base = sum(totals.values())
    return After(
        base=base,
        open=totals[True, "open"] + totals[False, "open"],
        blocked=totals[True, "blocked"] + totals[False, "blocked"],
        untold=totals[True, "untold"] + totals[False, "untold"],
        arrived=sum(users for (arrived, _), users in totals.items() if arrived),
        arrived_open=totals[True, "open"],
        arrived_blocked=totals[True, "blocked"],
        arrived_untold=totals[True, "untold"],
        service_disabled=service_disabled,
        service_stopped=_count_stopped(session, judge, group_id),
        reasons=tuple(
            BlockedFor(because=why, users=users, patterns=tuple(sorted(kept_closed[why])))
            for why, users in sorted(because.items(), key=lambda item: (-item[1], item[0]))
        ),
        patterns=tuple(
            PatternAfter(
                pattern=pattern,
                open=counts[None],
                blocked=sum(counts.values()) - counts[None],
                untold=base - sum(counts.values()),
                reasons=tuple(
                    (why, users)
                    for why, users in sorted(
                        ((why, users) for why, users in counts.items() if why is not None),
                        key=lambda item: (-item[1], item[0]),
                    )
                ),
            )
            for pattern, counts in by_pattern.items()
        ),
    )


def _count_stopped(session: Session, judge: AfterJudge, group_id: int | None) -> int:
    """The blocked users of hosts whose Application Identity service does not run: a hint, and no reason of its own."""
    stopped = select(Subject.id).join(Host, Host.id == Subject.host_id).where(text(SERVICE_STOPPED))
    total = 0
    for one in read_profiles(session, judge.named, subject_ids=stopped):
        judge.read_probes((one.probes_id,))
        states = judge.states(one.policy_id, one.environment_id, one.probes_id, one.sids, one.deny_only)
        if (group_id is None or one.group_id == group_id) and summed(states) == "blocked":
            total += one.subjects
    return total


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
