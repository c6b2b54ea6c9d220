"""The texts of refusals: each entry is whole, and matches what the reference says is printed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from agent.catalogue import load
from agent.catalogue.errors import load_errors

REFERENCE = Path(__file__).parents[4] / "shared" / "reference" / "uv-errors.json"


def test_entries_are_whole() -> None:
    ids = [error.id for error in load_errors()]
    assert len(set(ids)) == len(ids)
    known = {pattern.id for pattern in load().patterns}
    for error in load_errors():
        assert error.source
        assert error.pattern is None or error.pattern in known
        assert error.since is None or re.fullmatch(r"\d+\.\d+\.\d+", error.since)
        assert set(error.match.groupindex) <= {"path", "command", "hook", "said", "origin", "wheel", "module"}


def test_the_reference_s_texts_are_found() -> None:
    if not REFERENCE.exists():
        pytest.skip("shared: the reference's texts are not there")
    # These are numbers, or a second wording of one that is there.
    numbers = {"python-winerror", "os-error-suffix"}
    for entry in json.loads(REFERENCE.read_text("utf-8")):
        if entry["id"] in numbers:
            continue
        text = re.sub(r"\{(?:backend|hook)\}", "x", entry["text"].split(" ; ")[0].split(" + ")[0].split("  [")[0])
        text = re.sub(r"\{[^{}]*\}", "C:/x/a", text)
        text = text.split("\\n")[0].removeprefix("<=0.12.21 ")
        assert any(error.match.search(text) for error in load_errors()), text
