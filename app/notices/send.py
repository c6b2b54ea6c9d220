"""Tells of notices by webhook and by e-mail: each at least once, several in one message, tried again for three days."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, func, select, update
from sqlalchemy.orm import Session

from app.audit.deliver import DeliveryError, post_signed
from app.notices.mail import MailWay, send_mail
from app.notices.tables import NoticeRow, NoticeSend
from app.notices.words import change_words

AT_ONCE = 20
"""So many notices in one message."""
BETWEEN_MAILS = timedelta(minutes=5)
FIRST_PAUSE = timedelta(minutes=1)
LONGEST_PAUSE = timedelta(hours=6)
GIVEN_UP_AFTER = timedelta(days=3)
MOST_GROUPS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """Where notices are told besides the page; empty for nowhere. `base_url`: for links to the page."""

    webhook: str = ""
    webhook_key: str = ""
    mail: MailWay | None = None
    base_url: str = ""

    @property
    def ways(self) -> tuple[str, ...]:
        return (*(["webhook"] if self.webhook else []), *(["email"] if self.mail else []))


def send_notices(connection: Connection, at: datetime, to: Told) -> int:
    """Sends what waits, by each way; how many notices were told. Commits.

    raises: DeliveryError after all ways were tried, for the first that took nothing.
    """
    ways: dict[str, Callable[[Sequence[dict[str, Any]]], None]] = {}
    if to.webhook:
        ways["webhook"] = lambda notices: post_signed(to.webhook, to.webhook_key, {"notices": list(notices)})
    mail = to.mail
    if mail is not None:
        ways["email"] = lambda notices: send_mail(mail, _subject(notices), _text(notices, to.base_url))
    sent = 0
    problems = []
    for way, send in ways.items():
        try:
            sent += _send(connection, at, way, send, to.base_url)
        except DeliveryError as error:
            problems.append(error)
    if problems:
        raise problems[0]
    return sent


def _send(
    connection: Connection,
    at: datetime,
    way: str,
    send: Callable[[Sequence[dict[str, Any]]], None],
    base_url: str,
) -> int:
    waits = (NoticeSend.way == way, NoticeSend.sent_at.is_(None), NoticeSend.given_up.is_(False))
    with connection.begin(), Session(connection) as session:
        if way == "email":
            last = session.scalar(select(func.max(NoticeSend.sent_at)).where(NoticeSend.way == way))
            if last is not None and last > at - BETWEEN_MAILS:
                return 0
        rows = session.execute(
            select(NoticeSend, NoticeRow)
            .join(NoticeRow, NoticeRow.id == NoticeSend.notice_id)
            .where(*waits, NoticeSend.next_at <= at)
            .order_by(NoticeSend.notice_id, NoticeSend.event.desc())
            .limit(AT_ONCE)
        ).all()
        messages = [said(notice, waiting.event, base_url) for waiting, notice in rows]
        keys = [(waiting.notice_id, waiting.event, waiting.tries, notice.changed_at) for waiting, notice in rows]
        session.expunge_all()
    if not messages:
        return 0
    try:
        send(messages)
    except DeliveryError as error:
        with connection.begin():
            for notice_id, event, tries, changed_at in keys:
                pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(tries, 10))
                _note(
                    connection,
                    way,
                    notice_id,
                    event,
                    tries=tries + 1,
                    next_at=at + pause,
                    problem=str(error)[:500],
                    given_up=at - changed_at > GIVEN_UP_AFTER,
                )
        raise
    with connection.begin():
        for notice_id, event, tries, _ in keys:
            _note(connection, way, notice_id, event, tries=tries + 1, sent_at=at, problem="")
    return len(messages)


def _note(connection: Connection, way: str, notice_id: int, event: str, **values: object) -> None:
    connection.execute(
        update(NoticeSend)
        .where(NoticeSend.notice_id == notice_id, NoticeSend.way == way, NoticeSend.event == event)
        .values(**values)
    )


def said(row: NoticeRow, event: str, base_url: str) -> dict[str, Any]:
    """A notice as programs hear of it."""
    detail: Mapping[str, Any] = row.detail
    at = row.opened_at if event == "opened" else row.changed_at
    return {
        "id": row.id,
        "event": event,
        "kind": row.kind,
        "key": row.key,
        "title": row.title,
        "users": row.users,
        "at": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "groups": [{"name": one["name"], "users": one["users"], "of": one["of"]} for one in detail.get("groups", ())][
            :MOST_GROUPS
        ],
        "workflows": list(detail.get("workflows", ())),
        "patterns": list(detail.get("patterns", ())),
        "rules": list(detail.get("rules", ())),
        "changes": [change_words(one) for one in detail.get("evidence", {}).get("changes", ())],
        "address": f"{base_url}/notices/{row.id}",
    }


def _subject(notices: Sequence[Mapping[str, Any]]) -> str:
    first = notices[0]
    over = "Over: " if first["event"] == "ended" else ""
    more = f" (and {len(notices) - 1} more)" if len(notices) > 1 else ""
    return f"Wayleave: {over}{first['title']}{more}"


def _text(notices: Sequence[Mapping[str, Any]], base_url: str) -> str:
    parts = []
    for one in notices:
        lines = [("Over: " if one["event"] == "ended" else "") + one["title"]]
        lines += [f"  {group['name']}: {group['users']:,} of {group['of']:,} users" for group in one["groups"]]
        if one["event"] == "opened" and one["changes"]:
            lines += ["  What changed for them shortly before:", *(f"  - {change}" for change in one["changes"])]
        lines.append(f"  {one['address']}")
        parts.append("\n".join(_clean(line) for line in lines))
    return "\n\n".join([*parts, f"All notices: {base_url}/notices"]) + "\n"


def _clean(line: str) -> str:
    """Names of groups and versions come from elsewhere: nothing of them may look like more than a line."""
    return "".join(letter if letter.isprintable() else "?" for letter in line)
