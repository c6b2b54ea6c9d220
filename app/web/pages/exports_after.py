"""What became of an export: for whom it is open or still blocked and why, and the hosts behind each figure."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from app.audit.record import Actor
from app.db.session import SessionDep, session_scope
from app.fleet.queries import list_groups
from app.policies.after import AT_ONCE_USERS, After, has_users, read_after
from app.policies.after_hosts import STAGES, STATES, AfterFilter, HostAfter, list_hosts_after
from app.policies.after_judge import Because, Reason
from app.policies.after_kept import after_of, ask_for_after, find_after
from app.policies.arrival import Arrival, read_arrival
from app.policies.in_force import read_policy_names
from app.policies.queries_exports import KeptExport, get_kept_export
from app.policies.simulations import is_large
from app.policies.standing import VerifiedStanding, read_standing
from app.web.guards import ApiViewFleet, ViewFleet
from app.web.templating import render
from app.web.titles import plainly_titled
from app.web.words import engine_words
from app.work.rows import Work

router = APIRouter(include_in_schema=False)
api_router = APIRouter(prefix="/api/v1", tags=["rules"])

ExportId = Annotated[int, Path(ge=1, le=2**31)]
GroupId = Annotated[int | None, Query(ge=1, le=2**31)]
_STAGE_WORDS = {
    "arrived": "all rules in force",
    "changed": "rules changed under our ids",
    "partly": "some of the rules in force",
    "missing": "none of the rules in force",
    "unreadable": "policy could not be read",
}
_STATE_WORDS = {"open": "open", "blocked": "still blocked", "untold": "not told yet"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownAfter:
    """An export and what became of it. `as_of` None: as it is now; `after` None: that is being worked out by `work`."""

    kept: KeptExport
    standing: VerifiedStanding
    after: After | None
    as_of: datetime | None = None
    is_of_other_policies: bool = False
    work: Work | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AfterAnswer:
    """What programs are told. `as_of` null: as it is now; `after` null: that is being worked out by `work`."""

    after: After | None
    as_of: datetime | None = None
    is_of_other_policies: bool = False
    work: dict[str, Any] | None = None


@router.get("/exports/{export_id}/after")
def show_after(
    person: ViewFleet,
    request: Request,
    export_id: ExportId,
    again: Annotated[bool, Query()] = False,
) -> Response:
    """Not with the page's session: figures of a large fleet are asked for and committed first, and nobody waits."""
    shown = _look_or_begin(request, export_id, again=again, actor=person.actor)
    return render(
        request,
        "exports/after.html",
        fragment="answer",
        kept=shown.kept,
        after=shown.after,
        as_of=shown.as_of,
        is_of_other_policies=shown.is_of_other_policies,
        work=shown.work,
        because_words=because_words,
        because_help=because_help,
        hosts_address=hosts_address,
        standing=shown.standing,
    )


def _look_or_begin(
    request: Request, export_id: int, *, again: bool, actor: Actor, group_id: int | None = None
) -> ShownAfter:
    engine = request.app.state.engine
    with session_scope(engine, writes=False) as session:
        kept, standing = get_kept_export(session, export_id), read_standing(session)
        # Of a group without users nothing has to be worked out.
        if not is_large(session, users=AT_ONCE_USERS) or (group_id is not None and not has_users(session, group_id)):
            return ShownAfter(kept=kept, standing=standing, after=read_after(session, export_id, group_id=group_id))
        found = find_after(session, export_id, group_id=group_id)
    work = found.work
    if found.is_due or (again and not (work is not None and work.is_under_way)):
        with session_scope(engine) as session:
            asked = ask_for_after(session, export_id, actor=actor, group_id=group_id)
        request.app.state.workers.start_work(asked, after_of(export_id, group_id))
        work = asked.work
    return ShownAfter(
        kept=kept,
        standing=standing,
        after=found.after,
        as_of=found.as_of,
        is_of_other_policies=found.is_of_other_policies,
        work=work,
    )


@router.get("/exports/{export_id}/hosts")
def show_hosts_after(
    person: ViewFleet,  # noqa: ARG001 - the guard
    request: Request,
    session: SessionDep,
    export_id: ExportId,
    stage: Annotated[str, Query(max_length=20)] = "",
    state: Annotated[str, Query(max_length=20)] = "",
    pattern: Annotated[str, Query(max_length=80)] = "",
    reason: Annotated[str, Query(max_length=20)] = "",
    detail: Annotated[str | None, Query(max_length=300)] = None,
    group: GroupId = None,
    cursor: Annotated[str, Query(max_length=800)] = "",
) -> Response:
    wanted = _filter(stage, state, pattern, reason, detail, group)
    page = list_hosts_after(session, export_id, wanted, cursor or None)
    groups = {one.id: one.name for one in list_groups(session)} if wanted.group_id is not None else {}
    return render(
        request,
        "exports/hosts.html",
        kept=get_kept_export(session, export_id),
        page=page,
        policy_names=read_policy_names(session, [host.policy_id for host in page.rows if host.policy_id]),
        chips=[
            (text, hosts_address(export_id, **{key: value for key, value in _said(wanted).items() if key not in keys}))
            for keys, text in _chips(wanted, groups)
        ],
        is_first_page=not cursor,
        first_page=hosts_address(export_id, **_said(wanted)),
        next_page=lambda following: hosts_address(export_id, **_said(wanted), cursor=following),
        because_words=because_words,
    )


@api_router.get("/exports/{export_id}/arrival")
def get_arrival(
    caller: ApiViewFleet,  # noqa: ARG001 - the guard
    session: SessionDep,
    export_id: ExportId,
    group: GroupId = None,
) -> Arrival:
    """For how many users the rules of an export are in force, in the fleet or in one group of hosts."""
    return read_arrival(session, export_id, group_id=group)


@api_router.get("/exports/{export_id}/after")
def get_after(
    caller: ApiViewFleet,
    request: Request,
    export_id: ExportId,
    group: GroupId = None,
    again: Annotated[bool, Query()] = False,
) -> AfterAnswer:
    """For how many users an export's patterns are open, for how many still blocked, and why: of all or of one group.

    In a large fleet these are the figures that are kept, with their time, and null while there are none: ask again, or
    follow `work`.
    """
    shown = _look_or_begin(request, export_id, group_id=group, again=again, actor=caller.actor)
    return AfterAnswer(
        after=shown.after,
        as_of=shown.as_of,
        is_of_other_policies=shown.is_of_other_policies,
        work=None if shown.work is None else asdict(replace(shown.work, result=None)),
    )


@api_router.get("/exports/{export_id}/hosts")
def get_hosts_after(
    caller: ApiViewFleet,  # noqa: ARG001 - the guard
    session: SessionDep,
    export_id: ExportId,
    stage: Annotated[str, Query(max_length=20)] = "",
    state: Annotated[str, Query(max_length=20)] = "",
    pattern: Annotated[str, Query(max_length=80)] = "",
    reason: Annotated[str, Query(max_length=20)] = "",
    detail: Annotated[str | None, Query(max_length=300)] = None,
    group: GroupId = None,
    cursor: Annotated[str, Query(max_length=800)] = "",
) -> dict[str, tuple[HostAfter, ...] | str | None]:
    """The hosts behind a figure of `after`; `next_cursor` null: these are the last."""
    wanted = _filter(stage, state, pattern, reason, detail, group)
    page = list_hosts_after(session, export_id, wanted, cursor or None)
    return {"hosts": page.rows, "next_cursor": page.next_cursor}


def hosts_address(export_id: int, **wanted: object) -> str:
    """Where the hosts behind a figure are listed.

    >>> hosts_address(7, stage="arrived", state="open")
    '/exports/7/hosts?stage=arrived&state=open'
    """
    query = urlencode({key: str(value) for key, value in wanted.items() if value is not None and value != ""})
    return f"/exports/{export_id}/hosts" + (f"?{query}" if query else "")


def because_words(why: Because) -> str:
    """A reason in a few words."""
    match why.reason:
        case Reason.OTHER_ENGINE:
            words = engine_words([why.detail]) if why.detail else "another engine"
            return f"{words[0].upper()}{words[1:]} blocks it, and hides what AppLocker would say behind it"
        case Reason.DENY_RULE:
            return f"The Deny rule “{why.detail}” wins over every Allow"
        case Reason.NOT_IN_GROUP:
            return f"The user’s token does not hold {why.detail}, for whom the rules are"
        case Reason.OTHER_FILE if why.detail == "hash":
            return "The file is another than those whose hashes the rules name"
        case Reason.OTHER_FILE if why.detail == "publisher":
            return "The file is not signed as the rules say"
        case Reason.OTHER_FILE:
            return "The rules allow it, so the file lies elsewhere or is another"
    return {
        Reason.UNREADABLE: "The policy in force could not be read",
        Reason.CHANGED: "A rule with an id of this export does something else than was exported",
        Reason.NOT_ARRIVED: "The rules have not arrived",
        Reason.INTUNE: "A policy from Intune is in force besides, and must allow it too",
        Reason.ELSEWHERE: "The user’s folders really lie elsewhere, where these rules do not reach",
        Reason.SERVICE: "Perhaps the Application Identity service: it cannot start there",
    }.get(why.reason, "No rule that was found explains it")


def because_help(why: Because) -> str:
    """What to do about a reason."""
    return {
        Reason.OTHER_ENGINE: "No AppLocker rule opens what another engine closes: ask who runs that one.",
        Reason.UNREADABLE: "Look at the agent’s errors on one of these hosts.",
        Reason.CHANGED: "Somebody changed it in the policy, or reports it so: compare it, and apply the package again.",
        Reason.NOT_ARRIVED: "Check the policy object’s link and filter; machines refresh about every 90 minutes.",
        Reason.INTUNE: "Export for Intune’s grouping, too.",
        Reason.DENY_RULE: "Find that rule’s policy object, and give it an exception.",
        Reason.NOT_IN_GROUP: "Memberships count from the next sign-in on; for all others, export for their group.",
        Reason.ELSEWHERE: "See “Really lies in” on one of these hosts; export for that folder, or move uv’s.",
        Reason.SERVICE: "A hint only: while AppIDSvc is stopped, AppLocker does not take up a changed policy.",
        Reason.OTHER_FILE: (
            "A newer build, or Wayleave’s own test program where no real file stands yet: "
            "compare the hashes on one of these hosts."
        ),
        Reason.UNEXPLAINED: "Look at one of these hosts: its policy, its events.",
    }[why.reason]


def _filter(stage: str, state: str, pattern: str, reason: str, detail: str | None, group: int | None) -> AfterFilter:
    return AfterFilter(
        stage=stage if stage in STAGES else None,
        state=state if state in STATES else None,
        pattern=pattern or None,
        reason=Reason(reason) if reason in set(Reason) else None,
        detail=detail,
        group_id=group,
    )


def _said(wanted: AfterFilter) -> dict[str, object]:
    """The filter as it stands in an address."""
    return {
        "stage": wanted.stage,
        "state": wanted.state,
        "pattern": wanted.pattern,
        "reason": wanted.reason,
        "detail": wanted.detail if wanted.reason is not None else None,
        "group": wanted.group_id,
    }


def _chips(wanted: AfterFilter, groups: dict[int, str]) -> list[tuple[tuple[str, ...], str]]:
    """The filter in force as removable words, each with the keys that it takes away."""
    chips: list[tuple[tuple[str, ...], str]] = []
    if wanted.stage is not None:
        chips.append((("stage",), _STAGE_WORDS[wanted.stage]))
    if wanted.state is not None:
        chips.append((("state",), _STATE_WORDS[wanted.state]))
    if wanted.pattern is not None:
        chips.append((("pattern",), f"at {plainly_titled(wanted.pattern)}"))
    if wanted.reason is not None:
        chips.append((("reason", "detail"), because_words(Because(wanted.reason, wanted.detail or ""))))
    if wanted.group_id is not None:
        chips.append((("group",), f"group {groups.get(wanted.group_id, 'that is gone')}"))
    return chips
