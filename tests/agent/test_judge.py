"""What error numbers mean: the whole table of applocker.md 5.1, and nothing by text."""

from __future__ import annotations

import errno

import pytest

from agent.contract.facts import Engine, Outcome
from agent.judge import Engines, SaferAnswer, judge_errno, judge_error, judge_placing, judge_safer, severity

APPLOCKER, SRP, BOTH, NONE = (
    Engines(applocker=True),
    Engines(srp=True),
    Engines(applocker=True, srp=True),
    Engines(),
)


@pytest.mark.parametrize("error", [1260, 786])
@pytest.mark.parametrize(
    ("engines", "engine"),
    [
        (APPLOCKER, Engine.APPLOCKER),
        (BOTH, Engine.APPLOCKER),
        (SRP, Engine.SRP),
        (NONE, Engine.UNKNOWN),
    ],
)
def test_a_policy_error_names_its_engine_only_by_the_rules_in_force(
    error: int, engines: Engines, engine: Engine
) -> None:
    assert judge_error(error, engines) == (Outcome.BLOCKED, engine)


@pytest.mark.parametrize(
    ("error", "outcome", "engine"),
    [
        (0, Outcome.ALLOWED, None),
        (2, Outcome.ABSENT, None),
        (3, Outcome.ABSENT, None),
        (5, Outcome.DENIED, Engine.UNKNOWN),
        (225, Outcome.BLOCKED, Engine.ANTIVIRUS),
        (226, Outcome.BLOCKED, Engine.ANTIVIRUS),
        (577, Outcome.BLOCKED, Engine.WDAC),
        (4550, Outcome.BLOCKED, Engine.WDAC),
        (4551, Outcome.BLOCKED, Engine.WDAC),
        (4556, Outcome.BLOCKED, Engine.WDAC),
        (4559, Outcome.BLOCKED, Engine.WDAC),
        (4580, Outcome.BLOCKED, Engine.WDAC),
        (4583, Outcome.BLOCKED, Engine.WDAC),
        (1259, Outcome.BLOCKED, Engine.OTHER),
        (1277, Outcome.BLOCKED, Engine.OTHER),
        # Not a policy's: a broken program, a missing library, rights to be raised, an audit notice, a Store alias.
        (193, Outcome.ERROR, None),
        (126, Outcome.ERROR, None),
        (740, Outcome.ERROR, None),
        (785, Outcome.ERROR, None),
        (1261, Outcome.ERROR, None),
        (1920, Outcome.ERROR, None),
        (15700, Outcome.ERROR, None),
        (4549, Outcome.ERROR, None),
        (4560, Outcome.ERROR, None),
        (987654, Outcome.ERROR, None),
    ],
)
def test_every_other_number_is_judged_alone(error: int, outcome: Outcome, engine: Engine | None) -> None:
    for engines in (APPLOCKER, SRP, BOTH, NONE):
        assert judge_error(error, engines) == (outcome, engine)


@pytest.mark.parametrize("error", [32, 33, 8, 14, 112, 1455])
def test_a_moments_trouble_judges_nothing(error: int) -> None:
    assert judge_error(error, BOTH) is None


@pytest.mark.parametrize("engines", [APPLOCKER, SRP, BOTH, NONE])
def test_no_number_is_ever_audited(engines: Engines) -> None:
    judged = [judge_error(error, engines) for error in range(20_000)]
    assert Outcome.AUDITED not in {found[0] for found in judged if found}


def test_linux_blames_a_policy_only_where_the_mode_allows() -> None:
    for error in (errno.EACCES, errno.EPERM):
        assert judge_errno(error, mode_allows=True) == (Outcome.BLOCKED, Engine.OTHER)
        assert judge_errno(error, mode_allows=False) == (Outcome.DENIED, Engine.ACL)
    assert judge_errno(0, mode_allows=True) == (Outcome.ALLOWED, None)
    assert judge_errno(errno.ENOENT, mode_allows=True) == (Outcome.ABSENT, None)
    assert judge_errno(errno.ENOEXEC, mode_allows=True) == (Outcome.ERROR, None)
    assert judge_errno(errno.ETXTBSY, mode_allows=True) is None


def test_a_place_that_cannot_be_written_is_denied_by_its_access_list() -> None:
    assert judge_placing(5, is_windows=True) == (Outcome.DENIED, Engine.ACL)
    assert judge_placing(errno.EACCES, is_windows=False) == (Outcome.DENIED, Engine.ACL)
    assert judge_placing(errno.EROFS, is_windows=False) == (Outcome.DENIED, Engine.ACL)
    assert judge_placing(112, is_windows=True) is None
    assert judge_placing(errno.ENOSPC, is_windows=False) is None
    assert judge_placing(206, is_windows=True) == (Outcome.ERROR, None)


def test_the_worst_weighs_most() -> None:
    assert sorted(Outcome, key=severity)[:3] == [Outcome.BLOCKED, Outcome.AUDITED, Outcome.DENIED]
    assert severity(Outcome.ALLOWED) > severity(Outcome.UNKNOWN)


# What the two Safer calls answered, and what PowerShell makes of it. No Windows was asked: see docs/verified.md.
@pytest.mark.parametrize(
    ("answer", "engines", "judged"),
    [
        (SaferAnswer(identified=True, computed=True), BOTH, (Outcome.ALLOWED, None)),
        (SaferAnswer(identified=True, computed=True, restricts=True), APPLOCKER, (Outcome.BLOCKED, Engine.APPLOCKER)),
        (SaferAnswer(identified=True, computed=True, restricts=True), SRP, (Outcome.BLOCKED, Engine.SRP)),
        (SaferAnswer(identified=True, computed=True, restricts=True), NONE, (Outcome.BLOCKED, Engine.UNKNOWN)),
        (SaferAnswer(identified=True, error=1260), APPLOCKER, (Outcome.BLOCKED, Engine.APPLOCKER)),
        (SaferAnswer(identified=True, error=786), SRP, (Outcome.BLOCKED, Engine.SRP)),
        (SaferAnswer(identified=False, error=1260), NONE, (Outcome.BLOCKED, Engine.UNKNOWN)),
        (SaferAnswer(identified=False, error=2), BOTH, (Outcome.ABSENT, None)),
        (SaferAnswer(identified=False, error=5), BOTH, (Outcome.DENIED, Engine.UNKNOWN)),
        (SaferAnswer(identified=False, error=87), BOTH, (Outcome.ERROR, None)),
        (SaferAnswer(identified=True, error=0), BOTH, (Outcome.ERROR, None)),
        (SaferAnswer(identified=False), BOTH, (Outcome.ERROR, None)),
        (SaferAnswer(identified=False, error=32), BOTH, None),
    ],
)
def test_a_script_is_judged_as_powershell_would(
    answer: SaferAnswer, engines: Engines, judged: tuple[Outcome, Engine | None] | None
) -> None:
    assert judge_safer(answer, engines) == judged
