"""`wayleave catalogue`: the list, and the difference between two versions of uv."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner

from agent.catalogue import load
from app.cli.catalogue import command


def diff(*versions: str) -> dict[str, Any]:
    ended = CliRunner().invoke(command, ["diff", *versions, "--json"])
    assert ended.exit_code == 0, ended.output
    answer: dict[str, Any] = json.loads(ended.stdout)
    return answer


def test_list_has_every_pattern_in_order() -> None:
    answer = json.loads(CliRunner().invoke(command, ["list", "--json"]).stdout)
    assert [pattern["id"] for pattern in answer] == [pattern.id for pattern in load().patterns]
    assert len(CliRunner().invoke(command, ["list"]).stdout.splitlines()) == 78


def test_an_upgrade_over_a_year() -> None:
    answer = diff("0.7.12", "0.13.8")
    new = {pattern["id"] for pattern in answer["new_patterns"]}
    assert {"managed-python-minor-link", "cache-binaries-tool", "self-update-installer-ps1"} <= new
    assert answer["new_buckets"] == ["sdists-v10", "git-v1", "binaries-v0", "files-v0", "wheels-v7"]
    assert answer["old_buckets"] == ["sdists-v9", "git-v0", "wheels-v5"]
    assert answer["new_signers"] == ['O="OPENAI OPCO, LLC", L=SAN FRANCISCO, S=CALIFORNIA, C=US']
    assert answer["new_workflows"] == ["format"]
    assert answer["old_patterns"] == []


def test_a_downgrade_is_the_reverse() -> None:
    up, down = diff("0.5.31", "0.13.8"), diff("0.13.8", "0.5.31")
    for kind in ("patterns", "buckets", "signers", "workflows"):
        assert up[f"new_{kind}"] == down[f"old_{kind}"]
        assert up[f"old_{kind}"] == down[f"new_{kind}"]
    assert "cache-env-junction-legacy" in {pattern["id"] for pattern in up["old_patterns"]}


def test_a_place_that_came_and_went_in_between() -> None:
    assert "trampoline-staging-exe" in {pattern["id"] for pattern in diff("0.9.8", "0.9.9")["new_patterns"]}
    assert "trampoline-staging-exe" in {pattern["id"] for pattern in diff("0.12.12", "0.12.13")["old_patterns"]}
    assert "trampoline-staging-exe" not in str(diff("0.9.8", "0.12.13"))


def test_nothing_changes() -> None:
    ended = CliRunner().invoke(command, ["diff", "0.13.7", "v0.13.8"])
    assert ended.stdout == "Nothing that the catalogue knows changes between uv 0.13.7 and v0.13.8.\n"


def test_words() -> None:
    ended = CliRunner().invoke(command, ["diff", "0.12.11", "0.13"])
    assert "Signed from here on:\n  OpenAI OpCo, LLC: publisher rules work" in ended.stdout
    assert "sdists-v10: unpacked source distributions" in ended.stdout


def test_a_version_beyond_the_catalogue_is_told() -> None:
    ended = CliRunner().invoke(command, ["diff", "0.13.8", "0.99.0"])
    assert ended.exit_code == 0
    assert f"The catalogue knows uv up to {load().newest_uv}" in ended.stderr


@pytest.mark.parametrize("wrong", ["latest", "0", "1.2.3.4", "0.13.x", ""])
def test_what_is_no_version(wrong: str) -> None:
    ended = CliRunner().invoke(command, ["diff", "0.13.8", wrong])
    assert ended.exit_code == 2
    assert "is not a uv version such as 0.13.8" in ended.stderr


def test_buckets_follow_one_another() -> None:
    families: dict[str, list[str]] = {}
    for bucket in load().buckets:
        families.setdefault(bucket.folder.rpartition("-v")[0].replace("built-wheels", "sdists"), []).append(
            bucket.folder
        )
    current = [bucket.folder for bucket in load().buckets if bucket.until is None]
    for family, folders in families.items():
        assert folders[-1] in current, family
        assert all(folder not in current for folder in folders[:-1]), family
