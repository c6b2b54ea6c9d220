"""What became of an export: for whom its patterns are open, why they are still blocked, and on which hosts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, event, select
from sqlalchemy.orm import Session

from agent.contract.facts import (
    CollectionInForce,
    EnvironmentSet,
    Method,
    Outcome,
    PolicySet,
    Probe,
    ProbeSet,
    Specimen,
    TokenSet,
)
from agent.contract.facts import Engine as Blocker
from app.applocker.write import render_rule
from app.db.session import session_scope
from app.errors import InvalidError
from app.fleet.tables import Host, Subject
from app.policies.after import read_after
from app.policies.after_hosts import STAGES, STATES, AfterFilter, _bits_of_tokens, _fits, list_hosts_after
from app.policies.after_judge import AfterJudge, Because, Reason
from app.policies.export import Export, plan_export
from app.policies.record_export import record_export

MakeFleet = Callable[[Session], Any]
PATTERNS = ["managed-python-exe", "venv-python"]
DENY = (
    '<FilePathRule Id="921cc481-6e17-4653-8f75-050b80acca29" Name="No profiles" Description="" '
    'UserOrGroupSid="S-1-1-0" Action="Deny"><Conditions><FilePathCondition Path="%OSDRIVE%\\Users\\*"/></Conditions>'
    "</FilePathRule>"
)


@pytest.fixture
def session(database: Engine) -> Iterator[Session]:
    with session_scope(database) as session:
        yield session


def policy(export: Export, *more: str, rules: int | None = None, **values: Any) -> PolicySet:
    texts = tuple(render_rule(rule.rule) for rule in export.rules[:rules])
    return PolicySet(collections={"Exe": CollectionInForce(mode="1", rules=(*texts, *more))}, **values)


def probes(outcome: Outcome, engine: Blocker | None = None) -> ProbeSet:
    return ProbeSet(
        catalogue="x",
        probes=tuple(
            Probe(pattern=name, specimen=Specimen.CANARY, method=Method.START, outcome=outcome, engine=engine)
            for name in PATTERNS
        ),
    )


@pytest.fixture
def told(session: Session, make_fleet: MakeFleet, developers: str) -> Any:
    """An export by path, and one user for each way in which it can end; three for whom it is open."""
    export = plan_export([f"{name}=path" for name in PATTERNS], developers)
    kept = record_export(session, export)
    fleet = make_fleet(session)
    member, stranger = TokenSet(sids=("S-1-1-0", developers)), TokenSet(sids=("S-1-1-0",))
    opened, closed = probes(Outcome.ALLOWED), probes(Outcome.BLOCKED, Blocker.APPLOCKER)
    for _ in range(3):
        fleet.add(policy(export), opened, member)  # PC-1 to PC-3
    fleet.add(policy(export), probes(Outcome.BLOCKED, Blocker.WDAC), member)  # 4
    fleet.add(policy(export, DENY), closed, member)  # 5
    fleet.add(policy(export), closed, stranger)  # 6
    fleet.add(policy(export, rules=0), closed, member)  # 7
    fleet.add(policy(export, rules=1), closed, member)  # 8
    fleet.add(PolicySet(collections=None), closed, member)  # 9
    fleet.add(policy(export, csp="present-unreadable"), closed, member)  # 10
    fleet.add(policy(export, service_disabled=True), closed, member)  # 11
    fleet.add(policy(export), closed, member)  # 12
    fleet.add(policy(export), None, member, group="Pilot")  # 13
    fleet.export_id = kept.id
    return fleet


def test_each_reason_is_found(session: Session, told: Any, developers: str) -> None:
    after = read_after(session, told.export_id)
    assert (after.base, after.open, after.blocked, after.untold) == (13, 3, 9, 1)
    assert (after.arrived, after.arrived_open, after.arrived_blocked, after.arrived_untold) == (10, 3, 6, 1)
    found = {one.because: one.users for one in after.reasons}
    assert found == {
        Because(Reason.NOT_ARRIVED): 2,
        Because(Reason.OTHER_ENGINE, "wdac"): 1,
        Because(Reason.DENY_RULE, "No profiles"): 1,
        Because(Reason.NOT_IN_GROUP, developers): 1,
        Because(Reason.UNREADABLE): 1,
        Because(Reason.INTUNE): 1,
        Because(Reason.SERVICE): 1,
        Because(Reason.OTHER_FILE, "path"): 1,
    }
    assert after.service_disabled == 1
    for one in after.patterns:
        assert (one.open, one.blocked, one.untold) == (3, 9, 1)
        assert sum(users for _, users in one.reasons) == 9


def test_folders_that_lie_elsewhere_are_a_reason(session: Session, told: Any, developers: str) -> None:
    """The rules allow it where the folder's name points, and AppLocker sees it on a share."""
    export, member = plan_export([f"{name}=path" for name in PATTERNS], developers), TokenSet(sids=(developers,))
    closed = probes(Outcome.BLOCKED, Blocker.APPLOCKER)
    for place in (r"\\*\*\*\uv\python", r"%OSDRIVE%\Users\*\AppData\Roaming\uv\python"):
        told.add(policy(export), closed, member, environment=EnvironmentSet(roots={"python": place}), group="Roaming")
    (elsewhere, other) = read_after(session, told.export_id, group_id=told.groups["Roaming"]).reasons
    assert (elsewhere.because, elsewhere.users) == (Because(Reason.ELSEWHERE), 1)
    assert elsewhere.patterns == ("managed-python-exe",)
    assert other.because == Because(Reason.OTHER_FILE, "path")
    page = list_hosts_after(session, told.export_id, AfterFilter(reason=Reason.ELSEWHERE))
    assert [one.name for one in page.rows] == ["PC-14"]


def test_a_service_that_does_not_run_is_a_hint(session: Session, told: Any, developers: str) -> None:
    export, member = plan_export([f"{name}=path" for name in PATTERNS], developers), TokenSet(sids=(developers,))
    closed, opened = probes(Outcome.BLOCKED, Blocker.APPLOCKER), probes(Outcome.ALLOWED)
    before = read_after(session, told.export_id)
    assert before.service_stopped == 0
    for word in ("stopped-manual", "stopped-disabled", "running-manual", "unknown", ""):
        told.add(policy(export), closed, member, service=word)
        told.add(policy(export), opened, member, service=word)
    told.add(policy(export), closed, member, service="stopped", group="Pilot")
    after = read_after(session, told.export_id)
    assert after.service_stopped == 3
    assert read_after(session, told.export_id, group_id=told.groups["Pilot"]).service_stopped == 1
    # No reason of its own: what is known of these users stands.
    assert {one.because for one in after.reasons} == {one.because for one in before.reasons}


def test_one_group(session: Session, told: Any) -> None:
    after = read_after(session, told.export_id, group_id=told.groups["Pilot"])
    assert (after.base, after.arrived, after.untold, after.reasons) == (1, 1, 1, ())


@pytest.mark.parametrize(
    ("wanted", "hosts"),
    [
        (AfterFilter(stage="arrived"), {1, 2, 3, 4, 5, 6, 10, 11, 12, 13}),
        (AfterFilter(stage="partly"), {8}),
        (AfterFilter(stage="missing"), {7}),
        (AfterFilter(stage="unreadable"), {9}),
        (AfterFilter(stage="arrived", state="open"), {1, 2, 3}),
        (AfterFilter(stage="arrived", state="blocked"), {4, 5, 6, 10, 11, 12}),
        (AfterFilter(state="untold"), {13}),
        (AfterFilter(state="blocked", pattern="venv-python"), {4, 5, 6, 7, 8, 9, 10, 11, 12}),
        (AfterFilter(reason=Reason.NOT_ARRIVED), {7, 8}),
        (AfterFilter(reason=Reason.DENY_RULE, detail="No profiles"), {5}),
        (AfterFilter(reason=Reason.DENY_RULE, detail="another"), set()),
        (AfterFilter(reason=Reason.NOT_IN_GROUP), {6}),
    ],
)
def test_each_figure_has_its_hosts(session: Session, told: Any, wanted: AfterFilter, hosts: set[int]) -> None:
    page = list_hosts_after(session, told.export_id, wanted)
    assert {one.name for one in page.rows} == {f"PC-{number}" for number in hosts}
    assert page.next_cursor is None


def test_the_list_is_paged(session: Session, told: Any) -> None:
    names, cursor = [], None
    while True:
        page = list_hosts_after(session, told.export_id, AfterFilter(stage="arrived"), cursor, rows=3)
        names += [one.name for one in page.rows]
        if page.next_cursor is None:
            break
        cursor = page.next_cursor
    assert names == sorted(names)
    assert len(names) == len(set(names)) == 10


@pytest.mark.parametrize(("windows", "few"), [((2, 3), 0), ((1, 2), 4), ((2_000, 10_000), 5_000)])
def test_every_list_is_as_if_each_user_was_asked(
    session: Session, told: Any, monkeypatch: pytest.MonkeyPatch, windows: tuple[int, ...], few: int
) -> None:
    """However hosts are found: by what few have, walked a little or far, all on one page or on many."""
    monkeypatch.setattr("app.policies.after_hosts._WINDOWS", windows)
    monkeypatch.setattr("app.policies.after_hosts._FEW_USERS", few)
    member, opened = TokenSet(sids=("S-1-1-0",)), Outcome.ALLOWED
    half = ProbeSet(catalogue="x", probes=(probes(opened).probes[0], probes(Outcome.BLOCKED).probes[1]))
    both = ProbeSet(catalogue="x", probes=(probes(Outcome.BLOCKED, Blocker.WDAC).probes[0], half.probes[1]))
    for one in (half, both, half, probes(opened)):
        told.add(PolicySet(collections={}), one, member, group="Laboratory")
    judge = AfterJudge(session, told.export_id)
    users = session.execute(select(Host.name, Subject).join(Subject, Subject.host_id == Host.id)).all()
    judge.read_probes(user.probes_id for _name, user in users)
    bits = _bits_of_tokens(session, judge, {user.token_id for _name, user in users})
    patterns, groups = (None, *PATTERNS), (None, *told.groups.values())
    asked = [AfterFilter(stage=stage, state=state) for stage in (None, *STAGES) for state in (None, *STATES)]
    asked += [AfterFilter(state=state, pattern=one) for state in STATES for one in PATTERNS]
    asked += [AfterFilter(reason=reason, pattern=one) for reason in Reason for one in patterns]
    asked += [AfterFilter(reason=Reason.OTHER_ENGINE, detail=one) for one in ("wdac", "srp")]
    asked += [AfterFilter(state="blocked", group_id=group) for group in groups]
    listed = 0
    for wanted in asked:
        naive = {
            name
            for name, user in users
            if wanted.group_id in (None, user.group_id)
            and _fits(judge, wanted, user.policy_id, None, user.probes_id, *bits[user.token_id])[0]
        }
        found, cursor = [], None
        while True:
            page = list_hosts_after(session, told.export_id, wanted, cursor, rows=2)
            found += [one.name for one in page.rows]
            cursor = page.next_cursor
            if cursor is None:
                break
        assert sorted(found) == found
        assert sorted(naive) == found, wanted
        listed += len(found)
    assert listed > 100


def test_words_that_there_are_not_are_refused(session: Session, told: Any) -> None:
    for wanted in (AfterFilter(stage="x"), AfterFilter(state="x"), AfterFilter(pattern="tool-bin-exe")):
        with pytest.raises(InvalidError):
            list_hosts_after(session, told.export_id, wanted)


def test_another_file_than_the_hash_names(session: Session, make_fleet: MakeFleet, developers: str, trust: Any) -> None:
    build = trust(1, "python.exe")
    export = plan_export(["venv-python=hash"], developers, baseline=[build])
    kept = record_export(session, export)
    fleet = make_fleet(session)
    fleet.add(policy(export), probes(Outcome.BLOCKED, Blocker.APPLOCKER), TokenSet(sids=("S-1-1-0", developers)))
    (one,) = read_after(session, kept.id).reasons
    assert one.because == Because(Reason.OTHER_FILE, "hash")


def test_statements_do_not_grow_with_hosts(session: Session, told: Any) -> None:
    export = plan_export([f"{name}=path" for name in PATTERNS], "S-1-5-21-1-2-3-4")

    def count() -> int:
        seen: list[str] = []

        def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
            seen.append(statement)

        event.listen(session.get_bind(), "before_cursor_execute", note)
        read_after(session, told.export_id)
        list_hosts_after(session, told.export_id, AfterFilter(state="blocked"))
        event.remove(session.get_bind(), "before_cursor_execute", note)
        return len(seen)

    session.expire_all()
    before = count()
    for _ in range(20):
        told.add(policy(export), probes(Outcome.ALLOWED))
    session.flush()
    session.expire_all()
    assert count() <= before
    assert before <= 18
