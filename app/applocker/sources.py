"""Whatever a policy comes in: XML, a `registry.pol` file, or a GPO backup made by the Group Policy console."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath

from app.applocker.model import AppLockerError, Policy, Problem
from app.applocker.read import parse_policy
from app.applocker.registry import SIGNATURE, parse_registry_pol


def parse_source(data: bytes) -> Policy:
    """The policy of an XML or registry.pol file, told apart by its first bytes.

    raises: AppLockerError.
    """
    return parse_registry_pol(data) if data.startswith(SIGNATURE[:4]) else parse_policy(data)


def machine_registry(names: Mapping[str, object]) -> str:
    """Of the files of a GPO backup (paths with `/`), the machine's registry.pol.

    raises: AppLockerError if there is none, or more than one backup.

    >>> machine_registry({"{1}/bkupInfo.xml": 0, "{1}/DomainSysvol/GPO/Machine/registry.pol": 0})
    '{1}/DomainSysvol/GPO/Machine/registry.pol'
    """
    found = [name for name in names if _is_machine_registry(name)]
    if not found:
        raise _error("this folder is no backup of a GPO with machine settings: it has no Machine/registry.pol")
    if len(found) > 1:
        raise _error(f"this folder holds {len(found)} backups; give the folder of one: {', '.join(sorted(found)[:5])}")
    return found[0]


def _is_machine_registry(name: str) -> bool:
    parts = [part.lower() for part in PurePosixPath(name).parts]
    return parts[-1:] == ["registry.pol"] and (len(parts) == 1 or parts[-2] == "machine")


def _error(message: str) -> AppLockerError:
    return AppLockerError((Problem(line=None, rule=None, message=message),))
