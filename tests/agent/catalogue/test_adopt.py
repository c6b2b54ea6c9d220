"""A catalogue from elsewhere: this release's own passes whole, a newer one is taken, a hostile one reaches nothing."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.catalogue import Machine, canary_paths, classify, expand, load
from agent.catalogue.adopt import MAX_ENTRIES, CatalogueRefused, accept, use
from agent.catalogue.load import FILE, own
from agent.catalogue.places import POSIX_PLACES, find_place, is_canary_place

OWN = FILE.read_bytes()
MACHINE = Machine(
    env={
        "USERPROFILE": r"C:\Users\jo",
        "LOCALAPPDATA": r"C:\Users\jo\AppData\Local",
        "APPDATA": r"C:\Users\jo\AppData\Roaming",
        "TEMP": r"C:\Users\jo\AppData\Local\Temp",
        "PROGRAMFILES": r"C:\Program Files",
        "SYSTEMDRIVE": "C:",
    },
    project_roots=(r"C:\src",),
)
NEW_PATTERN = """
[[pattern]]
id = 'cache-rooms-python'
group = 'cache'
title = 'A new kind of environment'
description = 'What a uv of tomorrow may do.'
collections = ['Exe']
executed = 'yes'
executed_by = 'uv'
default_path = '<cache>\\rooms-v0\\python.exe'
templates = ['{template}']
match = '{match}'
canary = ['{canary}']
rule_kinds = ['hash']
rule_advice = 'none'
sources = ['imagined']
confidence = 'low'
"""


@pytest.fixture(autouse=True)
def _own_afterwards() -> Iterator[None]:
    yield
    use(None)


def with_pattern(
    template: str = r"<cache>\rooms-v0\.tmp??????\Scripts\python.exe",
    canary: str = r"<cache>\rooms-v0\{tmp}\Scripts\python.exe",
    match: str = r"\\rooms-v0\\",
    extra: str = "",
) -> bytes:
    text = NEW_PATTERN
    for name, value in (("{template}", template), ("{match}", match), ("{canary}", canary)):
        text = text.replace(name, value)
    at = OWN.index(b"[[pattern]]")
    return OWN[:at] + text.encode() + extra.encode() + b"\n" + OWN[at:]


def test_this_releases_own_is_taken_whole() -> None:
    assert accept(OWN) == own()


def test_a_new_pattern_is_tried_and_told_from_then_on() -> None:
    path = r"C:\Users\jo\AppData\Local\uv\cache\rooms-v0\.tmpAb12Cd\Scripts\python.exe"
    assert classify(path, machine=MACHINE) is None
    use(accept(with_pattern()))
    pattern = load().pattern("cache-rooms-python")
    assert classify(path, machine=MACHINE) == "cache-rooms-python"
    assert classify(path.replace(r"C:\Users\jo\AppData\Local", r"D:\x\AppData\Local")) == "cache-rooms-python"
    (place,) = canary_paths(pattern, MACHINE, "a" * 13)
    assert place.startswith(r"C:\Users\jo\AppData\Local\uv\cache\rooms-v0\.tmpWLV")
    use(None)
    assert classify(path, machine=MACHINE) is None
    assert load() is own()


@pytest.mark.parametrize("match", [".*", "^", "(a+)+$", "(?:(?:a|a)*)*b", "[", r"\\windows\\"])
def test_no_expression_of_another_catalogue_is_ever_run(match: str) -> None:
    use(accept(with_pattern(match=match)))
    begun = time.process_time()
    assert classify("C:\\Windows\\System32\\" + "a" * 5_000 + ".exe", machine=MACHINE) is None
    assert classify(r"C:\Users\jo\Desktop\secret project\run.exe", machine=MACHINE) is None
    assert classify(r"C:\users\jo\appdata\local\uv\cache\rooms-v0\.tmpAb12Cd\Scripts\python.exe")
    assert time.process_time() - begun < 2


def test_an_expression_that_was_changed_under_a_known_name_counts_for_nothing() -> None:
    known = own().pattern("cache-builds-venv-python")
    entry = OWN.decode().index("id = 'cache-builds-venv-python'")
    at = OWN.decode().index("match = ", entry)
    end = OWN.decode().index("\n", at)
    changed = OWN.decode()[:at] + "match = '.*'" + OWN.decode()[end:]
    use(accept(changed.encode()))
    assert load().pattern("cache-builds-venv-python").match not in (".*", known.match)
    assert classify(r"C:\Windows\notepad.exe", machine=MACHINE) is None
    builds = r"C:\Users\jo\AppData\Local\uv\cache\builds-v0\.tmpAb12Cd\Scripts\python.exe"
    assert classify(builds, machine=MACHINE) == "cache-builds-venv-python"


@pytest.mark.parametrize(
    "template",
    [
        r"C:\Windows\System32\*.exe",
        r"\\server\share\*.exe",
        r"\\?\C:\x\*.exe",
        r"%WINDIR%\System32\*.exe",
        r"%USERPROFILE%\Desktop\*.exe",
        r"%USERPROFILE%\**\*.exe",
        r"%LOCALAPPDATA%\Google\Chrome\*.exe",
        r"%ProgramFiles%\*\*.exe",
        r"%SystemDrive%\*.exe",
        r"%TEMP%\**\*.exe",
        r"<cache>\..\..\*.exe",
        r"<cache>\.. \x.exe",
        r"<cache>\...\x.exe",
        r"<cache>\a\..\..\x.exe",
        r"<cache>\{..,x}\y.exe",
        r"<cache>\a:stream.exe",
        r"<cache>\%TEMP%\x.exe",
        r"<cache>/../x.exe",
        r"<cache>",
        r"<cache>\\x.exe",
        r"<cache>x\y.exe",
        r"<project>\**\*.exe",
        r"<project>\dist\*.exe",
        r"<unknown>\x.exe",
        r"**\uv.exe",
        r"<cache>\**\**\**\**\x.exe",
        r"<cache>\x\ ".rstrip("\\"),
        "<cache>\\" + "a" * 300,
        "",
    ],
)
def test_a_template_outside_the_known_places_is_refused(template: str) -> None:
    with pytest.raises(CatalogueRefused) as refused:
        accept(with_pattern(template=template))
    assert refused.value.code == "place"
    assert "cache-rooms-python" in str(refused.value)


@pytest.mark.parametrize(
    "canary",
    [
        r"<cache>\rooms-v0\python.exe",
        r"<cache>\rooms-v0\{hex16}\python.exe",
        r"<python dir>\{stem}\python.exe",
        r"<tool dir>\{stem}\Scripts\python.exe",
        r"<tool bin>\python.exe",
        r"<tool bin>\{stem}\x.exe",
        r"<project>\.venv\Scripts\{stem}.exe",
        r"%TEMP%\{stem}.exe",
        r"%APPDATA%\Microsoft\Windows\Start Menu\Programs\Startup\{stem}.exe",
        r"<cache>\rooms-v0\..\..\..\{stem}.exe",
        r"<cache>\rooms-v0\{tmp}\*.exe",
        r"<cache>\rooms-v0\{tmp}\x.bat",
        r"<cache>\rooms-v0\{unknown}\{tmp}.exe",
        r"C:\{stem}.exe",
    ],
)
def test_a_canary_is_put_nowhere_that_uv_or_windows_would_trip_over(canary: str) -> None:
    with pytest.raises(CatalogueRefused) as refused:
        accept(with_pattern(canary=canary))
    assert refused.value.code == "place"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\xff", "format"),
        (b"x = ", "format"),
        (b"x = " + b"[" * 5_000, "format"),
        (b"", "format"),
        (b"#" * 600_000, "size"),
        (OWN.replace(b"version = 1", b"version = 2", 1), "format"),
        (re.sub(rb'newest_uv = "[^"]+"', b'newest_uv = "0.1.0"', OWN), "older"),
        (re.sub(rb'newest_uv = "[^"]+"', b"newest_uv = 5", OWN), "format"),
        (OWN + b"[[bucket]]\nfolder = 'x'\nsince = '1'\nholds = 'y'\n" * MAX_ENTRIES, "entries"),
        (with_pattern(template="<cache>\\" + "{a,b}" * 20 + ".exe"), "format"),
        (with_pattern(extra="templates_ = 5\nposix = 'text'"), "format"),
        (with_pattern(extra="needs_evidence = [1, 2]"), "format"),
        (with_pattern(extra="notes = 'x' \nuntil = 1979-05-27"), "format"),
        (with_pattern().replace(b"'cache-rooms-python'", b"'../etc'"), "format"),
        (with_pattern().replace(b"'cache-rooms-python'", b"'cache-builds-venv-python'"), "format"),
        (with_pattern(match="(?&nothing)"), "format"),
        (with_pattern().replace(b"collections = ['Exe']", b"collections = ['Kernel']", 1), "format"),
        (OWN.replace(b"[[workflow]]", b"[[workflow]]\nneeds = ['nothing-there']", 1), "format"),
    ],
)
def test_what_is_no_catalogue_is_refused_with_a_reason(data: bytes, code: str) -> None:
    with pytest.raises(CatalogueRefused) as refused:
        accept(data)
    assert refused.value.code == code


def test_what_a_newer_server_added_is_left_out() -> None:
    newer = with_pattern(extra="colour = 'red'\n[[pattern.history]]\nx = 1")
    newer += b"\n[[kind_of_tomorrow]]\nx = 1\n"
    assert accept(newer).pattern("cache-rooms-python").title == "A new kind of environment"


def test_signers_stay_this_releases_own() -> None:
    more = (
        OWN + b"\n[[signer]]\nid='evil'\nname='E'\npublisher='O=EVIL'\nproduct='*'\nbinary='*'\nsince='1'\nadmits=''\n"
    )
    assert accept(more).signers == own().signers


SEGMENT = st.sampled_from(
    [
        "..",
        ".",
        "*",
        "**",
        "?",
        "x",
        ".. ",
        "C:",
        "a:b",
        "%TEMP%",
        "<cache>",
        "{tmp}",
        "{stem}",
        "{..,a}",
        "",
        "\\",
        "nul",
    ]
)
ROOT = st.sampled_from(
    ["<cache>", "<project>", "%TEMP%", "%USERPROFILE%", "<tool bin>", "C:", "\\\\server", "", "%WINDIR%"]
)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    root=ROOT, segments=st.lists(SEGMENT, max_size=5), tail=st.sampled_from(["", "\\x.exe", "\\*.exe", "\\python.exe"])
)
def test_whatever_is_taken_stays_below_its_root(root: str, segments: list[str], tail: str) -> None:
    template = "\\".join([root, *segments]) + tail
    place = find_place(template)
    if place is not None and "{" not in template:
        assert not any(part.strip(" .") == "" for part in template.split("\\")[1:])
    if is_canary_place(template):
        made = _made(template)
        below = (
            r"C:\Users\jo\AppData\Local\uv\cache",
            r"C:\Users\jo\AppData\Local\Temp",
            r"C:\src",
            r"C:\Users\jo\.local",
        )
        assert made
        assert all(path.startswith(below) and ".." not in path for path in made)


def _made(template: str) -> tuple[str, ...]:
    pattern = own().pattern("cache-builds-venv-python")
    return canary_paths(replace(pattern, probe=replace(pattern.probe, canary=(template,))), MACHINE, "b" * 13)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_mangled_catalogues_are_refused_or_stay_below_known_places(data: st.DataObject) -> None:
    content = bytearray(OWN)
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + data.draw(st.integers(0, 3))] = data.draw(
            st.sampled_from(
                [b"..", b"'", b'"', b"\\", b"C:", b"%", b"*", b"\n", b"[", b"{", b"<", b"x", b"\x00", b"\xff"]
            )
        )
    try:
        catalogue = accept(bytes(content))
    except CatalogueRefused:
        return
    for pattern in catalogue.patterns:
        for place in (*expand(pattern, MACHINE), *canary_paths(pattern, MACHINE, "c" * 13)):
            assert ".." not in place
            assert place.startswith(
                (
                    "C:\\Users\\jo\\",
                    "C:\\src\\",
                    "C:\\Program Files\\",
                    "C:\\hostedtoolcache\\",
                    "C:\\ProgramData\\chocolatey",
                )
            )


def test_posix_places_too() -> None:
    assert find_place("<cache>/builds-v1/*", is_posix=True) in POSIX_PLACES
    for bad in ("/etc/*", "%HOME%/.ssh/x", "<cache>/../x", "<project>/**"):
        assert find_place(bad, is_posix=True) is None
