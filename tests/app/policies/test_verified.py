"""Answers of real PCs are read as hostile input, judged anew, and recorded once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import Engine

from app.applocker.model import AppLockerError
from app.audit.record import COMMAND_LINE
from app.cli.verified import command
from app.db.session import session_scope
from app.errors import InvalidError
from app.policies.verified import list_verified, read_observation, record_observation

KIT = Path(__file__).resolve().parents[3] / "conformance"


def answered(**changed: Any) -> dict[str, Any]:
    """The kit's cases as a PC would answer them that does as our engine assumes."""
    content = json.loads((KIT / "cases.json").read_text(encoding="utf-8"))
    cases = []
    for case in content["cases"]:
        expected = {"decision": case["expected"]["decision"]}
        cases.append({**case, "assumed": case["expected"], "expected": expected, "observed": {"error_suspended": 0}})
    windows = {"product": "Windows 11 Enterprise", "edition": "Enterprise", "build": "26100.4061"}
    return {
        "at": "2026-11-18T11:06:40Z",
        "windows": windows,
        "started": True,
        "cases": cases,
        "problems": [],
        **changed,
    }


def as_bytes(content: dict[str, Any]) -> bytes:
    return json.dumps(content).encode()


def test_answers_are_recorded_once(database: Engine) -> None:
    observation = read_observation(b"\xef\xbb\xbf" + as_bytes(answered()))
    with session_scope(database) as session:
        assert record_observation(session, observation, actor=COMMAND_LINE) == len(observation.cases) == 35
    with session_scope(database) as session:
        assert record_observation(session, observation, actor=COMMAND_LINE) == 0
    with session_scope(database, writes=False) as session:
        found = {one.case_id: one for one in list_verified(session)}
    assert len(found) == 35
    assert all(one.agrees for one in found.values())
    assert found["question-mark-one"].doubts == ("rule-question-mark",)
    assert found["case"].windows_build == "26100.4061"


def test_a_disagreement_is_told_and_kept(database: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = answered()
    wrong = next(case for case in content["cases"] if case["id"] == "question-mark-one")
    wrong["expected"]["decision"] = "DeniedByDefault"
    wrong["observed"]["error_suspended"] = 1260
    file = tmp_path / "observed.json"
    file.write_bytes(as_bytes(content))
    monkeypatch.setenv("WAYLEAVE_DATABASE_URL", database.url.render_as_string(hide_password=False))
    monkeypatch.setenv("WAYLEAVE_DATA_DIR", str(tmp_path))
    run = CliRunner()
    assert "Nothing has been verified" in run.invoke(command, ["list"]).output
    loaded = run.invoke(command, ["load", str(file)])
    assert loaded.exit_code == 1, loaded.output
    assert "question-mark-one: the decision is Allowed, expected DeniedByDefault" in loaded.output
    assert "35 cases read, 35 recorded" in loaded.output
    listed = run.invoke(command, ["list"]).output
    assert "DeniedByDefault, refused with 1260; DISAGREES: Allowed  settles rule-question-mark" in listed


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"windows": None}, "windows"),
        ({"windows": {"product": "W"}}, "build"),
        ({"windows": {"product": "W\n", "build": "1"}}, "product"),
        ({"at": "yesterday"}, "at"),
        ({"at": "2026-11-18T11:06:40"}, "at"),
        ({"cases": []}, "cases"),
        ({"cases": answered()["cases"][:1] * 2}, "cases"),
        ({"cases": [{**answered()["cases"][0], "expected": {}}]}, "cases.0"),
        ({"cases": [{**answered()["cases"][0], "observed": {"error_suspended": True}}]}, "cases.0.observed"),
    ],
)
def test_what_is_no_answer_is_refused_by_name(changed: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidError) as refused:
        read_observation(as_bytes(answered(**changed)))
    assert refused.value.field == field


def test_other_files_are_refused(tmp_path: Path) -> None:
    for data in (b"", b"\xff", b"[]", b"[" * 100_000):
        with pytest.raises(InvalidError):
            read_observation(data)
    with pytest.raises(AppLockerError):
        read_observation(as_bytes(answered(cases=["x"])))
    file = tmp_path / "cases.json"
    file.write_text("{}")
    assert CliRunner().invoke(command, ["load", str(file)]).exit_code == 2
