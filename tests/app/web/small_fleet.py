"""A small fleet that reports over HTTP as agents do: three departments, two policies, two versions of uv."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx2
from fastapi import FastAPI
from sqlalchemy import Engine

from agent.catalogue import load
from agent.contract.facts import (
    CollectionInForce,
    EnvironmentSet,
    FactSet,
    FoundUv,
    HostFacts,
    Method,
    Outcome,
    PolicySet,
    Probe,
    ProbeSet,
    Specimen,
    TokenSet,
    UvSet,
)
from agent.contract.facts import (
    Engine as Blocker,
)
from agent.contract.messages import Report, Sighting
from app.db.session import session_scope
from app.fleet.fold import ContributionCache, fold
from app.fleet.groups import make_standard_groups
from app.ingest.enrolment import create_enrolment_secret

CACHE = ("cache-builds-venv-python", "cache-archive-env-python", "cache-archive-env-entrypoint-exe")
PYTHON = ("managed-python-exe", "venv-python", "venv-entrypoint-exe", "tool-env-python", "tool-bin-exe")
SID = "S-1-5-21-1004336348-1177238915-682003330-{}"


@dataclass(kw_only=True)
class Machine:
    """One workstation: what its probes find blocked, its uv, and how its user stands."""

    name: str
    group: str
    blocked: Sequence[str] = ()
    version: str | None = "0.13.8"
    administrator: bool = False
    enforcing: bool = True
    roots: Mapping[str, str] = field(default_factory=dict)
    appid_service: str = ""
    publisher: str | None = None
    trust: str | None = None
    sightings: tuple[Sighting, ...] = ()
    token: str = ""
    sequence: int = 0
    subject: str = field(default_factory=lambda: SID.format(uuid.uuid4().int % 10**6))

    def sets(self) -> list[FactSet]:
        """Everything it says of itself."""
        probes = tuple(
            Probe(
                pattern=pattern.id,
                specimen=Specimen.CANARY,
                method=Method.START,
                outcome=Outcome.BLOCKED if pattern.id in self.blocked else Outcome.ALLOWED,
                engine=Blocker.APPLOCKER if pattern.id in self.blocked else None,
                error=1260 if pattern.id in self.blocked else 0,
                collection="Exe",
            )
            for pattern in load().patterns
            if pattern.id in (*CACHE, *PYTHON, "uv-exe-standalone", "cache-script-env-python")
        )
        path = "%USERPROFILE%\\.local\\bin\\uv.exe"
        found_uv = FoundUv(
            path=path, pattern="uv-exe-standalone", version=self.version, publisher=self.publisher, trust=self.trust
        )
        found = (found_uv,) if self.version else ()
        rules = ('<FilePathRule Id="921cc481-6e17-4653-8f75-050b80acca20"/>',) if self.enforcing else ()
        return [
            ProbeSet(catalogue=load().etag, probes=probes),
            UvSet(found=found, preferred=path if found else None),
            EnvironmentSet(
                answers={"cache_dir": "%LOCALAPPDATA%\\uv\\cache"},
                variables={"UV_NATIVE_TLS": "1"},
                roots=self.roots,
                event_logs={"applocker-exe": "overwritten", "code-integrity": "read"},
            ),
            PolicySet(collections={"Exe": CollectionInForce(mode="Enabled", rules=rules)} if rules else {}),
            TokenSet(sids=("S-1-1-0", "S-1-5-32-545"), administrator=self.administrator),
            HostFacts(
                name=self.name,
                platform="windows",
                os="Windows 11 Enterprise",
                os_build="26100.4061",
                domain="EXAMPLE",
                unit=f"OU={self.group},DC=example,DC=com",
                agent_version="0.1.0",
                attested=True,
                appid_service=self.appid_service,
            ),
        ]

    def report(self, client: Any) -> None:
        """Send everything, as after a first start."""
        self.sequence += 1
        sets = self.sets()
        report = Report(
            report_id=str(uuid.uuid4()),
            epoch=1_763_683_200_000,
            sequence=self.sequence,
            sent_at="2026-11-21T08:00:00Z",
            subject=self.subject,
            sets={one.kind: one.digest() for one in sets},
            bodies={one.digest(): one.body() for one in sets},
            sightings=self.sightings,
        )
        answer = client.post(
            "/api/v1/reports", json=report.to_json(), headers={"Authorization": f"Bearer {self.token}"}
        )
        assert answer.status_code == 200, answer.text


def machines() -> list[Machine]:
    """25 that count: Sales all blocked, Engineering mostly in the cache alone, Finance open; and two that don't."""
    seen = Sighting(
        channel="Microsoft-Windows-AppLocker/EXE and DLL",
        record=4711,
        event_id=8004,
        at="2026-11-21T07:41:00Z",
        pattern="cache-builds-venv-python",
        path="%LOCALAPPDATA%\\uv\\cache\\builds-v0\\.tmp*\\Scripts\\python.exe",
        collection="Exe",
    )
    sales = [
        Machine(name=f"SALES-{n:03}", group="Sales", blocked=(*CACHE, *PYTHON), version="0.12.9" if n < 5 else "0.13.8")
        for n in range(8)
    ]
    engineering = [
        Machine(
            name=f"ENG-{n:03}", group="Engineering", blocked=CACHE if n < 9 else (), sightings=(seen,) if n == 0 else ()
        )
        for n in range(12)
    ]
    finance = [
        Machine(name=f"FIN-{n:03}", group="Finance and Controlling", version=None if n == 0 else "0.13.6")
        for n in range(5)
    ]
    apart = [
        Machine(name="ADMIN-01", group="Engineering", administrator=True),
        Machine(name="KIOSK-01", group="Sales", enforcing=False),
    ]
    return [*sales, *engineering, *finance, *apart]


def report_all(app: FastAPI, client: Any, fleet: Sequence[Machine]) -> None:
    """Enrol each machine by its group's secret, let it report, and fold the counts."""
    engine: Engine = app.state.engine
    secrets: dict[str, str] = {}
    for machine in fleet:
        if machine.group not in secrets:
            with session_scope(engine) as session:
                make_standard_groups(session)
                secrets[machine.group] = create_enrolment_secret(session, uses=None, group=machine.group)
        if not machine.token:
            request = {
                "contract": 1,
                "secret": secrets[machine.group],
                "host": {"name": machine.name, "os": "Windows 11 Enterprise"},
            }
            answer = client.post("/api/v1/enrol", json=request)
            assert answer.status_code == 201, answer.text
            machine.token = answer.json()["token"]
        machine.report(client)
    with engine.connect() as connection:
        while fold(connection, ContributionCache()):
            pass


def report_to(url: str, app: FastAPI, fleet: Sequence[Machine]) -> None:
    """The same to a server that listens."""
    with httpx2.Client(base_url=url) as client:
        report_all(app, client, fleet)
