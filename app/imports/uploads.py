"""Uploaded files: streamed to the data directory under their import's number, read by a process of their own."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from app.audit.record import Actor
from app.db.engine import DRIVER_ERRORS
from app.db.session import session_scope
from app.errors import InvalidError
from app.imports.jobs import begin_import, fingerprint, give_up_import, list_unread_uploads
from app.imports.model import FileError, Given
from app.imports.read import Format, read_beginning, recognise
from app.settings import Settings

log = logging.getLogger("wayleave.imports")

FREE_BYTES = 1 << 30
"""So much of the disk stays free, whatever is sent."""
LOOK_EVERY_S = 1.0
STOP_WITHIN_S = 10.0
MAX_TRIES = 3
UNFINISHED_FOR_S = 86_400


def uploads_dir(data_dir: Path) -> Path:
    """Where uploaded files lie."""
    return data_dir / "imports"


def upload_path(data_dir: Path, job_id: int) -> Path:
    """The file of an import."""
    return uploads_dir(data_dir) / f"{job_id}.upload"


def check_room(data_dir: Path, size_bytes: int) -> None:
    """Refuses what would fill the disk. raises: InvalidError."""
    uploads_dir(data_dir).mkdir(parents=True, exist_ok=True, mode=0o700)
    if shutil.disk_usage(data_dir).free - size_bytes < FREE_BYTES:
        raise InvalidError("The server's disk has no room for this file.", field="file")


def accept_upload(engine: Engine, settings: Settings, received: Path, *, name: str, given: Given, actor: Actor) -> int:
    """Makes an import of a file that has arrived whole, and takes the file; its id.

    raises: InvalidError for a file that can't be imported.
    """
    try:
        kind = recognise(read_beginning(received))
    except FileError as error:
        raise InvalidError(f"{name}: {error}", field="file") from error
    if (kind.names_files or kind.format is Format.FILE_LIST) and not (given.computer and given.event_type):
        raise InvalidError(
            "A list of Get-AppLockerFileInformation names neither its host nor what it holds: say both below.",
            field="computer",
        )
    known_by, size_bytes = fingerprint(received), received.stat().st_size
    with session_scope(engine) as session:
        job_id = begin_import(
            session,
            name=name,
            size_bytes=size_bytes,
            fingerprint=known_by,
            kind=kind,
            given=given,
            is_upload=True,
            actor=actor,
        )
        # Before the commit: an import that can be seen has its file.
        received.rename(upload_path(settings.data_dir, job_id))
    return job_id


def remove_unfinished(data_dir: Path) -> int:
    """Removes what a server that was killed had received of files, a day later; how many."""
    removed = 0
    for path in uploads_dir(data_dir).glob("*.part"):
        try:
            if time.time() - path.stat().st_mtime > UNFINISHED_FOR_S:
                path.unlink()
                removed += 1
        except OSError as error:
            log.warning("%s could not be removed: %s", path, error)
    return removed


class UploadReader:
    """Sees to it that each uploaded file of this server is read, one at a time, by a process of its own."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self._engine, self._settings = engine, settings
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="imports", daemon=True)
        self._failures: Counter[int] = Counter()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends the process too: what it reads is continued at the next start."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        remove_unfinished(self._settings.data_dir)
        while not self._stop.wait(LOOK_EVERY_S):
            try:
                self._read_next()
            except (*DRIVER_ERRORS, SQLAlchemyError) as error:
                log.warning("uploads could not be looked for: %s", error)
            except Exception:
                log.exception("an upload could not be read")

    def _read_next(self) -> None:
        with session_scope(self._engine, writes=False) as session:
            waiting = [one.id for one in list_unread_uploads(session)]
        for job_id in waiting:
            # With several servers, each reads the files that were sent to it.
            if upload_path(self._settings.data_dir, job_id).exists():
                self._read(job_id)
                return

    def _read(self, job_id: int) -> None:
        settings = self._settings
        variables = {
            "WAYLEAVE_DATA_DIR": str(settings.data_dir.absolute()),
            "WAYLEAVE_DATABASE_URL": settings.database_url,
            "WAYLEAVE_RETENTION_DAYS": str(settings.retention_days),
        }
        if settings.server_key is not None:
            variables["WAYLEAVE_SERVER_KEY"] = settings.server_key.get_secret_value()
        command = [sys.executable, "-m", "app.cli.main", "import", "--job", str(job_id)]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, env={**os.environ, **variables}) as process:  # noqa: S603 - our own command
            while process.poll() is None:
                if self._stop.wait(0.2):
                    process.terminate()
                    try:
                        process.wait(STOP_WITHIN_S)
                    except subprocess.TimeoutExpired:
                        process.kill()
        if process.returncode and not self._stop.is_set():
            self._failures[job_id] += 1
            log.warning("reading the upload %s ended with %s", job_id, process.returncode)
            if self._failures[job_id] >= MAX_TRIES:
                with session_scope(self._engine) as session:
                    give_up_import(
                        session, job_id, "the process that read it ended again and again; see the server's log"
                    )
                upload_path(settings.data_dir, job_id).unlink(missing_ok=True)
            else:
                self._stop.wait(LOOK_EVERY_S)
