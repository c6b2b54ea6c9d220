"""A PostgreSQL server of our own for benchmarks, with durable commits, and the CPU time that it took."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """`pid` of its first process; `url` without a database."""

    pid: int
    url: str
    home: Path

    def make_database(self, name: str) -> str:
        """Makes an empty database, dropping one of this name; its address."""
        with psycopg.connect(f"{self.url}/postgres", autocommit=True) as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
            connection.execute(f"CREATE DATABASE {name}")
        return f"{self.url}/{name}"


@contextmanager
def running_postgresql(*settings: str) -> Iterator[Cluster]:
    """Starts a cluster, and removes it at the end. raises: SystemExit when PostgreSQL is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        raise SystemExit("needs postgresql")
    programs = found[-1].parent
    home = Path(tempfile.mkdtemp(prefix="wayleave-bench-"))
    as_user: list[str] = []
    if os.getuid() == 0:
        pwd.getpwnam("postgres")
        as_user = ["runuser", "-u", "postgres", "--"]
        shutil.chown(home, "postgres")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    data = home / "data"

    def run(*command: str) -> None:
        subprocess.run([*as_user, *command], check=True, cwd=home, stdout=subprocess.DEVNULL, timeout=120)

    run(str(programs / "initdb"), "-D", str(data), "-A", "trust", "-U", "postgres", "-E", "UTF8")
    given = ["shared_buffers=1GB", "max_wal_size=4GB", "max_connections=100", "listen_addresses=127.0.0.1", *settings]
    options = " ".join([f"-p {port} -k {home}", *(f"-c {one}" for one in given)])
    run(str(programs / "pg_ctl"), "-D", str(data), "-w", "-l", str(home / "log"), "-o", options, "start")
    try:
        pid = int((data / "postmaster.pid").read_text().split()[0])
        yield Cluster(pid=pid, url=f"postgresql://postgres@127.0.0.1:{port}", home=home)
    finally:
        run(str(programs / "pg_ctl"), "-D", str(data), "-m", "immediate", "stop")
        shutil.rmtree(home, ignore_errors=True)


def cpu_s(*pids: int) -> float:
    """The CPU seconds of processes and all that descend from them, with those that ended."""
    parents: dict[int, list[int]] = {}
    times: dict[int, float] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents.setdefault(int(fields[1]), []).append(int(entry.name))
        times[int(entry.name)] = sum(int(fields[at]) for at in (11, 12, 13, 14)) / TICKS
    total = 0.0
    waiting = list(pids)
    while waiting:
        pid = waiting.pop()
        total += times.get(pid, 0.0)
        waiting += parents.get(pid, [])
    return total
