"""Files of cases: the project's own, the reference's, and what is no such file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.applocker.cases import case_of, judge_cases
from app.applocker.evaluate import evaluate
from app.applocker.model import STANDARD_USER, AppLockerError, File
from app.applocker.read import parse_policy

OWN = Path(__file__).with_name("cases.json")
REFERENCE = Path(__file__).resolve().parents[4] / "shared" / "reference" / "applocker-cases.json"


def test_every_own_case_agrees_in_decision_and_confidence() -> None:
    answers = judge_cases(OWN.read_bytes())
    assert len(answers) > 80
    assert [(answer.case.id, answer.differences) for answer in answers if answer.differences] == []
    assert [answer.case.id for answer in answers if answer.decision.confidence != answer.case.confidence] == []


def test_every_reference_case_agrees() -> None:
    if not REFERENCE.exists():
        pytest.skip("shared: needs the reference's cases")
    answers = judge_cases(REFERENCE.read_bytes())
    assert len(answers) == 59
    assert [(answer.case.id, answer.differences) for answer in answers if answer.differences] == []
    low = [answer for answer in answers if answer.case.confidence == "low"]
    assert all(answer.decision.confidence == "low" and answer.decision.doubts for answer in low)


def test_a_decision_becomes_a_case_that_agrees_and_names_its_doubts() -> None:
    policy = parse_policy(json.loads(OWN.read_text())["cases"][0]["policy_xml"].replace("%OSDRIVE%\\Tools", "C:/Tools"))
    file = File(path="C:\\Tools\\a.exe")
    case = case_of("new", policy, file, STANDARD_USER, None, evaluate(policy, file, STANDARD_USER))
    assert [doubt["code"] for doubt in case["doubts"]] == ["rule-forward-slash"]
    (answer,) = judge_cases(json.dumps({"cases": [case]}))
    assert not answer.differences


def test_differences_are_told() -> None:
    cases = json.loads(OWN.read_text())["cases"]
    denied = next(case for case in cases if case["id"] == "mode-enabled")
    denied["expected"] = {"decision": "Allowed", "rule_id": None, "runtime": {"runs": True, "event": 8002}}
    (answer,) = judge_cases(json.dumps([denied]))
    assert answer.differences == (
        "the decision is DeniedByDefault, expected Allowed",
        "the file is blocked, expected the opposite",
        "the event is 8004, expected 8002",
    )
    allowed = next(case for case in cases if case["id"] == "hash")
    allowed["expected"]["rule_id"] = "00000000-0000-0000-0000-000000000000"
    (answer,) = judge_cases(json.dumps([allowed]))
    assert answer.differences[0].startswith("the rule is ")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("3", "a list of cases"),
        ("[3]", "case 1 is not an object"),
        ('[{"id": "x", "policy_xml": "<a"}]', "case x: policy_xml"),
        ('[{"id": "x"}]', "no policy_xml"),
        ('[{"policy_xml": "<AppLockerPolicy Version=\'1\'/>"}]', "an object with a path"),
        ('[{"policy_xml": "<AppLockerPolicy Version=\'1\'/>", "file": {"path": 3}}]', "an object with a path"),
        ('[{"policy_xml": "<AppLockerPolicy Version=\'1\'/>", "file": {"path": "a", "version": "1"}}]', "four numbers"),
        ('[{"policy_xml": "<AppLockerPolicy Version=\'1\'/>", "file": {"path": "a"}, "collection": "EXE"}]', "'EXE'"),
        (
            '[{"policy_xml": "<AppLockerPolicy Version=\'1\'/>", "file": {"path": "a"}, "user_sids": "S"}]',
            "list of SIDs",
        ),
    ],
)
def test_what_is_no_file_of_cases(text: str, message: str) -> None:
    with pytest.raises(AppLockerError) as caught:
        judge_cases(text)
    assert message in str(caught.value)
