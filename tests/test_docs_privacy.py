"""docs/privacy.md keeps step with what the agent sends and how long the server keeps it."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from agent.contract.facts import KINDS, EnvironmentSet, FoundUv, HostFacts, PolicySet, Probe, ProbeSet, TokenSet
from agent.contract.messages import Report, Sighting
from app.fleet.sweep import EPHEMERAL_HOURS
from app.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "privacy.md").read_text(encoding="utf-8")

# All that can be in a report. Who adds a field here has looked whether the page still tells the truth.
DESCRIBED: dict[type, set[str]] = {
    Report: {
        "report_id",
        "epoch",
        "sequence",
        "sent_at",
        "subject",
        "sets",
        "bodies",
        "sightings",
        "rule_uses",
        "contract",
    },
    Sighting: {"channel", "record", "event_id", "at", "pattern", "path", "collection", "rule_id", "sha256", "fqbn"},
    Probe: {"pattern", "specimen", "method", "outcome", "why", "engine", "error", "collection"},
    FoundUv: {"path", "pattern", "version", "target", "authenticode_sha256", "publisher", "trust"},
    EnvironmentSet: {"variables", "uv_toml", "answers", "roots", "event_logs", "language_mode", "controls"},
    PolicySet: {"collections", "csp", "srp", "csp_sets", "service_disabled"},
    ProbeSet: {"catalogue", "probes", "refused"},
    TokenSet: {"sids", "deny_only", "elevated", "administrator"},
    HostFacts: {"name", "platform", "os", "os_build", "domain", "unit", "agent_version", "attested", "appid_service"},
}


@pytest.mark.parametrize("told", DESCRIBED, ids=lambda told: told.__name__)
def test_what_can_be_sent_is_what_the_page_was_written_for(told: type) -> None:
    assert {item.name for item in fields(told)} == DESCRIBED[told], "say it in docs/privacy.md too"


def test_every_kind_of_fact_is_on_the_page() -> None:
    assert [kind for kind in KINDS if f"`{kind}`" not in PAGE] == []


def test_times_are_the_settings_own() -> None:
    settings = Settings.model_fields
    assert f"{settings['retention_days'].default} days (`WAYLEAVE_RETENTION_DAYS`" in PAGE
    assert f"silent for {settings['silent_after_days'].default} days (`WAYLEAVE_SILENT_AFTER_DAYS`)" in PAGE
    assert f"those of ephemeral hosts after {EPHEMERAL_HOURS} hours" in PAGE


def test_the_tests_that_it_names_are_there() -> None:
    for name in (
        "tests/agent/linux/test_privacy.py",
        "tests/windows/test_privacy.py",
        "tests/windows/test_events_to_server.py",
        "agent/report.py",
    ):
        assert name in PAGE
        assert (ROOT / name).is_file()
