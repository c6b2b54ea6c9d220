"""Both halves on the bench: the calls of Windows by which a note is left, opened by handle, judged and taken.

What Wine answers for real is used for real: opening relative to a directory's handle, owner, number of names, kind and
final path of what was opened, security descriptors given and read. It keeps no owner but one's own, shows any other as
the anonymous account, and its schtasks registers nothing: see docs/verified.md.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.windows.bench.agent import run_agent
from tests.windows.bench.places import PYTHON, on_disk
from tests.windows.bench.policy import enforce
from tests.windows.bench.run import run

pytestmark = pytest.mark.windows

BASE = r"C:\ProgramData\Wayleave"

PREPARE = """
import os, sys
from dataclasses import replace
from pathlib import Path
from agent import _install_windows as windows
from agent import inbox
from agent._platform import read_principal
from agent.enrolling import prepare_enrolment
from agent.install import plan_install
from agent.places import find_places
places, sid = find_places(os.environ), read_principal().sid
ground = windows.survey(places, Path(sys.executable).parent)
for _ in range(2):
    for step in plan_install(replace(ground, is_elevated=True), with_tasks=False):
        windows.carry_out(step, places, os.environ)
inbox.make_inbox(places.inbox, sid)
prepare_enrolment(places.machine, "http://127.0.0.1:9", "wle_1_s3cret")
print(sid)
"""


def python(code: str) -> str:
    finished = run([PYTHON, "-I", "-c", code])
    assert finished.code == 0, finished
    return finished.output


@pytest.fixture
def sid(agent_installed: None, clean_bench: None) -> Iterator[str]:
    shutil.rmtree(on_disk(BASE), ignore_errors=True)
    yield python(PREPARE).split()[-1]
    shutil.rmtree(on_disk(BASE), ignore_errors=True)


def note(sid: str) -> Path:
    return on_disk(rf"{BASE}\inbox\{sid}") / "report.json"


def take(sid: str) -> dict[str, Any]:
    said = python(
        "import json, os\nfrom agent.inbox import take_notes\nfrom agent.places import find_places\n"
        f"found = take_notes(find_places(os.environ).inbox, [{sid!r}])\n"
        "print(json.dumps({'notes': sorted(found.notes), 'refused': [one.reason for one in found.refused]}))"
    )
    found: dict[str, Any] = json.loads(said.splitlines()[-1])
    return found


def test_what_a_user_leaves_is_what_the_system_reports(sid: str, default_rules: str) -> None:
    enforce(default_rules)
    left = run_agent("user")
    assert left.code == 0, left
    assert take(sid) == {"notes": [sid], "refused": []}
    told = run_agent("machine")
    assert told.code == 5, told
    assert "1 users with a note; 1 reports made; 0 sent, 1 waiting" in told.output.replace("\n", " ")
    (spooled,) = (on_disk(rf"{BASE}\machine\subjects\{sid}") / "spool").glob("*.json")
    report = json.loads(spooled.read_bytes())["report"]
    assert report["subject"] == sid
    bodies = {kind: json.loads(report["bodies"][name]) for kind, name in report["sets"].items()}
    assert bodies["host"]["attested"] is True
    assert any(probe["outcome"] == "blocked" and probe["error"] == 1260 for probe in bodies["probes"]["probes"])
    assert "alice" not in json.dumps({kind: body for kind, body in bodies.items() if kind != "host"}).lower()


def test_what_is_not_the_users_own_file_is_refused(sid: str) -> None:
    path = note(sid)
    assert take(sid) == {"notes": [], "refused": []}
    run_agent("user", "--method", "policy")
    whole = path.read_bytes()
    assert take(sid)["notes"] == [sid]

    os.link(path, path.with_name("another"))
    assert take(sid) == {"notes": [], "refused": ["it has more than one name"]}
    path.with_name("another").unlink()

    with path.open("ab") as file:
        file.write(b" " * (1 << 18))
    assert take(sid)["refused"] == ["it is too large"]
    path.write_bytes(whole)

    owner = path.stat().st_uid
    os.chown(path, 40_001, -1)
    path.chmod(0o666)
    assert take(sid) == {"notes": [], "refused": ["it belongs to somebody else"]}
    os.chown(path, owner, -1)
    assert take(sid)["notes"] == [sid]

    path.unlink()
    path.mkdir()
    refused = take(sid)
    assert refused["notes"] == []
    assert len(refused["refused"]) == 1


def test_a_folder_or_file_that_leads_elsewhere_is_refused(sid: str) -> None:
    """Wine makes no junctions: a link of the file system below it stands for one, and the final path tells."""
    run_agent("user", "--method", "policy")
    path = note(sid)
    elsewhere = on_disk("C:\\") / "elsewhere"
    elsewhere.mkdir(exist_ok=True)
    try:
        path.rename(elsewhere / "report.json")
        path.symlink_to(os.path.relpath(elsewhere / "report.json", path.parent))
        found = take(sid)
        assert found["notes"] == []
        assert len(found["refused"]) == 1, "it is there, and leads elsewhere"
        path.unlink()
        path.parent.rmdir()
        path.parent.symlink_to(os.path.relpath(elsewhere, path.parent.parent), target_is_directory=True)
        found = take(sid)
        assert found["notes"] == []
        assert len(found["refused"]) == 1
    finally:
        path.parent.unlink(missing_ok=True)
        shutil.rmtree(elsewhere)


def test_beside_another_product_nothing_is_started(sid: str) -> None:
    key = r"SYSTEM\CurrentControlSet\Services\ThreatLockerService"
    python(
        "import winreg\n"
        f"key = winreg.CreateKeyEx(winreg.HKEY_LOCAL_MACHINE, r'{key}', 0, winreg.KEY_WRITE | winreg.KEY_WOW64_64KEY)\n"
        "winreg.SetValueEx(key, 'Start', 0, winreg.REG_DWORD, 2)"
    )
    try:
        assert run_agent("user").code == 0
        left = json.loads(note(sid).read_bytes())["bodies"]
        assert json.loads(left["environment"])["controls"] == ["ThreatLocker"]
        methods = {probe["method"] for probe in json.loads(left["probes"])["probes"]}
        assert methods == {"policy", "none"}
    finally:
        python(f"import winreg\nwinreg.DeleteKeyEx(winreg.HKEY_LOCAL_MACHINE, r'{key}', winreg.KEY_WOW64_64KEY)")


def test_the_scheduler_is_not_believed_when_it_says_done_and_did_nothing(sid: str) -> None:
    said = python(
        PREPARE.rsplit("print", 1)[0] + "from agent.install import CannotInstall\n"
        "trusted = 'O:BAD:(A;;FA;;;BA)'\n"
        "ground = replace(ground, is_elevated=True, has_program=True, program_sddl=trusted)\n"
        "ground = replace(ground, program_ancestors=(trusted,))\n"
        "try:\n"
        "    windows.carry_out(plan_install(ground)[-1], places, os.environ)\n"
        "except CannotInstall as error:\n"
        "    print(error)\n"
    )
    assert "was registered, it was said, but is missing" in said
    assert not (on_disk(BASE) / "machine" / "task.xml").exists()


def test_installing_needs_an_administrator_and_doctor_says_what_is_missing(sid: str) -> None:
    refused = run_agent("install", "--no-tasks")
    assert (refused.code, "Run as administrator" in refused.output) == (1, True)
    told = run_agent("doctor")
    assert told.code == 1, told
    for words in (
        "the task \\Wayleave\\User is missing",
        "http://127.0.0.1:9 cannot be reached",
        "wayleave-agent install",
    ):
        assert words in told.output
