"""Notices what got worse: a pattern or uv command that was open for a group and is closed, rules of ours that vanish.

By the clock, from tallies alone: of everything that is watched the best counts of the last days are kept, and what fell
from them by more than a threshold is looked at closer. Users who were never open make no notice, nor do many users of
few hosts; however much is reported, notices a day are few.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, delete, insert, select, tuple_
from sqlalchemy.orm import Session

from agent.catalogue import load as load_catalogue
from app.fleet.groups import read_group_names
from app.fleet.sharing import find_sharing
from app.notices.changes import Evidence, look_closer
from app.notices.counts import Count, Key, Remembered, policy_users, read_counts
from app.notices.record import Found, end_notice, open_notice
from app.notices.tables import NoticeRow, Watched
from app.policies.tables import ExportRule

MOST_LOOKS = 60
"""So many suspicions are looked at closer in one run, the largest first: one release may close forty things at once."""
MOST_NEW = 10
"""So many notices one run opens."""
MOST_GROUPS = 50
MOST_NAMES = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """From when on something is told: so many users and so many per cent of those who had it, on so many hosts.

    `days`: for how long the best counts are kept.
    """

    users: int = 10
    share: int = 5
    hosts: int = 5
    days: int = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Fallen:
    """Something that fell from its best by `users`."""

    key: Key
    users: int
    best: Count
    now: Count
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchRun:
    """What one run did."""

    watched: int
    opened: int
    ended: int
    left_out: int


def watch_fleet(
    connection: Connection,
    at: datetime,
    thresholds: Thresholds,
    remembered: Remembered,
    *,
    ways: Collection[str] = (),
) -> WatchRun:
    """Looks once. Commits."""
    with Session(connection, expire_on_commit=False) as session:
        counts = read_counts(session, remembered)
        best = {Key(row.group_id, row.what, row.name): row for row in session.scalars(select(Watched)).all()}
        fallen = _fallen(counts, best, at, thresholds)
        running = _open_rows(session)
        ended = _follow(session, running, counts, at, ways)
        opened, left_out, told = _tell_new(session, fallen, at, thresholds, remembered, ways)
        _keep_best(session, counts, best, at, thresholds, told)
        opened += _watch_sharing(session, running, at, ways)
        session.commit()
    return WatchRun(watched=len(counts), opened=opened, ended=ended, left_out=left_out)


def fell_by(best: Count, now: Count) -> int:
    """For how many users it went from open to closed: what closed more, as far as something opened less.

    >>> fell_by(Count(100, 5), Count(60, 45)), fell_by(Count(100, 5), Count(100, 45)), fell_by(Count(9, 0), Count(2, 0))
    (40, 0, 0)
    """
    return max(0, min(now.closed - best.closed, best.open - now.open))


def _fallen(
    counts: Mapping[Key, Count], best: Mapping[Key, Watched], at: datetime, thresholds: Thresholds
) -> list[Fallen]:
    found = []
    for key, row in best.items():
        was, is_now = Count(row.most_open, row.fewest_closed), counts.get(key, Count(0, 0))
        users = fell_by(was, is_now)
        if users >= thresholds.users and users * 100 >= thresholds.share * (was.open + was.closed):
            found.append(Fallen(key=key, users=users, best=was, now=is_now, since=min(row.since_at, at)))
    return sorted(found, key=lambda one: (-one.users, one.key))


def _keep_best(
    session: Session,
    counts: Mapping[Key, Count],
    best: Mapping[Key, Watched],
    at: datetime,
    thresholds: Thresholds,
    told: Collection[Key],
) -> None:
    """Counts that are better than before are kept; what was told, or is old, begins anew from now."""
    new: list[dict[str, Any]] = []
    for key, count in counts.items():
        row = best.get(key)
        if row is None:
            new.append({**key._asdict(), "since_at": at, "most_open": count.open, "fewest_closed": count.closed})
        elif key in told or row.since_at < at - timedelta(days=thresholds.days):
            row.since_at, row.most_open, row.fewest_closed = at, count.open, count.closed
        else:
            row.most_open = max(row.most_open, count.open)
            row.fewest_closed = min(row.fewest_closed, count.closed)
    session.flush()
    for begin in range(0, len(new), 500):
        session.execute(insert(Watched), new[begin : begin + 500])
    gone = sorted(key for key, row in best.items() if key not in counts and row.since_at < at - timedelta(days=90))
    for begin in range(0, len(gone), 300):
        session.execute(
            delete(Watched).where(
                tuple_(Watched.group_id, Watched.what, Watched.name).in_(
                    [tuple(key) for key in gone[begin : begin + 300]]
                )
            )
        )


def _open_rows(session: Session) -> dict[str, NoticeRow]:
    rows = session.scalars(select(NoticeRow).where(NoticeRow.ended_at.is_(None)).order_by(NoticeRow.id)).all()
    return {row.key: row for row in rows}


def _follow(
    session: Session, running: Mapping[str, NoticeRow], counts: Mapping[Key, Count], at: datetime, ways: Collection[str]
) -> int:
    """Ends what is over: at least half of those for whom it closed have it back."""
    ended = 0
    for row in running.values():
        watched = row.detail.get("watched", ())
        if not watched:
            continue
        still = 0
        for group_id, what, name, was_open, was_closed, _users in watched:
            count = counts.get(Key(group_id, what, name), Count(0, 0))
            still += fell_by(Count(was_open, was_closed), count)
        if still * 2 < sum(users for *_, users in watched):
            end_notice(session, row, at, ways=ways)
            ended += 1
    return ended


def _tell_new(
    session: Session,
    fallen: Sequence[Fallen],
    at: datetime,
    thresholds: Thresholds,
    remembered: Remembered,
    ways: Collection[str],
) -> tuple[int, int, set[Key]]:
    """Opens notices: how many, how many were left out, and what was told."""
    certain: list[tuple[Fallen, Evidence]] = []
    for one in fallen[:MOST_LOOKS]:
        evidence = look_closer(session, one.key, one.since, remembered)
        if evidence.hosts >= thresholds.hosts:
            certain.append((one, evidence))
    groups = read_group_names(session) if certain else {}
    opened, told = 0, set[Key]()
    left_out = max(0, len(fallen) - MOST_LOOKS)
    for found, keys in _gathered(session, certain, groups, remembered):
        row = None if opened >= MOST_NEW else _open(session, found, at, ways)
        if row is None:
            left_out += 1
            continue
        told |= keys
        opened += row.opened_at == at
    if left_out:
        open_notice(
            session,
            Found(
                kind="more",
                key=f"more:{at.date().isoformat()}",
                title=f"More got worse than is told one by one: {left_out} further things, look at the overview",
                users=max(one.users for one in fallen),
                detail={"count": left_out},
            ),
            at,
            ways=ways,
        )
    return opened, left_out, told


def _open(session: Session, found: Found, at: datetime, ways: Collection[str]) -> NoticeRow | None:
    """Opens it; where one of its key is open, what was told of other groups stays in it."""
    row = session.scalar(
        select(NoticeRow).where(NoticeRow.key == found.key, NoticeRow.ended_at.is_(None)).order_by(NoticeRow.id.desc())
    )
    if row is None:
        return open_notice(session, found, at, ways=ways)
    before = {tuple(one[:3]): one for one in row.detail.get("watched", ())}
    for one in found.detail["watched"]:
        # Measured from where it was before it fell the first time.
        old = before.get(tuple(one[:3]))
        before[tuple(one[:3])] = one if old is None else [*old[:5], old[5] + one[5]]
    by_group = {group["id"]: group for group in (*row.detail.get("groups", ()), *found.detail.get("groups", ()))}
    # Of what was not told before all users are counted, also those whom something else that closed was told for.
    for group_id, group in by_group.items():
        by_group[group_id] = {**group, "users": max(one[5] for one in before.values() if one[0] == group_id)}
    lists = {
        name: sorted({*row.detail.get(name, ()), *found.detail[name]})[:MOST_NAMES]
        for name in ("workflows", "patterns", "rules")
        if name in found.detail
    }
    merged = {
        **found.detail,
        **lists,
        "watched": list(before.values()),
        "groups": list(by_group.values())[:MOST_GROUPS],
    }
    users = max(row.users, found.users, sum(group["users"] for group in merged["groups"]))
    title = found.title.replace(_plural(found.users, "user"), _plural(users, "user"), 1)
    return open_notice(
        session, Found(kind=found.kind, key=found.key, title=title, users=users, detail=merged), at, ways=ways
    )


def _gathered(
    session: Session,
    certain: Sequence[tuple[Fallen, Evidence]],
    groups: Mapping[int, str],
    remembered: Remembered,
) -> Iterable[tuple[Found, set[Key]]]:
    """One notice for each cause, however many patterns and groups it closes; one for the rules of each export."""
    by_cause: dict[str, list[tuple[Fallen, Evidence]]] = defaultdict(list)
    for one, evidence in certain:
        if one.key.what != "rule":
            by_cause[cause_of(evidence)].append((one, evidence))
    for cause, some in by_cause.items():
        yield _regression(cause, some, groups), {one.key for one, _ in some}
    rules = [(one, evidence) for one, evidence in certain if one.key.what == "rule"]
    yield from _gathered_rules(session, rules, remembered)


def cause_of(evidence: Evidence) -> str:
    """What changed for most of those looked at; `various` where it is of one kind and not the same for most."""
    for change in evidence.changes:
        if change.users * 2 >= evidence.users and change.what in ("policy", "uv", "agent", "catalogue"):
            return f"{change.what}:{change.before}:{change.after}"[:100]
    for what, users in evidence.kinds:
        if users * 2 >= evidence.users:
            return f"{what}:various"
    return "unknown"


_CAUSES = {
    "policy": "the policy in force changed",
    "uv": "uv’s version changed",
    "agent": "the agent’s version changed",
    "catalogue": "the agent’s catalogue changed",
    "environment": "where uv keeps things changed",
    "token": "the groups in their tokens changed",
}


def _regression(cause: str, some: Sequence[tuple[Fallen, Evidence]], groups: Mapping[int, str]) -> Found:
    catalogue = load_catalogue()
    workflows = sorted({one.key.name for one, _ in some if one.key.what == "workflow"})
    commands = list(dict.fromkeys(catalogue.workflow(name).command for name in workflows))
    patterns = sorted({one.key.name for one, _ in some if one.key.what == "pattern"})
    by_group: dict[int, Fallen] = {}
    for one, _ in some:
        known = by_group.get(one.key.group_id)
        if known is None or one.users > known.users:
            by_group[one.key.group_id] = one
    users = sum(one.users for one in by_group.values())
    names = commands or patterns
    more = [f"{len(names) - 3} more"] if len(names) > 3 else []
    parts = [*names[:3], *more]
    shown = parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
    verb, they = ("is", "it") if len(names) == 1 else ("are", "they")
    past = f"{they} worked" if commands else f"{they} {'was' if they == 'it' else 'were'} open"
    why = _CAUSES.get(cause.partition(":")[0])
    return Found(
        kind="regression",
        key=f"regression:{cause}",
        title=f"{shown} {verb} blocked for {_plural(users, 'user')} for whom {past}{f': {why}' if why else ''}",
        users=users,
        detail={
            "workflows": workflows,
            "patterns": patterns,
            "groups": [
                {
                    "id": number,
                    "name": groups.get(number, f"group {number}"),
                    "users": one.users,
                    "closed": one.now.closed,
                    "of": one.now.open + one.now.closed,
                }
                for number, one in sorted(by_group.items(), key=lambda item: -item[1].users)
            ][:MOST_GROUPS],
            "evidence": max((evidence for _, evidence in some), key=lambda one: one.users).to_json(),
            "watched": [_as_watched(one) for one, _ in some],
        },
    )


def _as_watched(one: Fallen) -> list[Any]:
    return [*one.key, one.best.open, one.best.closed, one.users]


def _gathered_rules(
    session: Session, certain: Sequence[tuple[Fallen, Evidence]], remembered: Remembered
) -> Iterable[tuple[Found, set[Key]]]:
    """One notice for what vanished of each export, and one for what does something else under its id."""
    if not certain:
        return
    changed_for = _users_of_changed(session, remembered)
    newest: dict[str, int] = {}
    for rule_id, export_id in session.execute(
        select(ExportRule.rule_id, ExportRule.export_id)
        .where(ExportRule.rule_id.in_([one.key.name for one, _ in certain]))
        .order_by(ExportRule.export_id)
    ):
        newest[rule_id] = export_id
    by_export: dict[tuple[int, bool], list[tuple[Fallen, Evidence]]] = defaultdict(list)
    for one, evidence in certain:
        is_changed = changed_for.get(one.key.name, 0) * 2 >= one.users
        by_export[newest[one.key.name], is_changed].append((one, evidence))
    for (export_id, is_changed), some in by_export.items():
        rules = "A rule" if len(some) == 1 else f"{len(some)} rules"
        users = max(one.users for one, _ in some)
        told = (
            f"{rules} of export {export_id} {'does' if len(some) == 1 else 'do'} something else under the same id in "
            f"the policy in force of {_plural(users, 'user')}"
            if is_changed
            else f"{rules} of export {export_id} vanished from the policy in force of {_plural(users, 'user')}"
        )
        found = Found(
            kind="rules-changed" if is_changed else "rules-gone",
            key=f"rules-changed:{export_id}" if is_changed else f"rules:{export_id}",
            title=told,
            users=users,
            detail={
                "export": export_id,
                "rules": [one.key.name for one, _ in some][:50],
                "evidence": max((evidence for _, evidence in some), key=lambda one: one.users).to_json(),
                "watched": [_as_watched(one) for one, _ in some],
            },
        )
        yield found, {one.key for one, _ in some}


def _users_of_changed(session: Session, remembered: Remembered) -> dict[str, int]:
    """For how many counted users an id does something else than was exported."""
    found: dict[str, int] = defaultdict(int)
    if remembered.changed:
        for set_id, users in policy_users(session).items():
            for rule_id in remembered.changed.get(set_id, ()):
                found[rule_id] += users
    return found


def _watch_sharing(session: Session, running: Mapping[str, NoticeRow], at: datetime, ways: Collection[str]) -> int:
    """Facts that hardly anybody shares any more, as they were measured last."""
    measured = find_sharing(session)
    failing = {one.kind: one for one in measured.failing} if measured else {}
    opened = 0
    for kind, one in failing.items():
        found = Found(
            kind="sharing",
            key=f"sharing:{kind}",
            title=f"Hardly anybody shares facts about {kind}: {one.sets:,} distinct sets for {one.users:,} users",
            users=one.users,
            detail={"what": "sharing", "name": kind, "sets": one.sets},
        )
        row = open_notice(session, found, at, ways=ways)
        opened += row is not None and row.opened_at == at
    for key, row in running.items():
        if key.startswith("sharing:") and key.removeprefix("sharing:") not in failing:
            end_notice(session, row, at, ways=ways)
    return opened


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
