"""Reads an event log file with two processes: each takes the next stretch of chunks; parts come in the file's order.

The second process gets offsets and gives parts back. Should it end before its time, the first goes on alone.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import BinaryIO

from app.imports.evtx_file import HEADER_BYTES, STRETCH_BYTES, check_header, read_stretch
from app.imports.model import FileError, Part, Position
from app.imports.uv_files import UvFiles

ALONE_BELOW_BYTES = 48 << 20
"""Smaller files are read before a second process has started."""
_AHEAD = 2
_MOST_WAITING = 16


def read_evtx(path: Path, position: Position, env: Mapping[str, str], *, processes: int = 2) -> Iterator[Part]:
    """The parts of an event log file from a position (`offset`) on. raises: FileError, OSError."""
    files = UvFiles(env)
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        is_open = check_header(file.read(HEADER_BYTES))
        offset = max(position.get("offset", HEADER_BYTES), HEADER_BYTES)
        if size <= HEADER_BYTES:
            raise FileError("an event log file without a single chunk")
        if processes < 2 or size - offset < ALONE_BELOW_BYTES:
            while offset < size:
                part = read_stretch(file, offset, files, is_open=is_open)
                offset = part.after["offset"]
                yield part
            return
        with _second_process(path, is_open, dict(env)) as second:
            yield from _read_with(second, file, offset, size, files, is_open)


def _read_with(
    second: Connection | None, file: BinaryIO, offset: int, size: int, files: UvFiles, is_open: bool
) -> Iterator[Part]:
    ready: dict[int, Part] = {}
    asked: list[int] = []
    due = following = offset
    while due < size:
        try:
            while second is not None and len(asked) < _AHEAD and following < size:
                second.send(following)
                asked.append(following)
                following += STRETCH_BYTES
            # Waited for where it is due, or where too much is done that can't be given before it.
            while second is not None and asked and (second.poll() or _must_wait(due, asked, ready, following >= size)):
                ready[asked[0]] = second.recv()
                del asked[0]
        except (EOFError, OSError):
            second = None
        if second is None and asked:
            for lost in asked:
                ready[lost] = read_stretch(file, lost, files, is_open=is_open)
            asked.clear()
        if due not in ready and following < size and (due not in asked or len(ready) < _MOST_WAITING):
            ready[following] = read_stretch(file, following, files, is_open=is_open)
            following += STRETCH_BYTES
        while due in ready:
            yield ready.pop(due)
            due += STRETCH_BYTES


def _must_wait(due: int, asked: list[int], ready: Mapping[int, Part], is_all_given: bool) -> bool:
    """Whether nothing else can be done before the second process answers."""
    return due in asked and (is_all_given or len(ready) >= _MOST_WAITING)


@contextmanager
def _second_process(path: Path, is_open: bool, env: dict[str, str]) -> Iterator[Connection | None]:
    """The connection to a second process, which ends with this one."""
    # A fresh interpreter: this one may have threads and database connections, which a fork would copy half-way.
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, str(path), is_open, env), daemon=True)
    process.start()
    theirs.close()
    try:
        yield ours
    finally:
        ours.close()
        process.join(5)
        if process.is_alive():
            process.kill()
            process.join()


def _serve(connection: Connection, path: str, is_open: bool, env: dict[str, str]) -> None:
    """Reads the stretches that it is asked for, until the other end is closed."""
    files = UvFiles(env)
    with Path(path).open("rb") as file:
        while True:
            try:
                offset = connection.recv()
                connection.send(read_stretch(file, offset, files, is_open=is_open))
            except (EOFError, OSError):
                return
