r"""The packaged agent runs nobody's code: every trap that catches a Python is set, and the agent steps into none.

A trap is code that notes in C:\src\ran.txt that it ran. Each one is first shown to work, on python.exe.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from installer.binaries import imported_libraries
from installer.freeze import LEFT_OUT
from installer.frozen import Frozen
from tests.windows.bench.places import PYTHON, ROAMING_APPDATA, SOURCES, on_disk
from tests.windows.bench.run import Finished, run
from tests.windows.bench.setup import COMPILER
from tests.windows.frozen import CONSOLE, PLACE, WINDOWED, put_in_place

pytestmark = pytest.mark.windows

EVIL, RAN = r"C:\src\evil", r"C:\src\ran.txt"
USER_SITE = rf"{ROAMING_APPDATA}\Python\Python313\site-packages"
# By the system's own calls: where a Python imports its first module, there is no open() yet.
NOTE = f"import nt; nt.write(nt.open({RAN!r}, nt.O_WRONLY | nt.O_CREAT | nt.O_APPEND), __file__.encode() + b'\\n')\n"
# TLS, the platform's calls, the wire: what any cycle imports. Nobody listens there.
BUSY = ("enrol", "--server", "https://127.0.0.1:1", "--secret", "wle_1_none")
NOT_DELIVERED, WRONG_USE, NOT_STARTED = 5, 2, 70
PYTHON_PATH_KEY = r"HKCU\Software\Python\PythonCore\3.13\PythonPath\Evil"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trap:
    """A variable or a place by which a Python runs a caller's code. `arguments`: what python.exe is started with."""

    name: str
    variables: dict[str, str] = field(default_factory=dict)
    directory: str = "C:\\"
    arguments: tuple[str, ...] = ("-c", "import json, ssl; ssl.create_default_context()")


TRAPS = (
    Trap(name="PYTHONPATH", variables={"PYTHONPATH": EVIL}),
    Trap(name="PYTHONHOME", variables={"PYTHONHOME": EVIL}, arguments=("-c", "pass")),
    Trap(name="PYTHONSTARTUP", variables={"PYTHONSTARTUP": rf"{EVIL}\json.py"}, arguments=("-i",)),
    Trap(name="PYTHONUSERBASE", variables={"PYTHONUSERBASE": rf"{EVIL}\user"}),
    Trap(name="PYTHONWARNINGS", variables={"PYTHONWARNINGS": "error::json.Evil", "PYTHONPATH": EVIL}),
    Trap(name="PYTHONINSPECT", variables={"PYTHONINSPECT": "1", "PYTHONSTARTUP": rf"{EVIL}\json.py"}, arguments=()),
    Trap(name="OPENSSL_CONF", variables={"OPENSSL_CONF": rf"{EVIL}\openssl.cnf"}),
    Trap(name="openssl_conf", variables={"openssl_conf": rf"{EVIL}\openssl.cnf"}),
    Trap(name="the working directory", directory=EVIL),
    Trap(name="a user's site directory"),
)
AS_ARGUMENTS = (
    ("-c", NOTE.replace("__file__", "'-c'")),
    ("-m", "json"),
    ("-im", "json"),
    ("-x", rf"{EVIL}\json.py"),
    ("-X", "presite=json"),
    ("-W", "error::json.Evil", "status"),
    (rf"{EVIL}\json.py",),
    (EVIL,),
    ("--multiprocessing-fork", "parent_pid=1", "pipe_handle=2"),
    ("-",),
    ("-i",),
)


@pytest.fixture(scope="module")
def placed(bench: None, frozen: Frozen) -> None:
    put_in_place(frozen.directory)


@pytest.fixture(scope="module")
def trap_dll(tmp_path_factory: pytest.TempPathFactory) -> Path:
    built = tmp_path_factory.mktemp("traps") / "trap.dll"
    source = str(SOURCES / "traps/trap.c")
    subprocess.run([COMPILER, "-shared", "-O2", "-Wall", "-Wextra", "-Werror", "-o", str(built), source], check=True)
    return built


@pytest.fixture
def evil(placed: None, clean_bench: None, trap_dll: Path) -> Iterator[Path]:
    """A folder that a user may write, full of what Pythons like to import and Windows programs like to load."""
    folder = on_disk(EVIL)
    modules = ("json", "sitecustomize", "usercustomize", "agent/__init__", "agent/cli", "argparse", "httpx/__init__")
    for name in (*modules, "Lib/encodings/__init__", "encodings/cp1252", "truststore", "user/note"):
        file = folder / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(NOTE)
    for site in (rf"{EVIL}\user\Python313\site-packages", USER_SITE):
        pth = on_disk(site) / "evil.pth"
        pth.parent.mkdir(parents=True)
        pth.write_text(f"import sys; exec({NOTE.replace('__file__', repr(site))!r})\n")
    for name in ("version.dll", "python313.dll", "python3.dll", "vcruntime140.dll", "trap.dll", "_socket.pyd"):
        shutil.copy(trap_dll, folder / name)
    (folder / "openssl.cnf").write_text(
        "openssl_conf = start\n[start]\nproviders = all\n[all]\ntrap = trap\n"
        f"[trap]\nmodule = {(EVIL + chr(92)).replace(chr(92), chr(92) * 2)}trap.dll\nactivate = 1\n"
    )
    yield folder
    shutil.rmtree(on_disk(USER_SITE).parent)
    run(["reg", "delete", PYTHON_PATH_KEY, "/f"])


def what_ran() -> str | None:
    ran = on_disk(RAN)
    return ran.read_text() if ran.exists() else None


def assert_agent_only(finished: Finished, code: int) -> None:
    assert what_ran() is None, f"{what_ran()}\n{finished}"
    assert finished.code == code, finished


@contextmanager
def hidden(path: str) -> Iterator[None]:
    """Without one of Windows' own files meanwhile."""
    file = on_disk(path)
    file.rename(file.with_suffix(".hidden"))
    try:
        yield
    finally:
        file.with_suffix(".hidden").rename(file)


@pytest.mark.parametrize("trap", TRAPS, ids=lambda trap: trap.name)
def test_no_variable_or_directory_runs_code(trap: Trap, evil: Path) -> None:
    run([PYTHON, *trap.arguments], directory=trap.directory, variables=trap.variables)
    assert what_ran() is not None, "this trap would not catch anybody"
    on_disk(RAN).unlink()
    assert_agent_only(run([CONSOLE, *BUSY], directory=trap.directory, variables=trap.variables), NOT_DELIVERED)


@pytest.mark.parametrize(("directory", "path"), [(EVIL, ""), ("C:\\", EVIL)], ids=["working directory", "PATH"])
def test_no_dll_is_looked_for_where_users_write(directory: str, path: str, evil: Path) -> None:
    """Python imports version.dll. On a Windows that had none, other programs would find ours."""
    variables = {"WINEDLLOVERRIDES": "mscoree=;mshtml=;version=n", "WINEPATH": path}
    with hidden(r"C:\windows\system32\version.dll"):
        run([PYTHON, "-I", "-c", "pass"], directory=directory, variables=variables)
        assert what_ran() is not None, "this trap would not catch anybody"
        on_disk(RAN).unlink()
        assert_agent_only(run([CONSOLE, *BUSY], directory=directory, variables=variables), NOT_STARTED)


@pytest.mark.parametrize("program", [CONSOLE, WINDOWED], ids=["console", "windowed"])
def test_all_traps_at_once(program: str, evil: Path) -> None:
    variables = {name: value for trap in TRAPS for name, value in trap.variables.items()}
    run(["reg", "add", PYTHON_PATH_KEY, "/ve", "/d", EVIL, "/f"])
    run([PYTHON, "-s", "-P", "-c", "import json"])
    assert EVIL in str(what_ran()), "this trap would not catch anybody"
    on_disk(RAN).unlink()

    assert_agent_only(run([program, *BUSY], directory=EVIL, variables=variables), NOT_DELIVERED)
    assert_agent_only(run([program, "probe"], directory=EVIL, variables=variables), 0)


@pytest.mark.parametrize("arguments", AS_ARGUMENTS, ids=" ".join)
def test_no_argument_runs_code(arguments: tuple[str, ...], evil: Path) -> None:
    finished = run([CONSOLE, *arguments], directory=EVIL)
    assert_agent_only(finished, WRONG_USE)
    assert "usage: wayleave-agent" in finished.output


def test_no_variable_makes_it_write_down_tls_keys(evil: Path) -> None:
    keys, variables = on_disk(r"C:\src\keys.txt"), {"SSLKEYLOGFILE": r"C:\src\keys.txt"}
    run([PYTHON, "-c", "import ssl; ssl.create_default_context()"], variables=variables)
    assert keys.exists(), "this trap would not catch anybody"
    keys.unlink()
    assert run([CONSOLE, *BUSY], variables=variables).code == NOT_DELIVERED
    assert not keys.exists()


def test_no_library_that_it_tries_runs(evil: Path) -> None:
    """The child that loads libraries to see whether a policy lets them in takes paths from whoever starts it."""
    library = rf"{EVIL}\trap.dll"
    run([PYTHON, "-I", "-c", f"import ctypes; ctypes.WinDLL({library!r})"])
    assert what_ran() is not None, "this trap would not catch anybody"
    on_disk(RAN).unlink()
    (evil / "asked.txt").write_text(json.dumps(library) + "\n")
    (evil / "ask.cmd").write_text(f'@"{CONSOLE}" load-libraries < {EVIL}\\asked.txt\r\n')
    asked = run(["cmd", "/c", rf"{EVIL}\ask.cmd"])
    assert "0" in asked.output.split(), "it was not even loaded"
    assert what_ran() is None


@pytest.mark.parametrize("copied", ["the program alone", "all of it"])
def test_a_copy_where_users_write_does_not_start(copied: str, evil: Path, frozen: Frozen) -> None:
    """Where a rule allows the signature, a copy of the program beside somebody else's Python must not run that."""
    if copied == "all of it":
        put_in_place(frozen.directory, EVIL)
    shutil.copy(on_disk(CONSOLE), evil)
    finished = run([rf"{EVIL}\wayleave-agent.exe", "--version"], directory=EVIL)
    assert_agent_only(finished, NOT_STARTED)
    assert "starts only from where it was installed" in finished.output


def test_a_link_to_it_does_not_start(evil: Path) -> None:
    (evil / "link").symlink_to(os.path.relpath(on_disk(PLACE), evil))
    finished = run([rf"{EVIL}\link\wayleave-agent.exe", "--version"], directory=EVIL)
    assert_agent_only(finished, NOT_STARTED)


def test_it_starts_where_the_installer_noted_that_it_is(evil: Path, frozen: Frozen) -> None:
    elsewhere, key = r"C:\src\apps\wayleave", r"HKLM\SOFTWARE\Wayleave\Agent"
    put_in_place(frozen.directory, elsewhere)
    run(["reg", "add", key, "/v", "InstallDir", "/d", elsewhere + "\\", "/f"])
    try:
        assert "wayleave-agent 0." in run([rf"{elsewhere}\wayleave-agent.exe", "--version"]).output
    finally:
        run(["reg", "delete", key, "/f"])
    assert run([rf"{elsewhere}\wayleave-agent.exe", "--version"]).code == NOT_STARTED


def test_nothing_in_it_is_a_python(frozen: Frozen) -> None:
    names = {path.relative_to(frozen.directory).as_posix().lower() for path in frozen.directory.rglob("*")}
    assert {name for name in names if name.endswith(".exe")} == {"wayleave-agent.exe", "wayleave-agentw.exe"}
    assert not [name for name in names if name.endswith((".py", ".pyc", ".bat", ".ps1", "._pth", ".pth", ".zip"))]
    with zipfile.ZipFile(frozen.directory / "wayleave-library.dll") as library:
        inside = {name.removesuffix(".pyc").removesuffix("/__init__").replace("/", ".") for name in library.namelist()}
    assert "agent.cli" in inside
    assert inside & {*LEFT_OUT, "idlelib", "pip", "site", "runpy", "code"} == set()
    assert not [name for name in inside if name.startswith(("pip.", "idlelib.", "multiprocessing."))]


def test_the_programs_import_only_what_windows_takes_from_system32(frozen: Frozen) -> None:
    """KnownDLLs: Windows never looks for these beside a program."""
    for name in ("wayleave-agent.exe", "wayleave-agentw.exe"):
        imported = {library.lower() for library in imported_libraries(frozen.directory / name)}
        assert imported == {"kernel32.dll", "advapi32.dll", "msvcrt.dll"}
