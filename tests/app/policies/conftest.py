"""Trusted files and base policies for the tests of policies."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from app.policies.baselines import TrustedFile

DEVELOPERS = "S-1-5-21-1004336348-1177238915-682003330-1234"
Trust = Callable[..., TrustedFile]


@pytest.fixture(scope="session")
def developers() -> str:
    return DEVELOPERS


@pytest.fixture(scope="session")
def trust() -> Trust:
    """A trusted file as the baseline would give it: `trust(id, name, kind="exe", publisher=None, ...)`."""

    def make(number: int, name: str, **values: object) -> TrustedFile:
        given: dict[str, object] = {
            "id": number,
            "name": name,
            "size_bytes": 1000 + number,
            "sha256": f"{number:064x}",
            "authenticode_sha256": f"{number + 1000:064x}",
            "kind": "exe",
            "publisher": None,
            "product": None,
            "binary": None,
            "version": None,
            "source": "the golden image",
            "added_at": datetime(2026, 11, 20, tzinfo=UTC),
            "added_by": "ada@example.com",
        }
        return TrustedFile(**(given | values))  # type: ignore[arg-type]

    return make


BASE = """<?xml version="1.0" encoding="utf-8"?>
<!-- The fleet's own policy -->
<AppLockerPolicy Version="1">
  <RuleCollection Type="Exe" EnforcementMode="Enabled">
    <FilePathRule Id="921cc481-6e17-4653-8f75-050b80acca20" Name="(Default Rule) Program Files" Description=""
                  UserOrGroupSid="S-1-1-0" Action="Allow">
      <Conditions><FilePathCondition Path="%PROGRAMFILES%\\*" /></Conditions>
    </FilePathRule>
    <FilePathRule Id="a61c8b2c-a319-4cd0-9690-d2177cad7b51" Name="(Default Rule) Windows" Description=""
                  UserOrGroupSid="S-1-1-0" Action="Allow">
      <Conditions><FilePathCondition Path="%WINDIR%\\*" /></Conditions>
    </FilePathRule>
  </RuleCollection>
  <RuleCollection Type="Script" EnforcementMode="AuditOnly">
    <FilePathRule Id="9428c672-5fc3-47f4-808a-a0011f36dd2c" Name="(Default Rule) Scripts in Windows" Description=""
                  UserOrGroupSid="S-1-1-0" Action="Allow">
      <Conditions><FilePathCondition Path="%WINDIR%\\*" /></Conditions>
    </FilePathRule>
  </RuleCollection>
  <RuleCollection Type="Dll" EnforcementMode="NotConfigured" />
</AppLockerPolicy>
"""


@pytest.fixture(scope="session")
def base_policy() -> str:
    """Default rules for programs (enforced) and scripts (audited); no rules for libraries and installers."""
    return BASE
