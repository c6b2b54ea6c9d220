"""Where the bench keeps its parts, on this machine and as its programs see them."""

from __future__ import annotations

import os
from pathlib import Path, PureWindowsPath

REPOSITORY = Path(__file__).resolve().parents[3]
SOURCES = Path(__file__).resolve().parents[1]
"""`tests/windows`: requirement files and the shim's C sources."""

BENCH = Path(os.environ.get("WAYLEAVE_BENCH_DIR") or REPOSITORY / ".bench").resolve()
DEBIAN = BENCH / "debian"
"""A pristine minimal Debian 13, which others may copy or mount as a lower layer, never change."""
DOWNLOADS = BENCH / "downloads"
WINE = BENCH / "wine"
"""A copy of `DEBIAN` with Wine and the Windows drive in it."""

PREFIX_INSIDE = "/bench/prefix"
PREFIX = WINE / PREFIX_INSIDE.lstrip("/")
DRIVE_C = PREFIX / "drive_c"

USER = "alice"
PROFILE = rf"C:\users\{USER}"
LOCAL_APPDATA = rf"{PROFILE}\AppData\Local"
ROAMING_APPDATA = rf"{PROFILE}\AppData\Roaming"
UV = r"C:\Program Files\uv\uv.exe"
UVX = r"C:\Program Files\uv\uvx.exe"
UV_BEFORE_SIGNING = r"C:\Program Files\uv-0.7.12\uv.exe"
PYTHON = r"C:\Program Files\Python313\python.exe"
MANAGED_KEY = "cpython-3.13.2-windows-x86_64-none"
MANAGED_MINOR_KEY = "cpython-3.13-windows-x86_64-none"
MANAGED_PYTHON = rf"{ROAMING_APPDATA}\uv\python\{MANAGED_KEY}\python.exe"
LAUNCHER = r"C:\bench\launch.exe"
SHIM_POLICY = r"C:\bench\policy.txt"
SHIM_LOG = r"C:\bench\decisions.log"


def on_disk(path: str) -> Path:
    r"""The file behind a path on the bench's drive C:.

    raises: ValueError for any other drive or a relative path.
    """
    windows = PureWindowsPath(path)
    if windows.drive.upper() != "C:" or not windows.root:
        raise ValueError(f"not an absolute path on C: {path}")
    return DRIVE_C.joinpath(*windows.parts[1:])
