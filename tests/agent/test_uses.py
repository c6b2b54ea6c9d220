"""Counting allowed starts by rule and day: only where switched on, nothing lost, nothing doubled, nobody named."""

from __future__ import annotations

import contextlib
import functools
import json
import re
import sys
import tempfile
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent import cycle as cycle_module
from agent import observe
from agent._platform import read_machine_id, read_principal
from agent.canary import WINDOWS_AUTHENTICODE_SHA256
from agent.channels import CHANNELS, USE_CHANNELS, ChannelRead
from agent.contract.messages import RuleUse
from agent.delivery import deliver_over_network
from agent.events import Window
from agent.observe import preview
from agent.options import Options, OptionsError, read_options
from agent.policy import PolicyInForce, RegistryCollection, rule_ids
from agent.spool import Identity, hash_machine, load_pending, load_progress, locked, save_identity
from agent.uses import (
    KEPT_DAYS,
    MAX_RULES,
    Counting,
    choose_uses,
    count_uses,
    record_key,
    remember_told,
    without_use_records,
)
from agent.watch import MAX_EVENTS
from tests.agent.server_double import ServerDouble

EXE, SCRIPT = USE_CHANNELS
NOW = 1_800_000_000.0  # 2027-01-15
TODAY = "2027-01-15"
JANE, JOE = "S-1-5-21-1-2-3-1001", "S-1-5-21-1-2-3-1002"
RULES = tuple(f"{number:08x}-6e17-4653-8f75-050b80acca20" for number in range(600))
RULE = RULES[7]
POLICY = PolicyInForce(
    collections={
        "Exe": RegistryCollection(mode=1, rules=tuple(f'<FilePathRule Id="{rule.upper()}"/>' for rule in RULES[:40]))
    }
)


def event(
    record: int,
    rule: str = RULE,
    *,
    at: str = f"{TODAY}T01:00:00Z",
    user: str = JANE,
    event_id: int = 8002,
    path: str = r"C:\Program Files\Secret Project\app.exe",
    sha256: str = "",
    process_id: int = 1,
) -> str:
    return (
        f"<Event><System><EventID>{event_id}</EventID><TimeCreated SystemTime='{at}'/>"
        f"<EventRecordID>{record}</EventRecordID></System><UserData><RuleAndFileData><TargetUser>{user}</TargetUser>"
        f"<RuleId>{{{rule.upper()}}}</RuleId><FileHash>{sha256}</FileHash><TargetProcessId>{process_id}"
        f"</TargetProcessId><FullFilePath>{path}</FullFilePath></RuleAndFileData></UserData></Event>"
    )


class Log:
    """The EXE channel of one machine; grows, wraps, is cleared, answers as Windows would."""

    def __init__(self, *events: str, error: int = 0) -> None:
        self.records: dict[int, str] = {}
        self.newest = 0
        self.error = error
        self.asked: list[str] = []
        for text in events:
            self.add(text)

    def add(self, text: str) -> None:
        found = re.search(r"<EventRecordID>(\d+)<", text)
        assert found is not None
        self.newest = int(found[1])
        self.records[self.newest] = text

    def put(self, rule: str = RULE, **said: Any) -> None:
        self.add(event(self.newest + 1, rule, **said))

    def __call__(self, channel: str, query: str, limit: int) -> ChannelRead:
        self.asked.append(query)
        if channel != EXE.name:
            return ChannelRead(error=15007)
        if self.error:
            return ChannelRead(error=self.error)
        after = re.search(r"EventRecordID > (\d+)", query)
        assert after is not None
        ids = {int(number) for number in re.findall(r"EventID=(\d+)", query)}
        found = [
            text
            for record, text in sorted(self.records.items())
            if record > int(after[1]) and (not ids or any(f"<EventID>{number}</EventID>" in text for number in ids))
        ]
        return ChannelRead(
            events=tuple(found[:limit]),
            oldest=min(self.records, default=0),
            newest=self.newest,
            is_end=len(found) < limit,
        )


def count(log: Log, before: Counting | None = None, *, now: float = NOW, **said: Any) -> Counting:
    """What is known after counting on from `before`; without it, counting begins at the log's beginning."""
    known = before or Counting(records={record_key(EXE): 0})
    asked = {"rules": rule_ids(POLICY), "windows": {JANE: ()}, "everybody": True, **said}
    return count_uses(log, known.records, known.uses, now=now, **asked)


def test_starts_are_counted_by_rule_and_day_and_nothing_else_is_kept() -> None:
    log = Log(
        event(1),
        event(2, at="2027-01-14T23:59:59.999Z"),
        event(3, at="2027-01-15T00:00:00Z"),
        event(4, RULES[1], user=JOE),
        event(5, event_id=8004),
    )
    counted = count(log)
    assert counted.uses == {f"{RULE} 2027-01-15": 2, f"{RULE} 2027-01-14": 1, f"{RULES[1]} 2027-01-15": 1}
    assert "Secret" not in repr(counted)
    assert "S-1-5" not in repr(counted)


def test_counting_begins_with_what_comes_after_it_was_switched_on() -> None:
    log = Log(event(1), event(2))
    first = count_uses(log, {}, {}, rules=rule_ids(POLICY), windows={}, now=NOW, everybody=True)
    assert (first.uses, first.records[record_key(EXE)]) == ({}, 2)
    log.put()
    assert count(log, first).uses == {f"{RULE} {TODAY}": 1}


def test_counting_that_began_with_an_empty_log_misses_nothing_of_it() -> None:
    log = Log()
    first = count_uses(log, {}, {}, rules=rule_ids(POLICY), windows={}, now=NOW, everybody=True)
    log.put()
    assert count(log, first).uses == {f"{RULE} {TODAY}": 1}


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"sha256": WINDOWS_AUTHENTICODE_SHA256.upper()}, "own probe"),
        ({"process_id": 77, "at": "2027-01-15T07:59:59Z"}, "own probe"),
        ({"path": r"C:\Users\jane\__PSScriptPolicyTest_ab.ps1"}, "PowerShell's own test"),
        ({"rule": RULES[41]}, "allowed by no rule in force"),
        ({"rule": "00000000-0000-0000-0000-000000000000"}, "allowed by no rule in force"),
        ({"at": "2026-12-15T00:00:00Z"}, "allowed, of a day that is too far away"),
        ({"at": "2027-01-17T00:00:00Z"}, "allowed, of a day that is too far away"),
        ({"path": "not a path"}, "unreadable"),
    ],
)
def test_what_is_not_counted_is_left_out_with_its_reason(said: dict[str, Any], reason: str) -> None:
    seconds = datetime(2027, 1, 15, 7, 59, 58, tzinfo=UTC).timestamp()
    windows = {JANE: (Window(begun=seconds, ended=seconds + 2, process_id=77),)}
    counted = count(Log(event(1), event(2, **said)), windows=windows)
    assert counted.uses == {f"{RULE} {TODAY}": 1}
    assert counted.left_out == {reason: 1}


def test_a_users_own_agent_counts_nobody_else() -> None:
    counted = count(Log(event(1), event(2, user=JOE), event(3, user="S-1-5-18")), everybody=False)
    assert counted.uses == {f"{RULE} {TODAY}": 1}
    assert counted.left_out == {"allowed, of another user": 2}


def test_more_rules_than_a_report_holds_are_not_counted() -> None:
    log = Log(*(event(number + 1, rule) for number, rule in enumerate(RULES)), event(601, RULES[0]))
    counted = count(log, rules=frozenset(RULES))
    assert len(counted.uses) == MAX_RULES
    assert counted.uses[f"{RULES[0]} {TODAY}"] == 2
    assert counted.left_out == {"allowed by more rules than are counted": 100}


def test_a_long_log_is_counted_in_several_cycles() -> None:
    log = Log(*(event(number) for number in range(1, MAX_EVENTS + 202)))
    first = count(log)
    assert first.states == {"applocker-exe-uses": "behind"}
    second = count(log, first)
    assert second.states == {"applocker-exe-uses": "read"}
    assert second.uses == {f"{RULE} {TODAY}": MAX_EVENTS + 201}


def test_a_wrapped_log_is_a_gap_that_is_told() -> None:
    before = count(Log(event(1), event(2)))
    wrapped = count(Log(event(9), event(10)), before)
    assert wrapped.uses == {f"{RULE} {TODAY}": 4}
    assert wrapped.states == {"applocker-exe-uses": "overwritten"}
    (finding,) = wrapped.findings
    assert "6 records were overwritten" in finding
    assert "uses of rules are counted too low" in finding


def test_a_cleared_log_is_counted_from_its_new_beginning() -> None:
    before = count(Log(event(70), event(71)))
    cleared = count(Log(event(1)), before)
    assert cleared.uses == {f"{RULE} {TODAY}": 3}
    assert cleared.states == {"applocker-exe-uses": "cleared"}
    assert "was cleared" in cleared.findings[0]


def test_a_log_that_was_cleared_and_grew_past_its_place_is_counted_from_its_new_beginning() -> None:
    before = count(Log(event(1), event(2)))
    later = [event(number, at=f"{TODAY}T05:00:00Z") for number in (1, 2, 3)]
    cleared = count(Log(*later), before)
    assert (cleared.uses, cleared.states) == ({f"{RULE} {TODAY}": 5}, {"applocker-exe-uses": "cleared"})
    same = count(Log(*later), cleared)
    assert (same.uses, same.findings, same.records) == (cleared.uses, (), cleared.records)


@pytest.mark.parametrize("records", [{}, {record_key(EXE): 5}])
def test_without_the_right_to_read_the_cure_is_told_and_the_place_is_kept(records: dict[str, int]) -> None:
    denied = count(Log(error=5), Counting(records=records, uses={f"{RULE} {TODAY}": 3}))
    assert denied.states == {"applocker-exe-uses": "denied"}
    assert "Add-LocalGroupMember -SID S-1-5-32-573" in denied.findings[0]
    assert (denied.records, denied.uses) == (records, {f"{RULE} {TODAY}": 3})


def test_a_machine_without_applocker_says_nothing() -> None:
    assert count(Log(error=15007), Counting()) == Counting()


def test_only_days_that_are_over_are_told_and_again_when_they_grew() -> None:
    uses = {f"{RULE} {TODAY}": 9, f"{RULE} 2027-01-14": 3, f"{RULE} 2026-12-15": 1, "nonsense": 4, f"{RULE} 2027": 1}
    (told,) = choose_uses(uses, {}, now=NOW)
    assert told == RuleUse(rule_id=RULE, day="2027-01-14", count=3)
    known = remember_told({}, (told,), now=NOW)
    assert choose_uses(uses, known, now=NOW) == ()
    assert choose_uses({**uses, told_key(told): 4}, known, now=NOW) == (replace(told, count=4),)
    assert {use.day for use in choose_uses(uses, known, now=NOW + 86_400)} == {TODAY}


def told_key(use: RuleUse) -> str:
    return f"{use.rule_id} {use.day}"


def test_what_one_report_cannot_hold_is_told_by_the_next() -> None:
    uses = {f"{rule} 2027-01-{day}": 1 for rule in RULES[:400] for day in (13, 14)}
    first = choose_uses(uses, {}, now=NOW)
    assert len(first) == MAX_RULES
    second = choose_uses(uses, remember_told({}, first, now=NOW), now=NOW)
    assert {told_key(use) for use in (*first, *second)} == set(uses)
    assert len(first) + len(second) == len(uses)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("start"), st.integers(0, 3), st.integers(0, 2)),  # rule, days ago
        st.tuples(st.just("cycle"), st.sampled_from(["whole", "killed", "spooled", "unanswered", "twice"])),
        st.tuples(st.just("night"), st.integers(1, 3)),
    ),
    max_size=60,
)


@given(steps=STEPS)
@settings(max_examples=200, deadline=None)
def test_nothing_is_lost_or_doubled_however_cycles_end(steps: list[tuple[Any, ...]]) -> None:
    """`killed`: before anything was kept; `spooled`: after the report was; the server keeps the larger count."""
    log, now, state, told = Log(), NOW, Counting(records={record_key(EXE): 0}), dict[str, int]()
    server: dict[str, int] = {}
    true: Counter[str] = Counter()

    def cycle(end: str) -> None:
        nonlocal state, told
        counted = count(log, state, now=now)
        report = choose_uses(counted.uses, told, now=now)
        if end == "killed":
            return
        for _ in range(2 if end == "twice" else 1):
            for use in report:
                server[told_key(use)] = max(server.get(told_key(use), 0), use.count)
        if end != "spooled":
            state, told = counted, remember_told(told, report, now=now)

    for step in steps:
        if step[0] == "start":
            at = datetime.fromtimestamp(now, UTC) - timedelta(days=step[2])
            log.put(RULES[step[1]], at=at.strftime("%Y-%m-%dT%H:%M:%SZ"))
            true[f"{RULES[step[1]]} {at.date().isoformat()}"] += 1
        elif step[0] == "night":
            now += step[1] * 86_400
        else:
            cycle(step[1])
    # What happened more than a month before anybody looked is not told, nor does it come back.
    cycle("whole")
    now += 86_400
    cycle("whole")
    oldest = (datetime.fromtimestamp(now, UTC) - timedelta(days=KEPT_DAYS + 1)).date().isoformat()
    for key in set(true) | set(server):
        assert server.get(key, 0) <= true[key]
        if key[37:] > oldest:
            assert server.get(key, 0) == true[key]


def test_where_refusals_are_read_from_is_kept_apart() -> None:
    records = {channel.name: 5 for channel in CHANNELS}
    assert without_use_records({**records, record_key(EXE): 9, record_key(SCRIPT): 9}) == records


def test_rules_of_every_policy_in_force_count() -> None:
    more = {
        "Exe": RegistryCollection(rules=("<FileHashRule Id='{AAAAAAAA-0000-0000-0000-00000000000A}'/>", "<no id/>"))
    }
    both = replace(POLICY, csp="read", csp_sets=(more,))
    assert rule_ids(both) == {*RULES[:40], "aaaaaaaa-0000-0000-0000-00000000000a"}
    assert rule_ids(PolicyInForce(collections=None)) == frozenset()


def test_it_is_off_unless_the_settings_say_so(tmp_path: Path) -> None:
    assert Options(state_dir=tmp_path).count_rule_uses is False
    config = tmp_path / "agent.toml"
    config.write_text("count_rule_uses = true\n", encoding="utf-8")
    assert read_options({}, config=config).count_rule_uses is True
    config.write_text("count_rule_uses = 1\n", encoding="utf-8")
    with pytest.raises(OptionsError, match="count_rule_uses must be true or false"):
        read_options({}, config=config)
    config.write_text("count_rule_usage = true\n", encoding="utf-8")
    with pytest.raises(OptionsError, match="unknown setting 'count_rule_usage'"):
        read_options({}, config=config)


posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX paths")


class Here:
    """One enrolled agent in a folder, with an event log and rules in force."""

    def __init__(self, folder: Path, *, counts: bool = True) -> None:
        self.home = folder / "home"
        self.home.mkdir()
        self.options = Options(
            state_dir=folder / "state", search_projects=False, probing=False, ask_uv=False, count_rule_uses=counts
        )
        self.log, self.server, self.now = Log(), ServerDouble(), NOW
        with locked(self.options.state_dir) as state_dir:
            save_identity(
                state_dir,
                Identity(
                    server="https://wayleave.example.com",
                    host_id="1",
                    token=self.server.token,
                    machine=hash_machine(read_machine_id()),
                    secret="s3cret",
                ),
            )

    @property
    def environment(self) -> dict[str, str]:
        return {"HOME": str(self.home), "PATH": "/usr/bin", "TMPDIR": str(self.home)}

    def cycle(self, *, after_s: float = 0.0) -> None:
        self.now += after_s
        cycle_module.run_cycle(
            self.options,
            self.environment,
            deliver=functools.partial(deliver_over_network, transport=self.server.transport()),
            clock=lambda: self.now,
        )

    def start(self, rule: str, times: int = 1) -> None:
        """Jane starts something that a rule allows."""
        at = datetime.fromtimestamp(self.now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        for _ in range(times):
            self.log.put(rule, at=at, user=self.sid)

    @property
    def sid(self) -> str:
        return read_principal().sid.upper()

    def told(self) -> list[tuple[str, str, int]]:
        return [
            (use["rule_id"], use["day"], use["count"])
            for report in self.server.recorded
            for use in report.get("rule_uses", ())
        ]


@pytest.fixture
def rules_in_force(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observe, "read_policy", lambda: POLICY)


def with_log(here: Here, monkeypatch: pytest.MonkeyPatch) -> Here:
    monkeypatch.setattr(observe, "read_channel", here.log)
    return here


@posix
@pytest.mark.usefixtures("rules_in_force")
def test_a_cycle_tells_yesterdays_counts_with_the_report_that_is_due(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = with_log(Here(tmp_path), monkeypatch)
    here.cycle()
    here.start(RULE, 3)
    here.cycle(after_s=60)
    assert len(here.server.recorded) == 1, "a start is no news: nothing is sent more often because of it"
    assert here.told() == []
    here.cycle(after_s=86_400)
    assert here.told() == [(RULE, TODAY, 3)]
    here.cycle(after_s=86_400)
    assert len(here.told()) == 1
    assert "rule_uses" not in here.server.recorded[-1]


@posix
@pytest.mark.usefixtures("rules_in_force")
def test_switched_off_nothing_is_asked_for_nor_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = with_log(Here(tmp_path, counts=False), monkeypatch)
    here.cycle()
    here.start(RULE)
    here.cycle(after_s=86_400)
    assert here.told() == []
    assert not any("8002" in query or "8005" in query for query in here.log.asked)
    assert not load_progress(here.options.state_dir).uses
    here.options = replace(here.options, count_rule_uses=True)
    here.cycle(after_s=60)
    here.start(RULE)
    here.cycle(after_s=60)
    assert list(load_progress(here.options.state_dir).uses.values()) == [1]
    here.options = replace(here.options, count_rule_uses=False)
    here.cycle(after_s=60)
    progress = load_progress(here.options.state_dir)
    assert (progress.uses, progress.uses_told) == ({}, {})
    assert not any("allowed" in name for name in progress.records)


@posix
@pytest.mark.usefixtures("rules_in_force")
def test_a_preview_shows_the_counts_and_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = with_log(Here(tmp_path), monkeypatch)
    here.cycle()
    here.start(RULE, 2)
    here.cycle(after_s=60)
    before = load_progress(here.options.state_dir)
    assert before.uses == {f"{RULE} {TODAY}": 2}
    monkeypatch.setattr("agent.observe.time.time", lambda: here.now + 86_400)
    report, _ = preview(here.options, here.environment)
    assert [use.to_json() for use in report.rule_uses] == [{"rule_id": RULE, "day": TODAY, "count": 2}]
    after = load_progress(here.options.state_dir)
    assert (after.uses, after.uses_told, after.records) == (before.uses, before.uses_told, before.records)


@posix
@pytest.mark.usefixtures("rules_in_force")
def test_days_that_the_server_does_not_take_cost_only_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = with_log(Here(tmp_path), monkeypatch)
    here.cycle()
    here.start(RULE, 2)
    here.now += 86_400
    here.start(RULES[1])
    here.start(RULE, 5)
    here.server.answers = [
        httpx.Response(422, json={"error": "invalid", "message": "Not a day", "field": "rule_uses.0.day"})
    ]
    here.cycle(after_s=86_400)
    assert here.told() == [(RULES[1], "2027-01-16", 1), (RULE, "2027-01-16", 5)]
    assert load_pending(here.options.state_dir) == ()


@posix
@pytest.mark.usefixtures("rules_in_force")
@given(kills=st.lists(st.tuples(st.integers(0, 6), st.sampled_from(["save_progress", "add_pending"])), max_size=5))
@settings(max_examples=12, deadline=None)
def test_killed_at_any_step_of_a_cycle_the_server_ends_with_the_true_counts(kills: list[tuple[int, str]]) -> None:
    class Killed(BaseException):
        pass

    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as monkeypatch:
        here = with_log(Here(Path(folder)), monkeypatch)
        here.cycle()
        true: Counter[tuple[str, str]] = Counter()
        for number, (step, name) in enumerate(kills):
            whole, calls = getattr(cycle_module, name), 0

            def until(*arguments: Any, _whole: Any = whole, _step: int = step, **named: Any) -> Any:
                """Killed at the call of a number: every other time just before it was written, else just after."""
                nonlocal calls
                calls += 1
                if calls <= _step // 2:
                    return _whole(*arguments, **named)
                if _step % 2:
                    _whole(*arguments, **named)
                raise Killed

            here.start(RULES[number], number + 1)
            true[RULES[number], datetime.fromtimestamp(here.now, UTC).date().isoformat()] += number + 1
            with monkeypatch.context() as killing:
                killing.setattr(cycle_module, name, until)
                with contextlib.suppress(Killed):
                    here.cycle(after_s=40_000)
        here.cycle(after_s=86_400)
        here.cycle(after_s=86_400)
        ended: dict[tuple[str, str], int] = {}
        for rule, day, uses in here.told():
            ended[rule, day] = max(uses, ended.get((rule, day), 0))
        assert ended == dict(true)


@posix
@pytest.mark.usefixtures("rules_in_force")
def test_neither_state_nor_spool_names_what_was_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = with_log(Here(tmp_path), monkeypatch)
    here.cycle()
    here.start(RULE, 2)
    here.cycle(after_s=86_400)
    kept = "".join(path.read_text(encoding="utf-8") for path in here.options.state_dir.rglob("*.json"))
    assert RULE in kept
    assert "Secret" not in kept + json.dumps(here.server.recorded)


@posix
@pytest.mark.usefixtures("rules_in_force")
def test_missing_rights_and_what_is_left_out_are_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = with_log(Here(tmp_path), monkeypatch)
    here.cycle()
    here.start(RULE)
    here.start(RULES[41], 2)
    here.cycle(after_s=60)
    assert load_progress(here.options.state_dir).left_out == {"allowed by no rule in force": 2}
    here.log.error = 5
    here.cycle(after_s=60)
    (finding,) = load_progress(here.options.state_dir).findings
    assert "Add-LocalGroupMember -SID S-1-5-32-573" in finding
