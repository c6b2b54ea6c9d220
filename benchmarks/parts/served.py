"""A server in a process of its own, for as long as a benchmark needs it."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

WAYLEAVE = [sys.executable, "-m", "app.cli.main", "serve", "--port", "0"]


@contextmanager
def served(command: list[str], environment: dict[str, str], *, listen: bool = False) -> Iterator[tuple[str, int]]:
    """A server of its own process: address and process id."""
    if listen:
        command = [*command, "--port", str(port := free_port())]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        if listen:
            address = f"http://127.0.0.1:{port}"
        else:
            assert process.stdout is not None
            line = next(line for line in process.stdout if "listens on" in line)
            address = next(word for word in line.split() if word.startswith("http"))
        wait_until_open(address)
        yield address, process.pid
    finally:
        process.terminate()
        process.wait(30)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_open(address: str) -> None:
    host, port = address.removeprefix("http://").split(":")
    for _ in range(300):
        try:
            socket.create_connection((host, int(port)), 1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise SystemExit(f"nothing answers at {address}")
