"""Lists of hosts: moved with their counts, tagged and untagged, on both databases; groups made, renamed, deleted."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, func, select

from app.audit.record import Actor
from app.audit.tables import AuditEntry
from app.db.session import session_scope
from app.errors import ConflictError, InvalidError, NotFoundError
from app.fleet.check import check_tallies
from app.fleet.fold import ContributionCache, fold
from app.fleet.forget import forget_host
from app.fleet.groups import create_group, delete_group, make_standard_groups, rename_group
from app.fleet.hosts import MOST_NAMES, find_named_hosts, move_hosts
from app.fleet.make import make_fleet
from app.fleet.queries import list_groups
from app.fleet.tables import Host, HostGroup, HostTag
from app.fleet.tags import drop_tag, list_tags, normal_tag, tag_hosts, tags_of, untag_hosts

ADA = Actor(kind="account", name="ada@example.com")


@pytest.fixture
def made(database: Engine) -> Engine:
    make_fleet(database, 700, seed=4)
    return database


def test_a_list_of_names_moves_with_its_counts(made: Engine) -> None:
    with session_scope(made) as session:
        names = list(session.scalars(select(Host.name).order_by(Host.id).limit(620)))
        hosts = find_named_hosts(session, [*(name.lower() for name in names), " ", "NO-SUCH-PC", names[0]])
        assert (len(hosts.ids), hosts.unknown) == (620, ("no-such-pc",))
        group = create_group(session, "  Pilot   ring ", actor=ADA)
        assert group.name == "Pilot ring"
        assert move_hosts(session, hosts, group.id, actor=ADA) == 620
        group_id = group.id
    with made.connect() as connection:
        while fold(connection, ContributionCache()):
            pass
        assert check_tallies(connection) == []
    with session_scope(made, writes=False) as session:
        pilot = next(one for one in list_groups(session) if one.id == group_id)
        assert pilot.counted + pilot.administrators + pilot.not_enforcing > 550
        entry = session.scalars(select(AuditEntry).where(AuditEntry.action == "hosts.moved")).one()
        assert (entry.target, entry.detail["hosts"]) == ("Pilot ring", 620)


def test_names_are_bounded(made: Engine) -> None:
    with session_scope(made) as session:
        with pytest.raises(InvalidError, match="at least one"):
            find_named_hosts(session, ["", " "])
        with pytest.raises(InvalidError, match="at most 10000"):
            find_named_hosts(session, (f"PC-{n}" for n in range(MOST_NAMES + 1)))


def test_tags_are_given_and_taken(made: Engine) -> None:
    with session_scope(made) as session:
        names = list(session.scalars(select(Host.name).order_by(Host.id).limit(3)))
        hosts = find_named_hosts(session, names)
        assert tag_hosts(session, " Ring  1", hosts, actor=ADA) == 3
        assert tag_hosts(session, "ring 1", hosts, actor=ADA) == 0
        assert tag_hosts(session, "laptop", find_named_hosts(session, names[:1]), actor=ADA) == 1
        assert [(one.tag, one.hosts) for one in list_tags(session)] == [("laptop", 1), ("ring 1", 3)]
        assert tags_of(session, hosts.ids[0]) == ("laptop", "ring 1")
        assert untag_hosts(session, "RING 1", find_named_hosts(session, names[1:2]), actor=ADA) == 1
        assert drop_tag(session, "ring 1", actor=ADA) == 2
        with pytest.raises(NotFoundError):
            drop_tag(session, "ring 1", actor=ADA)
        forget_host(session, hosts.ids[0], actor=ADA)
        assert session.scalar(select(func.count()).select_from(HostTag)) == 0, "a tag goes with its host"


@pytest.mark.parametrize("tag", ["", "   ", "x" * 61, "<script>", "\u202eabc", "a\x00b"])
def test_what_is_no_tag(tag: str) -> None:
    with pytest.raises(InvalidError):
        normal_tag(tag)


def test_groups_are_made_renamed_and_deleted(database: Engine) -> None:
    with session_scope(database) as session:
        default, _linux = make_standard_groups(session)
        lab = create_group(session, "Lab", actor=ADA).id
        with pytest.raises(ConflictError):
            create_group(session, "Lab", actor=ADA)
        with pytest.raises(InvalidError):
            create_group(session, "\n", actor=ADA)
        rename_group(session, lab, "Laboratory", actor=ADA)
        with pytest.raises(ConflictError):
            rename_group(session, lab, "Workstations", actor=ADA)
        with pytest.raises(ConflictError, match="Every installation"):
            delete_group(session, default, actor=ADA)
        delete_group(session, lab, actor=ADA)
        with pytest.raises(NotFoundError):
            delete_group(session, lab, actor=ADA)
        assert session.scalar(select(HostGroup.id).where(HostGroup.name == "Laboratory")) is None
        actions = session.scalars(select(AuditEntry.action).order_by(AuditEntry.id)).all()
    assert actions == ["group.created", "group.renamed", "group.deleted"]


def test_a_group_with_hosts_stays(made: Engine) -> None:
    with session_scope(made) as session:
        finance = session.scalars(select(HostGroup.id).where(HostGroup.name == "Finance")).one()
        with pytest.raises(ConflictError, match="move them first"):
            delete_group(session, finance, actor=ADA)
