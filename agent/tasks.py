"""The two scheduled tasks, as the XML that Windows registers. Pure.

    \\Wayleave\\User      `wayleave-agentw.exe user`: every user, at logon and on a schedule; probes, writes an inbox
    \\Wayleave\\Machine   `wayleave-agentw.exe machine`: the system account, at start and on a schedule; uploads

`wayleave-agentw.exe` is the same program as `wayleave-agent.exe`, built for the windows subsystem: a console program
that a task starts in a session flashes a window. Whoever packages the agent puts both into one directory, writes these
texts as UTF-16 (`encode_task`) and registers them under the names above; `agent.install` does it without a package.

Every account is a SID, since names are translated. A task for a group runs in the session of each of its members who is
logged on, with that session's own token: it has no `LogonType` of its own, as Windows writes such tasks too.
source: MS-TSCH 2.5 (task definition), 2.5.3 (triggers), 2.5.6 (principals), 2.5.4 (settings)
"""

from __future__ import annotations

from dataclasses import dataclass
from xml.sax.saxutils import escape

USERS = "S-1-5-32-545"
LOCAL_SYSTEM = "S-1-5-18"

FOLDER = "\\Wayleave"
USER_TASK = "\\Wayleave\\User"
MACHINE_TASK = "\\Wayleave\\Machine"

PROGRAM = "wayleave-agentw.exe"
DEFAULT_DIRECTORY = "C:\\Program Files\\Wayleave"

NAMESPACE = "http://schemas.microsoft.com/windows/2004/02/mit/task"


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What the two tasks differ in. Times are ISO 8601 durations; `instances` is the policy for a second start."""

    name: str
    description: str
    principal: str
    argument: str
    first: str
    repeat: str
    spread: str
    limit: str
    instances: str
    readers: str


# The lock of its own state directory keeps a user's second start away. IgnoreNew would besides keep one user of a
# shared machine away while the probe of another one runs.
_USER = Task(
    name=USER_TASK,
    description="Tries, as the user who is logged on, which places uv may run programs from. Starts nothing that runs.",
    principal=f"<GroupId>{USERS}</GroupId>",
    argument="user",
    first="<LogonTrigger><Enabled>true</Enabled><Delay>PT3M</Delay></LogonTrigger>",
    repeat="PT1H",
    spread="PT30M",
    limit="PT10M",
    instances="Parallel",
    readers="(A;;FRFX;;;BU)",
)
# The logon trigger has no delay: a new user's inbox has to be there before the user's own task looks for it.
_MACHINE = Task(
    name=MACHINE_TASK,
    description="Reads the policies in force and the event logs, and sends what the users' tasks found to the server.",
    principal=f"<UserId>{LOCAL_SYSTEM}</UserId>",
    argument="machine",
    first="<BootTrigger><Enabled>true</Enabled><Delay>PT2M</Delay></BootTrigger>"
    "<LogonTrigger><Enabled>true</Enabled></LogonTrigger>",
    repeat="PT15M",
    spread="PT10M",
    limit="PT15M",
    instances="IgnoreNew",
    readers="(A;;FR;;;BU)",
)


def user_task_xml(directory: str = DEFAULT_DIRECTORY) -> str:
    """The definition of the users' task. `directory`: where the program lies, writable by administrators alone."""
    return _render(_USER, directory)


def machine_task_xml(directory: str = DEFAULT_DIRECTORY) -> str:
    """The definition of the system account's task."""
    return _render(_MACHINE, directory)


def encode_task(xml: str) -> bytes:
    """A definition as schtasks and the Task Scheduler read it from a file: UTF-16 with a byte order mark."""
    return xml.replace("\n", "\r\n").encode("utf-16")


def _render(task: Task, directory: str) -> str:
    # The order within a trigger is the schema's own; it matters, though programs that read tasks are seldom strict.
    return f"""<?xml version="1.0" encoding="UTF-16"?>
<Task version="1.2" xmlns="{NAMESPACE}">
  <RegistrationInfo>
    <Author>Wayleave</Author>
    <Description>{escape(task.description)}</Description>
    <URI>{escape(task.name)}</URI>
    <SecurityDescriptor>D:P(A;;FA;;;SY)(A;;FA;;;BA){task.readers}</SecurityDescriptor>
  </RegistrationInfo>
  <Triggers>
    {task.first}
    <CalendarTrigger>
      <Enabled>true</Enabled>
      <StartBoundary>2026-01-01T00:05:00</StartBoundary>
      <Repetition>
        <Interval>{task.repeat}</Interval>
        <Duration>P1D</Duration>
        <StopAtDurationEnd>false</StopAtDurationEnd>
      </Repetition>
      <RandomDelay>{task.spread}</RandomDelay>
      <ScheduleByDay>
        <DaysInterval>1</DaysInterval>
      </ScheduleByDay>
    </CalendarTrigger>
  </Triggers>
  <Principals>
    <Principal id="Account">
      {task.principal}
      <RunLevel>LeastPrivilege</RunLevel>
    </Principal>
  </Principals>
  <Settings>
    <MultipleInstancesPolicy>{task.instances}</MultipleInstancesPolicy>
    <DisallowStartIfOnBatteries>false</DisallowStartIfOnBatteries>
    <StopIfGoingOnBatteries>false</StopIfGoingOnBatteries>
    <AllowHardTerminate>true</AllowHardTerminate>
    <StartWhenAvailable>true</StartWhenAvailable>
    <RunOnlyIfNetworkAvailable>false</RunOnlyIfNetworkAvailable>
    <IdleSettings>
      <StopOnIdleEnd>false</StopOnIdleEnd>
      <RestartOnIdle>false</RestartOnIdle>
    </IdleSettings>
    <AllowStartOnDemand>true</AllowStartOnDemand>
    <Enabled>true</Enabled>
    <Hidden>false</Hidden>
    <RunOnlyIfIdle>false</RunOnlyIfIdle>
    <WakeToRun>false</WakeToRun>
    <ExecutionTimeLimit>{task.limit}</ExecutionTimeLimit>
    <Priority>7</Priority>
  </Settings>
  <Actions Context="Account">
    <Exec>
      <Command>{escape(directory.rstrip(chr(92)))}\\{PROGRAM}</Command>
      <Arguments>{task.argument}</Arguments>
      <WorkingDirectory>{escape(directory.rstrip(chr(92)))}</WorkingDirectory>
    </Exec>
  </Actions>
</Task>
"""
