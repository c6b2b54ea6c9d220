"""Our own three binaries, compiled with mingw: two programs from one source, and a DLL that carries the byte code.

The byte code stands behind the DLL's sections, where Python's zip reader finds it and where an Authenticode signature
covers it: what the agent is made of is signed as a whole, with the tools that sign any DLL.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from string import Template

SOURCES = Path(__file__).resolve().parent
PREFIX = "x86_64-w64-mingw32-"
CONSOLE, WINDOWED, LIBRARY = "wayleave-agent.exe", "wayleave-agentw.exe", "wayleave-library.dll"


class BuildError(Exception):
    """Something can't be built; the message holds the end of what the tool said."""


def compile_programs(target: Path, *, headers: Path, version: str) -> None:
    """Both programs. `headers`: the include folder of the very Python that they will load."""
    for name, description, options in (
        (CONSOLE, "Wayleave agent", []),
        (WINDOWED, "Wayleave agent, without a window", ["-DWINDOWED", "-mwindows"]),
    ):
        with tempfile.TemporaryDirectory() as folder:
            resources = _compile_resources(Path(folder), name, description, version, is_program=True)
            options = [*options, "-municode", "-isystem", str(headers)]
            _compile([*options, str(SOURCES / "launcher.c"), str(resources), "-ladvapi32"], target / name)


def make_library(target: Path, *, byte_code: Path, version: str) -> None:
    """The DLL without code or entry point that carries the zip of byte code."""
    with tempfile.TemporaryDirectory() as folder:
        resources = _compile_resources(Path(folder), LIBRARY, "Wayleave agent, byte code", version, is_program=False)
        carrier = Path(folder) / LIBRARY
        # Without a base of its own it gets one that is made from the name of the folder it is linked in.
        _compile(["-shared", "-nostdlib", "-Wl,--entry=0,--image-base=0x180000000", str(resources)], carrier)
        (target / LIBRARY).write_bytes(carrier.read_bytes() + byte_code.read_bytes())


def imported_libraries(file: Path) -> list[str]:
    """The names of the DLLs that a PE file imports."""
    told = run_tool([PREFIX + "objdump", "-p", str(file)])
    return [line.split("DLL Name:")[1].strip() for line in told.splitlines() if "DLL Name:" in line]


def run_tool(command: list[str]) -> str:
    """The output of a tool. raises: BuildError with its end when it fails."""
    ended = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, timeout=300)
    if ended.returncode:
        tail = "\n".join((ended.stdout + ended.stderr).splitlines()[-20:])
        raise BuildError(f"{' '.join(command[:4])} ... failed ({ended.returncode}):\n{tail}")
    return ended.stdout


def _compile(arguments: list[str], target: Path) -> None:
    strict = ["-O2", "-s", "-Wall", "-Wextra", "-Werror", "-fno-ident"]
    # No time of building, and no names of temporary files: the same sources give the same bytes.
    run_tool([PREFIX + "gcc", *strict, "-Wl,--no-insert-timestamp,--dynamicbase,--nxcompat,--high-entropy-va",
              "-o", str(target), *arguments])  # fmt: skip


def _compile_resources(folder: Path, name: str, description: str, version: str, *, is_program: bool) -> Path:
    values = {
        "name": name,
        "description": description,
        "version": version,
        "numbers": ",".join([*version.split("."), "0"]),
        "type": "VFT_APP" if is_program else "VFT_DLL",
        "manifest": f'1 24 "{(SOURCES / "program.manifest").as_posix()}"' if is_program else "",
    }
    script = folder / "version.rc"
    script.write_text(Template((SOURCES / "version.rc").read_text()).substitute(values))
    run_tool([PREFIX + "windres", str(script), str(folder / "resources.o")])
    return folder / "resources.o"
