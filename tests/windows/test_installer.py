"""The packages, on the bench: signed, installed by an administrator, at work for a user, upgraded, removed."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from agent.pe import identify
from installer.binaries import CONSOLE, LIBRARY, WINDOWED
from installer.build import pack
from installer.frozen import Frozen, freeze
from installer.trial import build_trial
from tests.windows.bench.places import DRIVE_C, on_disk
from tests.windows.bench.run import run, run_under_policy
from tests.windows.bench.server import Server, running_server
from tests.windows.frozen import run_elevated
from tests.windows.signing import PUBLISHER, Signer, make_signer

pytestmark = pytest.mark.windows

PLACE, STATE = r"C:\Program Files\Wayleave", r"C:\ProgramData\Wayleave"
PROGRAM = rf"{PLACE}\wayleave-agent.exe"
MSI, NEWER_MSI, SECRET_FILE = r"C:\src\agent.msi", r"C:\src\newer.msi", r"C:\src\secret.txt"
# Wine's Task Scheduler takes every task and keeps none, which `install` notices: on the bench it is told to leave them.
NO_TASKS = "REGISTERTASKS=0"
NOT_DELIVERED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Packages:
    """What was built and signed: two versions of the MSI, the bill of materials, and the directory inside."""

    msi: Path
    newer_msi: Path
    bill: dict[str, Any]
    frozen: Frozen
    signer: Signer


@pytest.fixture(scope="module")
def packages(frozen: Frozen, tmp_path_factory: pytest.TempPathFactory) -> Packages:
    for program in ("wixl", "msibuild", "osslsigncode"):
        if shutil.which(program) is None:
            pytest.skip(f"needs {program}")
    output = tmp_path_factory.mktemp("packages")
    signer = make_signer(output)
    inside = Frozen(directory=output / "agent", version=frozen.version, contents=frozen.contents)
    shutil.copytree(frozen.directory, inside.directory)
    msi, bill = pack(inside, output, sign=signer.sign)
    (output / "newer").mkdir()
    later = Frozen(directory=output / "newer/agent", version="0.9.9", contents=frozen.contents)
    shutil.copytree(frozen.directory, later.directory)
    (later.directory / "licences/new.txt").write_text("came with the upgrade")
    (later.directory / "licences/httpx.txt").unlink()
    newer_msi, _ = pack(later, output / "newer", sign=signer.sign, version=later.version)
    return Packages(msi=msi, newer_msi=newer_msi, bill=json.loads(bill.read_text()), frozen=inside, signer=signer)


@pytest.fixture
def clean_machine(clean_bench: None, packages: Packages) -> Iterator[None]:
    """A machine without the agent, with both installers on its drive."""
    shutil.copy(packages.msi, on_disk(MSI))
    shutil.copy(packages.newer_msi, on_disk(NEWER_MSI))
    yield
    for msi in (NEWER_MSI, MSI):
        if on_disk(PLACE).exists():
            run_elevated("msiexec", "/x", msi, "/qn")
    for folder in (PLACE, STATE):
        shutil.rmtree(on_disk(folder), ignore_errors=True)


def state() -> dict[str, bytes]:
    """Every file of the system's half by its path: the token, the progress, what waits in the spools."""
    folder = on_disk(rf"{STATE}\machine")
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_installed_at_work_upgraded_and_removed(clean_machine: None, tmp_path: Path) -> None:
    with running_server(tmp_path) as server:
        secret = server.enrolment_secret()
        on_disk(SECRET_FILE).write_text(secret)
        install(MSI, f"SERVER={server.url}", f"SECRETFILE={SECRET_FILE}")
        on_disk(SECRET_FILE).unlink()
        assert "InstallDir" in run(["reg", "query", r"HKLM\SOFTWARE\Wayleave\Agent"]).output

        report_as_both_halves(server)
        keep_state_over_an_upgrade(server)

    finished = run_elevated("msiexec", "/x", NEWER_MSI, "/qn")
    assert finished.code == 0, finished
    assert not on_disk(PLACE).exists()
    assert not on_disk(STATE).exists()
    assert "InstallDir" not in run(["reg", "query", r"HKLM\SOFTWARE\Wayleave\Agent"]).output
    # What Windows itself notes of installations holds no secret either.
    for path in (*DRIVE_C.rglob("*.log"), *DRIVE_C.parent.glob("*.reg")):
        assert secret.encode() not in path.read_bytes(), path


def install(msi: str, *properties: str) -> None:
    finished = run_elevated("msiexec", "/i", msi, "/qn", NO_TASKS, *properties)
    assert finished.code == 0, finished
    assert on_disk(PROGRAM).exists()


def report_as_both_halves(server: Server) -> None:
    """What the tasks would start: the system's half, which makes the inbox, the user's without a console, and again."""
    first = run_elevated(PROGRAM, "machine")
    assert first.code == 0, first
    noted = run_under_policy([rf"{PLACE}\wayleave-agentw.exe", "user"])
    assert noted.code == 0, noted
    sent = run_elevated(PROGRAM, "machine")
    assert (sent.code, "1 sent, 0 waiting" in sent.output) == (0, True), sent
    shown = server.probes_of_only_host()
    assert shown["cache-builds-venv-python"].outcome == "allowed"


def keep_state_over_an_upgrade(server: Server) -> None:
    """A report that waits while the version changes is the first thing that the new version delivers."""
    unreachable = {"HTTP_PROXY": "http://127.0.0.1:1"}
    waiting = run_elevated(PROGRAM, "machine", "--force", variables=unreachable)
    assert (waiting.code, "1 waiting" in waiting.output) == (NOT_DELIVERED, True), waiting
    before = state()
    assert any("spool" in name for name in before)

    # Windows Installer removes what a newer version replaces with this property set (RemoveExistingProducts); Wine's
    # does so without it, and is therefore told to do the same in two steps.
    code = subprocess.run(["msiinfo", "export", on_disk(NEWER_MSI), "Property"], capture_output=True, text=True).stdout
    product = re.search(r"^ProductCode\t(\S+)", code, re.MULTILINE)
    assert product
    removed = run_elevated("msiexec", "/x", MSI, "/qn", f"UPGRADINGPRODUCTCODE={product[1]}")
    assert (removed.code, on_disk(PROGRAM).exists()) == (0, False), removed
    install(NEWER_MSI)
    assert on_disk(rf"{PLACE}\licences\new.txt").exists()
    assert not on_disk(rf"{PLACE}\licences\httpx.txt").exists()
    assert state() == before

    # The wait after a failure is over when it is forced.
    sent = run_elevated(PROGRAM, "machine", "--force")
    assert (sent.code, " 0 waiting" in sent.output) == (0, True), sent
    server.probes_of_only_host()


def test_an_installation_that_cannot_be_finished_leaves_nothing(clean_machine: None) -> None:
    """On the bench the tasks cannot be registered: `install` says so, and everything is taken back."""
    finished = run_elevated("msiexec", "/i", MSI, "/qn")
    assert finished.code != 0
    assert not on_disk(PROGRAM).exists()
    assert not on_disk(STATE).exists()


def test_a_server_without_a_secret_file_is_refused(clean_machine: None) -> None:
    assert run_elevated("msiexec", "/i", MSI, "/qn", NO_TASKS, "SERVER=https://wayleave.example.com").code != 0
    assert not on_disk(PROGRAM).exists()


def test_every_binary_is_signed_and_reads_as_such(packages: Packages) -> None:
    directory, unsigned = packages.frozen.directory, packages.signer
    for name in (CONSOLE, WINDOWED, LIBRARY):
        assert "Signature verification: ok" in unsigned.verify(directory / name)
        identity = identify(directory / name)
        assert (identity.publisher, identity.binary) == (PUBLISHER, name.upper())
        assert (identity.product, identity.version, identity.problems) == ("WAYLEAVE AGENT", "0.1.0.0", ())
    for msi in (packages.msi, packages.newer_msi):
        assert "Signature verification: ok" in unsigned.verify(msi)
    # All others are signed by those who made them.
    binaries = [path for path in directory.iterdir() if path.suffix in (".exe", ".dll", ".pyd")]
    assert {path.name for path in binaries if identify(path).signature != "present"} == set()


def test_the_bill_of_materials_is_valid_and_names_everything(packages: Packages) -> None:
    bill, directory = packages.bill, packages.frozen.directory
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(bill)) is None
    files = {part["name"]: part for part in bill["components"] if part["type"] == "file"}
    there = {path.relative_to(directory).as_posix(): path for path in directory.rglob("*") if path.is_file()}
    assert set(files) == set(there) - {"sbom.cdx.json"}
    for name, part in files.items():
        assert part["hashes"] == [{"alg": "SHA-256", "content": hashlib.sha256(there[name].read_bytes()).hexdigest()}]
    with zipfile.ZipFile(there[LIBRARY]) as library:
        modules = {part["name"]: part["hashes"][0]["content"] for part in files[LIBRARY]["components"]}
        assert set(modules) == {f"{LIBRARY}/{name}" for name in library.namelist()}
        assert hashlib.sha256(library.read("httpx/_client.pyc")).hexdigest() == modules[f"{LIBRARY}/httpx/_client.pyc"]
    named = {part["name"]: part["version"] for part in bill["components"] if part["type"] == "library"}
    assert {"httpx", "httpcore", "h11", "truststore", "certifi", "python", "openssl", "zlib", "expat"} <= set(named)
    assert named["python"] == packages.frozen.contents["python"]
    packages_inside = {name.split("/")[1] for name in modules if name.count("/") > 1}
    assert packages_inside & {"anyio", "pip", "setuptools"} == set()


def test_building_again_gives_the_same_bytes(frozen: Frozen, tmp_path: Path) -> None:
    again = freeze(tmp_path / "again")
    names = sorted(path.relative_to(again.directory) for path in again.directory.rglob("*") if path.is_file())
    assert [
        name for name in names if (again.directory / name).read_bytes() != (frozen.directory / name).read_bytes()
    ] == []


def test_the_trial_archive_says_what_it_is(bench: None, tmp_path: Path) -> None:
    archive = build_trial(tmp_path / "agent.pyz")
    ended = subprocess.run(
        [sys.executable, "-I", str(archive), "--version"], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert (ended.returncode, ended.stdout.startswith("wayleave-agent ")) == (0, True), ended
    assert "for trials" in ended.stderr
    assert "unattested" in ended.stderr
    probed = subprocess.run(
        [sys.executable, "-I", str(archive), "probe", "--state-dir", str(tmp_path / "state")],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert '"pattern"' in probed.stdout, probed
