"""The packaged agent on the bench, below Program Files, and programs run by an administrator."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.windows.bench.places import PYTHON, on_disk
from tests.windows.bench.run import Finished, run

PLACE = r"C:\Program Files\Wayleave frozen"
CONSOLE, WINDOWED = rf"{PLACE}\wayleave-agent.exe", rf"{PLACE}\wayleave-agentw.exe"

WORK = r"C:\bench"
_RUN_AS = """\
import ctypes, sys
from ctypes import wintypes

class Info(ctypes.Structure):
    _fields_ = [
        ("size", wintypes.DWORD), ("mask", wintypes.ULONG), ("window", wintypes.HWND), ("verb", wintypes.LPCWSTR),
        ("file", wintypes.LPCWSTR), ("parameters", wintypes.LPCWSTR), ("directory", wintypes.LPCWSTR),
        ("show", ctypes.c_int), ("instance", wintypes.HINSTANCE), ("list", ctypes.c_void_p),
        ("kind", wintypes.LPCWSTR), ("key", wintypes.HKEY), ("hot", wintypes.DWORD), ("icon", wintypes.HANDLE),
        ("process", wintypes.HANDLE),
    ]

keep_process = 0x40
info = Info(ctypes.sizeof(Info), keep_process, None, "runas", "cmd.exe", "/c " + sys.argv[1])
shell32, kernel32 = ctypes.WinDLL("shell32", use_last_error=True), ctypes.WinDLL("kernel32")
if not shell32.ShellExecuteExW(ctypes.byref(info)):
    raise ctypes.WinError(ctypes.get_last_error())
kernel32.WaitForSingleObject.argtypes = [wintypes.HANDLE, wintypes.DWORD]
kernel32.WaitForSingleObject(info.process, 0xFFFFFFFF)
code = wintypes.DWORD()
kernel32.GetExitCodeProcess.argtypes = [wintypes.HANDLE, ctypes.POINTER(wintypes.DWORD)]
kernel32.GetExitCodeProcess(info.process, ctypes.byref(code))
print("ended with", code.value)
"""


def put_in_place(frozen: Path, place: str = PLACE) -> None:
    """Copies a frozen directory onto the bench's drive."""
    shutil.rmtree(on_disk(place), ignore_errors=True)
    shutil.copytree(frozen, on_disk(place))


def run_elevated(*arguments: str, variables: Mapping[str, str] | None = None, limit_s: float = 120) -> Finished:
    """Runs a program as an administrator who said yes: by the shell's verb `runas`, which Wine knows too."""
    script, output = on_disk(rf"{WORK}\elevated.cmd"), on_disk(rf"{WORK}\elevated.txt")
    line = subprocess.list2cmdline(arguments)
    script.write_text(f"@{line} > {WORK}\\elevated.txt 2>&1\r\n")
    on_disk(rf"{WORK}\runas.py").write_text(_RUN_AS)
    try:
        told = run([PYTHON, "-I", rf"{WORK}\runas.py", rf"{WORK}\elevated.cmd"], variables=variables, limit_s=limit_s)
        text = output.read_text(errors="replace") if output.exists() else ""
    finally:
        for name in ("elevated.cmd", "elevated.txt", "runas.py"):
            on_disk(rf"{WORK}\{name}").unlink(missing_ok=True)
    code = int(told.output.rpartition("ended with ")[2])
    return Finished(arguments=tuple(arguments), code=code, output=text, seconds=told.seconds)
