"""Windows calls about who owns and may write what: security descriptors as SDDL, every account by its SID."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Iterator
from ctypes import wintypes
from pathlib import Path

from agent._calls_windows import declare

assert sys.platform == "win32"  # noqa: S101 - tells the type checker which platform's calls these are

_SE_FILE_OBJECT = 1
_OWNER, _GROUP, _DACL, _PROTECTED_DACL = 0x1, 0x2, 0x4, 0x80000000
_SDDL_REVISION = 1
_TOKEN_ADJUST, _TOKEN_QUERY = 0x20, 0x8
_ENABLED = 0x2

_kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
_advapi32 = ctypes.WinDLL("advapi32", use_last_error=True)


class _SecurityAttributes(ctypes.Structure):
    _fields_ = (
        ("nLength", wintypes.DWORD),
        ("lpSecurityDescriptor", ctypes.c_void_p),
        ("bInheritHandle", wintypes.BOOL),
    )


class _Privilege(ctypes.Structure):
    """TOKEN_PRIVILEGES with one entry."""

    _fields_ = (("count", wintypes.DWORD), ("luid", ctypes.c_uint32 * 2), ("attributes", wintypes.DWORD))


_POINTER = ctypes.POINTER(ctypes.c_void_p)
_from_sddl = declare(
    _advapi32,
    "ConvertStringSecurityDescriptorToSecurityDescriptorW",
    wintypes.BOOL,
    wintypes.LPCWSTR,
    wintypes.DWORD,
    _POINTER,
    ctypes.c_void_p,
)
_to_sddl = declare(
    _advapi32,
    "ConvertSecurityDescriptorToStringSecurityDescriptorW",
    wintypes.BOOL,
    ctypes.c_void_p,
    wintypes.DWORD,
    wintypes.DWORD,
    ctypes.POINTER(ctypes.c_void_p),
    ctypes.c_void_p,
)
_sid_to_text = declare(_advapi32, "ConvertSidToStringSidW", wintypes.BOOL, ctypes.c_void_p, _POINTER)
_get_of_handle = declare(
    _advapi32,
    "GetSecurityInfo",
    wintypes.DWORD,
    wintypes.HANDLE,
    ctypes.c_int,
    wintypes.DWORD,
    _POINTER,
    _POINTER,
    _POINTER,
    _POINTER,
    _POINTER,
)
_get_of_name = declare(
    _advapi32,
    "GetNamedSecurityInfoW",
    wintypes.DWORD,
    wintypes.LPCWSTR,
    ctypes.c_int,
    wintypes.DWORD,
    _POINTER,
    _POINTER,
    _POINTER,
    _POINTER,
    _POINTER,
)
_set_of_name = declare(
    _advapi32,
    "SetNamedSecurityInfoW",
    wintypes.DWORD,
    wintypes.LPWSTR,
    ctypes.c_int,
    wintypes.DWORD,
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_void_p,
)
_get_owner = declare(
    _advapi32, "GetSecurityDescriptorOwner", wintypes.BOOL, ctypes.c_void_p, _POINTER, ctypes.POINTER(wintypes.BOOL)
)
_get_dacl = declare(
    _advapi32,
    "GetSecurityDescriptorDacl",
    wintypes.BOOL,
    ctypes.c_void_p,
    ctypes.POINTER(wintypes.BOOL),
    _POINTER,
    ctypes.POINTER(wintypes.BOOL),
)
_create_directory = declare(
    _kernel32, "CreateDirectoryW", wintypes.BOOL, wintypes.LPCWSTR, ctypes.POINTER(_SecurityAttributes)
)
_local_free = declare(_kernel32, "LocalFree", ctypes.c_void_p, ctypes.c_void_p)
_current_process = declare(_kernel32, "GetCurrentProcess", wintypes.HANDLE)
_close = declare(_kernel32, "CloseHandle", wintypes.BOOL, wintypes.HANDLE)
_open_token = declare(
    _advapi32, "OpenProcessToken", wintypes.BOOL, wintypes.HANDLE, wintypes.DWORD, ctypes.POINTER(wintypes.HANDLE)
)
_look_up_privilege = declare(
    _advapi32, "LookupPrivilegeValueW", wintypes.BOOL, wintypes.LPCWSTR, wintypes.LPCWSTR, ctypes.c_void_p
)
_adjust_privileges = declare(
    _advapi32,
    "AdjustTokenPrivileges",
    wintypes.BOOL,
    wintypes.HANDLE,
    wintypes.BOOL,
    ctypes.POINTER(_Privilege),
    wintypes.DWORD,
    ctypes.c_void_p,
    ctypes.c_void_p,
)


def make_directory(path: Path, sddl: str) -> bool:
    """Make a directory that has its owner and access list from its first moment. Whether it had to be made.

    raises: OSError
    """
    with _descriptor(sddl) as descriptor:
        attributes = _SecurityAttributes(
            nLength=ctypes.sizeof(_SecurityAttributes), lpSecurityDescriptor=descriptor, bInheritHandle=False
        )
        if _create_directory(str(path), ctypes.byref(attributes)):
            return True
        error = ctypes.get_last_error()
        if error == 183:  # it is there
            return False
        raise ctypes.WinError(error)


def set_security(path: Path, sddl: str) -> None:
    """Give an existing file or directory an owner and an access list, and nothing inherited. raises: OSError"""
    _enable_privilege("SeTakeOwnershipPrivilege")
    _enable_privilege("SeRestorePrivilege")
    with _descriptor(sddl) as descriptor:
        owner, dacl, flag = ctypes.c_void_p(), ctypes.c_void_p(), wintypes.BOOL()
        _check(_get_owner(descriptor, ctypes.byref(owner), ctypes.byref(flag)))
        _check(_get_dacl(descriptor, ctypes.byref(flag), ctypes.byref(dacl), ctypes.byref(flag)))
        what = (_OWNER if owner else 0) | (_DACL | _PROTECTED_DACL if dacl else 0)
        error = _set_of_name(str(path), _SE_FILE_OBJECT, what, owner, None, dacl, None)
    if error:
        raise ctypes.WinError(error)


def read_owner(path: Path) -> str:
    """The SID of who owns a file or directory. raises: OSError"""
    owner, descriptor = ctypes.c_void_p(), ctypes.c_void_p()
    error = _get_of_name(
        str(path), _SE_FILE_OBJECT, _OWNER, ctypes.byref(owner), None, None, None, ctypes.byref(descriptor)
    )
    return _owner_text(error, owner, descriptor)


def read_handle_owner(handle: int) -> str:
    """The SID of who owns what a handle is open on. raises: OSError"""
    owner, descriptor = ctypes.c_void_p(), ctypes.c_void_p()
    error = _get_of_handle(
        handle, _SE_FILE_OBJECT, _OWNER, ctypes.byref(owner), None, None, None, ctypes.byref(descriptor)
    )
    return _owner_text(error, owner, descriptor)


def read_sddl(path: Path) -> str:
    """Owner and access list of a file or directory as SDDL. raises: OSError"""
    descriptor, text = ctypes.c_void_p(), ctypes.c_void_p()
    error = _get_of_name(str(path), _SE_FILE_OBJECT, _OWNER | _DACL, None, None, None, None, ctypes.byref(descriptor))
    if error:
        raise ctypes.WinError(error)
    try:
        _check(_to_sddl(descriptor, _SDDL_REVISION, _OWNER | _DACL, ctypes.byref(text), None))
        try:
            return ctypes.wstring_at(text.value or 0)
        finally:
            _local_free(text)
    finally:
        _local_free(descriptor)


def _owner_text(error: int, owner: ctypes.c_void_p, descriptor: ctypes.c_void_p) -> str:
    if error:
        raise ctypes.WinError(error)
    text = ctypes.c_void_p()
    try:
        _check(_sid_to_text(owner, ctypes.byref(text)))
        try:
            return ctypes.wstring_at(text.value or 0)
        finally:
            _local_free(text)
    finally:
        _local_free(descriptor)


@contextlib.contextmanager
def _descriptor(sddl: str) -> Iterator[ctypes.c_void_p]:
    descriptor = ctypes.c_void_p()
    _check(_from_sddl(sddl, _SDDL_REVISION, ctypes.byref(descriptor), None))
    try:
        yield descriptor
    finally:
        _local_free(descriptor)


def _enable_privilege(name: str) -> None:
    """Use a privilege that an administrator's token holds switched off; without it the call after this one says so."""
    token, privilege = wintypes.HANDLE(), _Privilege(count=1, attributes=_ENABLED)
    if not _open_token(_current_process(), _TOKEN_ADJUST | _TOKEN_QUERY, ctypes.byref(token)):
        return
    try:
        luid = (ctypes.c_uint32 * 2)()
        if _look_up_privilege(None, name, ctypes.byref(luid)):
            privilege.luid = luid
            _adjust_privileges(token, False, ctypes.byref(privilege), 0, None, None)
    finally:
        _close(token)


def _check(answer: int) -> None:
    if not answer:
        raise ctypes.WinError(ctypes.get_last_error())
