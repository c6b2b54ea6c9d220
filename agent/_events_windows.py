"""Windows' event log calls: one bounded batch of a channel's events as XML, and which records the channel holds.

Thin covers of calls; what is asked for and what the answers mean is decided in `channels`, `watch` and `events`.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Iterator
from ctypes import wintypes

from agent.channels import ERROR_CHANNEL_NOT_FOUND, ChannelRead

assert sys.platform == "win32"  # noqa: S101 - tells the type checker which platform's calls these are

_OPEN_CHANNEL, _LOG_RECORDS, _LOG_OLDEST = 1, 5, 6
_QUERY_CHANNEL, _QUERY_FORWARD, _RENDER_XML = 0x1, 0x100, 1
_NO_MORE_ITEMS = 259
_WAIT_MS = 5_000
_AT_ONCE = 32
_MAX_EVENT_BYTES = 1 << 20

_wevtapi = ctypes.WinDLL("wevtapi", use_last_error=True)
_dword_out = ctypes.POINTER(wintypes.DWORD)

_query = _wevtapi.EvtQuery
_query.restype = wintypes.HANDLE
_query.argtypes = (wintypes.HANDLE, wintypes.LPCWSTR, wintypes.LPCWSTR, wintypes.DWORD)
_next = _wevtapi.EvtNext
_next.restype = wintypes.BOOL
_next.argtypes = (
    wintypes.HANDLE,
    wintypes.DWORD,
    ctypes.POINTER(wintypes.HANDLE),
    wintypes.DWORD,
    wintypes.DWORD,
    _dword_out,
)
_render = _wevtapi.EvtRender
_render.restype = wintypes.BOOL
_render.argtypes = (
    wintypes.HANDLE,
    wintypes.HANDLE,
    wintypes.DWORD,
    wintypes.DWORD,
    ctypes.c_void_p,
    _dword_out,
    _dword_out,
)
_open_log = _wevtapi.EvtOpenLog
_open_log.restype = wintypes.HANDLE
_open_log.argtypes = (wintypes.HANDLE, wintypes.LPCWSTR, wintypes.DWORD)
_log_info = _wevtapi.EvtGetLogInfo
_log_info.restype = wintypes.BOOL
_log_info.argtypes = (wintypes.HANDLE, ctypes.c_int, wintypes.DWORD, ctypes.c_void_p, _dword_out)
_close = _wevtapi.EvtClose
_close.restype = wintypes.BOOL
_close.argtypes = (wintypes.HANDLE,)


def read_channel(channel: str, query: str, limit: int) -> ChannelRead:
    """At most `limit` events that an XPath query finds in a channel, oldest first."""
    try:
        with _opened(_open_log(None, channel, _OPEN_CHANNEL)) as log:
            count, oldest = _log_value(log, _LOG_RECORDS), _log_value(log, _LOG_OLDEST)
        with _opened(_query(None, channel, query, _QUERY_CHANNEL | _QUERY_FORWARD)) as result:
            events, unreadable, error = _next_events(result, limit)
    except OSError as refusal:
        return ChannelRead(error=refusal.winerror or ERROR_CHANNEL_NOT_FOUND)
    if error not in (0, _NO_MORE_ITEMS) and not events and not unreadable:
        return ChannelRead(error=error)
    return ChannelRead(
        events=tuple(events),
        oldest=oldest,
        newest=oldest + count - 1 if count else 0,
        is_end=error == _NO_MORE_ITEMS,
        unreadable=unreadable,
    )


@contextlib.contextmanager
def _opened(handle: int | None) -> Iterator[int]:
    if not handle:
        raise ctypes.WinError(ctypes.get_last_error())
    try:
        yield handle
    finally:
        _close(handle)


def _next_events(result: int, limit: int) -> tuple[list[str], int, int]:
    """Events as XML, how many could not be rendered, and the error that ended the reading (0: the limit)."""
    handles, returned = (wintypes.HANDLE * _AT_ONCE)(), wintypes.DWORD()
    events: list[str] = []
    unreadable = 0
    while (left := limit - len(events) - unreadable) > 0:
        if not _next(result, min(_AT_ONCE, left), handles, _WAIT_MS, 0, ctypes.byref(returned)):
            return events, unreadable, ctypes.get_last_error()
        for handle in handles[: returned.value]:
            try:
                text = _render_event(handle)
            finally:
                _close(handle)
            if text is None:
                unreadable += 1
            else:
                events.append(text)
    return events, unreadable, 0


def _render_event(event: int | None) -> str | None:
    used, count = wintypes.DWORD(), wintypes.DWORD()
    _render(None, event, _RENDER_XML, 0, None, ctypes.byref(used), ctypes.byref(count))
    if not 0 < used.value <= _MAX_EVENT_BYTES:
        return None
    buffer = ctypes.create_unicode_buffer(used.value // 2 + 1)
    size = ctypes.sizeof(buffer)
    if not _render(None, event, _RENDER_XML, size, buffer, ctypes.byref(used), ctypes.byref(count)):
        return None
    return buffer.value


def _log_value(log: int, what: int) -> int:
    variant, used = (ctypes.c_uint64 * 2)(), wintypes.DWORD()
    if not _log_info(log, what, ctypes.sizeof(variant), variant, ctypes.byref(used)):
        return 0
    return int(variant[0])
