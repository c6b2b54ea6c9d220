"""How many hosts run which version of the agent. Counted once an hour, by group: no tally knows it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, func, insert, select
from sqlalchemy.orm import Session

from app.fleet.standing import HostState
from app.fleet.tables import AgentVersionCount, Host
from app.fleet.versions import version_key


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentVersion:
    """One version and its active hosts ('': none has reported yet)."""

    version: str
    hosts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentVersions:
    """The versions in use, the newest first, as of the last hourly count (None: nothing was counted yet)."""

    versions: tuple[AgentVersion, ...]
    hosts: int
    counted_at: datetime | None


def count_agent_versions(connection: Connection, at: datetime) -> int:
    """Counts anew; how many versions there are. Commits. Reads all hosts, and only then writes."""
    with connection.begin():
        rows = connection.execute(
            select(Host.group_id, Host.agent_version, func.count())
            .where(Host.state == HostState.ACTIVE.value)
            .group_by(Host.group_id, Host.agent_version)
        ).all()
    counted = [
        {"group_id": group_id, "version": version, "hosts": hosts, "counted_at": at}
        for group_id, version, hosts in rows
    ]
    with connection.begin():
        connection.execute(delete(AgentVersionCount))
        if counted:
            connection.execute(insert(AgentVersionCount), counted)
    return len({version for _, version, _ in rows})


def read_agent_versions(session: Session, group_id: int | None = None) -> AgentVersions:
    """Of the fleet or of one group."""
    counted_at = func.max(AgentVersionCount.counted_at, type_=AgentVersionCount.counted_at.type)
    query = select(AgentVersionCount.version, func.sum(AgentVersionCount.hosts), counted_at)
    if group_id is not None:
        query = query.where(AgentVersionCount.group_id == group_id)
    rows = session.execute(query.group_by(AgentVersionCount.version)).all()
    versions = [AgentVersion(version=version, hosts=int(hosts)) for version, hosts, _ in rows]
    return AgentVersions(
        versions=tuple(sorted(versions, key=lambda one: version_key(one.version), reverse=True)),
        hosts=sum(one.hosts for one in versions),
        counted_at=max((at for *_, at in rows), default=None),
    )
