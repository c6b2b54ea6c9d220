"""Windows calls: starting a program without letting it run, the token, the registry's policies, the host.

Every function here is a thin cover of calls; what their answers mean is decided in pure modules beside it.
"""

# ruff: noqa: PTH118
# Paths are text here: the catalogue's globs are, and no step may normalise them behind our back.
from __future__ import annotations

import contextlib
import ctypes
import itertools
import msvcrt
import os
import socket
import sys
import uuid
import winreg
from collections.abc import Iterator, Mapping
from ctypes import wintypes
from pathlib import Path
from typing import IO, Any, Literal

from agent.canary import WINDOWS_CANARY
from agent.contract.facts import HostFacts
from agent.device_policy import MAX_DEPTH, MAX_FILE_BYTES, MAX_FILES, read_device_policy
from agent.policy import PolicyInForce, RegistryCollection
from agent.principals import Principal
from agent.unit import unit_of

assert sys.platform == "win32"  # noqa: S101 - tells the type checker which platform's calls these are

PLATFORM: Literal["windows", "linux"] = "windows"
CANARY = WINDOWS_CANARY
CREATION_FLAGS = 0x08000000  # CREATE_NO_WINDOW

_SRP_V2 = r"SOFTWARE\Policies\Microsoft\Windows\SrpV2"
_CODE_IDENTIFIERS = r"SOFTWARE\Policies\Microsoft\Windows\Safer\CodeIdentifiers"
_APPID_SERVICE = r"SYSTEM\CurrentControlSet\Services\AppIDSvc"
_CURRENT_VERSION = r"SOFTWARE\Microsoft\Windows NT\CurrentVersion"
_GROUP_POLICY_STATE = r"SOFTWARE\Microsoft\Windows\CurrentVersion\Group Policy\State\Machine"
_CRYPTOGRAPHY = r"SOFTWARE\Microsoft\Cryptography"
_MACHINE_ENVIRONMENT = r"SYSTEM\CurrentControlSet\Control\Session Manager\Environment"
_MAX_RULES = 5_000
_SERVICE_DISABLED = 4

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

_TOKEN_QUERY = 0x8
_TOKEN_USER, _TOKEN_GROUPS, _TOKEN_LINKED, _TOKEN_ELEVATION = 1, 2, 19, 20
_SE_GROUP_ENABLED, _SE_GROUP_DENY_ONLY, _SE_GROUP_LOGON_ID = 0x4, 0x10, 0xC0000000

_GENERIC_VERIFY_V2 = uuid.UUID("00aac56b-cd44-11d0-8cc2-00c04fc295ee").bytes_le
_WTD_UI_NONE, _WTD_CHOICE_FILE, _WTD_STATE_VERIFY, _WTD_STATE_CLOSE = 2, 1, 1, 2
_WTD_CACHE_ONLY, _WTD_NO_REVOCATION = 0x1000, 0x10

_kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
_advapi32 = ctypes.WinDLL("advapi32", use_last_error=True)
_wintrust = ctypes.WinDLL("wintrust", use_last_error=True)


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


class _SidAndAttributes(ctypes.Structure):
    _fields_ = (("Sid", ctypes.c_void_p), ("Attributes", wintypes.DWORD))


def _declare(library: ctypes.WinDLL, name: str, result: Any, *arguments: Any) -> Any:
    function = getattr(library, name)
    function.restype, function.argtypes = result, arguments
    return function


_create_process = _declare(
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
_initialise_attributes = _declare(
    _kernel32,
    "InitializeProcThreadAttributeList",
    wintypes.BOOL,
    ctypes.c_void_p,
    wintypes.DWORD,
    wintypes.DWORD,
    ctypes.POINTER(ctypes.c_size_t),
)
_update_attribute = _declare(
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
_delete_attributes = _declare(_kernel32, "DeleteProcThreadAttributeList", None, ctypes.c_void_p)
_create_job = _declare(_kernel32, "CreateJobObjectW", wintypes.HANDLE, ctypes.c_void_p, wintypes.LPCWSTR)
_set_job = _declare(
    _kernel32,
    "SetInformationJobObject",
    wintypes.BOOL,
    wintypes.HANDLE,
    ctypes.c_int,
    ctypes.c_void_p,
    wintypes.DWORD,
)
_terminate = _declare(_kernel32, "TerminateProcess", wintypes.BOOL, wintypes.HANDLE, wintypes.UINT)
_wait = _declare(_kernel32, "WaitForSingleObject", wintypes.DWORD, wintypes.HANDLE, wintypes.DWORD)
_close = _declare(_kernel32, "CloseHandle", wintypes.BOOL, wintypes.HANDLE)
_set_error_mode = _declare(_kernel32, "SetErrorMode", wintypes.UINT, wintypes.UINT)
_current_process = _declare(_kernel32, "GetCurrentProcess", wintypes.HANDLE)
_local_free = _declare(_kernel32, "LocalFree", ctypes.c_void_p, ctypes.c_void_p)
_computer_name = _declare(
    _kernel32,
    "GetComputerNameExW",
    wintypes.BOOL,
    ctypes.c_int,
    wintypes.LPWSTR,
    ctypes.POINTER(wintypes.DWORD),
)
_open_token = _declare(
    _advapi32, "OpenProcessToken", wintypes.BOOL, wintypes.HANDLE, wintypes.DWORD, ctypes.POINTER(wintypes.HANDLE)
)
_token_information = _declare(
    _advapi32,
    "GetTokenInformation",
    wintypes.BOOL,
    wintypes.HANDLE,
    ctypes.c_int,
    ctypes.c_void_p,
    wintypes.DWORD,
    ctypes.POINTER(wintypes.DWORD),
)
_sid_to_text = _declare(
    _advapi32, "ConvertSidToStringSidW", wintypes.BOOL, ctypes.c_void_p, ctypes.POINTER(ctypes.c_void_p)
)
_look_up_account = _declare(
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


_verify_trust = _declare(
    _wintrust, "WinVerifyTrust", ctypes.c_long, wintypes.HWND, ctypes.c_void_p, ctypes.POINTER(_TrustData)
)


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
            _system_directory(),
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


def mode_allows_start(_path: str) -> bool:
    """Windows tells by its error numbers who refused; no mode has to be asked."""
    return True


def is_link(path: str) -> bool:
    """Whether a path itself is a symbolic link, a junction or another reparse point."""
    try:
        return bool(os.lstat(path).st_file_attributes & 0x400)
    except OSError:
        return False


def open_lock(path: Path) -> IO[bytes] | None:
    """Take the lock that a file stands for; None if another process holds it. Closing the file gives it back."""
    handle = path.open("ab")
    try:
        handle.seek(0)
        msvcrt.locking(handle.fileno(), msvcrt.LK_NBLCK, 1)
    except OSError:
        handle.close()
        return None
    return handle


def find_state_dir(environment: Mapping[str, str]) -> Path:
    """Where the agent keeps its state when nothing else is said: local to the machine, never roaming."""
    local = environment.get("LOCALAPPDATA") or str(Path.home() / "AppData" / "Local")
    return Path(local) / "Wayleave" / "agent"


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


def read_policy() -> PolicyInForce:
    """AppLocker's policies as group policy wrote them, and the traces of other ones."""
    collections: dict[str, RegistryCollection] | None
    try:
        collections = {name: _read_collection(rf"{_SRP_V2}\{name}") for name in _subkeys(_SRP_V2)}
    except FileNotFoundError:
        collections = {}
    except OSError:
        collections = None
    device = read_device_policy(_read_device_files())
    return PolicyInForce(
        collections=collections,
        csp=device.state,
        csp_sets=device.sets,
        srp=_has_srp(),
        service_disabled=_value(_APPID_SERVICE, "Start") == _SERVICE_DISABLED,
    )


def read_host(agent_version: str) -> HostFacts:
    """The host's name, domain and organisational unit, Windows edition and build."""
    product = _text_value(_CURRENT_VERSION, "ProductName") or "Windows"
    version = sys.getwindowsversion()
    if version.build >= 22_000:
        product = product.replace("Windows 10", "Windows 11")  # the registry still says 10
    display = _text_value(_CURRENT_VERSION, "DisplayVersion")
    revision = _value(_CURRENT_VERSION, "UBR")
    build = f"{version.major}.{version.minor}.{version.build}"
    return HostFacts(
        name=_name_of_computer(1) or socket.gethostname(),
        platform=PLATFORM,
        os=f"{product} {display}" if display else product,
        os_build=f"{build}.{revision}" if isinstance(revision, int) else build,
        domain=_name_of_computer(2) or None,
        unit=unit_of(_text_value(_GROUP_POLICY_STATE, "Distinguished-Name")),
        agent_version=agent_version,
    )


def read_machine_id() -> str:
    """What tells this installation from a clone of it, before hashing."""
    return f"{_text_value(_CRYPTOGRAPHY, 'MachineGuid') or ''}\n{_name_of_computer(1) or socket.gethostname()}"


def read_machine_account() -> str:
    """The account of this machine in its domain, which a machine made anew at each start keeps."""
    return f"{_name_of_computer(2) or ''}\\{_name_of_computer(0) or socket.gethostname()}$".lower()


def read_machine_variables() -> Mapping[str, str]:
    """The variables that an administrator set for all users."""
    values = {}
    try:
        with _open(_MACHINE_ENVIRONMENT) as handle:
            for index in range(winreg.QueryInfoKey(handle)[1]):
                name, value, _ = winreg.EnumValue(handle, index)
                if isinstance(value, str):
                    values[name] = winreg.ExpandEnvironmentStrings(value)
    except OSError:
        return {}
    return values


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
    name = _name_of_computer(0)
    size, domain_size, use = wintypes.DWORD(256), wintypes.DWORD(256), ctypes.c_int()
    sid, domain = ctypes.create_string_buffer(256), ctypes.create_unicode_buffer(256)
    if not name or not _look_up_account(
        None, name, sid, ctypes.byref(size), domain, ctypes.byref(domain_size), ctypes.byref(use)
    ):
        return None
    text = _sid_text(ctypes.addressof(sid))
    return text if text.startswith("S-1-5-21-") else None


def _name_of_computer(kind: int) -> str | None:
    """0: NetBIOS name, 1: host name, 2: DNS domain."""
    size = wintypes.DWORD(256)
    buffer = ctypes.create_unicode_buffer(256)
    return buffer.value if _computer_name(kind, buffer, ctypes.byref(size)) else None


def _system_directory() -> str:
    return os.path.join(os.environ.get("SYSTEMROOT", "C:\\Windows"), "System32")


def _read_collection(key: str) -> RegistryCollection:
    mode = _value(key, "EnforcementMode")
    rules = [_text_value(rf"{key}\{name}", "Value") for name in _subkeys(key)[:_MAX_RULES]]
    return RegistryCollection(mode=mode if isinstance(mode, int) else None, rules=tuple(rule for rule in rules if rule))


def _read_device_files() -> dict[str, bytes | None] | None:
    """The files of device management's policies by their path, None for one that may not be read.

    None instead: the folder itself may not be listed, which is so for everybody but the system.
    """
    top = os.path.join(_system_directory(), "AppLocker", "MDM")
    found: dict[str, bytes | None] = {}
    folders = [("", 0)]
    while folders:
        folder, depth = folders.pop()
        try:
            with os.scandir(os.path.join(top, folder)) as scan:
                entries = list(itertools.islice(scan, MAX_FILES + 1))
        except FileNotFoundError:
            if not folder:
                return {}
            continue
        except OSError:
            return None
        for entry in entries:
            path = f"{folder}\\{entry.name}" if folder else entry.name
            if entry.is_dir(follow_symlinks=False):
                # Deeper than anybody lays policies out: something is there that this release does not know.
                folders += [(path, depth + 1)] if depth < MAX_DEPTH else []
                found |= {} if depth < MAX_DEPTH else {path: None}
            elif len(found) <= MAX_FILES:
                found[path] = _read_small(entry.path)
    return found


def _read_small(path: str) -> bytes | None:
    try:
        with Path(path).open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError:
        return None
    return content if len(content) <= MAX_FILE_BYTES else None


def _has_srp() -> bool:
    """Whether software restriction policies are configured; the bare key is there on every Windows."""
    if _value(_CODE_IDENTIFIERS, "DefaultLevel") is not None:
        return True
    try:
        return any(_subkeys(rf"{_CODE_IDENTIFIERS}\{level}") for level in _subkeys(_CODE_IDENTIFIERS))
    except OSError:
        return False


def _open(key: str) -> winreg.HKEYType:
    return winreg.OpenKeyEx(winreg.HKEY_LOCAL_MACHINE, key, 0, winreg.KEY_READ | winreg.KEY_WOW64_64KEY)


def _subkeys(key: str) -> list[str]:
    with _open(key) as handle:
        return [winreg.EnumKey(handle, index) for index in range(winreg.QueryInfoKey(handle)[0])]


def _value(key: str, name: str) -> object:
    try:
        with _open(key) as handle:
            return winreg.QueryValueEx(handle, name)[0]
    except OSError:
        return None


def _text_value(key: str, name: str) -> str | None:
    value = _value(key, name)
    return value if isinstance(value, str) and value else None
