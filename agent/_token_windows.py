"""Windows calls that read whose token this process has, and which groups it names."""

# ruff: noqa: E402
# The type checker must know the platform before it follows the imports.
from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Iterator
from ctypes import wintypes
from typing import Any

assert sys.platform == "win32"  # noqa: S101 - tells the type checker which platform's calls these are

from agent._calls_windows import declare
from agent._windows import name_of_computer
from agent.principals import Principal

_TOKEN_QUERY = 0x8
_TOKEN_USER, _TOKEN_GROUPS, _TOKEN_LINKED, _TOKEN_ELEVATION = 1, 2, 19, 20
_SE_GROUP_ENABLED, _SE_GROUP_DENY_ONLY, _SE_GROUP_LOGON_ID = 0x4, 0x10, 0xC0000000

_kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
_advapi32 = ctypes.WinDLL("advapi32", use_last_error=True)


class _SidAndAttributes(ctypes.Structure):
    _fields_ = (("Sid", ctypes.c_void_p), ("Attributes", wintypes.DWORD))


_close = declare(_kernel32, "CloseHandle", wintypes.BOOL, wintypes.HANDLE)
_current_process = declare(_kernel32, "GetCurrentProcess", wintypes.HANDLE)
_local_free = declare(_kernel32, "LocalFree", ctypes.c_void_p, ctypes.c_void_p)
_open_token = declare(
    _advapi32, "OpenProcessToken", wintypes.BOOL, wintypes.HANDLE, wintypes.DWORD, ctypes.POINTER(wintypes.HANDLE)
)
_token_information = declare(
    _advapi32,
    "GetTokenInformation",
    wintypes.BOOL,
    wintypes.HANDLE,
    ctypes.c_int,
    ctypes.c_void_p,
    wintypes.DWORD,
    ctypes.POINTER(wintypes.DWORD),
)
_sid_to_text = declare(
    _advapi32, "ConvertSidToStringSidW", wintypes.BOOL, ctypes.c_void_p, ctypes.POINTER(ctypes.c_void_p)
)
_look_up_account = declare(
    _advapi32,
    "LookupAccountNameW",
    wintypes.BOOL,
    wintypes.LPCWSTR,
    wintypes.LPCWSTR,
    ctypes.c_void_p,
    ctypes.POINTER(wintypes.DWORD),
    wintypes.LPWSTR,
    ctypes.POINTER(wintypes.DWORD),
    ctypes.POINTER(ctypes.c_int),
)


def read_principal() -> Principal:
    """The user of this process, by its token. raises: OSError"""
    with _token() as token:
        user = _information(token, _TOKEN_USER)
        sid = _sid_text(_SidAndAttributes.from_buffer(user).Sid)
        groups, deny_only = _groups(token)
        elevation = _information(token, _TOKEN_ELEVATION)
        linked: tuple[str, ...] = ()
        # Only a limited administrator has a linked token; anybody else is told that there is none.
        with contextlib.suppress(OSError):
            handle = wintypes.HANDLE.from_buffer(_information(token, _TOKEN_LINKED))
            try:
                linked, _ = _groups(handle)
            finally:
                _close(handle)
        elevated = bool(wintypes.DWORD.from_buffer(elevation).value)
    return Principal(
        sid=sid,
        groups=groups,
        deny_only=deny_only,
        elevated=elevated,
        # An elevated token's linked one is the limited one, which tells nothing more.
        linked_groups=() if elevated else linked,
        machine_sid=_machine_sid(),
    )


@contextlib.contextmanager
def _token() -> Iterator[wintypes.HANDLE]:
    token = wintypes.HANDLE()
    if not _open_token(_current_process(), _TOKEN_QUERY, ctypes.byref(token)):
        raise ctypes.WinError(ctypes.get_last_error())
    try:
        yield token
    finally:
        _close(token)


def _information(token: wintypes.HANDLE, what: int) -> Any:
    size = wintypes.DWORD()
    _token_information(token, what, None, 0, ctypes.byref(size))
    buffer = ctypes.create_string_buffer(max(size.value, 8))
    if not _token_information(token, what, buffer, len(buffer), ctypes.byref(size)):
        raise ctypes.WinError(ctypes.get_last_error())
    return buffer


def _groups(token: wintypes.HANDLE) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Enabled and deny-only groups, without the logon session's own."""
    buffer = _information(token, _TOKEN_GROUPS)
    count = wintypes.DWORD.from_buffer(buffer).value
    # The array begins where a pointer may stand.
    entries = (_SidAndAttributes * count).from_buffer(buffer, ctypes.sizeof(ctypes.c_void_p))
    enabled: list[str] = []
    deny_only: list[str] = []
    for entry in entries:
        if entry.Attributes & _SE_GROUP_LOGON_ID == _SE_GROUP_LOGON_ID:
            continue
        if entry.Attributes & _SE_GROUP_DENY_ONLY:
            deny_only.append(_sid_text(entry.Sid))
        elif entry.Attributes & _SE_GROUP_ENABLED:
            enabled.append(_sid_text(entry.Sid))
    return tuple(enabled), tuple(deny_only)


def _sid_text(sid: int | None) -> str:
    text = ctypes.c_void_p()
    if not _sid_to_text(sid, ctypes.byref(text)):
        raise ctypes.WinError(ctypes.get_last_error())
    try:
        return ctypes.wstring_at(text.value or 0)
    finally:
        _local_free(text)


def _machine_sid() -> str | None:
    """The prefix of machine-local accounts, which is the SID of the account that bears the computer's name."""
    name = name_of_computer(0)
    size, domain_size, use = wintypes.DWORD(256), wintypes.DWORD(256), ctypes.c_int()
    sid, domain = ctypes.create_string_buffer(256), ctypes.create_unicode_buffer(256)
    if not name or not _look_up_account(
        None, name, sid, ctypes.byref(size), domain, ctypes.byref(domain_size), ctypes.byref(use)
    ):
        return None
    text = _sid_text(ctypes.addressof(sid))
    return text if text.startswith("S-1-5-21-") else None
