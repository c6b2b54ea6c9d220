"""Windows calls that ask about libraries and scripts: loading without running, and Safer's answer to a script."""

from __future__ import annotations

import ctypes
import sys
from ctypes import wintypes

from agent._calls_windows import declare
from agent.judge import SaferAnswer

assert sys.platform == "win32"  # noqa: S101 - tells the type checker which platform's calls these are

_DONT_RESOLVE_DLL_REFERENCES = 0x1
_SAFER_IMAGE_PATH, _SAFER_IMAGE_HASH, _SAFER_AUTHENTICODE, _SAFER_NULL_IF_EQUAL = 0x1, 0x4, 0x8, 0x1
_SEM_NO_BOXES = 0x8007  # no error box of any kind
_WTD_UI_NONE = 2

_kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
_advapi32 = ctypes.WinDLL("advapi32", use_last_error=True)


class _SaferCodeProperties(ctypes.Structure):
    """SAFER_CODE_PROPERTIES_V1"""

    _fields_ = (
        ("cbSize", wintypes.DWORD),
        ("dwCheckFlags", wintypes.DWORD),
        ("ImagePath", wintypes.LPCWSTR),
        ("hImageFileHandle", wintypes.HANDLE),
        ("UrlZoneId", wintypes.DWORD),
        ("ImageHash", ctypes.c_ubyte * 64),
        ("dwImageHashSize", wintypes.DWORD),
        ("ImageSize", ctypes.c_int64),
        ("HashAlgorithm", wintypes.UINT),
        ("pByteBlock", ctypes.c_void_p),
        ("hWndParent", wintypes.HWND),
        ("dwWVTUIChoice", wintypes.DWORD),
    )


_load_library = declare(
    _kernel32, "LoadLibraryExW", wintypes.HMODULE, wintypes.LPCWSTR, wintypes.HANDLE, wintypes.DWORD
)
_free_library = declare(_kernel32, "FreeLibrary", wintypes.BOOL, wintypes.HMODULE)
_safer_identify = declare(
    _advapi32,
    "SaferIdentifyLevel",
    wintypes.BOOL,
    wintypes.DWORD,
    ctypes.POINTER(_SaferCodeProperties),
    ctypes.POINTER(wintypes.HANDLE),
    wintypes.LPCWSTR,
)
_safer_compute = declare(
    _advapi32,
    "SaferComputeTokenFromLevel",
    wintypes.BOOL,
    wintypes.HANDLE,
    wintypes.HANDLE,
    ctypes.POINTER(wintypes.HANDLE),
    wintypes.DWORD,
    ctypes.c_void_p,
)
_safer_close = declare(_advapi32, "SaferCloseLevel", wintypes.BOOL, wintypes.HANDLE)
_close = declare(_kernel32, "CloseHandle", wintypes.BOOL, wintypes.HANDLE)
_set_error_mode = declare(_kernel32, "SetErrorMode", wintypes.UINT, wintypes.UINT)


def load_library(path: str) -> int:
    """Load a library without calling its entry point and without what it needs, and let go. 0, or the error number.

    source: LoadLibraryEx: with DONT_RESOLVE_DLL_REFERENCES no entry point is called and nothing further is loaded; only
    LOAD_IGNORE_CODE_AUTHZ_LEVEL keeps AppLocker from being asked.
    """
    _set_error_mode(_SEM_NO_BOXES)
    module = _load_library(path, None, _DONT_RESOLVE_DLL_REFERENCES)
    if not module:
        return ctypes.get_last_error() or -1
    _free_library(module)
    return 0


def ask_safer(path: str) -> SaferAnswer:
    """Ask the system about a script as PowerShell does, without starting anything."""
    properties = _SaferCodeProperties(
        cbSize=ctypes.sizeof(_SaferCodeProperties),
        dwCheckFlags=_SAFER_IMAGE_PATH | _SAFER_IMAGE_HASH | _SAFER_AUTHENTICODE,
        ImagePath=path,
        dwWVTUIChoice=_WTD_UI_NONE,
    )
    level = wintypes.HANDLE()
    if not _safer_identify(1, ctypes.byref(properties), ctypes.byref(level), "SCRIPT"):
        return SaferAnswer(identified=False, error=ctypes.get_last_error())
    try:
        token = wintypes.HANDLE()
        if not _safer_compute(level, None, ctypes.byref(token), _SAFER_NULL_IF_EQUAL, None):
            return SaferAnswer(identified=True, error=ctypes.get_last_error())
        if not token.value:
            return SaferAnswer(identified=True, computed=True)
        _close(token)
        return SaferAnswer(identified=True, computed=True, restricts=True)
    finally:
        _safer_close(level)
