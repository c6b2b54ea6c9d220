"""Both halves on this machine: two users probe as themselves, the system takes their notes and talks to the server."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import shutil
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from agent import cycle, machine_half, user_half
from agent._platform import read_machine_id
from agent.catalogue import load
from agent.channels import ChannelRead
from agent.contract.messages import Newcomer
from agent.cycle import NotEnrolled, Revoked
from agent.delivery import deliver, open_for
from agent.enrolling import prepare_enrolment
from agent.inbox import make_inbox
from agent.machine_half import MachineResult, run_machine_cycle
from agent.options import Options
from agent.places import NOTE_NAME, Orders, Places, read_orders, write_orders
from agent.policy import PolicyInForce, RegistryCollection
from agent.spool import (
    Delivered,
    Identity,
    Progress,
    hash_machine,
    load_identity,
    load_pending,
    load_progress,
    save_identity,
)
from agent.user_half import WrongAccount, run_user_cycle
from tests.agent.server_double import ServerDouble, refusal

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX calls"),
    pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() != 0, reason="needs root, to be several users"),
]

NOW = 1_800_000_000.0
JANE, JOE = 40_001, 40_002
JANES, JOES = f"S-1-22-1-{JANE}", f"S-1-22-1-{JOE}"
load()


@dataclass
class ManySubjects:
    """A server that keeps the wire's rules for each of a host's users."""

    hosts: ServerDouble = field(default_factory=ServerDouble)
    subjects: dict[str, ServerDouble] = field(default_factory=dict)
    answers: list[httpx.Response | Exception] = field(default_factory=list)
    probing: bool = True

    def answer(self, request: httpx.Request) -> httpx.Response:
        if self.answers:
            answer = self.answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer
        if request.url.path.endswith("/enrol"):
            return self.hosts._answer(request)
        message = json.loads(gzip.decompress(request.content))
        one = self.subjects.setdefault(message["subject"], ServerDouble())
        one.token, one.bodies = self.hosts.token, self.hosts.bodies
        answer = one._answer(request)
        if answer.status_code == 200 and not self.probing:
            return httpx.Response(200, json={**answer.json(), "probing": False})
        return answer

    def recorded(self, sid: str) -> list[dict[str, Any]]:
        return self.subjects[sid].recorded if sid in self.subjects else []


class Machine:
    """A machine with two users, its clock and its server."""

    def __init__(self, base: Path) -> None:
        self.places = Places(base=base / "wayleave")
        self.homes = {JANE: base / "jane", JOE: base / "joe"}
        for uid, home in self.homes.items():
            home.mkdir()
            os.chown(home, uid, uid)
        self.places.inbox.mkdir(parents=True, mode=0o711)
        self.places.inbox.chmod(0o711)
        self.places.orders.mkdir(mode=0o755)
        self.places.machine.mkdir(mode=0o700)
        self.options = Options(state_dir=self.places.machine, search_projects=False)
        self.server = ManySubjects()
        self.now = NOW
        save_identity(
            self.places.machine,
            Identity(
                server="https://wayleave.example.com",
                host_id="1",
                token=self.server.hosts.token,
                machine=hash_machine(read_machine_id()),
                secret="s3cret",
            ),
        )

    def user(
        self, uid: int, *, force: bool = False, probing: bool = True, variables: dict[str, str] | None = None
    ) -> str:
        """One cycle of the user's half, as that user; what was in the way."""
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.setgroups([])
                os.setresgid(uid, uid, uid)
                os.setresuid(uid, uid, uid)
                home = self.homes[uid]
                options = Options(state_dir=home / "state", search_projects=False, probing=probing)
                environment = {"HOME": str(home), "PATH": "/usr/bin", "TMPDIR": str(home), **(variables or {})}
                result = run_user_cycle(options, environment, self.places, clock=lambda: self.now, force=force)
                os.write(writing, result.trouble.encode())
            except BaseException:
                os.write(writing, traceback.format_exc().encode())
            finally:
                os._exit(0)
        os.close(writing)
        with os.fdopen(reading, "rb") as file:
            said = file.read().decode()
        os.waitpid(child, 0)
        return said

    def machine(
        self, *, people: Sequence[str] = (JANES, JOES), after_s: float = 0, force: bool = False
    ) -> MachineResult:
        self.now += after_s

        def send(subject_dir: Path, identity: Identity, progress: Progress) -> Delivered:
            with open_for(identity, transport=httpx.MockTransport(self.server.answer)) as http:
                return deliver(
                    subject_dir,
                    http,
                    identity,
                    progress,
                    now=self.now,
                    host=Newcomer(name="pc-1", system="Debian"),
                    identity_dir=self.places.machine,
                )

        return run_machine_cycle(
            self.options, {}, self.places, deliver=send, people=people, clock=lambda: self.now, force=force
        )

    def note(self, sid: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.places.inbox / sid / NOTE_NAME).read_bytes())
        return found


@pytest.fixture
def here() -> Iterator[Machine]:
    base = Path(tempfile.mkdtemp(prefix="wayleave-halves-"))
    base.chmod(0o755)
    yield Machine(base)
    shutil.rmtree(base)


def test_two_users_are_two_subjects_of_one_host(here: Machine) -> None:
    first = here.machine()
    assert (first.made, first.people, first.reports) == (2, 0, 0)
    assert here.user(JANE) == ""
    assert here.user(JOE) == ""
    result = here.machine()
    assert (result.people, result.reports, result.sent, result.left, result.refused) == (2, 2, 2, 0, ())
    for sid in (JANES, JOES):
        (report,) = here.server.recorded(sid)
        assert report["subject"] == sid
        bodies = {kind: json.loads(here.server.hosts.bodies[name]) for kind, name in report["sets"].items()}
        assert bodies["host"]["attested"] is True
        assert bodies["token"]["sids"] == ["S-1-1-0", "S-1-5-11"]
        assert any(probe["outcome"] == "allowed" for probe in bodies["probes"]["probes"])


def test_what_a_user_says_of_the_host_or_of_others_is_not_listened_to(here: Machine) -> None:
    here.machine()
    here.user(JANE)
    note = here.note(JANES)
    note |= {"subject": JOES, "host": {"name": "forged"}}
    path = here.places.inbox / JANES / NOTE_NAME
    path.write_text(json.dumps(note))
    here.machine()
    assert len(here.server.recorded(JANES)) == 1
    assert here.server.recorded(JOES) == []
    assert "forged" not in json.dumps(here.server.recorded(JANES))


def test_events_wait_for_the_first_note(here: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that was just set up has logs, and nobody yet whose events they could be."""
    asked: list[str] = []

    def read(channel: str, _query: str, _limit: int) -> ChannelRead:
        asked.append(channel)
        return ChannelRead(oldest=1, newest=70)

    monkeypatch.setattr(machine_half, "read_channel", read)
    here.machine()
    assert (asked, dict(load_progress(here.places.machine).records)) == ([], {})
    here.user(JANE)
    here.machine()
    assert set(load_progress(here.places.machine).records.values()) == {70}
    assert set(asked) == set(load_progress(here.places.machine).records)


def test_what_did_not_change_is_not_said_again(here: Machine) -> None:
    here.machine()
    here.user(JANE)
    here.machine()
    here.now += 300
    here.user(JANE)
    assert here.machine(after_s=60).reports == 0
    assert len(here.server.recorded(JANES)) == 1


def test_a_user_is_heard_of_in_due_time_and_falls_silent_when_gone(here: Machine) -> None:
    here.machine()
    here.user(JANE)
    here.machine()
    here.now += 3_600
    here.user(JANE)
    assert here.machine().sent == 1
    assert here.server.recorded(JANES)[1]["bodies"] == {}, "an unchanged report is digests alone"
    for _ in range(3):
        assert here.machine(after_s=86_400).reports == 0, "Jane is away"
    here.user(JANE)
    assert here.machine().sent == 1
    assert [report["sequence"] for report in here.server.recorded(JANES)] == [1, 2, 3]


def test_the_token_and_the_spool_are_closed_to_users(here: Machine) -> None:
    here.machine()
    here.user(JANE)
    here.machine()
    for path in (here.places.machine, *here.places.machine.rglob("*")):
        assert path.stat().st_mode & 0o077 == 0 or path.name == "lock", path
    assert here.places.machine.stat().st_mode & 0o777 == 0o700
    child = os.fork()
    if child == 0:
        os.setresuid(JANE, JANE, JANE)
        code = 0
        for path in (here.places.machine / "identity.json", here.places.inbox / JOES / NOTE_NAME):
            try:
                path.read_bytes()
                code = 1
            except OSError:
                pass
        try:
            (here.places.orders / "orders.json").write_text("{}")
            code = 2
        except OSError:
            pass
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_without_an_inbox_the_user_waits_for_the_system(here: Machine) -> None:
    assert "there is no inbox" in here.user(JANE)
    here.machine()
    assert here.user(JANE) == ""


def test_a_stop_from_the_server_reaches_every_user_and_outlasts_restarts(here: Machine) -> None:
    here.machine()
    here.user(JANE)
    here.server.probing = False
    here.machine()
    assert read_orders(here.places) == Orders(probing=False)
    assert not load_progress(here.places.machine).revoked
    here.now += 2 * 86_400
    for force in (False, True):
        here.user(JOE, force=force)
        assert json.loads(here.note(JOES)["bodies"]["probes"])["probes"] == []
        assert not (here.homes[JOE] / ".cache").exists(), "nothing was placed"
    # The server is away: what it said last holds.
    here.server.answers = [httpx.ConnectError("away")]
    here.machine()
    assert read_orders(here.places) == Orders(probing=False)
    here.server.probing = True
    here.machine(after_s=7_200)
    assert read_orders(here.places) == Orders(probing=True)
    here.user(JOE)
    assert json.loads(here.note(JOES)["bodies"]["probes"])["probes"] != []


def test_a_switch_on_the_machine_stops_probing_too(here: Machine) -> None:
    here.machine()
    here.user(JANE, probing=False)
    assert json.loads(here.note(JANES)["bodies"]["probes"])["probes"] == []


def test_no_server_stops_the_round_and_nothing_is_lost(here: Machine) -> None:
    here.machine()
    here.user(JANE)
    here.user(JOE)
    here.server.answers = [httpx.ConnectError("away")]
    result = here.machine()
    assert (result.sent, result.left) == (0, 2)
    assert here.server.answers == [], "one attempt tells of all"
    assert here.machine().sent == 0, "patience"
    result = here.machine(after_s=3_700)
    assert (result.sent, result.left) == (2, 0)
    assert [len(here.server.recorded(sid)) for sid in (JANES, JOES)] == [1, 1]
    assert load_progress(here.places.machine).failures == 0


def test_a_quota_of_one_user_does_not_hold_the_others_up(here: Machine) -> None:
    here.machine()
    here.user(JANE)
    here.user(JOE)
    here.server.answers = [refusal(429, "quota", retry_after=80_000)]
    result = here.machine()
    assert (result.sent, result.left) == (1, 1)
    assert len(here.server.recorded(JOES)) == 1
    assert here.machine(after_s=60).left == 1, "Jane waits"
    assert here.machine(after_s=170_000).sent >= 1
    assert len(here.server.recorded(JANES)) == 1


def test_a_report_that_is_never_taken_costs_nobody_else_theirs(here: Machine) -> None:
    here.machine()
    here.user(JANE)
    here.user(JOE)
    here.server.answers = [refusal(422, "invalid", field="bodies")]
    result = here.machine()
    assert (result.sent, result.left) == (1, 0)
    assert load_progress(here.places.machine / "subjects" / JANES).dropped == 1


def test_a_server_that_was_replaced_is_enrolled_with_once_for_all_users(here: Machine) -> None:
    here.machine()
    here.user(JANE)
    here.user(JOE)
    here.machine()
    here.server.hosts = ServerDouble(token="another")
    here.server.subjects.clear()
    here.now += 3_600
    here.user(JANE)
    here.user(JOE)
    result = here.machine()
    assert (result.sent, result.left) == (2, 0)
    assert [len(here.server.recorded(sid)) for sid in (JANES, JOES)] == [1, 1]
    assert [request["path"] for request in here.server.hosts.requests] == ["/api/v1/enrol"]
    identity = load_identity(here.places.machine)
    assert identity is not None
    assert identity.host_id == "9"
    assert not (here.places.machine / "subjects" / JANES / "identity.json").exists()


def test_a_revoked_machine_stops_for_all_users(here: Machine) -> None:
    here.machine()
    here.user(JANE)
    here.user(JOE)
    here.server.answers = [refusal(403, "revoked")]
    assert here.machine().revoked
    with pytest.raises(Revoked):
        here.machine()


def test_a_cloned_image_enrols_as_a_machine_of_its_own(here: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    here.machine()
    here.user(JANE)
    here.server.answers = [httpx.ConnectError("away")]
    here.machine()
    assert len(load_pending(here.places.machine / "subjects" / JANES)) == 1
    monkeypatch.setattr(cycle, "read_machine_id", lambda: "another")
    here.machine(after_s=60)
    identity = load_identity(here.places.machine)
    assert identity is not None
    assert identity.host_id == "9"
    told = here.server.recorded(JANES)
    assert len(told) == 1, "what waited was the other machine's to tell"
    assert told[0]["epoch"] > int(NOW * 1000)
    here.machine(after_s=60)
    assert len(here.server.hosts.requests) == 1, "once"


def test_a_machine_made_anew_keeps_its_account(here: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cycle, "read_machine_account", lambda: "corp\\vdi-7$")
    prepare_enrolment(here.places.machine, "https://vdi.example.com", "s3cret", ephemeral=True)
    here.options = replace(here.options, ephemeral=True)
    assert cycle.newcomer(ephemeral=True).to_json()["account"] == "corp\\vdi-7$"
    assert cycle.newcomer(ephemeral=True).to_json()["ephemeral"] is True
    assert "ephemeral" not in cycle.newcomer().to_json()
    here.machine()
    here.user(JANE)
    assert here.machine().sent == 1
    # Its disk is made anew, with another id of the installation: the account tells that it is the same.
    monkeypatch.setattr(cycle, "read_machine_id", lambda: "another")
    assert here.machine(after_s=60).trouble == ""
    assert len(here.server.hosts.requests) == 1


def test_a_machine_that_was_never_enrolled_says_so(here: Machine) -> None:
    (here.places.machine / "identity.json").unlink()
    with pytest.raises(NotEnrolled):
        here.machine()
    assert (here.places.inbox / JANES).is_dir(), "the users' notes have their place all the same"


@pytest.mark.parametrize("killed_at", ["save_progress", "add_pending", "_deliver_all", "write_orders"])
def test_killed_at_any_step_nothing_is_lost_or_told_twice(
    here: Machine, monkeypatch: pytest.MonkeyPatch, killed_at: str
) -> None:
    class Killed(BaseException):
        pass

    here.machine()
    here.user(JANE)
    whole = getattr(machine_half, killed_at)
    left = 3

    def until(*arguments: Any, **named: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise Killed
        return whole(*arguments, **named)

    for round_ in range(8):
        left = round_ % 3
        monkeypatch.setattr(machine_half, killed_at, until)
        with contextlib.suppress(Killed):
            here.machine(after_s=10)
        monkeypatch.setattr(machine_half, killed_at, whole)
    here.machine(after_s=10)
    told = here.server.recorded(JANES)
    assert len(told) >= 1
    assert len({report["report_id"] for report in told}) == len(told)
    numbers = [report["sequence"] for report in told if report["epoch"] == told[-1]["epoch"]]
    assert numbers == sorted(set(numbers))
    assert not load_pending(here.places.machine / "subjects" / JANES)


def test_the_system_account_does_not_probe(here: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = user_half.observe

    def as_system(*arguments: Any, **named: Any) -> Any:
        found = whole(*arguments, **named)
        return replace(found, principal=replace(found.principal, sid="S-1-5-18"))

    monkeypatch.setattr(user_half, "observe", as_system)
    with pytest.raises(WrongAccount):
        run_user_cycle(Options(state_dir=here.places.base / "x", search_projects=False, probing=False), {}, here.places)


def test_orders_are_written_only_when_they_change(tmp_path: Path) -> None:
    places = Places(base=tmp_path)
    places.orders.mkdir()
    assert read_orders(places) == Orders()
    write_orders(places, Orders(probing=False))
    before = (places.orders / "orders.json").stat().st_mtime_ns
    write_orders(places, Orders(probing=False))
    assert (places.orders / "orders.json").stat().st_mtime_ns == before
    (places.orders / "orders.json").write_text('{"probing": "no"}')
    assert read_orders(places) == Orders()


def test_an_inbox_for_nobody_is_not_made(here: Machine) -> None:
    with pytest.raises(ValueError, match="no user"):
        make_inbox(here.places.inbox, "S-1-5-18")
    assert here.machine(people=["S-1-5-18"]).refused[0].sid == "S-1-5-18"


RULE = "921cc481-6e17-4653-8f75-050b80acca20"


class AllowedStarts:
    """A log of starts that the one rule in force allowed, of whichever user."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.events: list[str] = []
        rules = {"Exe": RegistryCollection(mode=1, rules=(f'<FilePathRule Id="{RULE}"/>',))}
        monkeypatch.setattr(machine_half, "read_policy", lambda: PolicyInForce(collections=rules))
        monkeypatch.setattr(machine_half, "read_channel", self.read)

    def read(self, channel: str, query: str, limit: int) -> ChannelRead:
        if "EXE" not in channel:
            return ChannelRead(error=15007)
        newest = len(self.events)
        if "8002" not in query:
            return ChannelRead(oldest=1, newest=newest)
        after = min(int(query.rpartition("> ")[2].strip(")]")), newest)
        found = self.events[after : after + limit]
        return ChannelRead(events=tuple(found), oldest=1, newest=newest, is_end=len(found) < limit)

    def add(self, now: float, user: str) -> None:
        at = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        self.events.append(
            f"<Event><System><EventID>8002</EventID><TimeCreated SystemTime='{at}'/><EventRecordID>"
            f"{len(self.events) + 1}</EventRecordID></System><UserData><RuleAndFileData><TargetUser>{user}</TargetUser>"
            f"<RuleId>{{{RULE.upper()}}}</RuleId><FullFilePath>C:\\app.exe</FullFilePath></RuleAndFileData></UserData>"
            "</Event>"
        )


def told_uses(here: Machine) -> list[tuple[str, str, int]]:
    """Who told a count, of which day, and which."""
    return [
        (sid, use["day"], use["count"])
        for sid in (JANES, JOES)
        for report in here.server.recorded(sid)
        for use in report.get("rule_uses", ())
    ]


def test_uses_of_rules_are_the_machines_and_told_by_one_report(here: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    log = AllowedStarts(monkeypatch)
    here.options = replace(here.options, count_rule_uses=True)
    here.machine()
    for uid in (JANE, JOE):
        here.user(uid)
    here.machine()
    for user in (JANES, JOES, "S-1-5-18", "S-1-5-21-1-2-3-9999"):
        log.add(here.now, user)
    here.machine(after_s=60)
    assert told_uses(here) == []
    here.now += 86_400
    for uid in (JANE, JOE):
        here.user(uid)
    assert here.machine().reports == 2
    assert told_uses(here) == [(JANES, "2027-01-15", 4)]
    here.options = replace(here.options, count_rule_uses=False)
    here.now += 86_400
    log.add(here.now, JANES)
    here.machine()
    assert not load_progress(here.places.machine).uses


@pytest.mark.parametrize("killed_at", ["save_progress", "add_pending", "_deliver_all", "write_orders"])
def test_uses_are_neither_lost_nor_doubled_when_killed_at_any_step(
    here: Machine, monkeypatch: pytest.MonkeyPatch, killed_at: str
) -> None:
    class Killed(BaseException):
        pass

    log = AllowedStarts(monkeypatch)
    here.options = replace(here.options, count_rule_uses=True)
    here.machine()
    here.user(JANE)
    here.machine()
    whole = getattr(machine_half, killed_at)
    true: dict[str, int] = {}
    for round_ in range(6):
        for _ in range(round_ + 1):
            log.add(here.now, JANES)
        true[datetime.fromtimestamp(here.now, UTC).date().isoformat()] = round_ + 1
        here.now += 86_400
        here.user(JANE)
        left = round_ % 3

        def until(*arguments: Any, **named: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed
            return whole(*arguments, **named)

        monkeypatch.setattr(machine_half, killed_at, until)
        with contextlib.suppress(Killed):
            here.machine(force=True)
        monkeypatch.setattr(machine_half, killed_at, whole)
    for _ in range(2):
        here.machine(after_s=3_600, force=True)
    ended: dict[str, int] = {}
    for _sid, day, uses in told_uses(here):
        ended[day] = max(uses, ended.get(day, 0))
    assert ended == true
