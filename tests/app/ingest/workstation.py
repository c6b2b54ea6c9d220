"""A workstation as the server sees it: enrols, and sends reports that tests can bend."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from starlette.testclient import TestClient

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
from agent.contract.messages import Report
from app.db.session import session_scope
from app.ingest.enrolment import create_enrolment_secret

SID = "S-1-5-21-1004336348-1177238915-682003330-1001"


def probes(outcome: str = "blocked", *patterns: str) -> ProbeSet:
    """A probe set with one outcome at each pattern."""
    return ProbeSet(
        catalogue="etag",
        probes=tuple(
            Probe(
                pattern=pattern,
                specimen=Specimen.CANARY,
                method=Method.START,
                outcome=Outcome(outcome),
                engine=None,
                error=1260 if outcome == "blocked" else 0,
            )
            for pattern in patterns or ("venv-python",)
        ),
    )


class Workstation:
    """Enrolled, with sets of its own; `report` makes a report, `send` posts one."""

    def __init__(self, client: TestClient, token: str, name: str = "PC-1") -> None:
        self.client = client
        self.token = token
        self.epoch = time.time_ns() // 1_000_000 - 60_000
        self.sequence = 0
        self.subject = SID
        self.sets: dict[str, FactSet] = {
            one.kind: one
            for one in (
                probes(),
                UvSet(found=(FoundUv(path="%ProgramFiles%\\uv\\uv.exe", pattern=None, version="0.13.8"),)),
                EnvironmentSet(answers={"cache_dir": "%LOCALAPPDATA%\\uv\\cache"}),
                PolicySet(collections={"Exe": CollectionInForce(mode="Enabled", rules=("<FilePathRule/>",))}),
                TokenSet(sids=("S-1-5-32-545",)),
                HostFacts(name=name, platform="windows", os="Windows 11", attested=True),
            )
        }

    def put(self, *sets: FactSet) -> None:
        for one in sets:
            self.sets[one.kind] = one

    def report(self, *, bodies: bool = True, **changes: Any) -> dict[str, Any]:
        """The next report as JSON, with all bodies unless told otherwise."""
        self.sequence += 1
        report = Report(
            report_id=str(uuid.uuid4()),
            epoch=self.epoch,
            sequence=self.sequence,
            sent_at="2026-11-21T08:00:00Z",
            subject=self.subject,
            sets={kind: one.digest() for kind, one in self.sets.items()},
            bodies={one.digest(): one.body() for one in self.sets.values()} if bodies else {},
        )
        return {**report.to_json(), **changes}

    def send(self, report: Mapping[str, Any] | None = None, **changes: Any) -> Any:
        """The answer to a report (the next one if none is given)."""
        return self.client.post(
            "/api/v1/reports",
            json=dict(report) if report is not None else self.report(**changes),
            headers={"Authorization": f"Bearer {self.token}"},
        )


def enrolled(client: TestClient, server: FastAPI, name: str = "PC-1", **secret: Any) -> Workstation:
    """A newly enrolled workstation."""
    with session_scope(server.state.engine) as session:
        text = create_enrolment_secret(session, **secret)
    answer = client.post(
        "/api/v1/enrol", json={"contract": 1, "secret": text, "host": {"name": name, "os": "Windows 11"}}
    )
    assert answer.status_code == 201, answer.text
    return Workstation(client, answer.json()["token"], name)
