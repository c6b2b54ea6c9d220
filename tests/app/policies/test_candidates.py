"""Ways to open a pattern: what users cannot write comes before files, files before signers, signers before paths."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from agent.catalogue import load
from app.errors import InvalidError
from app.policies.baselines import TrustedFile
from app.policies.candidates import Candidate, rank_candidates
from app.policies.drafts import roots_of
from app.policies.libraries import MAX_DLL_HASHES
from app.policies.optimise import POINTS, state_problem
from app.policies.queries_rule_sets import Item

Trust = Callable[..., TrustedFile]


def test_least_privilege_comes_first(developers: str, trust: Trust) -> None:
    python = trust(1, "python.exe")
    found = rank_candidates("managed-python-exe", developers, baseline=[python])
    kinds = [(one.rank, one.kind) for one in found]
    assert kinds == [(1, "relocate"), (2, "system"), (3, "hash"), (4, "path"), (5, "broad")]
    relocate, system, by_hash, by_path, broad = found
    assert system.settings == (("UV_PYTHON_PREFERENCE", "only-system"), ("UV_PYTHON_DOWNLOADS", "never"))
    assert system.rules == ()
    assert broad.users_can_write
    assert relocate.settings == (("UV_PYTHON_INSTALL_DIR", r"%PROGRAMFILES%\uv\python"),)
    assert not relocate.users_can_write
    assert by_path.users_can_write
    assert all(one.is_ready for one in found)
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
    assert kinds == ["system", "hash", "publisher", "path", "broad"]


def test_uv_itself_is_best_deployed_by_administrators(developers: str) -> None:
    first, *others = rank_candidates("uv-exe-standalone", developers)
    assert (first.kind, first.title) == ("relocate", "Deploy uv under Program Files")
    assert [one.kind for one in others] == ["resign", "hash", "publisher", "path", "broad"]


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


def test_the_publisher_of_uv_stands_below_own_signing_and_hashes(developers: str, trust: Trust) -> None:
    own = trust(1, "uv.exe", publisher="O=EXAMPLE, C=US", version="0.13.8.0")
    found = rank_candidates("uv-exe-standalone", developers, baseline=[own])
    assert [one.title for one in found[:4]] == [
        "Deploy uv under Program Files",
        "Sign it yourselves, and name your own publisher",
        "Name the trusted files by hash",
        "Name the publisher",
    ]
    signed, by_publisher = found[1], found[3]
    assert (signed.kind, signed.files) == ("publisher", (1,))
    assert "OPENAI" not in str(signed.rules)
    assert "OPENAI" in str(by_publisher.rules)
    assert any("other programs" in note for note in by_publisher.notes)


def test_launchers_say_what_they_need_besides(developers: str, trust: Trust) -> None:
    baseline = [trust(1, "python.exe", version="3.13.2.0"), trust(2, "venvlauncher.exe", version="3.13.2.0")]
    by_hash = {one.kind: one for one in rank_candidates("venv-python", developers, baseline=baseline)}["hash"]
    said = " ".join(by_hash.notes)
    assert "managed-python-exe" in said
    assert "pin the patch version" in said
    assert by_hash.upkeep.hashes_a_year == 12
    other = {one.kind: one for one in rank_candidates("cache-builds-venv-python", developers, baseline=baseline)}
    assert "pin the patch version" not in " ".join(other["hash"].notes)


def test_hashes_a_year_grow_with_the_minor_versions_in_use(developers: str, trust: Trust) -> None:
    baseline = [trust(number, "python.exe", version=f"3.{number}.1.0") for number in (11, 12, 13)]
    by_hash = {one.kind: one for one in rank_candidates("managed-python-exe", developers, baseline=baseline)}["hash"]
    assert by_hash.upkeep.hashes_a_year == 36


def test_entry_points_may_stay_closed(developers: str) -> None:
    first = rank_candidates("venv-entrypoint-exe", developers)[0]
    assert (first.kind, first.rules) == ("leave", ())
    assert "python -m" in first.title


def test_libraries_only_where_the_base_has_rules_for_them(developers: str, trust: Trust) -> None:
    with pytest.raises(InvalidError, match="no Dll rules") as refused:
        rank_candidates("venv-native-lib", developers, in_force=["Exe", "Script"])
    assert refused.value.field == "collections"
    assert rank_candidates("venv-native-lib", developers, in_force=["Exe", "Dll"])


def test_libraries_are_not_named_by_the_thousand(developers: str, trust: Trust) -> None:
    few = [trust(number, f"lib{number}.pyd", kind="dll") for number in range(MAX_DLL_HASHES)]
    by_hash = {one.kind: one for one in rank_candidates("venv-native-lib", developers, baseline=few)}["hash"]
    assert by_hash.is_ready
    assert len(by_hash.rules) == MAX_DLL_HASHES
    many = [*few, trust(9999, "one-more.pyd", kind="dll")]
    refused = {one.kind: one for one in rank_candidates("venv-native-lib", developers, baseline=many)}["hash"]
    assert refused.rules == ()
    assert "301 libraries" in (refused.missing or "")
    assert "only administrators can write" in (refused.missing or "")


def test_libraries_are_those_of_environments_or_of_pythons_by_where_they_are_from(
    developers: str, trust: Trust
) -> None:
    baseline = [
        trust(1, "_multiarray.pyd", kind="dll", source="numpy 2.4"),
        trust(2, "libopenblas.dll", kind="dll", source="numpy 2.4"),
        trust(3, "codec.dll", kind="dll", source="numpy 2.4", publisher="O=SOMEBODY ELSE, C=US"),
        trust(4, "office.dll", kind="dll", source="the office suite"),
        trust(5, "python313.dll", kind="dll", source="x", archive="cpython-3.13.9-windows.tar.gz"),
        trust(6, "_ssl.pyd", kind="dll", source="x", archive="cpython-3.13.9-windows.tar.gz"),
        trust(7, "vcruntime140.dll", kind="dll", archive="cpython-3.13.9-windows.tar.gz", publisher="O=MS, C=US"),
    ]

    def by_hash(pattern: str) -> tuple[int, ...] | None:
        (found,) = (one for one in rank_candidates(pattern, developers, baseline=baseline) if one.kind == "hash")
        return found.files

    assert by_hash("venv-native-lib") == (1, 2)
    assert by_hash("managed-python-native-lib") == (5, 6, 7)
    baseline = [file for file in baseline if file.id == 4]
    assert by_hash("venv-native-lib") is None


def test_libraries_are_counted_by_environment(developers: str, trust: Trust) -> None:
    envs = (("numpy", 200), ("torch", 101))
    baseline = [
        trust(1000 * place + number, f"m{number}.pyd", kind="dll", source=name)
        for place, (name, count) in enumerate(envs)
        for number in range(count)
    ]
    (refused,) = (
        one for one in rank_candidates("venv-native-lib", developers, baseline=baseline) if one.kind == "hash"
    )
    assert "301 libraries for it (200 of 'numpy', 101 of 'torch')" in (refused.missing or "")
    (ready,) = (
        one for one in rank_candidates("venv-native-lib", developers, baseline=baseline[:200]) if one.kind == "hash"
    )
    assert "Libraries counted by where they are from: 200 of 'numpy'." in ready.notes


@pytest.mark.parametrize(
    ("folder", "is_open"), [(r"D:\py", True), (r"%PROGRAMFILES%\pythons", False), (r"%PROGRAMDATA%\uv", True)]
)
def test_a_way_moves_to_where_the_draft_moves_and_says_if_users_write_there(
    developers: str, folder: str, is_open: bool
) -> None:
    found = rank_candidates("managed-python-exe", developers, roots={"python": folder})
    (relocate,) = (one for one in found if one.kind == "relocate")
    item = Item(
        pattern="managed-python-exe",
        kind="relocate",
        files=None,
        origins=(),
        added_at=datetime(2026, 11, 21, tzinfo=UTC),
        added_by="ada@example.com",
    )
    drafted = roots_of([item], {"python": folder}, load())
    assert relocate.settings == (("UV_PYTHON_INSTALL_DIR", drafted["python"]),)
    assert relocate.users_can_write is is_open
    assert ("only administrators can write" in relocate.title) is not is_open
    assert (found[0] is relocate) is not is_open  # as broad as any path where users can write
    problem, rules = state_problem({"managed-python-exe": [relocate]}, may_move=True)
    (points,) = {problem.points[rule] for rule in relocate_ids(relocate)}
    assert points == POINTS["path" if is_open else "protected"]
    assert rules


def relocate_ids(candidate: Candidate) -> set[str]:
    return {rule.id for rule in candidate.rules}
