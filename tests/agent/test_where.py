"""Where folders really are, over recorded answers of Windows: where a rule opens nothing, none is told to."""

from __future__ import annotations

import pytest

from agent.catalogue import Machine
from agent.discover import Discovery
from agent.report import build_environment, tell_root
from agent.where import DriveKind, Opened, real_place, with_long_names

ENV = {
    "USERPROFILE": r"C:\Users\jane",
    "LOCALAPPDATA": r"C:\Users\jane\AppData\Local",
    "APPDATA": r"C:\Users\jane\AppData\Roaming",
    "TEMP": r"C:\Users\jane\AppData\Local\Temp",
    "SYSTEMDRIVE": "C:",
}
MACHINE = Machine(env=ENV)
SYSTEM = "\\\\?\\Volume{11111111-0000-0000-0000-000000000000}\\"
PROFILE = "\\\\?\\Volume{22222222-0000-0000-0000-000000000000}\\"
LOCAL = r"\AppData\Local"


@pytest.mark.parametrize(
    ("opened", "told"),
    [
        # The usual: nothing exists below AppData\Local yet.
        (
            Opened(
                dos=rf"\\?\C:\Users\jane{LOCAL}",
                guid=rf"{SYSTEM}Users\jane{LOCAL}",
                drive_guid=SYSTEM,
                rest=r"\uv\cache",
            ),
            r"%OSDRIVE%\Users\*\AppData\Local\uv\cache",
        ),
        # Another drive, behind a junction.
        (
            Opened(dos=r"\\?\D:\data\uv\cache", guid=rf"{PROFILE}data\uv\cache", drive_guid=PROFILE),
            r"D:\data\uv\cache",
        ),
        # A drive letter that stands for a share, and a redirected folder.
        (Opened(dos=r"\\?\UNC\nas\home$\jane\uv\cache", kind=DriveKind.REMOTE), r"\\*\*\*\uv\cache"),
        # A profile volume mounted into C:\Users\jane: the path says C:, the volume is another.
        (
            Opened(
                dos=rf"\\?\C:\Users\jane{LOCAL}\uv\cache", guid=rf"{PROFILE}AppData\Local\uv\cache", drive_guid=SYSTEM
            ),
            r"\\?\Volume{*}\AppData\Local\uv\cache",
        ),
        # A volume without any letter.
        (Opened(guid=rf"{PROFILE}jane\uv", rest=r"\cache"), r"\\?\Volume{*}\*\uv\cache"),
        (Opened(dos=rf"{PROFILE}jane\uv\cache"), r"\\?\Volume{*}\*\uv\cache"),
        # What a packaged application sees as AppData.
        (
            Opened(
                dos=r"\\?\C:\Users\jane\AppData\Local\Packages\Some.App_1a2b\LocalCache\Local\uv\cache",
                guid=rf"{SYSTEM}Users\jane\AppData\Local\Packages\Some.App_1a2b\LocalCache\Local\uv\cache",
                drive_guid=SYSTEM,
            ),
            r"%OSDRIVE%\Users\*\AppData\Local\*\*\*\Local\uv\cache",
        ),
        # A stick and a disc have words of their own in rules.
        (Opened(dos=r"\\?\E:\uv\cache", kind=DriveKind.REMOVABLE), r"%HOT%\uv\cache"),
        (Opened(dos=r"\\?\F:\uv\cache", kind=DriveKind.CD), r"%REMOVABLE%\uv\cache"),
        (Opened(dos=r"\\?\C:\Program Files\uv\cache", drive_guid=SYSTEM), r"%PROGRAMFILES%\uv\cache"),
    ],
)
def test_a_root_is_told_as_what_was_opened(opened: Opened, told: str) -> None:
    place = r"C:\Users\jane\AppData\Local\uv\cache"
    assert tell_root(place, MACHINE, open_place=lambda asked: opened if asked == place else None) == told


def test_what_cannot_be_opened_is_told_by_its_name() -> None:
    told = tell_root(r"C:\Users\jane\AppData\Local\uv\cache", MACHINE, open_place=lambda _path: None)
    assert told == r"%OSDRIVE%\Users\*\AppData\Local\uv\cache"


def test_no_name_of_a_person_share_or_package_is_in_it() -> None:
    for dos in (r"\\?\UNC\nas-jane\home-jane$\jane\uv", r"\\?\D:\jane\uv", rf"{PROFILE}jane\uv"):
        assert "jane" not in tell_root(r"C:\x", MACHINE, open_place=lambda _path, dos=dos: Opened(dos=dos)).lower()


def test_every_root_is_asked_about() -> None:
    asked: list[str] = []

    def open_place(path: str) -> Opened:
        asked.append(path)
        return Opened(dos=rf"\\?\D:{path[2:]}", drive_guid=SYSTEM, guid=rf"{SYSTEM}{path[3:]}")

    told = build_environment(Discovery(uvs=(), machine=MACHINE), {}, open_place=open_place)
    assert len(asked) == len(told.roots) >= 7
    assert all(place.startswith("D:\\") for place in told.roots.values())


def test_short_names_are_written_out_before_anything_is_made_of_a_path() -> None:
    def long_name(path: str) -> str:
        return path.replace("JANEDO~1", "Jane Doe")

    told = with_long_names(
        {
            "TEMP": r"C:\Users\JANEDO~1\AppData\Local\Temp",
            "USERPROFILE": r"C:\Users\Jane Doe",
            "PATH": r"C:\Users\JANEDO~1\bin;C:\Windows",
            "SHARE": r"\\nas\JANEDO~1",
            "TOKEN": "a~1",
        },
        long_name,
    )
    assert told["TEMP"] == r"C:\Users\Jane Doe\AppData\Local\Temp"
    assert told["SHARE"] == r"\\nas\Jane Doe"
    assert told["PATH"] == r"C:\Users\JANEDO~1\bin;C:\Windows", "a list is no path"
    assert told["TOKEN"] == "a~1"


def test_a_mount_is_told_from_the_drive_by_its_volume_alone() -> None:
    same = Opened(dos=r"\\?\C:\x", guid=SYSTEM.upper() + "x", drive_guid=SYSTEM)
    assert real_place(same) == (r"C:\x", "")
    unknown = Opened(dos=r"\\?\C:\x", guid="", drive_guid=SYSTEM)
    assert real_place(unknown) == (r"C:\x", "")
    longer = Opened(dos=r"\\?\C:\x", guid=SYSTEM.rstrip("\\") + "0\\x", drive_guid=SYSTEM)
    assert real_place(longer)[1] != ""
