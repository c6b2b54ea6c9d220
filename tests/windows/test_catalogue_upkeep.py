"""The catalogue knows all that real uv makes and starts; and the check misses a pattern that is taken out of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from agent.catalogue import classify, load, normalise
from agent.catalogue.classify import expressions
from agent.catalogue.matcher import Matcher
from agent.catalogue.normalise import lower_ascii
from tests.windows.bench.places import LOCAL_APPDATA, PROFILE
from tests.windows.bench.upkeep import NEWEST, OLDER, STEPS, Observed, judge, observe

pytestmark = pytest.mark.windows

CACHE = rf"{LOCAL_APPDATA}\uv\cache"


@pytest.fixture(scope="module", params=[NEWEST, OLDER])
def observed(request: pytest.FixtureRequest, bench: None, index_url: str) -> Observed:
    return observe(request.param, index_url)


def without(pattern_id: str) -> Callable[[str], str | None]:
    """The name of a path by a catalogue that lacks one pattern."""
    matcher = Matcher(one for one in expressions() if one.pattern.id != pattern_id)

    def name(path: str) -> str | None:
        return next((found.id for found in matcher.matching(lower_ascii(normalise(path) or ""))), None)

    return name


def test_the_catalogue_knows_all_that_uv_makes_and_starts(observed: Observed) -> None:
    assert observed.failed == []
    assert judge(observed) == []
    assert {classify(path) for path in observed.started} >= {
        "managed-python-exe",
        "venv-python",
        "venv-entrypoint-exe",
        "cache-builds-venv-python",
        "cache-archive-env-python",
        "cache-archive-env-entrypoint-exe",
        "cache-script-env-python",
        "tool-env-python",
        "tool-bin-exe",
    }
    assert len(observed.made) > 200


@pytest.mark.parametrize(
    "pattern_id",
    ["tool-bin-exe", "cache-archive-env-entrypoint-exe", "cache-script-env-other"],
)
def test_a_pattern_taken_out_of_the_catalogue_is_missed(observed: Observed, pattern_id: str) -> None:
    found = judge(observed, name=without(pattern_id))
    assert found
    assert {classify(one.path) for one in found} == {pattern_id}


def test_every_workflow_that_starts_something_is_gone_through_or_named_as_left_out() -> None:
    gone_through = {step.workflow for step in STEPS}
    left_out = {"sync-wheels", "python-install", "format", "self-update", "activate"}
    needing = {workflow.id for workflow in load().workflows if workflow.needs or workflow.optional}
    assert needing - gone_through - left_out == set()
    assert gone_through <= {workflow.id for workflow in load().workflows}


@pytest.mark.parametrize(
    ("made", "started", "version", "words"),
    [
        (rf"{CACHE}\archive-v1\abcdefghijklmnop\x.py", "", NEWEST, "archive-v1 is in no [[bucket]]"),
        (rf"{CACHE}\sdists-v9\x.txt", "", NEWEST, "said to be of uv 0.6.8 to 0.12.24"),
        (rf"{CACHE}\environments-v2\a-0123456789abcdef\x.py", "", "0.5.0", "said to be of uv 0.6.0 to now"),
        (rf"{PROFILE}\Documents\uv\note.txt", "", NEWEST, "no root of uv's"),
        (rf"{LOCAL_APPDATA}\uv\new-place\x.exe", "", NEWEST, "belongs to no pattern"),
        ("", rf"{LOCAL_APPDATA}\uv\new-place\x.tmp", NEWEST, "was started, and belongs to no pattern"),
        ("", rf"{LOCAL_APPDATA}\Temp\uv-0123456789abcdef.lock", NEWEST, "says that nothing is executed there"),
    ],
)
def test_what_is_not_as_the_catalogue_says_is_told(made: str, started: str, version: str, words: str) -> None:
    observed = Observed(
        version=version, made={made: "venv"} if made else {}, started={started: "venv"} if started else {}
    )
    found = judge(observed)
    assert found
    assert any(words in one.reason for one in found), found
