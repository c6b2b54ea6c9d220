"""A PostgreSQL of a test's own, that flushes to disk and can be ended at any time."""

from __future__ import annotations

import atexit
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

from app.db.engine import open_engine
from app.db.migrate import upgrade
from app.settings import Settings
from tests.free_port import free_port


class Cluster:
    """A PostgreSQL that flushes to disk, as the promise is about what survives, and that a test may end at any time."""

    def __init__(self, home: Path, as_user: list[str], programs: Path) -> None:
        self.home, self.port = home, free_port()
        self._as_user, self._programs = as_user, programs
        self.url = f"postgresql://postgres@127.0.0.1:{self.port}/postgres"
        if as_user:
            shutil.chown(home, "postgres")

    def make(self, *, wal: Path | None = None) -> None:
        """An empty one. `wal`: where its log goes, in small files, so that a small volume holds some."""
        if wal is not None and self._as_user:
            shutil.chown(wal, "postgres")
        where = ("-X", str(wal), "--wal-segsize=1") if wal is not None else ()
        self._run("initdb", "-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-sync", *where)

    def copy(self, other: Path) -> None:
        """One like another that is stopped, and whose folder this is."""
        subprocess.run(["cp", "-a", str(other / "data"), str(self.home / "data")], check=True, timeout=120)

    def start(self, *, options: str = "") -> None:
        # A postmaster that was killed leaves its files behind, and the number may be another process's by now.
        for left in (self.home / "data" / "postmaster.pid", *self.home.glob(".s.PGSQL.*")):
            left.unlink(missing_ok=True)
        own = f"-p {self.port} -k {self.home} -c listen_addresses=127.0.0.1 {options}"
        self._run("pg_ctl", "-w", "-l", str(self.home / "log"), "-o", own, "start")

    def stop(self, how: str = "immediate") -> None:
        if (self.home / "data" / "postmaster.pid").exists():
            self._run("pg_ctl", "-w", "-m", how, "stop")

    def kill_postmaster(self) -> None:
        """kill -9 of the whole server, as when the machine's memory runs out."""
        postmaster = int((self.home / "data" / "postmaster.pid").read_text().split("\n")[0])
        family = [postmaster, *self._children(postmaster)]
        for process in family:
            kill(process)
        until_s = time.monotonic() + 30
        while any(Path(f"/proc/{one}").exists() and is_alive(one) for one in family):
            assert time.monotonic() < until_s
            time.sleep(0.02)

    def kill_backend(self, chance: random.Random) -> None:
        """kill -9 of one process that serves a connection: the others then end themselves, and all recover."""
        postmaster = int((self.home / "data" / "postmaster.pid").read_text().split("\n")[0])
        backends = [one for one in self._children(postmaster) if b"127.0.0.1(" in command_line(one)]
        if backends:
            kill(chance.choice(backends))

    def _children(self, parent: int) -> list[int]:
        found = subprocess.run(["pgrep", "-P", str(parent)], capture_output=True, text=True, check=False).stdout
        return [int(one) for one in found.split()]

    def _run(self, program: str, *arguments: str) -> None:
        command = [*self._as_user, str(self._programs / program), "-D", str(self.home / "data"), *arguments]
        subprocess.run(command, check=True, cwd=self.home, stdout=subprocess.DEVNULL, timeout=120)


def kill(process: int) -> None:
    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        return


def is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def command_line(process: int) -> bytes:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return b""


@contextmanager
def made_cluster(within: Path | None = None, *, wal_within: Path | None = None) -> Iterator[Cluster]:
    """A cluster in a folder of its own, not started; its tables are there.

    `within`, `wal_within`: where it, or its log, can be full. With a place for its log it is empty.
    """
    as_user, programs = _programs()
    home = Path(tempfile.mkdtemp(prefix="wayleave-faults-", dir=within))
    made = Cluster(home, as_user, programs)
    try:
        if wal_within is None:
            made.copy(_migrated())
        else:
            wal = wal_within / "wal"
            wal.mkdir()
            made.make(wal=wal)
        yield made
    finally:
        made.stop()
        shutil.rmtree(home, ignore_errors=True)


@cache
def _migrated() -> Path:
    """The folder of a stopped cluster with all tables, for others to be copied from: that is ten times as fast."""
    as_user, programs = _programs()
    home = Path(tempfile.mkdtemp(prefix="wayleave-faults-"))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    made = Cluster(home, as_user, programs)
    made.make()
    made.start(options="-c fsync=off")
    try:
        engine = open_engine(Settings(database_url=made.url))
        upgrade(engine)
        engine.dispose()
    finally:
        made.stop("fast")
    return home


def _programs() -> tuple[list[str], Path]:
    """What comes before a command so that PostgreSQL does not run as root, and the folder of its programs."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found or (os.getuid() == 0 and shutil.which("runuser") is None):
        pytest.skip("needs postgresql")
    return ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else [], found[-1].parent
