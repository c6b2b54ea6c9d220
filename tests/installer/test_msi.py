"""The MSI's tables: what is installed where, what is run by whom and when, and what survives an upgrade."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from agent.canary import WINDOWS_CANARY
from agent.install import Ground, TaskToRegister, plan_install
from agent.tasks import DEFAULT_DIRECTORY, PROGRAM
from installer.msi import build_msi

SDDL = "O:BAD:P(A;;FA;;;SY)(A;;FA;;;BA)(A;;0x1200a9;;;BU)"

# Custom action types. source: Windows Installer, "Summary List of All Custom Action Types" and its option flags
PROGRAM_OF_THE_PACKAGE, SET_PROPERTY = 18, 51
IGNORE_FAILURE, ON_ROLLBACK, IN_SCRIPT, AS_SYSTEM = 64, 256, 1024, 2048


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for program, package in (("wixl", "wixl"), ("msiinfo", "msitools")):
        if shutil.which(program) is None:
            pytest.skip(f"needs {package}")
    made = tmp_path_factory.mktemp("package") / "wayleave-agent"
    (made / "licences").mkdir(parents=True)
    for name in ("wayleave-agent.exe", PROGRAM, "python313.dll"):
        (made / name).write_bytes(WINDOWS_CANARY)
    (made / "licences/python.txt").write_text("free")
    return made


@pytest.fixture(scope="module")
def msi(directory: Path) -> Path:
    built = directory.parent / "agent.msi"
    build_msi(directory, built, version="1.2.3")
    return built


def table(msi: Path, name: str) -> list[dict[str, str]]:
    told = subprocess.run(["msiinfo", "export", str(msi), name], capture_output=True, text=True, check=True).stdout
    names, _, _, *rows = [line.split("\t") for line in told.replace("\r", "").splitlines()]
    return [dict(zip(names, row, strict=True)) for row in rows]


def actions(msi: Path) -> dict[str, dict[str, str]]:
    return {row["Action"]: row for row in table(msi, "CustomAction")}


def sequence(msi: Path) -> dict[str, int]:
    return {row["Action"]: int(row["Sequence"]) for row in table(msi, "InstallExecuteSequence")}


def conditions(msi: Path) -> dict[str, str]:
    return {row["Action"]: row["Condition"] for row in table(msi, "InstallExecuteSequence")}


def properties(msi: Path) -> dict[str, str]:
    return {row["Property"]: row["Value"] for row in table(msi, "Property")}


def test_it_is_for_all_users_and_lies_below_program_files(msi: Path) -> None:
    folders = {row["Directory"]: (row["Directory_Parent"], row["DefaultDir"]) for row in table(msi, "Directory")}
    assert properties(msi)["ALLUSERS"] == "1"
    assert folders["INSTALLDIR"] == ("ProgramFiles64Folder", "Wayleave")
    assert DEFAULT_DIRECTORY == r"C:\Program Files\Wayleave"
    # 256: a 64-bit component, which Windows does not redirect to Program Files (x86).
    assert {int(row["Attributes"]) & 256 for row in table(msi, "Component")} == {256}


def test_both_tasks_come_from_what_it_runs(msi: Path) -> None:
    """The tables run the agent's own `install`; the tasks that this plans start a program that the tables put there."""
    files = {row["FileName"].split("|")[-1]: row["Component_"] for row in table(msi, "File")}
    where = {row["Component"]: row["Directory_"] for row in table(msi, "Component")}
    assert where[files[PROGRAM]] == "INSTALLDIR"
    set_up = actions(msi)["SetUp"]
    assert set_up["Source"] == "f_wayleave_agentw.exe"
    assert set_up["Target"] == "[INSTALLCOMMAND]"
    assert actions(msi)["SayInstall"]["Target"] == "install"
    assert properties(msi)["REGISTERTASKS"] == "1"
    assert conditions(msi)["SayNoTasks"] == 'NOT REMOVE AND REGISTERTASKS = "0"'

    ground = Ground(
        is_elevated=True,
        base=r"C:\ProgramData\Wayleave",
        program_directory=DEFAULT_DIRECTORY,
        program_sddl=SDDL,
        program_ancestors=(SDDL,),
    )
    tasks = {step.name: step.xml for step in plan_install(ground) if isinstance(step, TaskToRegister)}
    assert set(tasks) == {r"\Wayleave\User", r"\Wayleave\Machine"}
    for xml in tasks.values():
        assert rf"<Command>{DEFAULT_DIRECTORY}\{PROGRAM}</Command>" in xml


def test_each_action_runs_as_the_system_account_when_it_should(msi: Path) -> None:
    types = {name: int(row["Type"]) for name, row in actions(msi).items()}
    as_system = PROGRAM_OF_THE_PACKAGE | IN_SCRIPT | AS_SYSTEM
    assert types["SetUp"] == as_system
    assert types["UndoSetUp"] == as_system | ON_ROLLBACK | IGNORE_FAILURE
    assert types["TakeBack"] == as_system | IGNORE_FAILURE
    assert {kind for name, kind in types.items() if name.startswith("Say")} == {SET_PROPERTY}
    order = sequence(msi)
    assert order["InstallInitialize"] < order["TakeBack"] < order["RemoveFiles"]
    assert order["InstallFiles"] < order["WriteRegistryValues"] < order["UndoSetUp"] < order["SetUp"]
    assert order["SetUp"] < order["InstallFinalize"]
    said = [order[name] for name in ("SayInstall", "SayServer", "SayAuthorities", "SayNoTasks")]
    assert said == sorted(said)
    assert order["CostFinalize"] < said[0]
    assert said[-1] < order["InstallInitialize"]


def test_an_upgrade_keeps_the_state_and_only_a_removal_takes_it(msi: Path) -> None:
    order, when = sequence(msi), conditions(msi)
    # Within the transaction: what fails is rolled back to the old version.
    assert order["InstallInitialize"] < order["RemoveExistingProducts"] < order["InstallFiles"]
    assert when["TakeBack"] == 'REMOVE ~= "ALL" AND NOT UPGRADINGPRODUCTCODE'
    assert when["UndoSetUp"] == "NOT Installed AND NOT REMOVE AND NOT OLDERFOUND"
    assert when["SayKeepState"] == 'REMOVE ~= "ALL" AND KEEPSTATE'
    upgrades = {row["ActionProperty"]: row for row in table(msi, "Upgrade")}
    assert (upgrades["OLDERFOUND"]["VersionMin"], upgrades["OLDERFOUND"]["VersionMax"]) == ("0.0.0", "1.2.3")
    assert int(upgrades["OLDERFOUND"]["Attributes"]) == 1 | 256 | 512  # keeps features, both ends included
    assert (upgrades["NEWERFOUND"]["VersionMin"], int(upgrades["NEWERFOUND"]["Attributes"])) == ("1.2.3", 2)
    # Nothing below ProgramData belongs to a component.
    assert {row["Directory_"] for row in table(msi, "Component")} == {"INSTALLDIR", "f_licences"}
    assert table(msi, "RemoveFile") == []


def test_no_secret_can_be_said_on_a_command_line(msi: Path) -> None:
    told = properties(msi)
    assert set(told["SecureCustomProperties"].split(";")) >= {"SERVER", "SECRETFILE", "CAFILE", "REGISTERTASKS"}
    assert actions(msi)["SayServer"]["Target"].endswith('--server "[SERVER]" --secret-file "[SECRETFILE]"')
    targets = " ".join(row["Target"] for row in actions(msi).values())
    assert "--secret " not in targets
    assert "[SECRET]" not in targets
    assert "Installed OR NOT SERVER OR SECRETFILE" in {row["Condition"] for row in table(msi, "LaunchCondition")}


def test_binaries_have_their_versions_so_that_newer_ones_replace_them(msi: Path) -> None:
    versions = {row["FileName"].split("|")[-1]: row["Version"] for row in table(msi, "File")}
    assert versions[PROGRAM] == versions["python313.dll"] == "1.0.0.0"
    assert versions["python.txt"] == ""


def test_the_place_is_noted_for_the_launcher(msi: Path) -> None:
    [noted] = [row for row in table(msi, "Registry") if row["Name"] == "InstallDir"]
    assert (noted["Root"], noted["Key"], noted["Value"]) == ("2", r"SOFTWARE\Wayleave\Agent", "[INSTALLDIR]")


def test_the_same_files_give_the_same_bytes_and_others_another_product(
    directory: Path, msi: Path, tmp_path: Path
) -> None:
    again, other = tmp_path / "again.msi", tmp_path / "other.msi"
    build_msi(directory, again, version="1.2.3")
    assert again.read_bytes() == msi.read_bytes()
    build_msi(directory, other, version="1.2.4")
    assert properties(other)["UpgradeCode"] == properties(msi)["UpgradeCode"]
    assert properties(other)["ProductCode"] != properties(msi)["ProductCode"]
    components = ({row["ComponentId"] for row in table(one, "Component")} for one in (msi, other))
    assert next(components) == next(components)
