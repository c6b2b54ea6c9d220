"""The filter of the host list as it stands in an address: read, checked, written again, and said in words.

The page leaves out what it can't take and says so; the API and files refuse it, since nobody looks at what they list.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Annotated, TypeVar

from fastapi import Depends, Query

from agent.catalogue import load as load_catalogue
from agent.contract.facts import Engine
from app.errors import InvalidError
from app.fleet.host_filter import OUTCOME_GROUPS, HostFilter
from app.fleet.standing import HostState, Standing
from app.fleet.workflow_filter import CHOICES
from app.web.glossary import STANDING_WORDS
from app.web.titles import plainly_titled
from app.web.words import engine_words

SEEN = {"day": "in the last 24 hours", "week": "1 to 7 days ago", "older": "longer ago"}
STATES = {HostState.QUARANTINED: "in quarantine", HostState.REVOKED: "revoked", HostState.ACTIVE: "active"}
ENGINES = {engine.value: engine_words([engine.value]) for engine in Engine}
OUTCOMES = ("blocked", "denied", "allowed", "audited", "absent", "unknown", "error", *OUTCOME_GROUPS)
VERDICT_WORDS = {
    "works": "works",
    "partly": "works in part",
    "blocked": "blocked",
    "unknown": "could not be tried",
    "runs": "works, wholly or in part",
    "told": "could be tried",
}
NO_UV = "none"
"""In the form, in the place of a version: hosts without a uv."""
NO_AGENT = "none"
"""In the form: hosts that told no version of the agent."""

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A filter, and what of the address could not be used: by field, why."""

    filter: HostFilter
    problems: Mapping[str, str]


def read_wanted(
    q: Annotated[str, Query(max_length=100)] = "",
    group: Annotated[str, Query(pattern=r"^\d{0,9}$")] = "",
    pattern: Annotated[str, Query(max_length=80)] = "",
    outcome: Annotated[str, Query(max_length=20)] = "",
    version: Annotated[str | None, Query(max_length=64)] = None,
    uv: Annotated[str, Query(max_length=64)] = "",
    older: Annotated[str, Query(max_length=64)] = "",
    standing: Annotated[str, Query(max_length=20)] = "",
    workflow: Annotated[str, Query(max_length=80)] = "",
    verdict: Annotated[str, Query(max_length=20)] = "",
    tag: Annotated[str, Query(max_length=60)] = "",
    state: Annotated[str, Query(max_length=20)] = "",
    attested: Annotated[str, Query(max_length=5)] = "",
    gap: Annotated[str, Query(max_length=5)] = "",
    seen: Annotated[str, Query(max_length=10)] = "",
    seen_from: Annotated[str, Query(max_length=10)] = "",
    seen_to: Annotated[str, Query(max_length=10)] = "",
    engine: Annotated[str, Query(max_length=20)] = "",
    policy: Annotated[str, Query(pattern=r"^\d{0,18}$")] = "",
    agent: Annotated[str | None, Query(max_length=64, pattern=r"^[^\x00]*$")] = None,
    agent_version: Annotated[str, Query(max_length=64, pattern=r"^[^\x00]*$")] = "",
    install: Annotated[str | None, Query(max_length=80)] = None,
) -> Wanted:
    """The filter of an address.

    `version` empty: hosts without a uv (`uv`: the same from a form, with a word for none); `older`: with an older uv
    than this; `agent` empty: hosts that told no version of the agent (`agent_version`: the same from a form);
    `install`: the pattern of the place that uv runs from, empty: a place that no pattern names.
    """
    problems: dict[str, str] = {}

    def one_of(field: str, word: str, values: Mapping[str, _Value]) -> _Value | None:
        if word and word.lower() not in values:
            problems[field] = f"There is no {field} {word!a}: choose one of {_listed(values)}."
        return values.get(word.lower())

    def day(field: str, word: str) -> date | None:
        try:
            return date.fromisoformat(word) if word else None
        except ValueError:
            problems[field] = f"The day in {field} is none: days are written as 2026-01-31."
            return None

    catalogue = load_catalogue()
    known_pattern = one_of("pattern", pattern, {one.id: one.id for one in catalogue.patterns})
    known_workflow = one_of("workflow", workflow, {one.id: one.id for one in catalogue.workflows})
    known_verdict = one_of("verdict", verdict, {one: one for one in CHOICES})
    if known_verdict and not workflow:
        problems["verdict"] = "A verdict belongs to a uv command: choose one as workflow."
    known_outcome = one_of("outcome", outcome, {one: one for one in OUTCOMES})
    first, last = day("seen_from", seen_from), day("seen_to", seen_to)
    if first and last and first > last:
        problems["seen_to"] = "The first day (seen_from) comes after the last (seen_to)."
        first = last = None
    if uv and version is None:
        version = "" if uv == NO_UV else uv
    if agent_version and agent is None:
        agent = "" if agent_version == NO_AGENT else agent_version
    wanted = HostFilter(
        name=q.strip(),
        group_id=int(group) if group else None,
        pattern=known_pattern,
        outcome=known_outcome or ("blocked" if known_pattern else ""),
        version=version,
        older_than=older.strip() or None,
        standing=one_of("standing", standing, {one.name.lower(): one for one in Standing}),
        workflow=known_workflow,
        verdict=known_verdict or "blocked",
        tag=tag.strip().casefold() or None,
        state=one_of("state", state, {one.name.lower(): one for one in HostState}),
        attested=one_of("attested", attested, {"yes": True, "no": False}),
        has_gap=bool(one_of("gap", gap, {"yes": True})),
        seen=one_of("seen", seen, {one: one for one in SEEN}),
        seen_from=first,
        seen_to=last,
        engine=one_of("engine", engine, {one: one for one in ENGINES}),
        policy_id=int(policy) if policy else None,
        agent_version=agent,
        install=install,
    )
    return Wanted(filter=wanted, problems=problems)


def read_filter(wanted: Annotated[Wanted, Depends(read_wanted)]) -> HostFilter:
    """The same, for who takes the answer unseen. raises: InvalidError naming the first field that can't be used."""
    for field, problem in wanted.problems.items():
        raise InvalidError(problem, field=field)
    return wanted.filter


def filters_of(wanted: HostFilter) -> dict[str, str]:
    """The filter as it stands in the address."""
    filters: dict[str, str] = {}
    if wanted.name:
        filters["q"] = wanted.name
    if wanted.group_id is not None:
        filters["group"] = str(wanted.group_id)
    if wanted.pattern:
        filters["pattern"] = wanted.pattern
    if wanted.outcome:
        filters["outcome"] = wanted.outcome
    if wanted.workflow:
        filters["workflow"] = wanted.workflow
        filters["verdict"] = wanted.verdict
    if wanted.version is not None:
        filters["version"] = wanted.version
    if wanted.older_than is not None:
        filters["older"] = wanted.older_than
    if wanted.install is not None:
        filters["install"] = wanted.install
    if wanted.standing is not None:
        filters["standing"] = wanted.standing.name.lower()
    if wanted.state is not None:
        filters["state"] = wanted.state.name.lower()
    if wanted.attested is not None:
        filters["attested"] = "yes" if wanted.attested else "no"
    if wanted.has_gap:
        filters["gap"] = "yes"
    simple = {
        "tag": wanted.tag,
        "seen": wanted.seen,
        "seen_from": wanted.seen_from,
        "seen_to": wanted.seen_to,
        "engine": wanted.engine,
        "policy": wanted.policy_id,
        "agent": wanted.agent_version,
    }
    filters |= {key: str(value) for key, value in simple.items() if value is not None}
    return filters


def chips_of(wanted: HostFilter, groups: Mapping[int, str]) -> list[tuple[tuple[str, ...], str]]:
    """The filter in force, as removable words: the address's keys that a chip takes away, and its text."""
    chips: list[tuple[tuple[str, ...], str]] = []
    if wanted.name:
        chips.append((("q",), f"name begins with “{wanted.name}”"))
    if wanted.group_id is not None:
        chips.append((("group",), f"group {groups.get(wanted.group_id, 'that is gone')}"))
    if wanted.pattern:
        chips.append((("pattern", "outcome"), f"{wanted.outcome or 'blocked'} at {plainly_titled(wanted.pattern)}"))
    elif wanted.outcome:
        chips.append((("outcome",), f"{wanted.outcome} at any pattern"))
    if wanted.workflow:
        chips.append((("workflow", "verdict"), workflow_words(wanted.workflow, wanted.verdict)))
    if wanted.version is not None:
        chips.append((("version",), f"uv {wanted.version}" if wanted.version else "no uv found"))
    if wanted.older_than is not None:
        chips.append((("older",), f"uv older than {wanted.older_than}"))
    if wanted.install is not None:
        place = plainly_titled(wanted.install) if wanted.install else "uv from a place that no pattern names"
        chips.append((("install",), place))
    if wanted.standing is not None:
        chips.append((("standing",), STANDING_WORDS[wanted.standing]))
    if wanted.tag is not None:
        chips.append((("tag",), f"tag {wanted.tag}"))
    if wanted.state is not None:
        chips.append((("state",), STATES.get(wanted.state, "known only from files")))
    if wanted.attested is not None:
        chips.append((("attested",), "attested" if wanted.attested else "unattested"))
    if wanted.has_gap:
        chips.append((("gap",), "with gaps"))
    if wanted.seen is not None:
        chips.append((("seen",), f"last seen {SEEN[wanted.seen]}"))
    if wanted.seen_from is not None or wanted.seen_to is not None:
        chips.append((("seen_from", "seen_to"), f"last seen {_days(wanted.seen_from, wanted.seen_to)} (UTC)"))
    if wanted.engine is not None:
        chips.append((("engine",), f"by {ENGINES[wanted.engine]}"))
    if wanted.policy_id is not None:
        chips.append((("policy",), f"under policy {wanted.policy_id}"))
    if wanted.agent_version is not None:
        version = wanted.agent_version
        chips.append((("agent",), f"agent {version}" if version else "no agent version told"))
    return chips


def workflow_words(workflow_id: str, verdict: str) -> str:
    """A command and whether it works, in a chip's few words."""
    command = load_catalogue().workflow(workflow_id)
    return f"{command.command} ({command.title[0].lower()}{command.title[1:]}): {VERDICT_WORDS[verdict]}"


def _days(first: date | None, last: date | None) -> str:
    if first == last:
        return f"on {first}"
    if first is None:
        return f"until {last}"
    return f"from {first} to {last}" if last is not None else f"since {first}"


def _listed(values: Mapping[str, object]) -> str:
    """Words to choose from; of many the first few."""
    names = list(values)
    return ", ".join(names) if len(names) <= 12 else ", ".join(names[:5]) + " and others"
