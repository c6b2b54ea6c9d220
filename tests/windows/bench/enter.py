"""Starts a command inside a Debian folder, with /proc and /dev mounted in a mount namespace of its own.

The mounts belong to that namespace and vanish with its last process: nothing is ever mounted where an `rm -rf` of the
clone, or anybody else, could meet it.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

_MOUNT_AND_ENTER = """
set -e
mount --bind /proc "$1/proc"
mount --bind /dev "$1/dev"
root=$1 directory=$2; shift 2
exec chroot "$root" /usr/bin/env -i --chdir="$directory" "$@"
"""


def inside(
    root: Path, arguments: Sequence[str], environment: Mapping[str, str] | None = None, directory: str = "/"
) -> list[str]:
    """The command line (for root) that runs `arguments` inside `root` with exactly that environment."""
    variables = {"HOME": "/root", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", **(environment or {})}
    assignments = [f"{name}={value}" for name, value in variables.items()]
    return [
        *("unshare", "--mount", "--propagation", "private", "--"),
        *("sh", "-c", _MOUNT_AND_ENTER, "sh", str(root), directory, *assignments, *arguments),
    ]


def remove_tree(root: Path) -> None:
    """Removes a Debian folder. Refuses to while something is mounted below it.

    raises: RuntimeError naming the mount.
    """
    if not root.exists():
        return
    mounted = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for place in mounted:
        if Path(place.replace("\\040", " ")).is_relative_to(root):
            raise RuntimeError(f"{place} is mounted: unmount it first, then remove {root}")
    shutil.rmtree(root)


def check_may_enter() -> str | None:
    """Why this process may not make mount namespaces and mounts, or None."""
    for program in ("unshare", "chroot", "mount"):
        if shutil.which(program) is None:
            return f"needs {program} (Debian: util-linux, coreutils, mount)"
    trial = ["unshare", "--mount", "--propagation", "private", "--", "mount", "--bind", "/proc", "/proc"]
    if subprocess.run(trial, check=False, capture_output=True, timeout=20).returncode:
        return "needs root with the right to mount"
    return None
