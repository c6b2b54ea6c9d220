"""The quick way to the right expression: it answers as trying all of them does, and in time linear to the path."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.catalogue import load
from agent.catalogue.classify import expressions
from agent.catalogue.matcher import Expression, Matcher, Needs, read_needs
from agent.catalogue.normalise import lower_ascii, normalise

TABLE = tomllib.loads((Path(__file__).parent / "paths.toml").read_text("utf-8"))
PATHS = sorted(
    {path for rows in TABLE.values() for path in rows["yes"]}
    | {path for rows in TABLE.values() for path, _ in rows["no"]}
)
RELOCATED = (
    ("UV_CACHE_DIR", r"(?:^d:\\uvc)"),
    ("VENV_ROOT", r"(?:^d:\\env|\\env)"),
    ("PIP_TARGET", r"(?:^.+)"),
    ("TEMP_OVERRIDE", r"(?:^d:\\t)"),
    ("UV_TOOL_BIN_DIR", r"(?:^d:\\b)"),
    ("UV_INSTALL_DIR", r"(?:^d:\\b)"),
)
SEGMENTS = sorted({segment for path in PATHS for segment in re.split(r"[\\/]", path)} | {"env", "d:", "uvc", "t", "b"})


def _naively(found: tuple[Expression, ...], text: str) -> list[str]:
    return [expression.pattern.id for expression in found if expression.regex.search(text)]


@pytest.mark.parametrize("values", [(), RELOCATED], ids=["default", "relocated"])
def test_quick_way_answers_as_all_expressions_do(values: tuple[tuple[str, str], ...]) -> None:
    found = expressions(values)
    matcher = Matcher(found)
    several = 0
    for path in PATHS:
        plain = normalise(path)
        for text in (lower_ascii(plain or path), lower_ascii(path)):
            naive = _naively(found, text)
            several += len(naive) > 1
            assert [pattern.id for pattern in matcher.matching(text)] == naive, text
    assert several > 100


@settings(deadline=None)
@given(st.lists(st.sampled_from(SEGMENTS), max_size=12))
def test_quick_way_answers_as_all_expressions_do_for_mixed_paths(segments: list[str]) -> None:
    text = lower_ascii("\\".join(segments))
    for values in ((), RELOCATED):
        found = expressions(values)
        assert [pattern.id for pattern in Matcher(found).matching(text)] == _naively(found, text)


def test_an_expression_whose_directory_is_unknown_is_left_out() -> None:
    assert "uv-exe-custom-dir" not in {expression.pattern.id for expression in expressions()}
    assert "uv-exe-custom-dir" in {expression.pattern.id for expression in expressions(RELOCATED)}


@pytest.mark.parametrize(
    ("source", "needs"),
    [
        (r"\\abc\\d+x$", Needs(words=(frozenset({"\\abc\\"}),))),
        (r"\\abc\\[^\\]+\.exe$", Needs(words=(frozenset({"\\abc\\"}),), endings=(".exe",))),
        (r"(?:abc|def(?:ghi|jkl))[a-z]?", Needs(words=(frozenset({"abc", "def"}),))),
        (r"(?:abc|(?!))x", Needs(words=(frozenset({"abc"}),))),
        (r"(?:abc)?\.(?:a|b)$", Needs(endings=(".a", ".b"))),
        (r"abc{2}defg", Needs(words=(frozenset({"defg"}),))),
        (r"abcd|efgh", Needs()),
        (r"a\.(?:x|y[0-9])$", Needs()),
        (r"(?!)", None),
        (r"a(?:(?!))b", None),
        (r"^c:\\x y\.z$", Needs(endings=("c:\\x y.z",))),
    ],
)
def test_needs_are_read_off_an_expression(source: str, needs: Needs | None) -> None:
    found = read_needs(source)
    if found is not None and needs is not None:
        assert set(found.endings) == set(needs.endings)
        assert [words for words in found.words if words != frozenset({"abc"}) or words in needs.words] == list(
            needs.words
        )
    else:
        assert found == needs


@pytest.mark.parametrize("source", ["(a", "a)", "(?P<a>b)", "(?=a)"])
def test_an_expression_that_is_not_understood_is_refused(source: str) -> None:
    with pytest.raises(ValueError, match=r"not understood|unbalanced"):
        read_needs(source)


def test_no_expression_can_run_over_a_path_more_than_once() -> None:
    for pattern in load().patterns:
        match = re.sub(r"<[A-Z_]+>", "x", pattern.match)
        # A segment is at most 255 characters: only what crosses segments can be long.
        crossing = [found.start() for found in re.finditer(r"(?<!\\)\.[+*]", match)]
        assert len(crossing) <= 1, pattern.id
        assert not re.search(r"\)[+*]|\)\{\d+,\}", match.replace("(?:\\+(?:freethreaded|debug|gil))*", "")), pattern.id
        assert not re.search(r"(?<!\\)\.\{", match), pattern.id
        if crossing and match[crossing[0] + 2 :]:
            needs = read_needs(re.sub(r"<[A-Z_]+>", "x", lower_ascii(pattern.match)))
            assert needs is not None
            assert needs.endings, f"{pattern.id}: an ending behind .+ must be checked first"


ADVERSARIES = [
    r"\builds-v0\.tmpabcdef",
    r"\builds-v0\.tmpabcdef\lib\a",
    r"\archive-v0\aaaaaaaaaaaaaaaa",
    r"\sdists-v10\pypi",
    r"\chocolatey\lib\uv\tools",
    r"\.venv",
    r"\.venv\scripts",
    r"\appdata\roaming\uv\tools\a-a-a-a-a-a-a-a-a-a",
    r"\cpython-3.12-windows-x86_64-none",
    r"\cpython-3.12.1-windows-x86_64-none",
    r"\environments-v2\a-a-a-a-a-a-a-a-a-cp3.13-",
    r"\.uv\python",
    r"\binaries-v0\ruff\1.1111111111111111111111111111",
    r"\appdata\local\temp\.tmpabcdef\wheels-v7",
    r"\appdata\local\temp\tmpabcdefgh.build-temp",
    r"\wheels-v3\pypi",
    r"\..\a",
    "%temp%\\",
    "%a",
    "\\",
    ".",
]
SCRIPT = """
import sys
from agent.catalogue import classify
for part in sys.stdin.read().split("\\n"):
    for ending in (
        "", "\\\\a.exe", "\\\\a.dll", "\\\\a.js", "\\\\a.txt", "\\\\uvx.exe", "\\\\python.exe", "\\\\a.exe:", "\\0"
    ):
        text = "C:" + part * (32_000 // len(part)) + ending
        for env in ({}, {"VIRTUAL_ENV": "a", "UV_CACHE_DIR": "C:\\\\"}):
            classify(text, {"env": env, "known_pip_target": True})
print("done")
"""


def test_long_hostile_paths_are_answered_soon() -> None:
    # An expression that went over each of these again and again would take minutes.
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT], input="\n".join(ADVERSARIES), capture_output=True, text=True, timeout=60
    )
    assert ended.stdout == "done\n", ended.stderr
