"""What a relocation would do to a fleet: distinct environments judged once, counted as subject by subject."""

from __future__ import annotations

import json
from collections import Counter

from sqlalchemy import Engine, event, select

from app.db.session import session_scope
from app.fleet.make import make_fleet
from app.fleet.standing import Standing
from app.fleet.tables import FactSet, Subject
from app.relocation.choices import Relocation, checked_relocation
from app.relocation.plan import plan_relocation
from app.relocation.whatif import judge_root, same_form, simulate_relocation

PLAN = plan_relocation(checked_relocation(cache=r"D:\uv-cache\%USERNAME%"), sid="S-1-5-32-545")


def test_one_environment() -> None:
    choice = Relocation(cache=r"D:\uv-cache\%USERNAME%")
    default = {"answers": {"python_dir": r"%APPDATA%\uv\python", "cache_dir": r"%LOCALAPPDATA%\uv\cache"}}
    assert judge_root(default, "python", choice) == ("moved", r"%APPDATA%\uv\python")
    assert judge_root(default, "cache", choice)[0] == "moved"
    assert judge_root(default, "cache", Relocation())[0] == "there"
    assert judge_root(default, "tools", choice) == ("unknown", None)
    there = {
        "variables": {"uv_python_install_dir": r"%ProgramFiles%\uv\python"},
        "answers": {"cache_dir": r"D:\UV-cache\*"},
    }
    assert judge_root(there, "python", choice)[0] == "there"
    assert judge_root(there, "cache", choice)[0] == "there"
    assert judge_root({"answers": {"tool_dir": r"E:\tools"}}, "tools", choice) == ("differs", r"E:\tools")
    assert same_form(r"%OSDRIVE%\Users\*\AppData\Local\uv\cache") == same_form(r"%LOCALAPPDATA%\uv\cache")


def test_the_fleet_is_counted_from_distinct_environments(database: Engine) -> None:
    make_fleet(database, 300, seed=3, profile="diverse")
    seen: list[str] = []
    event.listen(database, "before_cursor_execute", lambda *args: seen.append(args[2]))
    with session_scope(database, writes=False) as session:
        found = simulate_relocation(session, PLAN)
        assert len([one for one in seen if one.startswith("SELECT")]) == 2
        rows = session.execute(
            select(FactSet.body)
            .join(Subject, Subject.environment_id == FactSet.id)
            .where(Subject.standing.in_([Standing.COUNTED, Standing.ADMINISTRATOR, Standing.NOT_ENFORCING]))
        ).all()
    bodies = [json.loads(body) for (body,) in rows]
    assert found.users == len(bodies) > 200
    assert 1 < found.environments <= 20
    for root in found.roots:
        expected = Counter(judge_root(body, root.root, PLAN.choice)[0] for body in bodies)
        assert (root.there, root.moved, root.differs, root.unknown) == tuple(
            expected[name] for name in ("there", "moved", "differs", "unknown")
        )
        assert sum(old.users for old in root.orphaned) <= root.moved + root.differs
    by_root = {one.root: one for one in found.roots}
    assert by_root["python"].moved == found.users
    assert by_root["cache"].differs > 0
    assert [(one.name, one.versions) for one in found.ignored] == [("UV_PYTHON_INSTALL_REGISTRY", ("0.7.12",))]


def test_an_empty_fleet(database: Engine) -> None:
    with session_scope(database, writes=False) as session:
        found = simulate_relocation(session, PLAN)
    assert (found.users, found.ignored, found.is_known) == (0, (), False)
