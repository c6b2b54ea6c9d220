"""What an administrator types is checked before it can become part of a rule."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import InvalidError
from app.policies.choices import (
    PatternChoice,
    checked_folder,
    checked_project_roots,
    checked_roots,
    checked_sid,
    read_choice,
)


@pytest.mark.parametrize(
    ("text", "folder"),
    [
        (r"C:\src", r"%OSDRIVE%\src"),
        (r"c:\Source Code\team\ ".strip(), r"%OSDRIVE%\Source Code\team"),
        (r"D:\dev", r"D:\dev"),
        (r"%OSDRIVE%\src", r"%OSDRIVE%\src"),
        (r"%userprofile%\source\repos", r"%OSDRIVE%\Users\*\source\repos"),
        (r"%PROGRAMFILES%\uv", r"%PROGRAMFILES%\uv"),
        (r"C:\Projekte\Müller & Söhne (neu)", r"%OSDRIVE%\Projekte\Müller & Söhne (neu)"),
    ],
)
def test_folders_are_written_as_applocker_writes_them(text: str, folder: str) -> None:
    assert checked_folder(text, "project_roots") == folder


HOSTILE_FOLDERS = [
    "",
    "\\",
    "C:",
    "C:\\",
    "c:\\\\",
    "%OSDRIVE%",
    "%SYSTEMDRIVE%\\",
    "*",
    "C:\\*",
    "C:\\src\\*",
    "C:\\sr?c",
    'C:\\src" Action="Allow',
    "C:\\src<x>",
    "C:\\src|x",
    "C:/src",
    "src",
    ".\\src",
    "\\src",
    "C:src",
    "C:\\src\\..\\Windows",
    "C:\\..",
    "C:\\.\\src",
    "C:\\src\\\\x",
    "\\\\server\\share\\src",
    "//server/share",
    "\\\\?\\C:\\src",
    "\\\\.\\C:\\src",
    "C:\\src\x00",
    "C:\\src\n",
    "C:\\src\x7f",
    "C:\\src\u202egpj",
    "C:\\src\ud800",
    "C:\\src.",
    "C:\\src ",
    "C:\\ src",
    "C:\\src:stream",
    "C:\\%TEMP%",
    "%TEMP%\\src",
    "%PATH%",
    "C:\\PROGRA~1\\uv",
    "C:\\con",
    "C:\\src\\NUL.txt",
    "C:\\" + "x" * 200,
    "ÄC:\\src",
    "1:\\src",
]


@pytest.mark.parametrize("text", HOSTILE_FOLDERS)
def test_hostile_folders_are_refused_by_name(text: str) -> None:
    with pytest.raises(InvalidError) as refused:
        checked_project_roots([text])
    assert refused.value.field == "project_roots"
    assert refused.value.message.isascii(), "the message must not carry what was typed as it is"


@given(st.text(alphabet=st.characters(codec="utf-16", exclude_categories=()), max_size=30))
def test_whatever_passes_has_nothing_special_in_it(text: str) -> None:
    try:
        folder = checked_folder("C:\\" + text, "project_roots")
    except InvalidError:
        return
    rest = folder.removeprefix("%OSDRIVE%\\")
    assert rest
    assert not set(rest) & set('*?"<>|/%:')
    assert rest.isprintable()
    assert not {"", ".", ".."} & set(rest.split("\\"))


def test_the_same_root_twice_is_one_root() -> None:
    assert checked_project_roots([r"C:\src", "c:\\SRC\\"]) == (r"%OSDRIVE%\src",)
    with pytest.raises(InvalidError, match="At most"):
        checked_project_roots([f"C:\\src{number}" for number in range(21)])


def test_moved_roots_have_known_names() -> None:
    assert checked_roots({"python": r"C:\Python"}) == {"python": r"%OSDRIVE%\Python"}
    with pytest.raises(InvalidError) as refused:
        checked_roots({"home": r"C:\x"})
    assert refused.value.field == "roots"
    with pytest.raises(InvalidError) as refused:
        checked_roots({"cache": "C:\\*"})
    assert refused.value.field == "roots.cache"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "BU",
        "Developers",
        "CONTOSO\\Developers",
        "S-1",
        "S-1-5",
        "S-1-5-21-",
        "S-1-5-99999999999",
        "S-1-5-4294967296",
        "S-2-1-0",
        "S-1-5-21-1;x",
        'S-1-1-0" Action="Deny',
    ],
)
def test_a_sid_is_a_sid(text: str) -> None:
    with pytest.raises(InvalidError) as refused:
        checked_sid(text)
    assert refused.value.field == "sid"


def test_choices_are_read_from_text() -> None:
    assert checked_sid(" s-1-5-32-545\n") == "S-1-5-32-545"
    assert read_choice("venv-python") == PatternChoice(pattern="venv-python")
    assert read_choice("venv-python=hash") == PatternChoice(pattern="venv-python", kind="hash")
    for text in ("venv-python=", "venv-python=all"):
        with pytest.raises(InvalidError, match="rule kind"):
            read_choice(text)
