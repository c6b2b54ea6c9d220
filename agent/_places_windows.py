"""Windows calls that tell where a folder really is: the final path of its handle, its drive's kind, its long name."""

# Paths are text here: no step may normalise them behind our back.
from __future__ import annotations

import ctypes
import os
import sys
from ctypes import wintypes

from agent.where import DriveKind, Opened

assert sys.platform == "win32"  # noqa: S101 - tells the type checker which platform's calls these are

_FILE_READ_ATTRIBUTES, _SHARE_ALL, _OPEN_EXISTING = 0x80, 0x7, 3
_BACKUP_SEMANTICS = 0x02000000  # or a folder could not be opened
_BY_LETTER, _BY_VOLUME = 0x0, 0x1
_INVALID_HANDLE = wintypes.HANDLE(-1).value
_LONGEST = 32_768

_kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
_create = _kernel32.CreateFileW
_create.restype = wintypes.HANDLE
_create.argtypes = (
    wintypes.LPCWSTR,
    wintypes.DWORD,
    wintypes.DWORD,
    ctypes.c_void_p,
    wintypes.DWORD,
    wintypes.DWORD,
    wintypes.HANDLE,
)
_final_path = _kernel32.GetFinalPathNameByHandleW
_final_path.restype = wintypes.DWORD
_final_path.argtypes = (wintypes.HANDLE, wintypes.LPWSTR, wintypes.DWORD, wintypes.DWORD)
_drive_type = _kernel32.GetDriveTypeW
_drive_type.restype = wintypes.UINT
_drive_type.argtypes = (wintypes.LPCWSTR,)
_long_path = _kernel32.GetLongPathNameW
_long_path.restype = wintypes.DWORD
_long_path.argtypes = (wintypes.LPCWSTR, wintypes.LPWSTR, wintypes.DWORD)
_volume_name = _kernel32.GetVolumeNameForVolumeMountPointW
_volume_name.restype = wintypes.BOOL
_volume_name.argtypes = (wintypes.LPCWSTR, wintypes.LPWSTR, wintypes.DWORD)
_close = _kernel32.CloseHandle
_close.restype = wintypes.BOOL
_close.argtypes = (wintypes.HANDLE,)


def open_place(path: str) -> Opened | None:
    """Open a folder, or the nearest above it that exists, and say what the system says of it."""
    rest = ""
    while True:
        handle = _create(path, _FILE_READ_ATTRIBUTES, _SHARE_ALL, None, _OPEN_EXISTING, _BACKUP_SEMANTICS, None)
        if handle not in (None, _INVALID_HANDLE):
            break
        above, name = os.path.split(path.rstrip("\\"))
        if not name or above == path:
            return None
        path, rest = above, f"\\{name}{rest}"
    try:
        dos, guid = _name_of(handle, _BY_LETTER), _name_of(handle, _BY_VOLUME)
    finally:
        _close(handle)
    letter = dos.removeprefix("\\\\?\\")[:2]
    kind = DriveKind.FIXED
    if letter[1:] == ":":
        number = _drive_type(letter + "\\")
        kind = DriveKind(number) if number in list(DriveKind) else DriveKind.UNKNOWN
    return Opened(dos=dos, guid=guid, drive_guid=_volume_of(letter), kind=kind, rest=rest)


def long_name(path: str) -> str:
    """A path with its short names written out, as far as it exists."""
    rest = ""
    while path:
        buffer = ctypes.create_unicode_buffer(_LONGEST)
        length = _long_path(path, buffer, _LONGEST)
        if 0 < length < _LONGEST:
            return buffer.value.rstrip("\\") + rest if rest else buffer.value
        above, name = os.path.split(path.rstrip("\\"))
        if not name or above == path:
            return path + rest
        path, rest = above, f"\\{name}{rest}"
    return rest


def _volume_of(letter: str) -> str:
    buffer = ctypes.create_unicode_buffer(64)
    return buffer.value if letter[1:] == ":" and _volume_name(letter + "\\", buffer, len(buffer)) else ""


def _name_of(handle: int, form: int) -> str:
    buffer = ctypes.create_unicode_buffer(_LONGEST)
    length = _final_path(handle, buffer, _LONGEST, form)
    return buffer.value if 0 < length < _LONGEST else ""
