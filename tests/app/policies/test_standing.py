"""Marks: nothing counts as verified until a PC has answered what it rests on; one that disagrees counts."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Engine

from app.db.session import session_scope
from app.policies.standing import COLLECTION_QUESTIONS, QUESTIONS, USER_QUESTIONS, VerifiedStanding, read_standing
from app.policies.tables import VerifiedCase

EVERYTHING = frozenset(
    name for group in (*QUESTIONS.values(), *COLLECTION_QUESTIONS.values(), USER_QUESTIONS) for name in group
)


def test_without_answers_everything_is_marked() -> None:
    for kind in (*QUESTIONS, "appx", ""):
        for collection in (*COLLECTION_QUESTIONS, "Appx"):
            assert VerifiedStanding().of_rule(kind, collection).text == "not verified on Windows"
    assert not VerifiedStanding().of_judgement().is_verified


def test_a_kind_is_verified_when_all_it_rests_on_was_answered() -> None:
    standing = VerifiedStanding(agreed=frozenset((*QUESTIONS["path"], *COLLECTION_QUESTIONS["Exe"])))
    assert standing.of_rule("path", "Exe").is_verified
    assert standing.of_rule("path", "Dll").missing == COLLECTION_QUESTIONS["Dll"]
    assert not standing.of_rule("hash", "Exe").is_verified
    assert not standing.of_rule("path", "Appx").is_verified
    assert VerifiedStanding(agreed=EVERYTHING).of_judgement().is_verified
    for name in EVERYTHING:
        assert VerifiedStanding(agreed=EVERYTHING - {name}).of_judgement().missing == (name,)


def test_one_pc_that_disagrees_is_not_outvoted(database: Engine) -> None:
    with session_scope(database) as session:
        session.add_all([case("osdrive", True, "1"), case("osdrive", False, "2"), case("case", True, "1")])
    with session_scope(database, writes=False) as session:
        standing = read_standing(session)
    assert (standing.agreed, standing.wrong, standing.builds) == ({"case"}, {"osdrive"}, ("1", "2"))
    mark = standing.of_rule("path", "Exe")
    assert (mark.wrong, mark.text) == (("osdrive",), "Windows judged otherwise")


def test_a_judgement_without_a_start_verifies_nothing(database: Engine) -> None:
    with session_scope(database) as session:
        session.add(case("osdrive", True, "1", error=None))
        session.add(case("case", False, "1", error=None))
    with session_scope(database, writes=False) as session:
        standing = read_standing(session)
    assert (standing.agreed, standing.wrong) == (frozenset(), {"case"})


def test_every_question_is_asked_by_the_kit() -> None:
    kit = Path(__file__).resolve().parents[3] / "conformance" / "cases.json"
    asked = {one["id"] for one in json.loads(kit.read_text(encoding="utf-8"))["cases"]}
    assert asked >= EVERYTHING


def case(name: str, agrees: bool, build: str, error: int | None = 0) -> VerifiedCase:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    return VerifiedCase(
        case_id=name,
        windows="Windows 11",
        windows_build=build,
        observed_at=at,
        decision="Allowed",
        error=error,
        engine_decision="Allowed" if agrees else "Denied",
        agrees=agrees,
        doubts="",
        recorded_at=at,
        recorded_by="test",
    )
