"""Uploaded files: what a killed server had received goes, and a reader that ends again and again is given up."""

from __future__ import annotations

import os
import time
from pathlib import Path

from sqlalchemy import Engine

from app.audit.record import COMMAND_LINE
from app.db.session import session_scope
from app.imports.jobs import begin_import, claim_import, get_import, give_up_import, list_unread_uploads
from app.imports.model import Given
from app.imports.read import Format, Kind
from app.imports.tables import ImportJob
from app.imports.uploads import remove_unfinished, uploads_dir


def test_what_was_never_received_whole_goes_after_a_day(tmp_path: Path) -> None:
    assert remove_unfinished(tmp_path) == 0
    uploads_dir(tmp_path).mkdir()
    old, new, kept = (uploads_dir(tmp_path) / name for name in ("a.part", "b.part", "1.upload"))
    for path in (old, new, kept):
        path.write_bytes(b"x")
    for path in (old, kept):
        os.utime(path, (time.time() - 90_000,) * 2)
    assert remove_unfinished(tmp_path) == 1
    assert [path.exists() for path in (old, new, kept)] == [False, True, True]


def test_one_reader_at_a_time_and_none_for_ever(database: Engine) -> None:
    with session_scope(database) as session:
        job_id = begin_import(
            session,
            name="a",
            size_bytes=1,
            fingerprint=b"x",
            kind=Kind(format=Format.EVTX),
            given=Given(),
            is_upload=True,
            actor=COMMAND_LINE,
        )
        assert [one.id for one in list_unread_uploads(session)] == [job_id]
    with session_scope(database) as session:
        claim_import(session, job_id)
    with session_scope(database) as session:
        assert list_unread_uploads(session) == ()
        give_up_import(session, job_id, "it ended again and again")
        assert get_import(session, job_id).state == "running"  # somebody reads it
        machine = get_import(session, job_id).claim.rsplit(":", 2)[0]
        gone = f"{machine}:4194999:{'0' * 24}"
    with session_scope(database) as session:
        session.get_one(ImportJob, job_id).claim = gone
    with session_scope(database) as session:
        assert [one.id for one in list_unread_uploads(session)] == [job_id]
        give_up_import(session, job_id, "it ended again and again")
        assert (get_import(session, job_id).state, get_import(session, job_id).fault) == (
            "failed",
            "it ended again and again",
        )
