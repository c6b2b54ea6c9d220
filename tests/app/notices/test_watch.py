"""What got worse is noticed once, with what changed; what a few hosts make up is not."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy import Engine, event, select

from agent.catalogue import load
from agent.contract.facts import FoundUv, PolicySet, UvSet
from app.applocker.write import render_rule
from app.audit.tables import AuditEntry
from app.db.session import session_scope
from app.db.tables import put_setting
from app.fleet.sharing import SETTING
from app.notices.record import MOST_A_DAY, Found, open_notice
from app.notices.tables import NoticeSend
from app.notices.watch import Thresholds, watch_fleet
from app.policies.export import plan_export
from app.policies.record_export import record_export

SID = "S-1-5-21-1004336348-1177238915-682003330-1234"


def test_what_closes_for_many_is_told_with_what_changed(world: Any) -> None:
    ids = world.add(30)
    world.add(30, group="Finance")
    assert world.watch().watched > 50
    assert world.notices() == []
    world.at += timedelta(hours=1)
    world.turn(ids[:20], world.policy("<a/>"))
    world.at += timedelta(hours=2)
    world.turn(ids[:20], world.probes("venv-python"))
    looked_up: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if "FROM transition" in statement or "FROM host " in statement:
            looked_up.append(statement)

    event.listen(world.engine, "before_cursor_execute", note)
    run = world.watch("webhook", "email")
    event.remove(world.engine, "before_cursor_execute", note)
    assert looked_up
    assert all(".bucket IN" in one for one in looked_up), "a cluster asks those nodes alone that have them"
    assert run.opened == 1
    (notice,) = world.notices()
    assert notice.kind == "regression"
    assert notice.users == 20
    assert notice.title.startswith("uv run")
    assert notice.title.endswith("are blocked for 20 users for whom they worked: the policy in force changed")
    assert notice.detail["patterns"] == ["venv-python"]
    assert "sync-wheels" in notice.detail["workflows"]
    (group,) = notice.detail["groups"]
    assert (group["name"], group["users"], group["closed"], group["of"]) == ("Sales", 20, 20, 30)
    evidence = notice.detail["evidence"]
    assert (evidence["users"], evidence["hosts"]) == (20, 20)
    (change,) = evidence["changes"]
    assert (change["what"], change["users"]) == ("policy", 20)
    assert change["before_id"] != change["after_id"]
    with session_scope(world.engine, writes=False) as session:
        assert sorted(session.scalars(select(NoticeSend.way))) == ["email", "webhook"]
        assert session.scalars(select(AuditEntry.action).where(AuditEntry.action.startswith("notice."))).all() == [
            "notice.opened"
        ]


def test_it_is_told_once_follows_and_ends(world: Any) -> None:
    ids = world.add(60)
    world.watch()
    world.turn(ids[:20], world.probes("tool-bin-exe"), world.uv("0.14.0"))
    assert world.watch("webhook").opened == 1
    assert world.watch("webhook").opened == 0
    world.turn(ids[20:40], world.probes("tool-bin-exe"), world.uv("0.14.0"))
    assert world.watch("webhook").opened == 0
    (notice,) = world.notices()
    assert notice.users == 40
    assert "40 users" in notice.title
    assert notice.key.startswith("regression:uv:0.13.8:0.14.0")
    world.turn(ids[:15], world.probes())
    assert world.watch("webhook").ended == 0
    world.turn(ids[15:30], world.probes())
    assert world.watch("webhook").ended == 1
    # What comes again within a day is the same notice, and nobody is told twice.
    world.turn(ids[:30], world.uv("0.13.8"))
    world.at += timedelta(minutes=1)
    world.turn(ids[:30], world.probes("tool-bin-exe"), world.uv("0.14.0"))
    world.watch("webhook")
    (again,) = world.notices()
    assert (again.id, again.times, again.ended_at) == (notice.id, 2, None)
    with session_scope(world.engine, writes=False) as session:
        events = session.execute(
            select(NoticeSend.event).where(NoticeSend.notice_id == notice.id).order_by(NoticeSend.event)
        )
        assert list(events.scalars()) == ["ended", "opened"]


def test_users_are_not_counted_again_for_what_was_not_told_before(world: Any) -> None:
    ids = world.add(60)
    world.watch()
    many = tuple(pattern.id for pattern in load().patterns if pattern.is_executed)
    world.turn(ids[:20], world.probes(*many[:1]), world.uv("0.14.0"))
    world.watch()
    world.turn(ids[:40], world.probes(*many), world.uv("0.14.0"))
    world.watch()
    world.turn(ids[40:55], world.probes(*many), world.uv("0.14.0"))
    world.watch()
    regressions = [one for one in world.notices() if one.kind == "regression"]
    assert [one.users for one in regressions] == [55], "of 60 users 55 lost something, some more than once"
    assert "55 users" in regressions[0].title
    assert [group["users"] for group in regressions[0].detail["groups"]] == [55]


def test_few_users_new_users_and_few_hosts_are_none(world: Any) -> None:
    ids = world.add(40)
    shared = world.add(40, group="Terminal servers", hosts=3)
    world.watch()
    world.turn(ids[:9], world.probes("venv-python"))
    assert world.watch().opened == 0, "fewer than ten users"
    world.add(200, closed=("venv-python",))
    assert world.watch().opened == 0, "they never had it"
    world.turn(shared, world.probes("venv-python"))
    assert world.watch().opened == 0, "three hosts can say what they like"
    assert world.watch(hosts=3).opened == 1


def test_a_share_of_a_large_group_is_asked(world: Any) -> None:
    ids = world.add(300)
    world.watch()
    world.turn(ids[:12], world.probes("venv-python"))
    assert world.watch().opened == 0, "12 of 300 are fewer than 5 %"
    assert world.watch(share=4).opened == 1


def test_a_slow_change_is_noticed_within_the_days_watched(world: Any) -> None:
    ids = world.add(40)
    world.watch()
    for begin in range(0, 12, 4):
        world.turn(ids[begin : begin + 4], world.probes("venv-python"))
        world.watch(later=timedelta(days=1))
    assert len(world.notices()) == 1


def test_rules_that_vanish_are_told_by_export(world: Any) -> None:
    export = plan_export(["venv-python=path", "tool-bin-exe=path"], SID)
    with session_scope(world.engine) as session:
        export_id = record_export(session, export).id
    texts = tuple(render_rule(rule.rule) for rule in export.rules)
    ids = world.add(30)
    world.turn(ids, world.policy(*texts))
    world.watch()
    world.turn(ids[:20], world.policy())
    assert world.watch().opened == 1
    (notice,) = world.notices()
    assert notice.kind == "rules-gone"
    assert notice.title == (
        f"{len(export.rules)} rules of export {export_id} vanished from the policy in force of 20 users"
    )
    assert set(notice.detail["rules"]) == {rule.id for rule in export.rules}
    assert notice.detail["evidence"]["changes"][0]["what"] == "policy"
    world.turn(ids[:20], world.policy(*texts))
    assert world.watch().ended == 1


def test_a_rule_that_does_something_else_under_its_id_is_told_as_that(world: Any) -> None:
    export = plan_export(["venv-python=path", "tool-bin-exe=path"], SID)
    with session_scope(world.engine) as session:
        export_id = record_export(session, export).id
    texts = tuple(render_rule(rule.rule) for rule in export.rules)
    ids = world.add(30)
    world.turn(ids, world.policy(*texts))
    world.watch()
    wider = texts[0].replace('Path="', 'Path="*')
    assert wider != texts[0]
    world.turn(ids[:20], world.policy(wider, *texts[1:]))
    assert world.watch().opened == 1
    (notice,) = world.notices()
    assert notice.kind == "rules-changed"
    assert notice.title == (
        f"A rule of export {export_id} does something else under the same id in the policy in force of 20 users"
    )
    assert notice.detail["rules"] == [export.rules[0].id]
    world.turn(ids[:20], world.policy(*texts))
    assert world.watch().ended == 1


def test_a_policy_that_became_unreadable_is_no_rule_that_vanished(world: Any) -> None:
    export = plan_export(["venv-python=path"], SID)
    with session_scope(world.engine) as session:
        record_export(session, export)
    ids = world.add(30)
    world.turn(ids, world.policy(*(render_rule(rule.rule) for rule in export.rules)))
    world.watch()
    world.turn(ids, PolicySet(collections=None))
    assert world.watch().opened == 0


def test_failing_sharing_is_a_notice_and_ends(world: Any) -> None:
    world.add(1)
    with session_scope(world.engine) as session:
        put_setting(session, SETTING, '{"at": 0, "kinds": {"token": [900, 1000]}}')
    assert world.watch("email").opened == 1
    assert world.watch("email").opened == 0
    (notice,) = world.notices()
    assert notice.title == "Hardly anybody shares facts about token: 900 distinct sets for 1,000 users"
    with session_scope(world.engine) as session:
        put_setting(session, SETTING, '{"at": 0, "kinds": {"token": [9, 1000]}}')
    world.watch()
    assert world.notices()[0].ended_at is not None


def test_reports_cannot_flood(world: Any) -> None:
    """However many things are made up, notices a day are bounded, and one says that there were more."""
    ids = world.add(30)
    world.watch()
    with session_scope(world.engine) as session:
        for number in range(MOST_A_DAY):
            open_notice(session, Found(kind="regression", key=f"x{number}", title="x", users=1, detail={}), world.at)
    world.turn(ids, world.probes("venv-python"))
    run = world.watch()
    assert (run.opened, run.left_out) == (0, 1)
    assert [row.kind for row in world.notices()][-1] == "more"
    world.watch()
    assert len(world.notices()) == MOST_A_DAY + 1


def test_every_host_with_a_policy_of_its_own_is_one_notice(world: Any) -> None:
    ids = world.add(30)
    world.watch()
    for number, one in enumerate(ids):
        world.turn([one], world.policy(f"<a n='{number}'/>"), world.probes("venv-python", "tool-bin-exe"))
    world.watch()
    (notice,) = world.notices()
    assert notice.key == "regression:policy:various"


def test_names_that_hosts_report_stay_text(world: Any) -> None:
    ids = world.add(30)
    world.watch()
    odd = UvSet(found=(FoundUv(path="x", pattern=None, version="<b>9\u202e"),), preferred="x")
    world.turn(ids, world.probes("venv-python"), odd)
    world.watch()
    (notice,) = world.notices()
    assert "<b>" not in notice.title


def test_statements_do_not_grow_with_hosts(world: Any, database: Engine) -> None:
    def count() -> int:
        world.fold()
        seen: list[str] = []

        def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
            seen.append(statement)

        event.listen(database, "before_cursor_execute", note)
        with database.connect() as connection:
            watch_fleet(connection, world.at, Thresholds(), world.remembered)
        event.remove(database, "before_cursor_execute", note)
        return len(seen)

    world.add(30)
    world.watch()
    small = count()
    world.add(100)
    assert count() <= small + 1
    assert small <= 12
