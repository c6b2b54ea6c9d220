"""Windows calls that ask what Windows says of a file's signature."""

from __future__ import annotations

import ctypes
import sys
import uuid
from ctypes import wintypes

from agent._calls_windows import declare

assert sys.platform == "win32"  # noqa: S101 - tells the type checker which platform's calls these are

_GENERIC_VERIFY_V2 = uuid.UUID("00aac56b-cd44-11d0-8cc2-00c04fc295ee").bytes_le
_WTD_UI_NONE, _WTD_CHOICE_FILE, _WTD_STATE_VERIFY, _WTD_STATE_CLOSE = 2, 1, 1, 2
_WTD_CACHE_ONLY, _WTD_NO_REVOCATION = 0x1000, 0x10

_wintrust = ctypes.WinDLL("wintrust", use_last_error=True)


class _TrustFile(ctypes.Structure):
    """WINTRUST_FILE_INFO"""

    _fields_ = (
        ("cbStruct", wintypes.DWORD),
        ("pcwszFilePath", wintypes.LPCWSTR),
        ("hFile", wintypes.HANDLE),
        ("pgKnownSubject", ctypes.c_void_p),
    )


class _TrustData(ctypes.Structure):
    """WINTRUST_DATA"""

    _fields_ = (
        ("cbStruct", wintypes.DWORD),
        ("pPolicyCallbackData", ctypes.c_void_p),
        ("pSIPClientData", ctypes.c_void_p),
        ("dwUIChoice", wintypes.DWORD),
        ("fdwRevocationChecks", wintypes.DWORD),
        ("dwUnionChoice", wintypes.DWORD),
        ("pFile", ctypes.c_void_p),
        ("dwStateAction", wintypes.DWORD),
        ("hWVTStateData", wintypes.HANDLE),
        ("pwszURLReference", wintypes.LPCWSTR),
        ("dwProvFlags", wintypes.DWORD),
        ("dwUIContext", wintypes.DWORD),
        ("pSignatureSettings", ctypes.c_void_p),
    )


_verify_trust = declare(
    _wintrust, "WinVerifyTrust", ctypes.c_long, wintypes.HWND, ctypes.c_void_p, ctypes.POINTER(_TrustData)
)


def read_trust(path: str) -> str | None:
    """What Windows says of a file's signature: `trusted`, else the number of its answer (0x800b0100: unsigned).

    Only what is on the workstation is asked: no revocation list and no certificate is fetched.
    """
    file = _TrustFile(cbStruct=ctypes.sizeof(_TrustFile), pcwszFilePath=path)
    data = _TrustData(
        cbStruct=ctypes.sizeof(_TrustData),
        dwUIChoice=_WTD_UI_NONE,
        dwUnionChoice=_WTD_CHOICE_FILE,
        pFile=ctypes.addressof(file),
        dwStateAction=_WTD_STATE_VERIFY,
        dwProvFlags=_WTD_CACHE_ONLY | _WTD_NO_REVOCATION,
    )
    action = (ctypes.c_ubyte * 16).from_buffer_copy(_GENERIC_VERIFY_V2)
    answer = _verify_trust(None, action, ctypes.byref(data)) & 0xFFFFFFFF
    data.dwStateAction = _WTD_STATE_CLOSE
    _verify_trust(None, action, ctypes.byref(data))
    return "trusted" if answer == 0 else f"0x{answer:08x}"
