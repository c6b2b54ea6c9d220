"""The shim refuses what its policy refuses, with 1260, and nothing else: tried with real programs on the bench."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from pathlib import Path

import lief
import pytest

from agent.pe import identify
from tests.windows.bench.commands import decisions, refused
from tests.windows.bench.places import LAUNCHER, PYTHON, SHIM_POLICY, UV, UV_BEFORE_SIGNING, on_disk
from tests.windows.bench.run import Finished, run_under_policy
from tests.windows.signing import Signer, make_signer

pytestmark = pytest.mark.windows

BASE = ("exe\tenforced", "exe\tallow\tpath\t%PROGRAMFILES%\\*", "exe\tallow\tpath\t%WINDIR%\\*")
TRY = r"""
import ctypes, subprocess, sys, _winapi
for path in sys.argv[1:]:
    number = 0
    try:
        if path.lower().endswith((".dll", ".pyd")):
            ctypes.WinDLL(path)
        else:
            started = _winapi.CreateProcess(path, None, None, None, False, 4, None, None, subprocess.STARTUPINFO())
            _winapi.TerminateProcess(started[0], 77)
            _winapi.WaitForSingleObject(started[0], 5000)
            assert _winapi.GetExitCodeProcess(started[0]) == 77
    except OSError as error:
        number = error.winerror
    print(number, path)
"""


@pytest.fixture
def programs(clean_bench: None) -> None:
    r"""Programs to try below C:\src\shim: a copy of uv.exe, a link to it, a library, and files that are no programs."""
    folder = on_disk(r"C:\src\shim")
    (folder / "Sub Folder").mkdir(parents=True)
    for name in ("a.exe", "Sub Folder/ä.exe"):
        os.link(on_disk(UV), folder / name)
    (folder / "link.exe").symlink_to("a.exe")
    (folder / "to-windows.exe").symlink_to("../../windows/system32/where.exe")
    shutil.copy(on_disk(PYTHON).parent / "DLLs/_socket.pyd", folder / "_socket.pyd")
    (folder / "junk.exe").write_bytes(b"no program")


def try_starts(policy: tuple[str, ...], *paths: str) -> list[int]:
    """The error number of starting each program, or loading each library; 0 for none."""
    on_disk(SHIM_POLICY).write_text("".join(f"{line}\n" for line in policy), encoding="utf-8")
    finished: Finished = run_under_policy([PYTHON, "-I", "-X", "utf8", "-c", TRY, *paths])
    numbers = [int(line.split(" ", 1)[0]) for line in finished.output.splitlines() if line[:1].isdigit()]
    assert len(numbers) == len(paths), finished
    return numbers


def test_what_no_rule_allows_is_refused_however_it_is_written(programs: None) -> None:
    forms = (
        r"C:\src\shim\a.exe",
        r"c:\SRC\Shim\A.EXE",
        "C:/src/shim/a.exe",
        r"C:\src\other\..\shim\a.exe",
        r"\\?\C:\src\shim\a.exe",
        r"C:\src\shim\link.exe",
        r"C:\src\shim\Sub Folder\ä.exe",
    )
    assert try_starts(BASE, *forms) == [1260] * len(forms)
    assert all(path.lower().startswith(r"c:\src\shim") for path in refused())


def test_the_target_of_a_link_is_judged(programs: None) -> None:
    assert try_starts(BASE, r"C:\src\shim\to-windows.exe") == [0]


def test_what_is_no_program_or_not_there_keeps_its_own_error(programs: None) -> None:
    assert try_starts(BASE, r"C:\src\shim\missing.exe", r"C:\src\shim\junk.exe") == [2, 193]


def test_without_a_policy_or_rules_everything_starts(programs: None) -> None:
    assert try_starts((), r"C:\src\shim\a.exe") == [0]
    assert try_starts(("dll\tenforced", "dll\tallow\tpath\t*"), r"C:\src\shim\a.exe") == [0]


@pytest.mark.parametrize(
    ("rules", "number"),
    [
        (("allow\tpath\t%OSDRIVE%\\src\\*",), 0),
        (("allow\tpath\tC:\\SRC\\shim\\?.exe",), 0),
        (("allow\tpath\t*\\a.exe",), 0),
        (("allow\tpath\t%OSDRIVE%\\*im\\A*.EXE",), 0),
        (("allow\tpath\t%OSDRIVE%\\src\\shim",), 1260),
        (("allow\tpath\t%OSDRIVE%\\src\\shim\\?",), 1260),
        (("allow\tpath\t%USERPROFILE%\\*",), 1260),
        (("allow\tnever\tO=SOMEBODY",), 1260),
        (("allow\tpath\t*", "except\tpath\t%OSDRIVE%\\src\\*"), 1260),
        (("allow\tpath\t*", "except\tpath\t%OSDRIVE%\\other\\*"), 0),
        (("allow\tpath\t*", "deny\tpath\t*\\a.exe"), 1260),
        (("deny\tpath\t*\\a.exe", "allow\tpath\t*"), 1260),
        (("allow\tpath\t*", "deny\tpath\t*\\a.exe", "except\tpath\t%OSDRIVE%\\src\\*"), 0),
    ],
)
def test_rules(programs: None, rules: tuple[str, ...], number: int) -> None:
    assert try_starts((*BASE, *(f"exe\t{rule}" for rule in rules)), r"C:\src\shim\a.exe") == [number]


def test_audit_only_records(programs: None) -> None:
    assert try_starts(("exe\taudit", *BASE[1:]), r"C:\src\shim\a.exe") == [0]
    assert [decision.word for decision in decisions() if decision.path.endswith("a.exe")] == ["AUDIT"]


def test_libraries_have_their_own_collection(programs: None) -> None:
    libraries = ("dll\tenforced", "dll\tallow\tpath\t%PROGRAMFILES%\\*", "dll\tallow\tpath\t%WINDIR%\\*")
    assert try_starts((*BASE, *libraries), r"C:\src\shim\_socket.pyd") == [1260]
    opened = "dll\tallow\tpath\t%OSDRIVE%\\src\\*"
    assert try_starts((*BASE, *libraries, opened), r"C:\src\shim\_socket.pyd", r"C:\src\shim\a.exe") == [0, 1260]


def test_a_hash_rule_holds_the_authenticode_hash(programs: None, tmp_path: Path) -> None:
    """The shim computes what osslsigncode, lief and the agent do: of signed and unsigned files of any size."""
    if shutil.which("osslsigncode") is None:
        pytest.skip("needs osslsigncode")
    folder, signer = on_disk(r"C:\src\shim"), make_signer(tmp_path)
    launcher = on_disk(LAUNCHER).read_bytes()
    digests = {}
    for size in range(9):  # what is hashed is filled up to a multiple of eight
        plain, signed = folder / f"plain{size}.exe", folder / f"signed{size}.exe"
        plain.write_bytes(launcher + b"overlay!"[:size])
        shutil.copy(plain, signed)
        signer.sign(signed)
        digests[plain.name] = digests[signed.name] = calculated(signer, signed)
        assert {identify(one).authenticode_sha256 for one in (plain, signed)} == {digests[plain.name]}
    for number, program in enumerate((UV, UV_BEFORE_SIGNING, PYTHON)):
        parsed = lief.PE.parse(str(on_disk(program)))
        assert parsed is not None
        digest = bytes(parsed.authentihash(lief.PE.ALGORITHMS.SHA_256)).hex()
        copy, changed = folder / f"copy{number}.exe", folder / f"changed{number}.exe"
        os.link(on_disk(program), copy)
        content = bytearray(on_disk(program).read_bytes())
        content[parsed.sections[0].offset + 100] ^= 1
        changed.write_bytes(content)
        digests[copy.name] = digest
        assert identify(copy).authenticode_sha256 == digest != identify(changed).authenticode_sha256
    rules = [f"exe\tallow\tsha256\t{digest}" for digest in dict.fromkeys(digests.values())]
    # The hash of a file's bytes from end to end is another one, which is in no rule of AppLocker's.
    rules.append(f"exe\tallow\tsha256\t{hashlib.sha256((folder / 'changed0.exe').read_bytes()).hexdigest()}")
    names = [*digests, *(f"changed{number}.exe" for number in range(3))]
    started = try_starts((*BASE, *rules), *(rf"C:\src\shim\{name}" for name in names))
    assert started == [0] * len(digests) + [1260] * 3


def calculated(signer: Signer, file: Path) -> str:
    """The digest that osslsigncode calculates when it verifies."""
    found = re.search(r"Calculated message digest\s*:\s*([0-9A-F]{64})", signer.verify(file))
    assert found is not None
    return found[1].lower()


def test_children_of_children_obey_too(programs: None) -> None:
    on_disk(SHIM_POLICY).write_text("\n".join(BASE))
    inner = r"import subprocess; subprocess.run([r'C:\\src\\shim\\a.exe', '--version'])"
    outer = f'import subprocess, sys; sys.exit(subprocess.run([sys.executable, "-c", {inner!r}]).returncode)'
    finished = run_under_policy([PYTHON, "-c", outer])
    assert "WinError 1260" in finished.output, finished
    assert refused() == [r"C:\src\shim\a.exe"]


def test_the_launcher_says_when_the_program_itself_is_refused(programs: None) -> None:
    on_disk(SHIM_POLICY).write_text("\n".join(BASE))
    finished = run_under_policy([r"C:\src\shim\a.exe", "--version"])
    assert finished.code == 121
    assert "not started: error 1260" in finished.output
