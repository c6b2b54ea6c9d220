"""The agent as an ordinary user: under Landlock, which refuses execution by folder, and against plain permissions."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.linux import as_nobody
from tests.agent.linux.workstation import Workstation, build, listing, probes_of, use_uv

NOBODY = 65534


@pytest.fixture
def own_workstation() -> Iterator[Workstation]:
    """A workstation of a user without rights, in a folder that this user can reach."""
    if not sys.platform.startswith("linux"):
        pytest.skip("needs linux")
    base = Path(tempfile.mkdtemp(prefix="wayleave-unprivileged-"))
    try:
        base.chmod(0o755)
        (base / "home").mkdir()
        made = build(base / "home", base / "outside")
        use_uv(made)
        made.state_dir.mkdir()
        if os.geteuid() == 0:
            for directory, names, files in os.walk(base):
                for name in (*names, *files):
                    os.chown(Path(directory, name), NOBODY, NOBODY, follow_symlinks=False)
        yield made
    finally:
        shutil.rmtree(base)


def probe(workstation: Workstation, *, allowed: str) -> dict[str, dict[str, object]]:
    user = str(NOBODY if os.geteuid() == 0 else os.geteuid())
    command = ("probe", "--state-dir", str(workstation.state_dir), "--project-root", str(workstation.project))
    finished = subprocess.run(
        [sys.executable, as_nobody.__file__, user, allowed, *command],
        env=workstation.environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if "landlock: Function not implemented" in finished.stderr or "landlock: Operation not supp" in finished.stderr:
        pytest.skip("needs a kernel with Landlock")
    assert finished.returncode == 0, finished.stderr
    return probes_of(finished.stdout)


def system_folders(workstation: Workstation) -> str:
    """All that a machine runs programs from, without the user's home."""
    return ":".join(("/usr", "/bin", "/lib", "/lib64", "/opt", sys.base_prefix, sys.prefix, str(workstation.outside)))


def test_landlock_blocks_what_lies_in_the_home_and_nothing_else(own_workstation: Workstation) -> None:
    before = listing(own_workstation.home)

    probes = probe(own_workstation, allowed=system_folders(own_workstation))

    for pattern in ("cache-builds-venv-python", "cache-archive-env-entrypoint-exe", "venv-entrypoint-exe"):
        found = probes[pattern]
        assert (found["outcome"], found["engine"], found["error"]) == ("blocked", "other", 13), pattern
    assert listing(own_workstation.home) == before


def test_without_landlock_the_same_patterns_are_open(own_workstation: Workstation) -> None:
    probes = probe(own_workstation, allowed="-")

    for pattern in ("cache-builds-venv-python", "cache-archive-env-entrypoint-exe", "venv-entrypoint-exe"):
        assert (probes[pattern]["outcome"], probes[pattern]["error"]) == ("allowed", 0), pattern


def test_a_program_that_its_mode_forbids_is_denied_and_not_blocked(own_workstation: Workstation) -> None:
    greet = own_workstation.home / ".local/share/uv/tools/greeter/bin/greet"
    greet.chmod(0o644 | 0o010)  # its group may run it, its owner not
    others = [path for path in greet.parent.iterdir() if path != greet and not path.is_symlink()]
    for path in others:
        path.chmod(0o644)

    found = probe(own_workstation, allowed="-")["tool-env-entrypoint-exe"]

    assert (found["outcome"], found["engine"], found["error"], found["specimen"]) == ("denied", "acl", 13, "real")


def test_a_folder_that_cannot_be_written_is_denied_and_untouched(own_workstation: Workstation) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to give a folder to somebody else")
    cache = own_workstation.home / ".cache/uv"
    os.chown(cache, 0, 0)
    before = listing(own_workstation.home)

    found = probe(own_workstation, allowed="-")["cache-builds-venv-python"]

    assert (found["outcome"], found["engine"], found["specimen"]) == ("denied", "acl", "canary")
    assert listing(own_workstation.home) == before
