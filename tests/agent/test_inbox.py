"""Taking notes on a real file system, from real users, while they do what they can to have another file taken."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.inbox import make_inbox, take_notes
from agent.left import FileFacts, judge_left
from agent.notes import MAX_NOTE_BYTES, encode_note
from agent.places import NOTE_NAME, Places
from tests.agent.test_notes import MACHINE, SETS

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX calls"),
    pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() != 0, reason="needs root, to be several users"),
]

JANE, JOE = 40_001, 40_002
JANES, JOES = f"S-1-22-1-{JANE}", f"S-1-22-1-{JOE}"
NOTE = encode_note(SETS, MACHINE, (), now=1)


@pytest.fixture
def places() -> Iterator[Places]:
    # pytest's own folders can be entered by root alone.
    base = Path(tempfile.mkdtemp(prefix="wayleave-inbox-"))
    base.chmod(0o755)
    found = Places(base=base)
    found.inbox.mkdir(mode=0o711)
    for sid in (JANES, JOES):
        make_inbox(found.inbox, sid)
    yield found
    shutil.rmtree(base)


def leave(places: Places, sid: str, uid: int, content: bytes = NOTE) -> Path:
    path = places.inbox / sid / NOTE_NAME
    path.write_bytes(content)
    os.chown(path, uid, uid)
    return path


def take(places: Places) -> tuple[list[str], list[str]]:
    taken = take_notes(places.inbox, (JANES, JOES))
    return sorted(taken.notes), [f"{one.sid[-1]}: {one.reason}" for one in taken.refused]


def test_a_note_is_taken_as_its_owners(places: Places) -> None:
    leave(places, JANES, JANE)
    assert take(places) == ([JANES], [])


def test_an_inbox_is_made_once_and_is_the_users_alone(places: Places) -> None:
    assert not make_inbox(places.inbox, JANES)
    status = (places.inbox / JANES).stat()
    assert (status.st_uid, status.st_mode & 0o777) == (JANE, 0o700)
    assert (places.inbox.stat().st_uid, places.inbox.stat().st_mode & 0o777) == (0, 0o711)


def test_a_link_is_refused(places: Places) -> None:
    target = leave(places, JOES, JOE)
    (places.inbox / JANES / NOTE_NAME).symlink_to(target)
    assert take(places) == ([JOES], ["1: it is a link"])


def test_a_folder_that_became_a_link_is_refused(places: Places) -> None:
    leave(places, JOES, JOE)
    (places.inbox / JANES).rmdir()
    (places.inbox / JANES).symlink_to(places.inbox / JOES)
    assert take(places) == ([JOES], ["1: the folder is none"])


def test_a_second_name_of_another_users_file_is_refused(places: Places) -> None:
    os.link(leave(places, JOES, JOE), places.inbox / JANES / NOTE_NAME)
    assert take(places) == ([], ["1: it has more than one name", "2: it has more than one name"])


def test_a_file_of_another_owner_is_refused(places: Places) -> None:
    leave(places, JANES, JOE)
    assert take(places) == ([], ["1: it belongs to somebody else"])


def test_a_file_that_is_too_large_is_not_read(places: Places) -> None:
    path = leave(places, JANES, JANE)
    with path.open("r+b") as file:
        file.truncate(MAX_NOTE_BYTES + 1)
    assert take(places) == ([], ["1: it is too large"])
    with path.open("r+b") as file:
        file.truncate(1 << 40)  # nothing of it is on the disk
    assert take(places) == ([], ["1: it is too large"])


def test_a_note_of_the_largest_size_is_read(places: Places) -> None:
    leave(places, JANES, JANE, NOTE + b" " * (MAX_NOTE_BYTES - len(NOTE)))
    assert take(places) == ([JANES], [])


def test_a_pipe_does_not_hold_the_system_up(places: Places) -> None:
    os.mkfifo(places.inbox / JANES / NOTE_NAME)
    os.chown(places.inbox / JANES / NOTE_NAME, JANE, JANE)
    assert take(places) == ([], ["1: it is no regular file"])


def test_a_socket_a_folder_and_a_device_are_refused(places: Places) -> None:
    path = places.inbox / JANES / NOTE_NAME
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        assert take(places)[0] == []
    path.unlink()
    path.mkdir()
    assert take(places) == ([], ["1: it is no regular file"])
    path.rmdir()
    os.mknod(path, 0o20666, os.makedev(1, 5))  # a device of endless zeros
    os.chown(path, JANE, JANE)
    assert take(places) == ([], ["1: it is no regular file"])


def test_one_users_trouble_is_not_anothers(places: Places) -> None:
    leave(places, JANES, JANE, b"\x00garbage")
    leave(places, JOES, JOE)
    assert take(places) == ([JOES], ["1: it is no note: not whole JSON"])


def test_nothing_is_written_removed_or_touched(places: Places) -> None:
    leave(places, JANES, JANE)
    leave(places, JOES, JOE, b"garbage")

    def state() -> list[tuple[str, int, int, bytes]]:
        found = [path for folder in (JANES, JOES) for path in (places.inbox / folder).iterdir()]
        return sorted((str(path), path.stat().st_mtime_ns, path.stat().st_ino, path.read_bytes()) for path in found)

    before = state()
    take(places)
    assert state() == before


@pytest.mark.timeout(60)
def test_no_swap_while_we_look_has_another_file_taken(places: Places) -> None:
    """Jane swaps her note without a pause for a link to what only the system may read, or a second name of it."""
    secret = places.base / "secret"
    secret.write_bytes(NOTE.replace(b'"made_at":1', b'"made_at":666'))
    secret.chmod(0o600)
    folder, path, aside = places.inbox / JANES, places.inbox / JANES / NOTE_NAME, places.inbox / JANES / "aside"
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            for make in (
                lambda: aside.symlink_to(secret),
                lambda: os.link(secret, aside),
                lambda: (aside.write_bytes(NOTE), os.chown(aside, JANE, JANE)),
            ):
                make()
                aside.replace(path)
            # The folder itself, too: away, and a link to a place with a file of that name.
            away = places.inbox / "away"
            folder.rename(away)
            folder.symlink_to(places.base)
            folder.unlink()
            away.rename(folder)

    swapper = threading.Thread(target=swap)
    swapper.start()
    outcomes: set[str] = set()
    wanted = {JANES, "it is a link", "it has more than one name", "the folder is none"}
    try:
        begun = time.monotonic()
        while not (wanted <= outcomes and time.monotonic() > begun + 1) and time.monotonic() < begun + 30:
            taken = take_notes(places.inbox, (JANES,))
            assert all(note.made_at == 1 for note in taken.notes.values())
            outcomes |= {one.reason for one in taken.refused} | set(taken.notes)
    finally:
        stop.set()
        swapper.join()
    assert wanted <= outcomes, "the race was none: not every stage of it was met"


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        (FileFacts(owner=JANES, size=1), None),
        (FileFacts(owner=JANES.lower(), size=MAX_NOTE_BYTES), None),
        (FileFacts(owner=JANES, size=1, is_reparse=True), "it is a link"),
        (FileFacts(owner=JANES, size=1, is_regular=False), "it is no regular file"),
        (FileFacts(owner=JANES, size=1, in_place=False), "it lies elsewhere"),
        (FileFacts(owner=JANES, size=1, links=2), "it has more than one name"),
        (FileFacts(owner=JANES, size=1, links=0), "it has more than one name"),
        (FileFacts(owner=JANES, size=MAX_NOTE_BYTES + 1), "it is too large"),
        (FileFacts(owner="S-1-5-32-544", size=1), "it belongs to somebody else"),
        (FileFacts(owner="S-1-5-18", size=1), "it belongs to somebody else"),
    ],
)
def test_judgement_of_what_windows_says_of_a_handle(facts: FileFacts, reason: str | None) -> None:
    assert judge_left(facts, JANES) == reason
