"""The overview: is uv usable on this fleet, for whom, and where it is not."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from sqlalchemy.orm import Session
from starlette.responses import Response

from agent.catalogue import Pattern
from agent.catalogue import load as load_catalogue
from app.accounts.roles import Permission
from app.db.session import SessionDep
from app.fleet.attestation import count_unattested
from app.fleet.installs import read_installs
from app.fleet.queries import (
    GroupCount,
    HeatMap,
    Overview,
    PatternCount,
    WorkflowCount,
    list_groups,
    read_heat_map,
    read_overview,
)
from app.fleet.queries_absence import read_absence
from app.fleet.queries_trend import (
    NewPolicy,
    NewVersion,
    Shifts,
    TrendDay,
    list_new_policies,
    list_new_versions,
    read_shifts,
    read_trend,
)
from app.fleet.sharing import find_sharing
from app.fleet.standing import Standing
from app.policies.queries_exports import list_exports_since
from app.web.glossary import STANDING_WORDS
from app.web.guards import ViewFleet
from app.web.templating import render

router = APIRouter(include_in_schema=False)

MAX_GROUPS = 8
MAX_PATTERNS = 15

TREND_DAYS = (30, 90)
MAX_SHIFTS = 8
MOST_SHIFTS = 100

# The commands that say most about whether uv is usable, in the order in which the first sentence prefers them.
TELLING = ("sync-build", "uvx", "sync-wheels", "run-script", "run-entrypoint", "python-install")
# A command refused to fewer than this share is not what the page is about, unless there is nothing else.
WORTH_SAYING = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Headline:
    """What the first sentence says: a telling command that is refused, to whom, how many work for all and for none."""

    worst: WorkflowCount | None
    groups: tuple[GroupCount, ...]
    work_for_all: int
    work_for_none: int
    tried: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """One command over days, with what happened in them."""

    workflow: str
    days: int
    points: tuple[TrendDay, ...]
    policies: tuple[NewPolicy, ...]
    versions: tuple[NewVersion, ...]
    exports: tuple[tuple[int, datetime], ...]

    @property
    def data(self) -> dict[str, Any]:
        """What the chart draws: days as ISO dates, three series, and marks."""
        marks = [{"day": one.first_at.date().isoformat(), "text": "new policy"} for one in self.policies]
        marks += [{"day": one.day.isoformat(), "text": f"uv {one.version}"} for one in self.versions]
        marks += [{"day": at.date().isoformat(), "text": f"export {number}"} for number, at in self.exports]
        shown = {one.day.isoformat() for one in self.points}
        return {
            "days": [one.day.isoformat() for one in self.points],
            "open": [one.open for one in self.points],
            "unknown": [one.unknown for one in self.points],
            "blocked": [one.blocked for one in self.points],
            "marks": [one for one in marks if one["day"] in shown],
        }


@router.get("/")
def show_overview(
    person: ViewFleet,
    request: Request,
    session: SessionDep,
    group: Annotated[int | None, Query(ge=1, le=2**31)] = None,
    command: Annotated[str, Query(max_length=80)] = "",
    days: Annotated[int, Query(ge=1, le=3650)] = TREND_DAYS[0],
) -> Response:
    until = datetime.now(UTC)
    overview = read_shown_overview(session, group)
    heat = read_heat_map(session)
    catalogue = load_catalogue()
    headline = headline_of(overview, heat)
    sharing = find_sharing(session) if Permission.MANAGE_SETTINGS in person.permissions else None
    columns = sorted(range(len(heat.groups)), key=lambda index: -heat.groups[index].counted)[:MAX_GROUPS]
    return render(
        request,
        "overview/page.html",
        fragment="trend",
        overview=overview,
        headline=headline,
        trend=read_shown_trend(session, overview, headline, command, days, until),
        trend_days=TREND_DAYS,
        shifts=read_shown_shifts(session, overview, until),
        max_shifts=MAX_SHIFTS,
        most_shifts=MOST_SHIFTS,
        installs=read_installs(session, None if overview.group is None else overview.group.id),
        absence=read_absence(session, None if overview.group is None else overview.group.id),
        apart=apart_of(overview),
        unattested=count_unattested(session, None if overview.group is None else overview.group.id),
        hardly_shared=sharing.failing if sharing is not None else (),
        patterns={pattern.id: pattern for pattern in catalogue.patterns},
        workflows={workflow.id: workflow for workflow in catalogue.workflows},
        heat_groups=[heat.groups[index] for index in columns],
        heat_rows={pattern: [shares[index] for index in columns] for pattern, shares in heat.rows},
        shown_patterns=ranked(overview)[:MAX_PATTERNS],
        openable=openable(overview),
        standing_words=STANDING_WORDS,
        public_url=request.app.state.settings.public_url,
    )


def read_shown_overview(session: Session, group_id: int | None = None) -> Overview:
    """The fleet or one group; where no workstation counts yet, the Linux trials, if there are any."""
    overview = read_overview(session, group_id)
    if group_id is None and overview.counted == 0:
        trials = next((one for one in list_groups(session) if one.is_trial and one.trial), None)
        if trials is not None:
            return read_overview(session, trials.id)
    return overview


def read_shown_trend(
    session: Session, overview: Overview, headline: Headline, command: str, days: int, until: datetime
) -> Trend | None:
    """The command asked for, or the one of the first sentence; None where no command was tried."""
    tried = {one.workflow for one in overview.workflows}
    if not tried:
        return None
    told = headline.worst.workflow if headline.worst else next((name for name in TELLING if name in tried), None)
    workflow = command if command in tried else told or min(tried)
    chosen = days if days in TREND_DAYS else TREND_DAYS[0]
    since = until - timedelta(days=chosen)
    group_id = None if overview.group is None else overview.group.id
    return Trend(
        workflow=workflow,
        days=chosen,
        points=read_trend(
            session,
            workflow,
            days=chosen,
            until=until,
            group_id=group_id,
        ),
        policies=list_new_policies(session, since),
        versions=list_new_versions(session, days=chosen, until=until, group_id=group_id),
        exports=list_exports_since(session, since),
    )


def read_shown_shifts(session: Session, overview: Overview, until: datetime) -> Shifts:
    """What changed since the day before; of trials no days are kept."""
    if overview.counted == 0 or (overview.group is not None and overview.group.is_trial):
        return Shifts(day=None, shifts=())
    return read_shifts(session, overview, until)


def headline_of(overview: Overview, heat: HeatMap) -> Headline:
    """What to say first."""
    tried = [state for state in overview.workflows if state.base]
    refused_commands = {state.workflow: state for state in tried if state.blocked}
    often = [state for state in refused_commands.values() if state.blocked >= WORTH_SAYING * state.base]
    worst = next(
        (refused_commands[name] for name in TELLING if refused_commands.get(name) in often),
        max(refused_commands.values(), key=lambda state: state.blocked, default=None),
    )
    refused: list[tuple[float, GroupCount]] = []
    if worst is not None and overview.group is None:
        needs = set(load_catalogue().workflow(worst.workflow).needs)
        rows = [shares for pattern, shares in heat.rows if pattern in needs]
        for index, group in enumerate(heat.groups):
            # A command is refused at least where the most refused of its patterns is.
            most = max((shares[index].ratio or 0.0 for shares in rows), default=0.0)
            if most > 0.5:
                refused.append((most, group))
    refused.sort(key=lambda item: -item[0])
    return Headline(
        worst=worst,
        groups=tuple(group for _, group in refused[:3]) if len(refused) < len(heat.groups) else (),
        work_for_all=sum(1 for state in tried if not state.blocked),
        work_for_none=sum(1 for state in tried if not state.open),
        tried=len(tried),
    )


def ranked(overview: Overview) -> list[PatternCount]:
    """The refused patterns: those that uv's commands need first, each part the most refused first."""
    needed = {pattern for workflow in load_catalogue().workflows for pattern in workflow.needs}
    return sorted(
        overview.blocked_patterns, key=lambda one: (one.pattern not in needed, -(one.blocked_share.ratio or 0))
    )


def apart_of(overview: Overview) -> list[tuple[Standing, int]]:
    """Subjects that are not in the shares, by standing."""
    groups = overview.groups if overview.group is None else (overview.group,)
    sums = {
        Standing.ADMINISTRATOR: sum(group.administrators for group in groups),
        Standing.NOT_ENFORCING: sum(group.not_enforcing for group in groups),
        Standing.TRIAL: sum(group.trial for group in groups) if overview.group is None else 0,
        Standing.QUARANTINED: sum(group.quarantined for group in groups),
    }
    return [(standing, count) for standing, count in sums.items() if count]


def openable(overview: Overview) -> tuple[str, ...]:
    """The refused patterns that a rule can open, for the link into the export."""
    known = {pattern.id: pattern for pattern in load_catalogue().patterns}
    return tuple(
        one.pattern for one in overview.blocked_patterns if one.pattern in known and can_have_rule(known[one.pattern])
    )


def can_have_rule(pattern: Pattern) -> bool:
    """Whether a rule can open a pattern at all."""
    return pattern.is_executed and bool(pattern.rule_kinds) and pattern.rule_kinds[0] not in ("none", "avoid")
