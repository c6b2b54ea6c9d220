"""Windows calls of the inbox: a file opened below a folder's handle, no link followed at either step.

A user who may add files to an empty folder may also turn that folder into a junction. So the folder is opened as
itself and held, with no write access shared, while the file is opened relative to it; and where the opened file
really lies is asked of its handle.
source: MS-FSA 2.1.5.10.37 (setting a reparse point), 2.1.5.1 (opening relative to a directory)
"""

# ruff: noqa: E402
# The type checker must know the platform before it follows the imports.
from __future__ import annotations

import contextlib
import ctypes
import sys
import winreg
from collections.abc import Iterator
from ctypes import wintypes
from pathlib import Path

assert sys.platform == "win32"  # noqa: S101 - tells the type checker which platform's calls these are

from agent._calls_windows import declare
from agent._security_windows import make_directory, read_handle_owner, set_security
from agent.left import FileFacts, Left
from agent.rights import inbox_rights

_PROFILES = r"SOFTWARE\Microsoft\Windows NT\CurrentVersion\ProfileList"
_PERSON = ("S-1-5-21-", "S-1-12-1-")
_MAX_PEOPLE = 1_000

_READ_DATA, _TRAVERSE, _READ_ATTRIBUTES = 0x1, 0x20, 0x80
_READ_CONTROL, _SYNCHRONIZE = 0x20000, 0x100000
_SHARE_READ, _SHARE_DELETE = 0x1, 0x4
_OPEN_EXISTING, _OPEN = 3, 1
_BACKUP_SEMANTICS, _OPEN_REPARSE_POINT = 0x02000000, 0x00200000
# A file without directories, opened as itself even if it is a link, never fetched from a cloud, and given up at once
# where somebody holds a lock that is told of openings: the user could make the system wait for ever.
_FILE_OPTIONS = 0x40 | 0x20 | 0x200000 | 0x400000 | 0x100
_OPLOCK_BREAK_IN_PROGRESS = 0x108
_ATTRIBUTE_DIRECTORY, _ATTRIBUTE_REPARSE = 0x10, 0x400
_TYPE_DISK = 1
_INVALID_HANDLE = ctypes.c_void_p(-1).value
_ERROR_SHARING_VIOLATION = 32
_ERROR_REPARSE = 4395

_kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
_ntdll = ctypes.WinDLL("ntdll")


class _UnicodeString(ctypes.Structure):
    _fields_ = (("Length", wintypes.USHORT), ("MaximumLength", wintypes.USHORT), ("Buffer", ctypes.c_void_p))


class _ObjectAttributes(ctypes.Structure):
    _fields_ = (
        ("Length", wintypes.ULONG),
        ("RootDirectory", wintypes.HANDLE),
        ("ObjectName", ctypes.POINTER(_UnicodeString)),
        ("Attributes", wintypes.ULONG),
        ("SecurityDescriptor", ctypes.c_void_p),
        ("SecurityQualityOfService", ctypes.c_void_p),
    )


class _StatusBlock(ctypes.Structure):
    _fields_ = (("Status", ctypes.c_void_p), ("Information", ctypes.c_void_p))


class _FileInformation(ctypes.Structure):
    """BY_HANDLE_FILE_INFORMATION"""

    _fields_ = (
        ("dwFileAttributes", wintypes.DWORD),
        ("times", wintypes.DWORD * 6),
        ("dwVolumeSerialNumber", wintypes.DWORD),
        ("nFileSizeHigh", wintypes.DWORD),
        ("nFileSizeLow", wintypes.DWORD),
        ("nNumberOfLinks", wintypes.DWORD),
        ("nFileIndexHigh", wintypes.DWORD),
        ("nFileIndexLow", wintypes.DWORD),
    )


_create_file = declare(
    _kernel32,
    "CreateFileW",
    ctypes.c_void_p,
    wintypes.LPCWSTR,
    wintypes.DWORD,
    wintypes.DWORD,
    ctypes.c_void_p,
    wintypes.DWORD,
    wintypes.DWORD,
    wintypes.HANDLE,
)
_close = declare(_kernel32, "CloseHandle", wintypes.BOOL, wintypes.HANDLE)
_information = declare(
    _kernel32, "GetFileInformationByHandle", wintypes.BOOL, wintypes.HANDLE, ctypes.POINTER(_FileInformation)
)
_file_type = declare(_kernel32, "GetFileType", wintypes.DWORD, wintypes.HANDLE)
_final_path = declare(
    _kernel32,
    "GetFinalPathNameByHandleW",
    wintypes.DWORD,
    wintypes.HANDLE,
    wintypes.LPWSTR,
    wintypes.DWORD,
    wintypes.DWORD,
)
_read_file = declare(
    _kernel32,
    "ReadFile",
    wintypes.BOOL,
    wintypes.HANDLE,
    ctypes.c_void_p,
    wintypes.DWORD,
    ctypes.POINTER(wintypes.DWORD),
    ctypes.c_void_p,
)
_nt_create_file = declare(
    _ntdll,
    "NtCreateFile",
    ctypes.c_long,
    ctypes.POINTER(wintypes.HANDLE),
    wintypes.DWORD,
    ctypes.POINTER(_ObjectAttributes),
    ctypes.POINTER(_StatusBlock),
    ctypes.c_void_p,
    wintypes.ULONG,
    wintypes.ULONG,
    wintypes.ULONG,
    wintypes.ULONG,
    ctypes.c_void_p,
    wintypes.ULONG,
)
_to_error = declare(_ntdll, "RtlNtStatusToDosError", wintypes.ULONG, ctypes.c_long)


@contextlib.contextmanager
def open_left(inbox: Path, sid: str, name: str) -> Iterator[Left]:
    """Open what a user left. raises: OSError; FileNotFoundError if nothing was left"""
    with _opened(inbox / sid) as folder, _opened(inbox) as root:
        handle = _open_below(folder, name)
        try:
            information = _information_of(handle)
            wanted = "\\".join((_path_of(root), sid, name))
            facts = FileFacts(
                owner=read_handle_owner(handle),
                size=information.nFileSizeHigh << 32 | information.nFileSizeLow,
                links=information.nNumberOfLinks,
                is_regular=_file_type(handle) == _TYPE_DISK and not information.dwFileAttributes & _ATTRIBUTE_DIRECTORY,
                is_reparse=bool(information.dwFileAttributes & _ATTRIBUTE_REPARSE),
                in_place=_path_of(handle).lower() == wanted.lower(),
            )
            yield Left(facts=facts, read=lambda most: _read(handle, most))
        finally:
            _close(handle)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    """A directory's handle; while it is open nobody can make a link of the directory."""
    access = _READ_DATA | _TRAVERSE | _READ_ATTRIBUTES | _READ_CONTROL | _SYNCHRONIZE
    flags = _BACKUP_SEMANTICS | _OPEN_REPARSE_POINT
    handle = _create_file(str(path), access, _SHARE_READ, None, _OPEN_EXISTING, flags, None)
    if handle == _INVALID_HANDLE or handle is None:
        raise ctypes.WinError(ctypes.get_last_error())
    try:
        attributes = _information_of(handle).dwFileAttributes
        if attributes & _ATTRIBUTE_REPARSE or not attributes & _ATTRIBUTE_DIRECTORY:
            raise ctypes.WinError(_ERROR_REPARSE)
        yield handle
    finally:
        _close(handle)


def _open_below(folder: int, name: str) -> int:
    text = ctypes.create_unicode_buffer(name)
    size = len(name) * 2
    unicode = _UnicodeString(Length=size, MaximumLength=size + 2, Buffer=ctypes.addressof(text))
    attributes = _ObjectAttributes(
        Length=ctypes.sizeof(_ObjectAttributes),
        RootDirectory=folder,
        ObjectName=ctypes.pointer(unicode),
        Attributes=0x40,
    )
    handle, status_block = wintypes.HANDLE(), _StatusBlock()
    status = _nt_create_file(
        ctypes.byref(handle),
        _READ_DATA | _READ_ATTRIBUTES | _READ_CONTROL | _SYNCHRONIZE,
        ctypes.byref(attributes),
        ctypes.byref(status_block),
        None,
        0,
        _SHARE_READ | _SHARE_DELETE,
        _OPEN,
        _FILE_OPTIONS,
        None,
        0,
    )
    if status == _OPLOCK_BREAK_IN_PROGRESS:
        _close(handle)
        raise ctypes.WinError(_ERROR_SHARING_VIOLATION)
    if status != 0 or handle.value is None:
        raise ctypes.WinError(_to_error(status))
    return handle.value


def _information_of(handle: int) -> _FileInformation:
    information = _FileInformation()
    if not _information(handle, ctypes.byref(information)):
        raise ctypes.WinError(ctypes.get_last_error())
    return information


def _path_of(handle: int) -> str:
    buffer = ctypes.create_unicode_buffer(1_024)
    length = _final_path(handle, buffer, len(buffer), 0)
    if not 0 < length < len(buffer):
        raise ctypes.WinError(ctypes.get_last_error())
    return buffer.value


def _read(handle: int, most: int) -> bytes:
    content = b""
    while len(content) < most:
        buffer, done = ctypes.create_string_buffer(min(65_536, most - len(content))), wintypes.DWORD()
        if not _read_file(handle, buffer, len(buffer), ctypes.byref(done), None):
            raise ctypes.WinError(ctypes.get_last_error())
        if not done.value:
            break
        content += buffer.raw[: done.value]
    return content


def make_inbox(inbox: Path, sid: str) -> bool:
    """Make a user's folder, into which only that user may put files. Whether it had to be made. raises: OSError"""
    if not sid.startswith(_PERSON):
        raise ValueError(f"{sid} is no person")
    return make_directory(inbox / sid, inbox_rights(sid))


def list_people() -> tuple[str, ...]:
    """The SIDs of people who have a profile here."""
    try:
        with winreg.OpenKeyEx(winreg.HKEY_LOCAL_MACHINE, _PROFILES, 0, winreg.KEY_READ | winreg.KEY_WOW64_64KEY) as key:
            names = [winreg.EnumKey(key, index) for index in range(winreg.QueryInfoKey(key)[0])]
    except OSError:
        return ()
    people = sorted(name for name in names if name.startswith(_PERSON) and not name.endswith(".bak"))
    return tuple(people[:_MAX_PEOPLE])


def claim(path: Path, sid: str) -> None:
    """Own a file in one's own name: what an elevated person makes belongs to the administrators. raises: OSError"""
    set_security(path, f"O:{sid}")
