"""Ways to open a pattern: what users cannot write comes before files, files before signers, signers before paths."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from agent.catalogue import load
from app.errors import InvalidError
from app.policies.baselines import TrustedFile
from app.policies.candidates import rank_candidates

Trust = Callable[..., TrustedFile]


def test_least_privilege_comes_first(developers: str, trust: Trust) -> None:
    python = trust(1, "python.exe")
    found = rank_candidates("managed-python-exe", developers, baseline=[python])
    assert [(one.rank, one.kind) for one in found] == [(1, "relocate"), (2, "hash"), (3, "path")]
    relocate, by_hash, by_path = found
    assert relocate.settings == (("UV_PYTHON_INSTALL_DIR", r"%PROGRAMFILES%\uv\python"),)
    assert not relocate.users_can_write
    assert by_path.users_can_write
    assert all(one.is_ready and one.rules for one in found)
    assert by_hash.rules[0].rule.id != by_path.rules[0].rule.id


def test_a_way_that_needs_something_first_says_what(developers: str) -> None:
    found = {one.kind: one for one in rank_candidates("cache-builds-venv-python", developers)}
    assert not found["hash"].is_ready
    assert "wayleave baseline add" in (found["hash"].missing or "")
    assert found["hash"].rules == ()
    assert found["path"].is_ready


def test_a_publisher_that_names_a_file_admits_less_than_one_that_does_not(developers: str, trust: Trust) -> None:
    signed = trust(1, "python.exe", publisher="O=EXAMPLE, C=US", product="PYTHON", binary="PYTHON.EXE")
    kinds = [one.kind for one in rank_candidates("cache-builds-venv-python", developers, baseline=[signed])]
    assert kinds == ["hash", "publisher", "path"]


def test_uv_itself_is_best_deployed_by_administrators(developers: str) -> None:
    first, *others = rank_candidates("uv-exe-standalone", developers)
    assert (first.kind, first.title) == ("relocate", "Deploy uv under Program Files")
    assert [one.kind for one in others] == ["hash", "publisher", "path"]


def test_the_cache_cannot_be_moved_out_of_users_reach(developers: str) -> None:
    for pattern in load().patterns:
        if (
            pattern.group in ("cache", "venv")
            and pattern.is_executed
            and pattern.rule_kinds[0] not in ("none", "avoid")
        ):
            assert "relocate" not in {one.kind for one in rank_candidates(pattern.id, developers)}


def test_every_pattern_has_a_way_or_a_reason(developers: str) -> None:
    for pattern in load().patterns:
        if pattern.rule_kinds[0] in ("none", "avoid") or not pattern.is_executed:
            with pytest.raises(InvalidError, match=pattern.id) as refused:
                rank_candidates(pattern.id, developers)
            assert refused.value.field == "patterns"
            continue
        found = rank_candidates(pattern.id, developers)
        assert [one.rank for one in found] == list(range(1, len(found) + 1))
        assert found


def test_nonsense_is_refused(developers: str) -> None:
    with pytest.raises(InvalidError, match="no pattern"):
        rank_candidates("nonsense", developers)
    with pytest.raises(InvalidError, match="not a SID"):
        rank_candidates("venv-python", "nobody")
    with pytest.raises(InvalidError) as refused:
        rank_candidates("venv-python", developers, project_roots=["C:\\"])
    assert refused.value.field == "project_roots"
