"""The one written form of a path: idempotent, never raising, the same for every way of writing it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.catalogue import classify, normalise
from agent.catalogue.normalise import MAX_PATH_CHARACTERS, MAX_SEGMENT_CHARACTERS

NAMES = st.text(alphabet="abzABZ019._-+@ ~éß", min_size=1, max_size=12).filter(
    lambda name: name.strip(" .") == name and name
)
ANYTHING = st.text(alphabet=st.one_of(st.sampled_from('\\/.:%?*"<>|\0 ~'), st.characters(codec=None)), max_size=60)
PIECES = st.lists(
    st.sampled_from(
        [
            "\\", "\\\\", "/", "C:", "\\\\?\\", "\\??\\", "UNC", "..", ".", "%OSDRIVE%", "%", "%TEMP%", ".tmpAb12Cd",
            "builds-v0", "archive-v0", "uv", "cache", "Scripts", "python.exe", ".venv", "AppData", "Local", "Temp",
            "\\Device\\", "HarddiskVolume1", "Mup", ";Z:", "\ud800", "\0", " ", ":", "é",
        ]
    ),
    max_size=25,
).map("".join)  # fmt: skip


@settings(deadline=None)
@given(st.one_of(ANYTHING, PIECES, st.text()))
def test_never_raises(text: str) -> None:
    plain = normalise(text)
    assert plain is None or isinstance(plain, str)
    classify(text, {"env": {"UV_CACHE_DIR": text, "TMP": text, "VIRTUAL_ENV": text}, "known_pip_target": text})


@settings(deadline=None)
@given(st.one_of(ANYTHING, PIECES))
def test_is_idempotent(text: str) -> None:
    plain = normalise(text)
    # What is taken literally (behind `\\\\?\\`) may keep what is dropped elsewhere.
    if plain is not None and "%" not in plain and "?" not in text and "globalroot" not in text.lower():
        assert normalise(plain) == plain


@settings(deadline=None)
@given(st.lists(NAMES, min_size=1, max_size=8))
def test_the_forms_of_a_path_are_one(names: list[str]) -> None:
    path = "C:\\" + "\\".join(names)
    rest = path[2:]
    forms = [
        path,
        path.replace("\\", "/"),
        f"\\\\?\\{path}",
        f"\\??\\{path}",
        f"\\\\.\\{path}",
        f"\\Device\\HarddiskVolume7{rest}",
        f"%OSDRIVE%{rest}",
        f"%systemdrive%{rest}",
        f'"{path}"',
        f"{path}. ",
        path.replace("\\", "\\.\\"),
        path.replace("\\", "\\x\\..\\"),
        f"C:\\..{rest}",
    ]
    assert {normalise(form) for form in forms} == {path}


@settings(deadline=None)
@given(st.lists(NAMES, min_size=1, max_size=8))
def test_the_forms_of_a_share_are_one(names: list[str]) -> None:
    rest = "\\".join(["files.example", "home$", *names])
    forms = [f"\\\\{rest}", f"\\\\?\\UNC\\{rest}", f"\\??\\unc\\{rest}", f"\\Device\\Mup\\{rest}", f"//{rest}"]
    assert {normalise(form) for form in forms} == {f"\\\\{rest}"}


@pytest.mark.parametrize(
    ("path", "env", "plain"),
    [
        (r"%osdrive%\a", {"SystemDrive": "D:"}, r"D:\a"),
        (r"%LocalAppData%\a", {"LOCALAPPDATA": r"E:\l"}, r"E:\l\a"),
        (r"%NOSUCH%\a", {}, r"\%NOSUCH%\a"),
        (r"%UV_CACHE_DIR%\a", {"UV_CACHE_DIR": "D:/c"}, r"D:\c\a"),
        (r"%ProgramFiles(x86)%\a", {}, r"C:\Program Files (x86)\a"),
        (r"\\server", {}, r"\server"),
        (r"C:a\b", {}, r"C:\a\b"),
        (r"\\?\C:\a.\b ", {}, r"C:\a.\b"),
        (r"C:\a\...\b", {}, r"C:\a\b"),
    ],
)
def test_single_forms(path: str, env: dict[str, str], plain: str) -> None:
    assert normalise(path, env) == plain


@pytest.mark.parametrize(
    "wrong", ["C:\\a\0", "C:\\a*", "C:\\a?b", "C:\\a|b", "C:\\a:b", "C:\\a<b", 'C:\\a"b', "C:\\a\nb"]
)
def test_what_can_name_no_file(wrong: str) -> None:
    assert normalise(wrong) is None


def test_limits_of_windows() -> None:
    longest = "C:\\" + "a" * MAX_SEGMENT_CHARACTERS
    assert normalise(longest) == longest
    assert normalise(longest + "a") is None
    assert normalise("C:" + "\\a" * (MAX_PATH_CHARACTERS // 2)) is None
    assert normalise("C:" + "\\a" * (MAX_PATH_CHARACTERS // 2 - 1)) is not None
    assert normalise("%TEMP%" * 5000) is None
