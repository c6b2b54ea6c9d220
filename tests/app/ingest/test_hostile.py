"""Reports are hostile until proven otherwise: every bad one is a 4xx that names its field, and nothing is stored."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings, strategies
from sqlalchemy import func, select
from starlette.testclient import TestClient

from agent.contract.canonical import digest
from agent.contract.messages import MAX_BODY_BYTES
from app.db.session import session_scope
from app.fleet.tables import FactSet, Pulse, Subject
from tests.app.ingest.workstation import Workstation, enrolled


def stored(server: FastAPI) -> tuple[int, ...]:
    with session_scope(server.state.engine, writes=False) as session:
        return tuple(
            session.scalar(select(func.count()).select_from(table)) or 0 for table in (FactSet, Subject, Pulse)
        )


def with_body(workstation: Workstation, kind: str, body: str) -> dict[str, Any]:
    """A report whose set of a kind has this text, under its right digest."""
    report = workstation.report()
    del report["bodies"][report["sets"][kind]]
    report["sets"][kind] = digest(kind, body)
    report["bodies"][report["sets"][kind]] = body
    return report


TOP = [
    ("contract", 0, "contract"),
    ("contract", "1", "contract"),
    ("report_id", "short", "report_id"),
    ("report_id", "with\x00nul-and-more", "report_id"),
    ("epoch", -1, "epoch"),
    ("epoch", 2**53, "epoch"),
    ("epoch", 10**40, "epoch"),
    ("epoch", 1.5, "epoch"),
    ("sequence", 2**63, "sequence"),
    ("sequence", -1, "sequence"),
    ("sequence", None, "sequence"),
    ("sent_at", "yesterday", "sent_at"),
    ("sent_at", "2026-11-21T08:00:00", "sent_at"),
    ("sent_at", "0001-01-01T00:00:00+23:59", "sent_at"),
    ("subject", "alice", "subject"),
    ("subject", "S-1-5-21-1004336348-1177238915-682003330-1001; DROP TABLE host", "subject"),
    ("subject", "S-1-5" + "-1" * 40, "subject"),
    ("sets", {}, "sets"),
    ("sets", [], "sets"),
    ("sets", {"probes": "md5:1"}, "sets.probes"),
    ("sets", {"probes": "sha256:" + "A" * 64}, "sets.probes"),
    ("sets", {f"kind{number}": "x" for number in range(50)}, "sets"),
    ("bodies", {"sha256:" + "0" * 64: "{}"}, "bodies.sha256:" + "0" * 64),
    ("bodies", {f"{number}": "{}" for number in range(100)}, "bodies"),
    ("sightings", [{}], "sightings.0.channel"),
    ("sightings", "none", "sightings"),
]


@pytest.mark.parametrize(("name", "value", "field"), TOP)
def test_a_bad_field_is_named(workstation: Workstation, server: FastAPI, name: str, value: object, field: str) -> None:
    answer = workstation.send({**workstation.report(), name: value})
    assert answer.status_code == 422, answer.text
    assert answer.json()["error"] == "invalid"
    assert answer.json()["field"] == field
    assert stored(server) == (0, 0, 0)


SIGHTING = {
    "channel": "AppLocker",
    "record": 1,
    "event_id": 8004,
    "at": "2026-11-20T08:00:00Z",
    "pattern": "venv-python",
    "path": "C:\\x",
}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("at", "2999-01-01T00:00:00Z"),
        ("at", "\x00"),
        ("record", 2**60),
        ("event_id", 2**31),
        ("pattern", "Venv Python"),
        ("pattern", "a" * 200),
        ("path", "C:\\a\x00b"),
        ("path", "x" * 2000),
        ("fqbn", "O=A\nB"),
        ("sha256", "abc"),
        ("collection", "<script>"),
        ("rule_id", "' OR 1=1"),
    ],
)
def test_a_bad_sighting_is_named(workstation: Workstation, server: FastAPI, name: str, value: object) -> None:
    answer = workstation.send(workstation.report(sightings=[SIGHTING, {**SIGHTING, name: value}]))
    assert (answer.status_code, answer.json()["field"]) == (422, f"sightings.1.{name}"), answer.text
    assert stored(server) == (0, 0, 0)


BODIES = [
    ("probes", "{", "not JSON"),
    ("probes", "{}\n", "not canonical"),
    ("probes", '{"probes":[],"catalogue":""}', "not canonical"),
    ("probes", '{"probes":[],"probes":[]}', "not canonical"),
    ("probes", '{"probes":[{"error":1.5}]}', "not an integer"),
    ("probes", '{"probes":[{"error":1e3}]}', "not an integer"),
    ("probes", '{"probes":[{"error":NaN}]}', "not an integer"),
    ("probes", '{"probes":[{"error":99999999999999999999}]}', "±2^53"),
    ("probes", "[" * 100_000, "nested too deeply"),
    ("probes", "[" * 40 + "]" * 40, "nested deeper"),
    ("probes", '{"probes":"none"}', "list"),
    ("probes", '{"probes":[{"outcome":"blocked"}]}', "pattern"),
    ("probes", '{"probes":[{"outcome":"blocked","pattern":"../../etc"}]}', "pattern"),
    ("probes", '{"probes":[{"outcome":"blocked","pattern":"a\\u0000b"}]}', "pattern"),
    ("probes", json.dumps({"probes": [{"pattern": "venv-python"}] * 401}, separators=(",", ":")), "400 probes"),
    ("uv", '{"found":[{"path":"x","version":"1\\u0000"}]}', "version"),
    ("uv", '{"found":[{"path":"\\ud800"}]}', "surrogate"),
    ("uv", "[]", "dict"),
    ("policy", '{"gpo":{"Exe":{"rules":"all"}}}', "list"),
    ("token", '{"administrator":"yes"}', "bool"),
    ("host", '{"os":"Windows"}', "name"),
    ("host", '{"name":"PC\\u0000"}', "name"),
    ("host", '{"name":"' + "x" * 300 + '"}', "255"),
    ("environment", '{"variables":{"A":1}}', "string"),
]


@pytest.mark.parametrize(("kind", "body", "message"), BODIES)
def test_a_bad_body_is_named(workstation: Workstation, server: FastAPI, kind: str, body: str, message: str) -> None:
    report = with_body(workstation, kind, body)
    answer = workstation.send(report)
    assert answer.status_code == 422, answer.text
    assert message.lower() in (answer.json()["message"] + answer.json()["field"]).lower()
    assert answer.json()["field"].startswith("bodies.sha256:")
    assert stored(server) == (0, 0, 0)


def test_a_wrong_digest_is_422(workstation: Workstation, server: FastAPI) -> None:
    report = workstation.report()
    name = report["sets"]["probes"]
    report["bodies"][name] = report["bodies"][name].replace("blocked", "allowed")
    answer = workstation.send(report)
    assert (answer.status_code, answer.json()["field"]) == (422, f"bodies.{name}")
    assert stored(server) == (0, 0, 0)


def test_one_body_can_not_stand_for_two_kinds(workstation: Workstation, server: FastAPI) -> None:
    report = workstation.report()
    report["sets"]["uv"] = report["sets"]["token"]
    answer = workstation.send(report)
    assert answer.status_code == 422
    assert stored(server) == (0, 0, 0)


def post(workstation: Workstation, content: bytes, **headers: str) -> Any:
    return workstation.client.post(
        "/api/v1/reports", content=content, headers={"Authorization": f"Bearer {workstation.token}", **headers}
    )


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"\xff\xfe{}", 400),
        (b"\x00", 400),
        (b'{"report_id":"\\ud800"}', 400),
        (b"[1]", 422),
        (b"null", 422),
        (b'"text"', 422),
        (b"[" * 200_000, 400),
        (b'{"epoch":' + b"9" * 400 + b"}", 422),
    ],
)
def test_what_is_no_report_is_4xx(workstation: Workstation, content: bytes, status: int) -> None:
    answer = post(workstation, content)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"] in ("malformed", "invalid")


def test_a_body_over_the_limit_is_413(workstation: Workstation, server: FastAPI) -> None:
    assert post(workstation, b" " * (MAX_BODY_BYTES + 1)).status_code == 413

    def chunks() -> Any:
        for _ in range(40):
            yield b" " * 65_536

    answer = workstation.client.post(
        "/api/v1/reports", content=chunks(), headers={"Authorization": f"Bearer {workstation.token}"}
    )
    assert answer.status_code == 413
    assert post(workstation, b"{}", **{"Content-Length": "9" * 30}).status_code in (400, 413)
    assert stored(server) == (0, 0, 0)


def test_a_gzip_bomb_is_413_and_broken_gzip_400(workstation: Workstation) -> None:
    gzipped = {"Content-Encoding": "gzip"}
    assert post(workstation, gzip.compress(bytes(50_000_000)), **gzipped).status_code == 413
    assert post(workstation, gzip.compress(bytes(900_000)), **gzipped).status_code == 413
    whole = gzip.compress(b"{}")
    for broken in (b"not gzip", whole[:-3], whole + b"more", whole + whole, b""):
        answer = post(workstation, broken, **gzipped)
        assert answer.status_code == 400, broken
    assert post(workstation, b"x", **{"Content-Encoding": "br"}).status_code == 415


def test_the_token_comes_first(workstation: Workstation) -> None:
    """Without a token nothing is even read."""
    assert workstation.client.post("/api/v1/reports", content=b"{").status_code == 401
    assert workstation.client.get("/api/v1/reports").status_code == 405


json_values = strategies.recursive(
    strategies.none() | strategies.booleans() | strategies.integers() | strategies.floats() | strategies.text(),
    lambda inner: strategies.lists(inner, max_size=4) | strategies.dictionaries(strategies.text(), inner, max_size=4),
    max_leaves=12,
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(data=strategies.data())
def test_no_report_is_ever_a_500(client: TestClient, server: FastAPI, data: strategies.DataObject) -> None:
    """A good report with any one value replaced by anything is taken or refused, never an error of ours."""
    station = STATIONS.get(id(server)) or STATIONS.setdefault(id(server), enrolled(client, server))
    # What was sent before must not change what is drawn: the report is the same size every time.
    station.epoch, station.sequence = 1_795_000_000_000 + len(STATIONS), 1000
    report = {**station.report(), "report_id": "00000000-0000-4000-8000-000000000000"}
    spoilt = data.draw(strategies.sampled_from(["field", "set", "body", "bytes"]))
    content: bytes
    if spoilt == "field":
        report[data.draw(strategies.sampled_from(sorted(report)))] = data.draw(json_values)
    elif spoilt == "set":
        report["sets"][data.draw(strategies.sampled_from(sorted(report["sets"])))] = data.draw(json_values)
    elif spoilt == "body":
        kind = data.draw(strategies.sampled_from(sorted(report["sets"])))
        text = json.dumps(data.draw(json_values), ensure_ascii=False, separators=(",", ":"), sort_keys=True)
        try:
            report["sets"][kind] = digest(kind, text)
        except UnicodeEncodeError:
            return
        report["bodies"] = {report["sets"][kind]: text}
    content = json.dumps(report).encode()
    if spoilt == "bytes":
        at = data.draw(strategies.integers(0, len(content) - 1))
        content = content[:at] + data.draw(strategies.binary(max_size=5)) + content[at + 1 :]
    answer = post(station, content)
    assert answer.status_code in (200, 400, 409, 422, 429), answer.text
    if answer.status_code != 200:
        assert set(answer.json()) >= {"error", "message", "field"}


STATIONS: dict[int, Workstation] = {}
