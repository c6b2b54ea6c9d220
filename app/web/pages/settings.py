"""Settings: what an operator set, and what each setting means. They are changed where the server is started."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from pydantic import SecretStr
from starlette.responses import Response

from app.settings import Settings, without_password
from app.web.guards import ManageSettings
from app.web.templating import render

router = APIRouter(include_in_schema=False)

TITLES = {
    "place": "Where things are",
    "oidc": "Single sign-on",
    "audit": "Copies of the audit log",
    "notice": "Notices, and rules that leave or may go",
    "fleet": "Agents and what is kept",
    "limits": "Limits of one process",
}
_GROUPS = {
    "place": ("data_dir", "database_url", "host", "port", "base_url", "server_key"),
    "limits": (
        "database_pool",
        "group_reports",
        "group_wait_ms",
        "commit_by_bucket",
        "queue_reports",
        "queue_age_s",
        "reports_in_flight",
        "requests_in_flight",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingLine:
    """One setting: its variable, its value for reading, whether somebody set it, and what it means."""

    variable: str
    value: str
    is_set: bool
    meaning: str


_UNITS = {"bytes": "bytes", "days": "days", "hours": "hours", "s": "s", "ms": "ms", "percent": "%"}
"""What a setting's name ends with, and how the unit is written."""


@router.get("/settings")
def show_settings(person: ManageSettings, request: Request) -> Response:  # noqa: ARG001 - the guard
    groups = read_settings(request.app.state.settings)
    lines = [line for group in groups.values() for line in group]
    return render(
        request,
        "settings/page.html",
        groups=[(TITLES[key], group) for key, group in groups.items() if group],
        changed=sum(1 for line in lines if line.is_set),
        total=len(lines),
    )


def read_settings(settings: Settings) -> dict[str, list[SettingLine]]:
    """Every setting under the key of its title (see `TITLES`)."""
    groups: dict[str, list[SettingLine]] = {key: [] for key in TITLES}
    for name, field in Settings.model_fields.items():
        groups[group_of(name)].append(
            SettingLine(
                variable=f"WAYLEAVE_{name.upper()}",
                value=shown(name, getattr(settings, name)),
                is_set=name in settings.model_fields_set,
                meaning=field.description or "",
            )
        )
    return groups


def group_of(name: str) -> str:
    """Under which title a setting stands.

    >>> group_of("oidc_roles"), group_of("port"), group_of("retention_days")
    ('oidc', 'place', 'fleet')
    """
    prefix = name.partition("_")[0]
    if prefix in ("oidc", "audit", "notice"):
        return prefix
    if prefix in ("offer", "rules"):
        return "notice"
    return next((key for key, names in _GROUPS.items() if name in names), "fleet")


def shown(name: str, value: Any) -> str:
    """A value for reading: no secret, and no password inside an address.

    >>> shown("upload_bytes", 8_000_000_000), shown("group_wait_ms", 10), shown("port", 8000)
    ('8,000,000,000 bytes', '10 ms', '8000')
    >>> shown("database_url", "postgresql://wayleave:secret@db/wayleave"), shown("server_key", SecretStr("ab"))
    ('postgresql://wayleave:***@db/wayleave', 'set, not shown')
    """
    if isinstance(value, SecretStr):
        return "set, not shown"
    if name == "database_url" and value:
        return without_password(value)
    if name in ("audit_webhook", "notice_webhook") and value:
        return str(value).partition("?")[0]
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{key} → {item}" for key, item in value.items())
    if isinstance(value, int | float) and name != "port":
        unit = _UNITS.get(name.rpartition("_")[2])
        return f"{value:,} {unit}" if unit else f"{value:,}"
    return "" if value is None else str(value)
