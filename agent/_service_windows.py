"""Windows calls that ask the service manager about one service: its state and its start type, as any user may."""

from __future__ import annotations

import ctypes
import sys
from ctypes import wintypes

from agent.service import ServiceAnswers

assert sys.platform == "win32"  # noqa: S101 - tells the type checker which platform's calls these are

_SC_MANAGER_CONNECT = 0x1
_SERVICE_QUERY_CONFIG, _SERVICE_QUERY_STATUS = 0x1, 0x4
_SC_STATUS_PROCESS_INFO = 0
_MOST_CONFIG_BYTES = 8192  # the documented most

_advapi32 = ctypes.WinDLL("advapi32", use_last_error=True)


class _ServiceStatusProcess(ctypes.Structure):
    """SERVICE_STATUS_PROCESS"""

    _fields_ = (
        ("dwServiceType", wintypes.DWORD),
        ("dwCurrentState", wintypes.DWORD),
        ("dwControlsAccepted", wintypes.DWORD),
        ("dwWin32ExitCode", wintypes.DWORD),
        ("dwServiceSpecificExitCode", wintypes.DWORD),
        ("dwCheckPoint", wintypes.DWORD),
        ("dwWaitHint", wintypes.DWORD),
        ("dwProcessId", wintypes.DWORD),
        ("dwServiceFlags", wintypes.DWORD),
    )


class _QueryServiceConfig(ctypes.Structure):
    """The beginning of QUERY_SERVICE_CONFIGW, as far as it is read."""

    _fields_ = (("dwServiceType", wintypes.DWORD), ("dwStartType", wintypes.DWORD))


_open_manager = _advapi32.OpenSCManagerW
_open_manager.restype = wintypes.HANDLE
_open_manager.argtypes = (wintypes.LPCWSTR, wintypes.LPCWSTR, wintypes.DWORD)
_open_service = _advapi32.OpenServiceW
_open_service.restype = wintypes.HANDLE
_open_service.argtypes = (wintypes.HANDLE, wintypes.LPCWSTR, wintypes.DWORD)
_query_status = _advapi32.QueryServiceStatusEx
_query_status.restype = wintypes.BOOL
_query_status.argtypes = (
    wintypes.HANDLE,
    ctypes.c_int,
    ctypes.c_void_p,
    wintypes.DWORD,
    ctypes.POINTER(wintypes.DWORD),
)
_query_config = _advapi32.QueryServiceConfigW
_query_config.restype = wintypes.BOOL
_query_config.argtypes = (wintypes.HANDLE, ctypes.c_void_p, wintypes.DWORD, ctypes.POINTER(wintypes.DWORD))
_close = _advapi32.CloseServiceHandle
_close.restype = wintypes.BOOL
_close.argtypes = (wintypes.HANDLE,)


def query_service(name: str) -> ServiceAnswers:
    """What the service manager says of a service. Nothing is started or changed: the handle could not do it."""
    manager = _open_manager(None, None, _SC_MANAGER_CONNECT)
    if not manager:
        return ServiceAnswers(error=ctypes.get_last_error())
    try:
        service = _open_service(manager, name, _SERVICE_QUERY_STATUS | _SERVICE_QUERY_CONFIG)
        if not service:
            return ServiceAnswers(error=ctypes.get_last_error())
        try:
            return _ask(service)
        finally:
            _close(service)
    finally:
        _close(manager)


def _ask(service: int) -> ServiceAnswers:
    needed = wintypes.DWORD()
    status = _ServiceStatusProcess()
    state = start = None
    error = 0
    if _query_status(
        service, _SC_STATUS_PROCESS_INFO, ctypes.byref(status), ctypes.sizeof(status), ctypes.byref(needed)
    ):
        state = int(status.dwCurrentState)
    else:
        error = ctypes.get_last_error()
    buffer = ctypes.create_string_buffer(_MOST_CONFIG_BYTES)
    if _query_config(service, buffer, _MOST_CONFIG_BYTES, ctypes.byref(needed)):
        start = int(_QueryServiceConfig.from_buffer(buffer).dwStartType)
    return ServiceAnswers(state=state, start=start, error=error)
