"""Opening a database: one that others are making at the same moment, one with a standby."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydantic import ValidationError
from sqlalchemy import text

from app.db.engine import open_engine, open_url
from app.settings import Settings, without_password

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


@pytest.mark.postgresql
def test_a_primary_is_found_among_several_hosts(postgresql_server: str, tmp_path: Path) -> None:
    """The first of them does not answer; it is written as libpq has it, with ports and without."""
    user, _, host = postgresql_server.partition("@")
    for hosts in (f"127.0.0.1:1,{host}", f"{host},[::1]:1", f"127.0.0.2,{host}"):
        url = f"{user}@{hosts}/postgres?target_session_attrs=read-write"
        engine = open_engine(Settings(data_dir=tmp_path, database_url=url))
        with engine.connect() as connection:
            assert connection.execute(text("SELECT current_database()")).scalar() == "postgres"
        engine.dispose()


@pytest.mark.parametrize(
    "url", ["postgresql://u@a:x,b:5432/w", "postgresql://u@a:5432,b:/w:", "mysql://u@a/w", "wayleave", "postgresql:a"]
)
def test_what_is_no_address_is_a_sentence(url: str) -> None:
    with pytest.raises(ValidationError, match="WAYLEAVE_DATABASE_URL is written postgresql://user:password@host:5432"):
        Settings(database_url=url)


@pytest.mark.parametrize("hosts", ["a", "a:1,b", "[::1]:5", "%2Frun%2Fpostgresql"])
@pytest.mark.parametrize("user", ["", "u@", "u@tenant@", "u:@", "u:***@", "u@tenant:***@"])
def test_addresses_are_shown_without_the_password(user: str, hosts: str) -> None:
    secret = f"postgresql://{user.replace('***', 's,e/c:r%40t')}{hosts}/w"
    assert Settings(database_url=secret).url.startswith("postgresql+psycopg://")
    assert without_password(secret) == f"postgresql://{user.replace(':@', ':***@')}{hosts}/w"
