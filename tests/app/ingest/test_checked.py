"""Bodies that were committed once are not read again; no text gets in another's place, and the memory is bounded."""

from __future__ import annotations

from typing import Any

import pytest

from app.fleet.facts import read_set
from app.fleet.made_sets import varied_probe_set
from app.ingest import decode
from app.ingest.checked import CheckedBodies
from tests.app.ingest.workstation import Workstation, enrolled, probes


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The kinds of the sets whose bodies were read."""
    seen: list[str] = []

    def note(kind: str, body: str) -> Any:
        seen.append(kind)
        return read_set(kind, body)

    monkeypatch.setattr(decode, "read_set", note)
    return seen


def test_what_many_send_is_read_once(workstation: Workstation, server: Any, read: list[str]) -> None:
    other = enrolled(workstation.client, server, "PC-2")
    assert workstation.send().status_code == 200
    assert sorted(read) == ["environment", "policy", "probes", "token", "uv"]
    read.clear()
    assert other.send().status_code == 200
    assert read == []


def test_a_known_digest_with_another_text_is_refused(workstation: Workstation) -> None:
    assert workstation.send().status_code == 200
    report = workstation.report()
    name = report["sets"]["probes"]
    report["bodies"][name] = report["bodies"][name].replace("blocked", "allowed")
    answer = workstation.send(report)
    assert (answer.status_code, answer.json()["field"]) == (422, f"bodies.{name}")


def test_what_is_refused_is_not_remembered(workstation: Workstation, server: Any, read: list[str]) -> None:
    assert workstation.send().status_code == 200
    token, workstation.token = workstation.token, workstation.token[:-1] + "x"
    workstation.put(probes("allowed"))
    known = len(_checked(server))
    assert workstation.send().status_code == 401
    assert len(_checked(server)) == known
    workstation.token = token
    assert workstation.send().status_code == 200
    assert len(_checked(server)) == known + 1


def _checked(server: Any) -> CheckedBodies:
    found: CheckedBodies = server.reports._ingest.checked
    return found


def test_it_holds_so_many_and_so_much() -> None:
    sets = [varied_probe_set(number) for number in range(30)]
    few = CheckedBodies(sets=10)
    few.remember(sets[:10])
    assert few.find((1, sets[0].digest)) is sets[0]
    few.remember(sets[10:15])
    assert len(few) == 10
    assert few.find((1, sets[0].digest)) is sets[0], "it was used last"
    assert few.find((1, sets[1].digest)) is None
    short = CheckedBodies(characters=3 * len(sets[0].body))
    short.remember(sets)
    assert 1 <= len(short) <= 3
