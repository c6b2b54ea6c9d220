"""Windows calls that start a program without letting it run, to learn whether it may."""

# ruff: noqa: E402
# The type checker must know the platform before it follows the imports.
from __future__ import annotations

import ctypes
import sys
from ctypes import wintypes

assert sys.platform == "win32"  # noqa: S101 - tells the type checker which platform's calls these are

from agent._calls_windows import declare
from agent._windows import CREATION_FLAGS, system_directory

_CREATE_SUSPENDED = 0x4
_CREATE_UNICODE_ENVIRONMENT = 0x400
_EXTENDED_STARTUPINFO_PRESENT = 0x80000
_STARTF_FORCEOFFFEEDBACK = 0x80
_ATTRIBUTE_JOB_LIST = 0x2000D
_JOB_KILL_ON_CLOSE = 0x2000
_JOB_DIE_ON_UNHANDLED = 0x400
_JOB_EXTENDED_LIMITS = 9
_SEM_NO_BOXES = 0x8007  # no error box of any kind
_WAIT_MS = 5_000

_kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)


class _StartupInfo(ctypes.Structure):
    _fields_ = (
        ("cb", wintypes.DWORD),
        ("lpReserved", wintypes.LPWSTR),
        ("lpDesktop", wintypes.LPWSTR),
        ("lpTitle", wintypes.LPWSTR),
        ("dwX", wintypes.DWORD),
        ("dwY", wintypes.DWORD),
        ("dwXSize", wintypes.DWORD),
        ("dwYSize", wintypes.DWORD),
        ("dwXCountChars", wintypes.DWORD),
        ("dwYCountChars", wintypes.DWORD),
        ("dwFillAttribute", wintypes.DWORD),
        ("dwFlags", wintypes.DWORD),
        ("wShowWindow", wintypes.WORD),
        ("cbReserved2", wintypes.WORD),
        ("lpReserved2", ctypes.c_void_p),
        ("hStdInput", wintypes.HANDLE),
        ("hStdOutput", wintypes.HANDLE),
        ("hStdError", wintypes.HANDLE),
        ("lpAttributeList", ctypes.c_void_p),
    )


class _ProcessInformation(ctypes.Structure):
    _fields_ = (
        ("hProcess", wintypes.HANDLE),
        ("hThread", wintypes.HANDLE),
        ("dwProcessId", wintypes.DWORD),
        ("dwThreadId", wintypes.DWORD),
    )


class _JobLimits(ctypes.Structure):
    """JOBOBJECT_EXTENDED_LIMIT_INFORMATION with its counters flattened."""

    _fields_ = (
        ("PerProcessUserTimeLimit", ctypes.c_int64),
        ("PerJobUserTimeLimit", ctypes.c_int64),
        ("LimitFlags", wintypes.DWORD),
        ("MinimumWorkingSetSize", ctypes.c_size_t),
        ("MaximumWorkingSetSize", ctypes.c_size_t),
        ("ActiveProcessLimit", wintypes.DWORD),
        ("Affinity", ctypes.c_size_t),
        ("PriorityClass", wintypes.DWORD),
        ("SchedulingClass", wintypes.DWORD),
        ("IoInfo", ctypes.c_uint64 * 6),
        ("ProcessMemoryLimit", ctypes.c_size_t),
        ("JobMemoryLimit", ctypes.c_size_t),
        ("PeakProcessMemoryUsed", ctypes.c_size_t),
        ("PeakJobMemoryUsed", ctypes.c_size_t),
    )


_create_process = declare(
    _kernel32,
    "CreateProcessW",
    wintypes.BOOL,
    wintypes.LPCWSTR,
    wintypes.LPWSTR,
    ctypes.c_void_p,
    ctypes.c_void_p,
    wintypes.BOOL,
    wintypes.DWORD,
    ctypes.c_void_p,
    wintypes.LPCWSTR,
    ctypes.POINTER(_StartupInfo),
    ctypes.POINTER(_ProcessInformation),
)
_initialise_attributes = declare(
    _kernel32,
    "InitializeProcThreadAttributeList",
    wintypes.BOOL,
    ctypes.c_void_p,
    wintypes.DWORD,
    wintypes.DWORD,
    ctypes.POINTER(ctypes.c_size_t),
)
_update_attribute = declare(
    _kernel32,
    "UpdateProcThreadAttribute",
    wintypes.BOOL,
    ctypes.c_void_p,
    wintypes.DWORD,
    ctypes.c_size_t,
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_void_p,
    ctypes.c_void_p,
)
_delete_attributes = declare(_kernel32, "DeleteProcThreadAttributeList", None, ctypes.c_void_p)
_create_job = declare(_kernel32, "CreateJobObjectW", wintypes.HANDLE, ctypes.c_void_p, wintypes.LPCWSTR)
_set_job = declare(
    _kernel32,
    "SetInformationJobObject",
    wintypes.BOOL,
    wintypes.HANDLE,
    ctypes.c_int,
    ctypes.c_void_p,
    wintypes.DWORD,
)
_terminate = declare(_kernel32, "TerminateProcess", wintypes.BOOL, wintypes.HANDLE, wintypes.UINT)
_wait = declare(_kernel32, "WaitForSingleObject", wintypes.DWORD, wintypes.HANDLE, wintypes.DWORD)
_close = declare(_kernel32, "CloseHandle", wintypes.BOOL, wintypes.HANDLE)
_set_error_mode = declare(_kernel32, "SetErrorMode", wintypes.UINT, wintypes.UINT)


def start_suspended(path: str) -> int:
    """Start a program suspended, in a job that dies with us, and end it. 0, or the error number of the refusal."""
    _set_error_mode(_SEM_NO_BOXES)
    job = _create_job(None, None)
    if not job:
        return ctypes.get_last_error()
    try:
        limits = _JobLimits(LimitFlags=_JOB_KILL_ON_CLOSE | _JOB_DIE_ON_UNHANDLED)
        if not _set_job(job, _JOB_EXTENDED_LIMITS, ctypes.byref(limits), ctypes.sizeof(limits)):
            return ctypes.get_last_error()
        return _start_in(job, path)
    finally:
        _close(job)


def _start_in(job: int, path: str) -> int:
    size = ctypes.c_size_t()
    _initialise_attributes(None, 1, 0, ctypes.byref(size))
    attributes = ctypes.create_string_buffer(size.value)
    if not _initialise_attributes(attributes, 1, 0, ctypes.byref(size)):
        return ctypes.get_last_error()
    jobs = (wintypes.HANDLE * 1)(job)
    try:
        # The job is part of the creation: were we killed right after it, no process would be left.
        if not _update_attribute(attributes, 0, _ATTRIBUTE_JOB_LIST, jobs, ctypes.sizeof(jobs), None, None):
            return ctypes.get_last_error()
        startup = _StartupInfo(
            cb=ctypes.sizeof(_StartupInfo),
            dwFlags=_STARTF_FORCEOFFFEEDBACK,
            lpAttributeList=ctypes.addressof(attributes),
        )
        process = _ProcessInformation()
        command = ctypes.create_unicode_buffer(f'"{path}"')
        flags = _CREATE_SUSPENDED | CREATION_FLAGS | _CREATE_UNICODE_ENVIRONMENT | _EXTENDED_STARTUPINFO_PRESENT
        started = _create_process(
            path,
            command,
            None,
            None,
            False,
            flags,
            None,
            system_directory(),
            ctypes.byref(startup),
            ctypes.byref(process),
        )
        if not started:
            return ctypes.get_last_error() or -1
        _terminate(process.hProcess, 0)
        # Until the process is gone its file cannot be removed.
        _wait(process.hProcess, _WAIT_MS)
        _close(process.hThread)
        _close(process.hProcess)
        return 0
    finally:
        _delete_attributes(attributes)
