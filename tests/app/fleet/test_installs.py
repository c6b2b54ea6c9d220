"""How uv was installed, over the fleet and in a group, on both databases."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, func, select

from app.db.session import session_scope
from app.fleet import installs
from app.fleet.installs import install_kind, read_installs
from app.fleet.make import make_fleet
from app.fleet.standing import Standing
from app.fleet.tables import HostGroup, VersionTally


def test_the_kinds_add_up_to_the_users_with_a_uv(database: Engine) -> None:
    make_fleet(database, 80, seed=2)
    with session_scope(database, writes=False) as session:
        with_uv = select(func.sum(VersionTally.subjects)).where(
            VersionTally.version != "", VersionTally.standing == Standing.COUNTED.value
        )
        found = read_installs(session)
        assert found.base == session.scalar(with_uv) == sum(users for _, users in found.kinds)
        assert {kind for kind, _ in found.kinds} == {"uv-exe-custom-dir"}
        groups = session.scalars(select(HostGroup.id)).all()
        assert sum(read_installs(session, group).base for group in groups) == found.base


def test_only_the_sets_of_most_users_are_read(database: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    make_fleet(database, 80, seed=2)
    with session_scope(database, writes=False) as session:
        whole = read_installs(session)
        monkeypatch.setattr(installs, "MOST_SETS", 1)
        assert 0 < read_installs(session).base < whole.base


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ('{"found":[{"path":"a","pattern":"x"},{"path":"b","pattern":"y"}],"preferred":"b"}', "y"),
        ('{"found":[{"path":"a","pattern":"x"},{"path":"b","pattern":"y"}],"preferred":null}', "x"),
        ('{"found":[{"path":"a","pattern":null}],"preferred":"a"}', ""),
        ('{"found":[],"preferred":null}', None),
    ],
)
def test_which_uv_counts(body: str, kind: str | None) -> None:
    assert install_kind(body) == kind
