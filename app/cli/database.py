"""What commands share that work on the database: the settings, an engine, and errors as one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click
from pydantic import ValidationError
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from app.db.engine import DRIVER_ERRORS, open_engine
from app.db.migrate import is_current, upgrade
from app.errors import AppError
from app.settings import Settings


def read_settings(**values: object) -> Settings:
    """The settings from the environment, with values of the command line before them.

    raises: click.ClickException naming the setting that can't be used.
    """
    try:
        return Settings(**{name: value for name, value in values.items() if value is not None})  # type: ignore[arg-type]  # checked by Settings itself
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = "WAYLEAVE_" + "_".join(str(part) for part in first["loc"]).upper() if first["loc"] else "settings"
        raise click.ClickException(f"{name}: {first['msg']}") from None


@contextmanager
def opened_database(settings: Settings, *, migrate: bool = True) -> Iterator[Engine]:
    """The engine of an up-to-date database: SQLite is migrated, PostgreSQL must have been.

    raises: click.ClickException when it can't be reached or is not up to date.
    """
    engine = open_engine(settings)
    try:
        if migrate:
            if settings.is_sqlite:
                upgrade(engine)
            elif not is_current(engine):
                raise click.ClickException("The database is not up to date: run `wayleave db upgrade` first.")
        yield engine
    except (*DRIVER_ERRORS, SQLAlchemyError) as error:
        reason = str(getattr(error, "orig", error)).strip().splitlines()[0]
        raise click.ClickException(f"The database does not answer: {reason}") from error
    except AppError as error:
        raise click.ClickException(f"{error.field}: {error.message}" if error.field else error.message) from error
    finally:
        engine.dispose()
