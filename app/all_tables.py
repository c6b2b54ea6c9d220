"""Every module that declares tables, loaded so that `Base.metadata` is whole (for migrations and tests)."""

from __future__ import annotations

import importlib.util

from sqlalchemy import MetaData

from app.db.base import Base

MODULES = (
    "app.db.tables",
    "app.fleet.tables",
    "app.fleet.tables_probing",
    "app.fleet.tables_rule_use",
    "app.ingest.tables",
    "app.accounts.tables",
    "app.audit.tables",
    "app.policies.tables",
    "app.policies.tables_rule_sets",
    "app.requests.tables",
    "app.imports.tables",
    "app.jobs.tables",
    "app.notices.tables",
    "app.work.tables",
)


def metadata() -> MetaData:
    """The metadata of all tables."""
    for name in MODULES:
        if importlib.util.find_spec(name) is not None:
            importlib.import_module(name)
    return Base.metadata
