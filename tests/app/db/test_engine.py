"""Opening a database that others are making at the same moment."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sqlalchemy import text

from app.db.engine import open_url

AT_ONCE = 4
FILES = 60
"""Before opening waited, some of these met "database is locked"."""


def test_several_may_open_a_new_file_at_once(tmp_path: Path) -> None:
    together = threading.Barrier(AT_ONCE)

    def open_it(url: str) -> object:
        engine = open_url(url)
        try:
            together.wait(30)
            with engine.connect() as connection:
                return connection.execute(text("PRAGMA journal_mode")).scalar()
        finally:
            engine.dispose()

    with ThreadPoolExecutor(AT_ONCE) as pool:
        for number in range(FILES):
            url = f"sqlite:///{tmp_path / str(number)}.sqlite3"
            assert list(pool.map(open_it, [url] * AT_ONCE)) == ["wal"] * AT_ONCE
