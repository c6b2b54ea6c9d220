"""Alembic's entry point. It is always run from `app.db.migrate`, which hands over an open connection."""

from alembic import context
from sqlalchemy import text

from app.all_tables import metadata
from app.db.base import Moment
from app.db.migrate import is_declared


def _render_item(kind: str, item: object, _autogen_context: object) -> str | bool:
    """In a revision, our types are what the database sees: a revision must not change when our code does."""
    return "sa.BigInteger()" if kind == "type" and isinstance(item, Moment) else False


connection = context.config.attributes["connection"]
on_postgresql = connection.dialect.name == "postgresql"
if on_postgresql:
    connection.execute(text(f"SET lock_timeout = {context.config.attributes.get('lock_timeout_ms', 10_000):d}"))
    connection.commit()
context.configure(
    connection=connection,
    target_metadata=metadata(),
    include_object=is_declared,
    render_item=_render_item,
    # On PostgreSQL a lock keeps others out, and each step lets go of its tables. SQLite's one lock is that of the
    # transaction: between two of them another process would find the first step done, and do the second as well.
    transaction_per_migration=on_postgresql,
    transactional_ddl=True,
    # SQLite can't alter tables in place; Alembic copies them instead.
    render_as_batch=not on_postgresql,
)
with context.begin_transaction():
    context.run_migrations()
