"""What is wrong with an installation, in words, with the command that shows or mends it. Pure.

What the machine says of itself is gathered by `agent.examine`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.channels import CHANNELS, ERROR_ACCESS_DENIED, ERROR_CHANNEL_NOT_FOUND, ERROR_INVALID_CHANNEL_PATH
from agent.service import is_stopped

DAY_S = 86_400
MAX_SILENCE_S = 2 * 3_600
MAX_CLOCK_S = 300
LOW_DISK_BYTES = 200 << 20
MANY_WAITING = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """What was found. `None` where it could not be asked, or does not apply.

    `tasks`: by name, as `judge_task` says; `channels`: by name, the error number of reading it; `server_error`: why
    there was no answer; `clock_s`: by how much this machine's clock is ahead of the server's; `cycle_age_s`,
    `sent_age_s`: since the last look and the last report; `inbox`: `ok`, or what is wrong with the own one; `service`:
    how the Application Identity service stands, as `service_word` says.
    """

    is_elevated: bool = False
    is_machine_wide: bool = False
    has_identity: bool | None = None
    is_revoked: bool = False
    is_other_machine: bool = False
    tasks: Mapping[str, str] = field(default_factory=dict)
    channels: Mapping[str, int] = field(default_factory=dict)
    server: str | None = None
    server_error: str | None = None
    clock_s: float | None = None
    cycle_age_s: float | None = None
    sent_age_s: float | None = None
    waiting: int = 0
    oldest_waiting_s: float = 0.0
    dropped: int = 0
    trouble: str = ""
    is_busy: bool = False
    disk_free_bytes: int | None = None
    foreign_owner: str | None = None
    base: str = ""
    inbox: str | None = None
    refused_notes: tuple[str, ...] = ()
    probing: bool = True
    stopped_by_server: bool = False
    uvs: int | None = None
    service: str = ""
    method: str = "start"
    other_controls: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ailment:
    """One thing: how bad (`wrong` stops the work, `note` is good to know), what, and what to do about it."""

    weight: str
    what: str
    command: str = ""


def diagnose(condition: Condition) -> tuple[Ailment, ...]:
    """Everything that is wrong, what stops the work first."""
    found = (
        *_of_installation(condition),
        *_of_identity(condition),
        *_of_server(condition),
        *_of_work(condition),
        *_of_logs(condition),
        *_of_probing(condition),
    )
    return tuple(sorted(found, key=lambda ailment: ailment.weight != "wrong"))


def _of_installation(condition: Condition) -> list[Ailment]:
    found = []
    if condition.foreign_owner:
        found.append(
            Ailment(
                weight="wrong",
                what=f"{condition.base} belongs to {condition.foreign_owner}, who is no administrator",
                command=f'Remove-Item -Recurse "{condition.base}"; wayleave-agent install',
            )
        )
    for name, state in condition.tasks.items():
        if state == "missing":
            found.append(Ailment(weight="wrong", what=f"the task {name} is missing", command="wayleave-agent install"))
        elif state.startswith("differs"):
            found.append(
                Ailment(
                    weight="wrong",
                    what=f"the task {name} is not as it was installed: it {state}",
                    command="wayleave-agent install",
                )
            )
    if not condition.is_machine_wide:
        found.append(
            Ailment(
                weight="note",
                what="only this user is looked at, and the server calls what is reported unattested: for a trial",
                command="wayleave-agent install --server URL --secret-file FILE (as an administrator)",
            )
        )
    if condition.inbox not in (None, "ok"):
        found.append(
            Ailment(
                weight="wrong",
                what=f"no note can be left for the system's half: {condition.inbox}",
                command='schtasks /Run /TN "\\Wayleave\\Machine" (as an administrator)',
            )
        )
    found += [
        Ailment(weight="wrong", what=f"a user's note is not taken: {reason}") for reason in condition.refused_notes
    ]
    return found


def _of_identity(condition: Condition) -> list[Ailment]:
    if condition.is_revoked:
        return [
            Ailment(
                weight="wrong",
                what="the server has revoked this machine; it stays silent until it is enrolled again",
                command="wayleave-agent install --server URL --secret-file FILE",
            )
        ]
    if condition.has_identity is False:
        return [
            Ailment(
                weight="wrong",
                what="this machine is not enrolled at a server",
                command="wayleave-agent install --server URL --secret-file FILE"
                if condition.is_machine_wide
                else "wayleave-agent enrol --server URL --secret-file FILE",
            )
        ]
    if condition.is_other_machine:
        return [
            Ailment(
                weight="wrong",
                what="this machine was made from an enrolled one, or was renamed, and has no secret to enrol with",
                command="wayleave-agent install --server URL --secret-file FILE",
            )
        ]
    if condition.has_identity is None and condition.is_machine_wide:
        return [
            Ailment(
                weight="note",
                what="the system's half can be looked at by an administrator alone",
                command="wayleave-agent doctor (in a terminal opened with 'Run as administrator')",
            )
        ]
    return []


def _of_server(condition: Condition) -> list[Ailment]:
    found = []
    if condition.server and condition.server_error:
        found.append(
            Ailment(
                weight="wrong",
                what=f"{condition.server} cannot be reached: {condition.server_error}",
                command=f"curl.exe -v {condition.server}/api/v1/catalogue -o NUL",
            )
        )
    if condition.clock_s is not None and abs(condition.clock_s) > MAX_CLOCK_S:
        way = "ahead of" if condition.clock_s > 0 else "behind"
        found.append(
            Ailment(
                weight="wrong" if abs(condition.clock_s) > DAY_S else "note",
                what=f"the clock is {_duration(abs(condition.clock_s))} {way} the server's",
                command="w32tm /resync",
            )
        )
    return found


def _of_work(condition: Condition) -> list[Ailment]:
    found = []
    if condition.cycle_age_s is not None and condition.cycle_age_s > MAX_SILENCE_S:
        found.append(
            Ailment(
                weight="wrong",
                what=f"the last look was {_duration(condition.cycle_age_s)} ago",
                command='schtasks /Query /TN "\\Wayleave\\" /V /FO LIST',
            )
        )
    if condition.trouble:
        found.append(Ailment(weight="wrong", what=f"the last delivery: {condition.trouble}"))
    if condition.waiting > MANY_WAITING or condition.oldest_waiting_s > DAY_S:
        found.append(
            Ailment(
                weight="wrong",
                what=f"{condition.waiting} reports wait, the oldest for {_duration(condition.oldest_waiting_s)}",
            )
        )
    if condition.dropped:
        found.append(
            Ailment(weight="note", what=f"{condition.dropped} reports were dropped: too old, too many, or not taken")
        )
    if condition.disk_free_bytes is not None and condition.disk_free_bytes < LOW_DISK_BYTES:
        found.append(
            Ailment(
                weight="wrong", what=f"the disk has {condition.disk_free_bytes >> 20} MB left: state cannot be kept"
            )
        )
    if condition.is_busy:
        found.append(
            Ailment(weight="note", what="another agent works with this state at this moment: what is told may be old")
        )
    return found


def _of_logs(condition: Condition) -> list[Ailment]:
    found = []
    for name, error in condition.channels.items():
        if error == ERROR_ACCESS_DENIED:
            found.append(
                Ailment(
                    weight="wrong",
                    what=f"the log {name} may not be read by this account",
                    command="none is needed where both halves are installed: the system's half may read it"
                    if condition.is_machine_wide
                    else 'net localgroup "Event Log Readers" %USERNAME% /add (the group is S-1-5-32-573)',
                )
            )
        elif error not in (0, ERROR_CHANNEL_NOT_FOUND, ERROR_INVALID_CHANNEL_PATH):
            found.append(
                Ailment(weight="wrong", what=f"the log {name}: error {error}", command=f'wevtutil gl "{name}"')
            )
    if is_stopped(condition.service):
        found.append(
            Ailment(
                weight="note",
                what=f"the Application Identity service does not run ({condition.service}): AppLocker takes up no "
                "changed policy meanwhile",
                command="sc.exe query AppIDSvc & sc.exe qc AppIDSvc (to start it always: sc.exe config appidsvc "
                "start= auto)",
            )
        )
    if condition.channels and all(
        condition.channels.get(channel.name) in (ERROR_CHANNEL_NOT_FOUND, ERROR_INVALID_CHANNEL_PATH)
        for channel in CHANNELS
        if channel.key.startswith("applocker")
    ):
        found.append(
            Ailment(weight="note", what="this system has no AppLocker logs: refusals are seen by probes alone")
        )
    return found


def _of_probing(condition: Condition) -> list[Ailment]:
    found = []
    if not condition.probing:
        found.append(
            Ailment(weight="note", what="probing is switched off on this machine (probing = false in its settings)")
        )
    if condition.stopped_by_server:
        found.append(
            Ailment(weight="note", what="an administrator has stopped probing on the server: page Agents, Probing")
        )
    if condition.method == "policy":
        why = f", because of {', '.join(condition.other_controls)}" if condition.other_controls else ""
        found.append(
            Ailment(weight="note", what=f"nothing is started here{why}: the server judges by the policy in force")
        )
    if condition.uvs == 0:
        found.append(
            Ailment(weight="note", what="no uv was found: patterns are tried all the same", command="where.exe uv")
        )
    return found


def _duration(seconds: float) -> str:
    for size, name in ((DAY_S, "days"), (3_600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{int(seconds // size)} {name}"
    return f"{int(seconds)} seconds"
