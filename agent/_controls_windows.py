"""Windows calls of finding other products: service keys and a few values of the registry."""

from __future__ import annotations

import sys
import winreg

from agent.controls import SERVICES, ControlAnswers, read_asr_list

assert sys.platform == "win32"  # noqa: S101 - tells the type checker which platform's calls these are

_SERVICES = r"SYSTEM\CurrentControlSet\Services"
_CI_POLICY = r"SYSTEM\CurrentControlSet\Control\CI\Policy"
_DEFENDER = r"SOFTWARE\Policies\Microsoft\Windows Defender"
_ASR_KEYS = (
    r"SOFTWARE\Microsoft\Windows Defender\Windows Defender Exploit Guard\ASR\Rules",
    rf"{_DEFENDER}\Windows Defender Exploit Guard\ASR\Rules",
)


def read_controls() -> ControlAnswers:
    """What the machine says of other products that watch what is started."""
    services = {}
    for name in SERVICES:
        start = _value(rf"{_SERVICES}\{name}", "Start")
        if isinstance(start, int):
            services[name] = start
    asr: dict[str, str] = {}
    for key in _ASR_KEYS:
        asr |= _values(key)
    managed = _value(rf"{_DEFENDER}\Policy Manager", "ASRRules")
    if isinstance(managed, str):
        asr |= read_asr_list(managed)
    smart_app = _value(_CI_POLICY, "VerifiedAndReputablePolicyState")
    return ControlAnswers(services=services, asr=asr, smart_app=smart_app if isinstance(smart_app, int) else None)


def _values(key: str) -> dict[str, str]:
    try:
        with _open(key) as handle:
            found = (winreg.EnumValue(handle, index) for index in range(winreg.QueryInfoKey(handle)[1]))
            return {name.lower(): str(value) for name, value, _ in found}
    except OSError:
        return {}


def _value(key: str, name: str) -> object:
    try:
        with _open(key) as handle:
            return winreg.QueryValueEx(handle, name)[0]
    except OSError:
        return None


def _open(key: str) -> winreg.HKEYType:
    return winreg.OpenKeyEx(winreg.HKEY_LOCAL_MACHINE, key, 0, winreg.KEY_READ | winreg.KEY_WOW64_64KEY)
