"""The databases under which a server may fail: SQLite, and a PostgreSQL that flushes to disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.settings import Settings
from tests.faults.cluster import made_cluster


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Settings]:
    if request.param == "sqlite":
        yield Settings(data_dir=tmp_path, database_url="")
        return
    with made_cluster() as cluster:
        cluster.start()
        yield Settings(data_dir=tmp_path, database_url=cluster.url)
