"""From every state of the schema that was ever on main, with data in it, to the tables of today, on both databases."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import psycopg
import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import (
    JSON,
    Boolean,
    Connection,
    Engine,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    event,
    inspect,
    select,
    text,
)
from sqlalchemy.exc import OperationalError

from app.all_tables import metadata
from app.db.engine import BUSY_TIMEOUT_MS, WRITES, open_url
from app.db.migrate import alembic_config, is_current, schema_drift, upgrade

ROWS = 3
MIGRATIONS = Path(alembic_config().get_main_option("script_location") or "")
MEANT = {("rule_set_simulation", "state"): "done"}
"""What a column holds where not any value does: a simulation that was under way is cut off by the restart anyway."""
IS_PARTITION = re.compile(r"(transition|sighting)_(default|y\d+m\d+)")


def _git(*arguments: str) -> str:
    command = ["git", *arguments]
    return subprocess.run(command, cwd=MIGRATIONS.parent, capture_output=True, text=True, check=True).stdout


def is_whole(files: dict[str, str]) -> bool:
    """Whether the revisions are one line from the first on. Where one landed before the one it follows, nobody could
    migrate to there."""
    text = "\n".join(files.values())
    names = re.findall(r'^revision = "(\w+)"', text, re.MULTILINE)
    follows = re.findall(r'^down_revision = "(\w+)"', text, re.MULTILINE)
    return bool(names) and set(follows) <= set(names) and len(follows) == len(set(follows)) == len(names) - 1


@cache
def states() -> dict[str, dict[str, str]]:
    """Of each commit that changed revisions, their files and texts; and those that lie here now."""
    found: dict[str, dict[str, str]] = {}
    try:
        commits = _git("log", "--reverse", "--format=%h", "--", "migrations/versions").split()
    except (OSError, subprocess.CalledProcessError):
        commits = []  # an unpacked copy without its history: the revisions that lie here are all there is
    for commit in commits:
        listed = _git("ls-tree", "-r", commit, "--", "migrations/versions").splitlines()
        files = {line.split("\t")[1].split("/")[-1]: _git("cat-file", "blob", line.split()[2]) for line in listed}
        if is_whole(files) and files not in found.values():
            found[commit] = files
    here = {path.name: path.read_text() for path in sorted((MIGRATIONS / "versions").glob("*.py"))}
    for count in range(1, len(here) + 1):
        # Also one by one: several may have landed together.
        files = dict(list(here.items())[:count])
        if is_whole(files) and files not in found.values():
            found[f"first-{count}"] = files
    return found


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """A database without any table."""
    if request.param == "sqlite":
        engine = open_url(f"sqlite:///{tmp_path / 'empty.sqlite'}")
        yield engine
        engine.dispose()
        return
    server = request.getfixturevalue("postgresql_server")
    name = f"empty_{tmp_path.name.lower()}".replace("-", "_")[:60]
    with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name}")
        connection.execute(f"CREATE DATABASE {name}")
    engine = open_url(f"{server}/{name}".replace("postgresql://", "postgresql+psycopg://"))
    yield engine
    engine.dispose()
    with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def migrate_as_then(engine: Engine, files: dict[str, str], folder: Path) -> None:
    """Brings a database to where these revisions end."""
    versions = folder / "versions"
    versions.mkdir(parents=True)
    for name in ("env.py", "script.py.mako"):
        shutil.copy(MIGRATIONS / name, folder)
    for name, content in files.items():
        (versions / name).write_text(content)
    config = Config()
    config.set_main_option("script_location", str(folder))
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        connection.commit()


def tables_of(connection: Connection) -> list[Table]:
    found = MetaData()
    found.reflect(connection)
    return [
        one for one in found.sorted_tables if one.name != "alembic_version" and not IS_PARTITION.fullmatch(one.name)
    ]


def fill(connection: Connection, table: Table) -> None:
    """Inserts some rows, whatever the table's columns are."""
    allowed = {column.name: MEANT[key] for column in table.columns if (key := (table.name, column.name)) in MEANT}
    for check in inspect(connection).get_check_constraints(table.name):
        literal = re.search(r"'([^']*)'", check["sqltext"])
        for column in table.columns:
            if literal and re.search(rf"\b{column.name}\b", re.sub(r"'[^']*'", "", check["sqltext"])):
                allowed.setdefault(column.name, literal[1])
    for number in range(1, ROWS + 1):
        values = {column.name: allowed.get(column.name, value_of(column, number)) for column in table.columns}
        connection.execute(table.insert().values(**values))
    if connection.dialect.name == "postgresql":
        for column in table.primary_key.columns:
            sequence = connection.execute(
                text("SELECT pg_get_serial_sequence(:table, :column)"), {"table": table.name, "column": column.name}
            ).scalar()
            if sequence:
                connection.execute(text("SELECT setval(:sequence, 1000)"), {"sequence": sequence})


def value_of(column: Any, number: int) -> Any:
    kind = column.type
    if column.foreign_keys:
        return number  # every table has rows with the numbers 1, 2, 3
    if isinstance(kind, Boolean):
        return number % 2 == 0
    if isinstance(kind, Integer):
        return number
    if isinstance(kind, LargeBinary):
        return bytes([number]) * 16
    if isinstance(kind, JSON):
        return {}
    if isinstance(kind, Text):
        return "{}"
    length = getattr(kind, "length", None)
    if length is not None or type(kind).__name__ in ("VARCHAR", "String"):
        return f"{number}{column.name}"[: length or 20]
    if type(kind).__name__ == "ARRAY":
        return [number]
    raise AssertionError(f"no value is known for {column}: {kind!r}")


def rows_of(connection: Connection, table: Table, names: list[str]) -> list[tuple[Any, ...]]:
    columns = [table.c[name] for name in names]
    rows = connection.execute(select(*columns)).all()
    return sorted((tuple(row) for row in rows), key=repr)


@pytest.mark.parametrize("state", list(states()))
def test_data_of_every_state_arrives(empty: Engine, state: str, tmp_path: Path) -> None:
    migrate_as_then(empty, states()[state], tmp_path / "then")
    with empty.begin() as connection:
        tables = tables_of(connection)
        assert tables
        for table in tables:
            fill(connection, table)
        columns = {table.name: [column.name for column in table.columns] for table in tables}
        before = {table.name: rows_of(connection, table, columns[table.name]) for table in tables}
    upgrade(empty)
    assert is_current(empty)
    with empty.connect().execution_options(**{WRITES: False}) as connection:
        now = {table.name: table for table in tables_of(connection)}
        for name, rows in before.items():
            shared = [column for column in columns[name] if column in now[name].columns]
            kept = [tuple(row[columns[name].index(column)] for column in shared) for row in rows]
            assert rows_of(connection, now[name], shared) == sorted(kept, key=repr), name
        assert schema_drift(connection, metadata()) == []


def test_no_revision_was_edited_after_it_landed() -> None:
    """Whoever has run the old text would not get the new one: what is wrong in a revision is put right by the next.
    Only blank lines, comments and the first line's words may change."""
    texts: dict[str, set[str]] = {}
    for files in states().values():
        for name, content in files.items():
            texts.setdefault(name, set()).add(ast.dump(ast.Module(body=_statements(content), type_ignores=[])))
    assert [name for name, versions in texts.items() if len(versions) > 1] == []


def _statements(content: str) -> list[ast.stmt]:
    """What a revision does: all but its docstring."""
    tree = ast.parse(content)
    return tree.body[1:] if ast.get_docstring(tree) is not None else tree.body


def test_there_is_one_line_of_revisions() -> None:
    script = ScriptDirectory.from_config(alembic_config())
    assert len(script.get_heads()) == 1
    assert all(not isinstance(one.down_revision, tuple) for one in script.walk_revisions())


def test_several_at_once_migrate_once(empty: Engine, tmp_path: Path) -> None:
    url = empty.url.render_as_string(hide_password=False)
    environment = {**os.environ, "WAYLEAVE_DATABASE_URL": url, "WAYLEAVE_DATA_DIR": str(tmp_path)}
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "app.cli.main", "db", "upgrade"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for _ in range(3)
    ]
    said = [(one.communicate(timeout=60)[0].decode(), one.returncode) for one in started]
    assert said == [("The database is up to date.\n", 0)] * 3
    assert is_current(empty)


def test_nobody_comes_between_two_steps(empty: Engine) -> None:
    """Who found the first step done would do the second while the first process does it, too."""
    if empty.name != "sqlite":
        return  # a lock of its own keeps others out
    ends: list[str] = []
    event.listen(empty, "commit", lambda _connection: ends.append("commit"))
    event.listen(empty, "rollback", lambda _connection: ends.append("rollback"))
    upgrade(empty)
    assert ends == ["commit"]
    with empty.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == BUSY_TIMEOUT_MS


@pytest.mark.postgresql
def test_a_migration_that_can_not_have_its_lock_gives_up(
    empty: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if empty.name != "postgresql":
        return
    monkeypatch.setattr("app.db.migrate.LOCK_TIMEOUT_MS", 200)
    migrate_as_then(empty, next(iter(states().values())), tmp_path / "then")
    with empty.connect() as holder:
        holder.execute(text("LOCK TABLE host IN SHARE ROW EXCLUSIVE MODE"))
        with pytest.raises(OperationalError, match="lock timeout"):
            upgrade(empty)
        assert not is_current(empty)
    upgrade(empty)
    assert is_current(empty)
