"""docs/soc.md names the canary's right hashes, and its expressions find every place where a canary is put."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.canary import CANARY_VERSION, LINUX_CANARY, LINUX_SHA256, WINDOWS_AUTHENTICODE_SHA256, WINDOWS_CANARY
from agent.canary import WINDOWS_SHA256 as FLAT
from agent.catalogue import Machine, canary_paths, load
from agent.placement import new_token

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "soc.md").read_text(encoding="utf-8")
USER = r"C:\Users\jane"
MACHINE = Machine(
    env={
        "USERPROFILE": USER,
        "LOCALAPPDATA": rf"{USER}\AppData\Local",
        "APPDATA": rf"{USER}\AppData\Roaming",
        "TEMP": rf"{USER}\AppData\Local\Temp",
        "SYSTEMDRIVE": "C:",
    },
    platform="windows",
    project_roots=(r"C:\src",),
)
HASH = re.compile(r"\b[0-9A-Fa-f]{64}\b")


def blocks(language: str) -> list[str]:
    """The fenced examples in one language."""
    found = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    assert found, language
    return found


def places() -> list[str]:
    """Every place of this release's catalogue where a canary is put, for one random token."""
    token = new_token()
    found = [path for pattern in load().patterns for path in canary_paths(pattern, MACHINE, token)]
    assert len(found) > 20
    return found


def test_only_the_canarys_hashes_are_named_and_all_of_them() -> None:
    assert {found.lower() for found in HASH.findall(PAGE)} == {FLAT, WINDOWS_AUTHENTICODE_SHA256, LINUX_SHA256}
    assert f"canary {'.'.join(map(str, CANARY_VERSION))}, {len(WINDOWS_CANARY)} bytes" in PAGE
    assert f"{len(LINUX_CANARY)} bytes" in PAGE


@pytest.mark.parametrize("language", ["kusto", "yaml", "spl"])
def test_every_filter_names_the_hash_that_its_log_carries(language: str) -> None:
    for block in blocks(language):
        named = {found.lower() for found in HASH.findall(block)}
        of_applocker = "AppLocker" in block and "Device" not in block
        assert (WINDOWS_AUTHENTICODE_SHA256 if of_applocker else FLAT) in named, block
        assert LINUX_SHA256 not in named


def test_the_expression_finds_every_place_and_nothing_of_uvs_own() -> None:
    [expression] = blocks("regex")
    assert f'(?i){expression.strip()}"' in PAGE  # the query uses the same
    marked = re.compile(expression.strip(), re.IGNORECASE)
    assert [path for path in places() if not marked.search(path)] == []
    for path in (
        rf"{USER}\AppData\Local\uv\cache\builds-v0\.tmpAbCdEf\Scripts\python.exe",
        rf"{USER}\AppData\Local\uv\cache\archive-v0\x3dmC9fLbNq4tXk0\Scripts\ruff.exe",
        rf"{USER}\.local\bin\ruff.exe",
        rf"{USER}\AppData\Local\Temp\tmpq1w2e3r4.build-temp\conftest.exe",
    ):
        assert marked.search(path) is None, path


def test_the_rule_against_imitators_sees_another_file_and_not_the_canary() -> None:
    [rule] = [found for found in map(yaml.safe_load, blocks("yaml")) if "title" in found]
    detection: dict[str, Any] = rule["detection"]
    words = [word.lower() for word in detection["selection"]["Image|contains"]]
    # An archive's id alone is too short a word to be looked for without an expression.
    unseen = [path for path in places() if not any(word in path.lower() for word in words)]
    assert [path for path in unseen if r"\archive-v0\WLV" not in path] == []
    assert detection["filter_main_canary"]["Hashes|contains"] == f"SHA256={FLAT.upper()}"


def test_every_folder_of_the_table_is_one_where_canaries_are_put() -> None:
    table = PAGE.partition("## Where the canary appears")[2].partition("```")[0]
    for folder in (
        "builds-v0",
        "environments-v0",
        "sdists-v10",
        "archive-v0",
        "environments-v2",
        "git-v1",
        "binaries-v0",
    ):
        assert f"`{folder}" in table or f"\\{folder}" in table
        assert any(f"\\{folder}\\" in path for path in places()), folder
    families = {re.sub(r".*\\uv\\cache\\([^\\]+)\\.*", r"\1", path) for path in places() if r"\uv\cache" in path}
    families = {family for family in families if not family.startswith(".tmpWLV")}
    assert [family for family in families if family not in table] == []
