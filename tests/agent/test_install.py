"""Setting up: what is done in which order, what is refused, and what is believed of the scheduler's answers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from agent.cli import main
from agent.install import (
    CannotInstall,
    Folder,
    Ground,
    TaskToRegister,
    create_command,
    judge_task,
    plan_install,
    plan_uninstall,
    warn_of_secret,
)
from agent.places import Places
from agent.rights import BASE_RIGHTS, INBOX_RIGHTS, MACHINE_RIGHTS, TRUSTED_OWNERS, inbox_rights
from agent.sddl import find_changers, read_entries, read_owner_of
from agent.spool import load_identity, save_identity
from agent.tasks import MACHINE_TASK, USER_TASK, encode_task, machine_task_xml, user_task_xml

# As Windows 10 has them.
PROGRAM_FILES = (
    "O:S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464"
    "G:S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464"
    "D:PAI(A;;FA;;;S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464)"
    "(A;CIIO;GA;;;S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464)"
    "(A;;0x1301bf;;;SY)(A;OICIIO;GA;;;SY)(A;;0x1301bf;;;BA)(A;OICIIO;GA;;;BA)(A;;0x1200a9;;;BU)(A;OICIIO;GXGR;;;BU)"
    "(A;OICIIO;GA;;;CO)(A;;0x1200a9;;;AC)(A;OICIIO;GXGR;;;AC)"
)
OUR_FOLDER = "O:BAG:SYD:AI(A;ID;FA;;;SY)(A;ID;FA;;;BA)(A;ID;0x1200a9;;;BU)"
PROGRAM_DATA = (
    "O:SYG:SYD:PAI(A;OICIIO;GA;;;CO)(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)(A;CI;DCLCRPCR;;;BU)(A;OICI;0x1200a9;;;BU)"
)
NEW_FOLDER_ON_C = "O:BAG:SYD:AI(A;OICIID;FA;;;BA)(A;OICIID;FA;;;SY)(A;OICIID;0x1200a9;;;BU)(A;ID;0x1301bf;;;AU)"

GROUND = Ground(
    is_elevated=True,
    installer="S-1-5-21-1-2-3-500",
    base="C:\\ProgramData\\Wayleave",
    program_directory="C:\\Program Files\\Wayleave",
    program_sddl=OUR_FOLDER,
    program_ancestors=(PROGRAM_FILES,),
)


def test_folders_come_before_the_tasks_that_need_them() -> None:
    steps = plan_install(GROUND)
    assert [step.path.removeprefix(GROUND.base) for step in steps if isinstance(step, Folder)] == [
        "",
        "\\orders",
        "\\machine",
        "\\inbox",
    ]
    assert [step.name for step in steps if isinstance(step, TaskToRegister)] == [MACHINE_TASK, USER_TASK]
    assert isinstance(steps[0], Folder)
    assert isinstance(steps[-1], TaskToRegister)
    assert [type(step) for step in plan_install(GROUND, with_tasks=False)] == [Folder] * 4
    assert plan_uninstall() == (USER_TASK, MACHINE_TASK)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"is_elevated": False}, "Run as administrator"),
        ({"base_is_link": True}, "is a link"),
        ({"base_sddl": "O:S-1-5-21-1-2-3-1001D:(A;;FA;;;BA)"}, "made by S-1-5-21-1-2-3-1001"),
        ({"has_program": False}, "no wayleave-agentw.exe"),
        ({"program_sddl": NEW_FOLDER_ON_C}, "changed by S-1-5-11"),
        ({"program_sddl": None}, "changed by S-1-1-0"),
        ({"program_sddl": "O:BAD:NO_ACCESS_CONTROL"}, "changed by S-1-1-0"),
        ({"program_sddl": "O:S-1-5-21-1-2-3-1001D:(A;;FA;;;BA)"}, "changed by S-1-5-21-1-2-3-1001"),
        ({"program_ancestors": (NEW_FOLDER_ON_C,)}, "C:\\Program Files may be changed by S-1-5-11"),
    ],
)
def test_ground_that_a_user_could_have_prepared_is_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(CannotInstall) as refusal:
        plan_install(replace(GROUND, **change))
    assert words in str(refusal.value)


@pytest.mark.parametrize("owner", ["SY", "BA", "S-1-5-18", "S-1-5-21-1-2-3-500"])
def test_what_an_administrator_made_before_is_taken_over(owner: str) -> None:
    assert plan_install(replace(GROUND, base_sddl=f"O:{owner}D:(A;;FA;;;BA)"))


def test_who_may_change_a_folder() -> None:
    assert find_changers(PROGRAM_FILES, TRUSTED_OWNERS) == ()
    assert find_changers(OUR_FOLDER, TRUSTED_OWNERS) == ()
    assert find_changers(PROGRAM_DATA, TRUSTED_OWNERS) == ("S-1-5-32-545",)
    assert find_changers("O:BAD:(D;;FA;;;WD)(A;;FR;;;WD)", TRUSTED_OWNERS) == ()
    assert find_changers("O:BAD:(A;;WD;;;S-1-5-21-7)S:(AU;SA;FA;;;WD)", TRUSTED_OWNERS) == ("S-1-5-21-7",)


def test_our_own_folders_are_changed_by_nobody_else() -> None:
    for sddl in (BASE_RIGHTS, MACHINE_RIGHTS, INBOX_RIGHTS):
        assert find_changers(sddl, TRUSTED_OWNERS) == ()
        assert read_owner_of(sddl) == "S-1-5-18"
    assert "S-1-5-32-545" not in MACHINE_RIGHTS
    for entry in read_entries(INBOX_RIGHTS) or ():
        assert entry.sid != "S-1-5-32-545" or not entry.mask & 0x1, "nobody lists who else has an inbox"


def test_a_user_adds_files_to_the_own_inbox_and_does_nothing_else_to_it() -> None:
    jane = "S-1-5-21-1-2-3-1001"
    sddl = inbox_rights(jane)
    assert find_changers(sddl, TRUSTED_OWNERS) == (jane,)
    (on_folder,) = (one for one in read_entries(sddl) or () if one.sid == jane and not one.inherit_only)
    add_folder, delete_child, write_attributes, delete, write_dac, write_owner = (
        4,
        0x40,
        0x100,
        0x10000,
        0x40000,
        0x80000,
    )
    assert on_folder.mask & 0x2
    assert not on_folder.mask & (add_folder | delete_child | write_attributes | delete | write_dac | write_owner)
    (owner,) = (one for one in read_entries(sddl) or () if one.sid == "S-1-3-4")
    assert owner.inherit_only
    assert not owner.mask & (write_dac | write_owner)
    assert sddl.startswith("O:S-1-5-18D:P"), "and nothing is inherited"


@pytest.mark.parametrize("render", [user_task_xml, machine_task_xml])
def test_a_task_is_believed_when_it_is_printed_as_it_was_meant(render: Callable[[], str]) -> None:
    wanted = render()
    assert judge_task(wanted, 0, encode_task(wanted)) == "ok"
    assert judge_task(wanted, 0, wanted.encode()) == "ok"
    assert judge_task(wanted, 0, wanted.encode("utf-16-le")) == "ok"
    # Windows leaves out what is as usual.
    usual = wanted.replace("      <RunLevel>LeastPrivilege</RunLevel>\n", "")
    assert judge_task(wanted, 0, usual.encode()) == "ok"


@pytest.mark.parametrize(
    ("code", "output", "state"),
    [
        (0, b"", "missing"),  # what Wine's schtasks says to everything
        (1, b"ERROR: The system cannot find the file specified.", "missing"),
        (-1, b"[Errno 2]", "missing"),
        (0, b"SUCCESS", "missing"),
        (0, b"<Task", "missing"),
        (0, user_task_xml().replace("S-1-5-32-545", "S-1-5-18").encode(), "differs in GroupId"),
        (0, user_task_xml().replace("wayleave-agentw.exe", "evil.exe").encode(), "differs in Command"),
        (0, user_task_xml().replace("LeastPrivilege", "HighestAvailable").encode(), "differs in RunLevel"),
        (
            0,
            user_task_xml()
            .replace("<LogonTrigger><Enabled>true</Enabled><Delay>PT3M</Delay></LogonTrigger>", "")
            .encode(),
            "differs in triggers",
        ),
        (0, machine_task_xml().encode(), "differs in Arguments, ExecutionTimeLimit, GroupId"),
    ],
)
def test_a_task_that_is_not_as_it_was_meant_is_told(code: int, output: bytes, state: str) -> None:
    assert judge_task(user_task_xml(), code, output).startswith(state)


def test_the_scheduler_is_called_by_its_whole_path() -> None:
    command = create_command(USER_TASK, "C:\\x.xml", "D:\\Windows")
    assert command[0] == "D:\\Windows\\System32\\schtasks.exe"
    assert command[1:] == ["/Create", "/TN", "\\Wayleave\\User", "/XML", "C:\\x.xml", "/F"]


needs_root = pytest.mark.skipif(
    sys.platform == "win32" or not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root on Linux"
)


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WAYLEAVE_AGENT_MACHINE_DIR", str(tmp_path / "wayleave"))
    monkeypatch.setenv("WAYLEAVE_AGENT_STATE_DIR", str(tmp_path / "state"))
    return tmp_path / "wayleave"


@needs_root
def test_a_machine_is_set_up_again_and_taken_back(base: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("wle_1_s3cret\n")
    arguments = ["install", "--server", "https://wayleave.example.com", "--secret-file", str(secret)]
    assert main(arguments) == 0
    places = Places(base=base)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (base, places.inbox, places.orders, places.machine)}
    assert modes == {"wayleave": 0o755, "inbox": 0o711, "orders": 0o755, "machine": 0o700}
    identity = load_identity(places.machine)
    assert identity is not None
    assert (identity.server, identity.token, identity.secret) == ("https://wayleave.example.com", "", "wle_1_s3cret")
    assert main(arguments) == 0, "again"
    (places.inbox / "S-1-22-1-40001").mkdir()
    (places.inbox / "S-1-22-1-40001" / "report.json").symlink_to(secret)
    (places.inbox / "S-1-22-1-40002").mkdir()
    (places.inbox / "S-1-22-1-40002" / "report.json").write_text("{}")
    (places.inbox / "S-1-22-1-40003").symlink_to(tmp_path)
    assert main(["uninstall", "--keep-state"]) == 0
    assert identity == load_identity(places.machine)
    assert main(["uninstall"]) == 1, "what is not ours is left, and told"
    assert secret.exists()
    assert not (places.inbox / "S-1-22-1-40002").exists()
    assert not places.machine.exists()


@needs_root
def test_installing_anew_keeps_the_token_of_the_same_server(base: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("wle_1_first")
    install = ["install", "--secret-file", str(secret), "--server"]
    assert main([*install, "https://a.example.com"]) == 0
    enrolled = load_identity(base / "machine")
    assert enrolled is not None
    save_identity(base / "machine", replace(enrolled, host_id="7", token="wl_7_token"))
    secret.write_text("wle_2_second")
    assert main([*install, "https://a.example.com"]) == 0
    kept = load_identity(base / "machine")
    assert kept is not None
    assert (kept.token, kept.secret) == ("wl_7_token", "wle_2_second")
    assert main([*install, "https://b.example.com"]) == 0
    other = load_identity(base / "machine")
    assert other is not None
    assert (other.server, other.token, other.host_id) == ("https://b.example.com", "", "")


@needs_root
def test_what_somebody_made_before_is_refused(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base.mkdir()
    os.chown(base, 40_001, 40_001)
    assert main(["install"]) == 1
    assert "made by S-1-22-1-40001" in capsys.readouterr().err
    base.rmdir()
    base.symlink_to("/etc")
    assert main(["install"]) == 1
    assert "is a link" in capsys.readouterr().err


@needs_root
def test_a_folder_that_somebody_made_meanwhile_is_refused(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base.mkdir()
    (base / "machine").mkdir()
    os.chown(base / "machine", 40_001, 40_001)
    assert main(["install"]) == 1
    assert "was made by the user 40001" in capsys.readouterr().err


def test_a_bad_address_or_secret_is_wrong_use(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = tmp_path / "empty"
    empty.write_text("\n")
    assert main(["install", "--server", "https://a.example.com", "--secret-file", str(empty)]) == 2
    assert "secret" in capsys.readouterr().err
    assert not base.exists()


@pytest.mark.parametrize(
    ("sddl", "readers"),
    [
        ("O:BAD:PAI(A;;FA;;;SY)(A;;FA;;;BA)", ""),
        # On a share: computers alone.
        ("O:BAD:PAI(A;;FA;;;SY)(A;;FA;;;BA)(A;;0x1200a9;;;S-1-5-21-1-2-3-515)", ""),
        (f"O:BAD:PAI(A;;FA;;;BA)(A;;FA;;;{GROUND.installer})", ""),
        # A new file on C:, in ProgramData, below Windows\\Temp; made open to all.
        (NEW_FOLDER_ON_C, "S-1-5-11, S-1-5-32-545"),
        ("O:BAD:AI(A;ID;FA;;;SY)(A;ID;FA;;;BA)(A;ID;0x1200a9;;;BU)", "S-1-5-32-545"),
        ("O:BAD:P(A;;FA;;;BA)(A;;FR;;;WD)", "S-1-1-0"),
        ("O:BAD:P(A;;FA;;;BA)(A;;GR;;;IU)", "S-1-5-4"),
        ("O:BAD:P(A;;FA;;;BA)(A;;CC;;;S-1-5-21-1-2-3-1001)", "S-1-5-21-1-2-3-1001"),
        ("O:BAD:P(A;;FA;;;BA)(A;;FR;;;S-1-5-21-1-2-3-513)", "S-1-5-21-1-2-3-513"),
        ("O:BAD:NO_ACCESS_CONTROL", "S-1-1-0"),
        ("O:BA", "S-1-1-0"),
        # Who may only list or is shut out does not read.
        ("O:BAD:P(A;;FA;;;BA)(D;;FR;;;BU)(A;OICIIO;GA;;;BU)(A;;RC;;;BU)", ""),
        (None, ""),
    ],
)
def test_a_secret_that_others_can_read_is_told(sddl: str | None, readers: str) -> None:
    warning = warn_of_secret("C:\\secret.txt", sddl, GROUND.installer)
    if readers:
        assert f"may be read by {readers}: whoever reads it can enrol" in warning
        assert 'icacls "C:\\secret.txt" /inheritance:r' in warning
    else:
        assert warning == ""


def test_installing_warns_of_an_open_secret_and_goes_on(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("wle_" + "a" * 40)
    for mode, warned in ((0o644, True), (0o600, False)):
        secret.chmod(mode)
        main(["install", "--server", "https://a.example.com", "--secret-file", str(secret)])
        assert ("warning: " in capsys.readouterr().err) == warned


def test_the_commands_are_in_the_help() -> None:
    text = subprocess.run(
        [sys.executable, "-m", "agent.cli", "--help"], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    for name in ("user", "machine", "install", "uninstall", "status", "doctor"):
        assert f"    {name}" in text
