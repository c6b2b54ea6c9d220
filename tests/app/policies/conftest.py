"""Trusted files and base policies for the tests of policies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest
from sqlalchemy.orm import Session

from agent.contract.facts import EnvironmentSet, PolicySet, ProbeSet, TokenSet
from app.db.base import now
from app.fleet.facts import read_set
from app.fleet.standing import HostState, Standing
from app.fleet.tables import KIND_NUMBERS, NO_SET, FactSet, Host, HostGroup, PatternTally, Subject, Tally
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
        return TrustedFile(**(given | values))

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


@dataclass
class Fleet:
    """Subjects written straight into the tables, with the tallies that the folder would have made."""

    session: Session
    groups: dict[str, int] = field(default_factory=dict)
    hosts: int = 0

    def add(
        self,
        policy: PolicySet,
        probes: ProbeSet | None = None,
        token: TokenSet | None = None,
        *,
        environment: EnvironmentSet | None = None,
        service: str = "",
        group: str = "Office",
        standing: Standing = Standing.COUNTED,
    ) -> None:
        if group not in self.groups:
            row = HostGroup(name=group, source="tag", created_at=now())
            self.session.add(row)
            self.session.flush()
            self.groups[group] = row.id
        self.hosts += 1
        host = Host(
            group_id=self.groups[group],
            state=HostState.ACTIVE.value,
            token_hash=self.hosts.to_bytes(32, "big"),
            enrolled_at=now(),
            name=f"PC-{self.hosts}",
            platform="windows",
            appid_service=service,
        )
        self.session.add(host)
        self.session.flush()
        policy_id = self._set("policy", policy)
        self.session.add(
            Subject(
                host_id=host.id,
                sid_hmac=self.hosts.to_bytes(32, "big"),
                group_id=self.groups[group],
                standing=standing.value,
                first_seen_at=now(),
                changed_at=now(),
                policy_id=policy_id,
                probes_id=self._set("probes", probes) if probes else None,
                token_id=self._set("token", token) if token else None,
                environment_id=self._set("environment", environment) if environment else None,
            )
        )
        for set_id in (policy_id, NO_SET):
            self._count(Tally, set_id=set_id, group_id=self.groups[group], standing=standing.value)
        for fact in read_set("probes", probes.body()).patterns if probes else ():
            where = {"group_id": self.groups[group], "standing": standing.value, "pattern": fact.pattern}
            self._count(PatternTally, **where, outcome=fact.outcome, engine=fact.engine)

    def _count(self, tally: type[Tally] | type[PatternTally], **key: int | str) -> None:
        row = self.session.query(tally).filter_by(**key).one_or_none()
        if row is None:
            row = tally(**key, subjects=0, **({"since_at": now()} if tally is PatternTally else {}))
            self.session.add(row)
        row.subjects += 1
        self.session.flush()

    def _set(self, kind: str, body: PolicySet | ProbeSet | TokenSet | EnvironmentSet) -> int:
        digest = body.digest().encode()
        known = self.session.query(FactSet).filter_by(kind=KIND_NUMBERS[kind], digest=digest).one_or_none()
        if known is None:
            facts = read_set(kind, body.body())
            known = FactSet(
                kind=KIND_NUMBERS[kind],
                digest=digest,
                body=body.body(),
                flags=int(facts.flags),
                facts=facts.marks,
                created_at=now(),
            )
            self.session.add(known)
            self.session.flush()
        return known.id


@pytest.fixture(scope="session")
def make_fleet() -> type[Fleet]:
    """A fleet in a database: `make_fleet(session).add(policy, probes, token, group=..., standing=...)`."""
    return Fleet
