"""The bench's event log answers Windows' event API: queries, batches, bookmarks, and what goes wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.windows.bench.events import APPLOCKER_EXE, APPLOCKER_SCRIPT, deny_channel, forget_channels, write_channel
from tests.windows.bench.places import PYTHON
from tests.windows.bench.run import run

pytestmark = pytest.mark.windows

READ = r"""
import ctypes, json, sys
from ctypes import wintypes as w
api = ctypes.WinDLL("wevtapi", use_last_error=True)
for name in ("EvtQuery", "EvtCreateBookmark", "EvtOpenLog"):
    getattr(api, name).restype = w.HANDLE
api.EvtQuery.argtypes = [w.HANDLE, w.LPCWSTR, w.LPCWSTR, w.DWORD]
api.EvtNext.argtypes = [w.HANDLE, w.DWORD, ctypes.POINTER(w.HANDLE), w.DWORD, w.DWORD, ctypes.POINTER(w.DWORD)]
out = ctypes.POINTER(w.DWORD)
api.EvtRender.argtypes = [w.HANDLE, w.HANDLE, w.DWORD, w.DWORD, w.LPVOID, out, out]
api.EvtSeek.argtypes = [w.HANDLE, ctypes.c_longlong, w.HANDLE, w.DWORD, w.DWORD]
api.EvtCreateBookmark.argtypes = [w.LPCWSTR]
api.EvtUpdateBookmark.argtypes = [w.HANDLE, w.HANDLE]
api.EvtClose.argtypes = [w.HANDLE]
api.EvtOpenLog.argtypes = [w.HANDLE, w.LPCWSTR, w.DWORD]
api.EvtGetLogInfo.argtypes = [w.HANDLE, w.DWORD, w.DWORD, w.LPVOID, ctypes.POINTER(w.DWORD)]

def render(handle, flags):
    used, count = w.DWORD(), w.DWORD()
    assert not api.EvtRender(None, handle, flags, 0, None, ctypes.byref(used), ctypes.byref(count))
    assert ctypes.get_last_error() == 122
    text = ctypes.create_unicode_buffer(used.value // 2)
    assert api.EvtRender(None, handle, flags, used.value, text, ctypes.byref(used), ctypes.byref(count))
    return text.value

def read(channel, query="*", flags=1, mark=None, position=1, seek=4, batch=2):
    result = api.EvtQuery(None, channel, query, flags)
    if not result:
        return {"error": ctypes.get_last_error()}
    bookmark = api.EvtCreateBookmark(mark)
    if mark and not api.EvtSeek(result, position, bookmark, 0, seek):
        return {"error": ctypes.get_last_error()}
    events, returned, found = (w.HANDLE * batch)(), w.DWORD(), []
    while api.EvtNext(result, batch, events, 0, 0, ctypes.byref(returned)):
        found.append([render(events[i], 1) for i in range(returned.value)])
        api.EvtUpdateBookmark(bookmark, events[returned.value - 1])
        for i in range(returned.value):
            assert api.EvtClose(events[i])
    return {"error": ctypes.get_last_error(), "batches": found, "mark": render(bookmark, 2)}

def info(channel):
    log = api.EvtOpenLog(None, channel, 1)
    variant, used = (ctypes.c_ulonglong * 2)(), w.DWORD()
    values = []
    for which in (5, 6):
        assert api.EvtGetLogInfo(log, which, 16, variant, ctypes.byref(used))
        values.append(variant[0])
    return values

print(json.dumps(eval(sys.argv[1])))
"""


def event(record: int, event_id: int) -> str:
    return (
        "<Event xmlns='http://schemas.microsoft.com/win/2004/08/events/event'><System>"
        f"<EventID>{event_id}</EventID><EventRecordID>{record}</EventRecordID></System></Event>"
    )


EVENTS = [event(record, event_id) for record, event_id in ((7, 8002), (8, 8004), (9, 8003), (10, 8004), (12, 8004))]


@pytest.fixture(autouse=True)
def channels(clean_bench: None) -> Iterator[None]:
    forget_channels()
    write_channel(APPLOCKER_EXE, EVENTS)
    yield
    forget_channels()


def ask(expression: str) -> Any:
    """What a Windows program gets."""
    finished = run([PYTHON, "-I", "-c", READ, expression])
    assert finished.code == 0, finished
    return json.loads(finished.output)


def test_events_come_in_batches_and_end_with_a_bookmark() -> None:
    answer = ask(f"read({APPLOCKER_EXE!r})")
    assert answer["batches"] == [EVENTS[:2], EVENTS[2:4], EVENTS[4:]]
    assert answer["error"] == 259  # no more items
    assert "RecordId='12'" in answer["mark"]
    assert ask(f"info({APPLOCKER_EXE!r})") == [5, 7]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("*[System[EventRecordID > 9]]", EVENTS[3:]),
        ("*[System[(EventID=8003 or EventID=8004) and EventRecordID >= 10]]", EVENTS[3:]),
        ("*[System[(EventID=8003)]]", EVENTS[2:3]),
        ("*[System[(EventID=1)]]", []),
        ("*[System[Provider[@Name='P'] and (EventID=8004) and (EventRecordID > 1)]]", []),
    ],
)
def test_queries_choose_by_record_and_id(query: str, found: list[str]) -> None:
    answer = ask(f"read({APPLOCKER_EXE!r}, {query!r}, batch=9)")
    assert [each for batch in answer["batches"] for each in batch] == found


def test_a_bookmark_continues_after_its_event_and_a_lost_one_is_told() -> None:
    mark = "<BookmarkList><Bookmark Channel='c' RecordId='{}' IsCurrent='true'/></BookmarkList>"
    assert ask(f"read({APPLOCKER_EXE!r}, mark={mark.format(9)!r})")["batches"] == [EVENTS[3:]]
    assert ask(f"read({APPLOCKER_EXE!r}, mark={mark.format(11)!r})")["batches"] == [EVENTS[4:]]
    assert ask(f"read({APPLOCKER_EXE!r}, mark={mark.format(11)!r}, seek=4 | 0x10000)") == {"error": 1168}


def test_a_missing_and_a_denied_channel_have_their_own_errors() -> None:
    deny_channel(APPLOCKER_SCRIPT)
    assert ask(f"[read('Nobody/Knows'), read({APPLOCKER_SCRIPT!r})]") == [{"error": 15007}, {"error": 5}]


def test_reverse_and_structured_queries() -> None:
    selected = f"<Select Path='{APPLOCKER_EXE}'>*[System[EventRecordID &gt; 9]]</Select>"
    structured = f"<QueryList><Query Id='0'>{selected}</Query></QueryList>"
    answer = ask(f"read(None, {structured!r}, flags=0x201, batch=9)")
    assert answer["batches"] == [list(reversed(EVENTS[3:]))]
