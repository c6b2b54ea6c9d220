"""Windows' own default rules, and the folders within Windows that users can write to.

source: the rules that "Create Default Rules" makes, with their fixed ids; writable folders from the lists of
api0cradle, AaronLocker, NSA Cyber and UK NCSC (builds of Windows differ: this is what is known, not what is there)
"""

from __future__ import annotations

from app.applocker.model import (
    ADMINISTRATORS,
    EVERYONE,
    Collection,
    Mode,
    PathCondition,
    PathRule,
    PublisherCondition,
    PublisherRule,
    Rule,
)

_PATHS = {
    "Exe": (
        ("921cc481-6e17-4653-8f75-050b80acca20", "%PROGRAMFILES%\\*", EVERYONE),
        ("a61c8b2c-a319-4cd0-9690-d2177cad7b51", "%WINDIR%\\*", EVERYONE),
        ("fd686d83-a829-4351-8ff4-27c7de5755d2", "*", ADMINISTRATORS),
    ),
    "Dll": (
        ("3737732c-99b7-41d4-9037-9cddfb0de0d0", "%PROGRAMFILES%\\*", EVERYONE),
        ("bac4b0bf-6f1b-40e8-8627-8545fa89c8b6", "%WINDIR%\\*", EVERYONE),
        ("fe64f59f-6fca-45e5-a731-0f6715327c38", "*", ADMINISTRATORS),
    ),
    "Script": (
        ("06dce67b-934c-454f-a263-2515c8796a5d", "%PROGRAMFILES%\\*", EVERYONE),
        ("9428c672-5fc3-47f4-808a-a0011f36dd2c", "%WINDIR%\\*", EVERYONE),
        ("ed97d0cb-15ff-430f-b82c-8d7832957725", "*", ADMINISTRATORS),
    ),
    "Msi": (
        ("5b290184-345a-4453-b184-45305f6d9a54", "%WINDIR%\\Installer\\*", EVERYONE),
        ("64ad46ff-0d71-4fa0-a30b-3f3d30c5433d", "*.*", ADMINISTRATORS),
    ),
}
_PUBLISHERS = {
    "Msi": "b7af7102-efde-4369-8a89-7a6a392d1473",
    "Appx": "a9e18c21-ff8f-43cf-b9fc-db40eed693ba",
}

WRITABLE = (
    "%WINDIR%\\Tasks",
    "%WINDIR%\\Temp",
    "%WINDIR%\\tracing",
    "%WINDIR%\\Debug",
    "%WINDIR%\\PCHEALTH\\ERRORREP",
    "%WINDIR%\\Registration\\CRMLog",
    "%WINDIR%\\servicestate",
    "%SYSTEM32%\\FxsTmp",
    "%SYSTEM32%\\com\\dmp",
    "%SYSTEM32%\\Microsoft\\Crypto\\RSA\\MachineKeys",
    "%SYSTEM32%\\spool\\PRINTERS",
    "%SYSTEM32%\\spool\\SERVERS",
    "%SYSTEM32%\\spool\\drivers\\color",
    "%SYSTEM32%\\Tasks",
    "%SYSTEM32%\\Tasks_Migrated",
    "%SYSTEM32%\\catroot2",
)
"""Folders within Windows that standard users can write to on some or all builds."""


def _whose(sid: str) -> str:
    return "Administrators" if sid == ADMINISTRATORS else "Everyone"


def default_rules(collection: str) -> tuple[Rule, ...]:
    """The rules that Windows makes for a collection, with their well-known ids.

    >>> [rule.condition.path for rule in default_rules("Exe")]
    ['%PROGRAMFILES%\\\\*', '%WINDIR%\\\\*', '*']
    """
    rules: list[Rule] = [
        PathRule(
            id=rule_id,
            name=f"(Default Rule) {_whose(sid)}: {path}",
            sid=sid,
            condition=PathCondition(path=path),
        )
        for rule_id, path, sid in _PATHS.get(collection, ())
    ]
    if rule_id := _PUBLISHERS.get(collection):
        rules.append(
            PublisherRule(
                id=rule_id,
                name="(Default Rule) Everyone: all that is signed",
                condition=PublisherCondition(publisher="*", low=(0, 0, 0, 0)),
            )
        )
    return tuple(rules)


def default_collection(type: str, mode: Mode) -> Collection:
    """A collection of Windows' default rules."""
    return Collection(type=type, mode=mode, rules=default_rules(type))
