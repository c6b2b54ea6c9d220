"""Windows calls: the registry's policies and those of device management, the host, the agent's own files.

Every function here is a thin cover of calls; what their answers mean is decided in pure modules beside it.
"""

# ruff: noqa: PTH118
# Paths are text here: the catalogue's globs are, and no step may normalise them behind our back.
from __future__ import annotations

import ctypes
import itertools
import msvcrt
import os
import socket
import sys
import winreg
from collections.abc import Mapping
from ctypes import wintypes
from pathlib import Path
from typing import IO, Literal

from agent._calls_windows import declare
from agent.canary import WINDOWS_CANARY
from agent.contract.facts import HostFacts
from agent.device_policy import MAX_DEPTH, MAX_FILE_BYTES, MAX_FILES, read_device_policy
from agent.policy import PolicyInForce, RegistryCollection
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

_kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)

_computer_name = declare(
    _kernel32,
    "GetComputerNameExW",
    wintypes.BOOL,
    ctypes.c_int,
    wintypes.LPWSTR,
    ctypes.POINTER(wintypes.DWORD),
)


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
        name=name_of_computer(1) or socket.gethostname(),
        platform=PLATFORM,
        os=f"{product} {display}" if display else product,
        os_build=f"{build}.{revision}" if isinstance(revision, int) else build,
        domain=name_of_computer(2) or None,
        unit=unit_of(_text_value(_GROUP_POLICY_STATE, "Distinguished-Name")),
        agent_version=agent_version,
    )


def read_machine_id() -> str:
    """What tells this installation from a clone of it, before hashing."""
    return f"{_text_value(_CRYPTOGRAPHY, 'MachineGuid') or ''}\n{name_of_computer(1) or socket.gethostname()}"


def read_machine_account() -> str:
    """The account of this machine in its domain, which a machine made anew at each start keeps."""
    return f"{name_of_computer(2) or ''}\\{name_of_computer(0) or socket.gethostname()}$".lower()


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


def name_of_computer(kind: int) -> str | None:
    """A name of this computer: 0 for the NetBIOS name, 1 for the host name, 2 for the DNS domain."""
    size = wintypes.DWORD(256)
    buffer = ctypes.create_unicode_buffer(256)
    return buffer.value if _computer_name(kind, buffer, ctypes.byref(size)) else None


def system_directory() -> str:
    """Where Windows' own programs lie."""
    return os.path.join(os.environ.get("SYSTEMROOT", "C:\\Windows"), "System32")


def _read_collection(key: str) -> RegistryCollection:
    mode = _value(key, "EnforcementMode")
    rules = [_text_value(rf"{key}\{name}", "Value") for name in _subkeys(key)[:_MAX_RULES]]
    return RegistryCollection(mode=mode if isinstance(mode, int) else None, rules=tuple(rule for rule in rules if rule))


def _read_device_files() -> dict[str, bytes | None] | None:
    """The files of device management's policies by their path, None for one that may not be read.

    None instead: the folder itself may not be listed, which is so for everybody but the system.
    """
    top = os.path.join(system_directory(), "AppLocker", "MDM")
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
