"""A second evaluator, deliberately naive: every rule against every written form, one character at a time.

It shares nothing with the engine but the values of `model.py`, and is written from the documentation's sentences, so
that what both say is likely to be right.
"""

from __future__ import annotations

import ntpath
import re

from app.applocker.model import (
    Action,
    Condition,
    File,
    HashCondition,
    Machine,
    Mode,
    PathCondition,
    Policy,
    PublisherCondition,
    Rule,
    Token,
)

EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def judge(policy: Policy, file: File, token: Token, machine: Machine, collection: str) -> tuple[str, list[str], str]:
    """Verdict, the ids of all rules that decided, effect."""
    found = policy.collection(collection)
    rules = found.rules if found else ()
    audited = found is not None and found.mode is Mode.AUDIT_ONLY
    if not rules:
        exe = policy.collection("Exe")
        if collection == "Appx" and exe and exe.rules and exe.mode is not Mode.AUDIT_ONLY:
            return "DeniedByDefault", [], "would be blocked" if audited else "blocked"
        return "AllowedByDefault", [], "runs"
    if token.sids & {"S-1-5-18", "S-1-5-19", "S-1-5-20", "S-1-5-6"}:
        in_scope = collection in ("Exe", "Dll") and found is not None and found.services in ("Enabled", "ServicesOnly")
        if not in_scope:
            return "AllowedByDefault", [], "runs"
    elif collection in ("Exe", "Dll") and found is not None and found.services == "ServicesOnly":
        return "AllowedByDefault", [], "runs"
    allow_sids = token.sids | (token.linked if collection == "Exe" else frozenset())
    deny_sids = allow_sids | token.deny_only
    matching = [rule for rule in rules if rule_matches(rule, file, machine, collection)]
    denies = sorted(rule.id for rule in matching if rule.action is Action.DENY and rule.sid in deny_sids)
    allows = sorted(rule.id for rule in matching if rule.action is Action.ALLOW and rule.sid in allow_sids)
    stopped = "would be blocked" if audited else "blocked"
    if denies:
        return "Denied", denies, stopped
    if allows:
        return "Allowed", allows, "runs"
    return "DeniedByDefault", [], stopped


def rule_matches(rule: Rule, file: File, machine: Machine, collection: str) -> bool:
    """The condition matches and no exception does."""
    if not condition_matches(rule.condition, file, machine, collection):
        return False
    return not any(condition_matches(exception, file, machine, collection) for exception in rule.exceptions)


def condition_matches(condition: Condition, file: File, machine: Machine, collection: str) -> bool:
    """One condition against one file."""
    if isinstance(condition, PathCondition):
        if has_short_name(condition.path):
            return False
        return any(glob(big(condition.path), form) for form in forms(file, machine))
    if isinstance(condition, PublisherCondition):
        return publisher_matches(condition, file)
    assert isinstance(condition, HashCondition)
    return any(hash_matches(each.type, each.data, file, collection) for each in condition.hashes)


def forms(file: File, machine: Machine) -> list[str]:
    """Every way the path can be written."""
    path = plain(file.resolves_to or file.path)
    folders = [("%OSDRIVE%", machine.os_drive), ("%WINDIR%", machine.windows)]
    folders += [("%SYSTEM32%", folder) for folder in machine.system32]
    folders += [("%PROGRAMFILES%", folder) for folder in machine.program_files]
    folders += list(machine.devices)
    found = [path]
    for name, folder in folders:
        if path.startswith(big(folder) + "\\"):
            found.append(big(name) + path[len(folder) :])
    if path.startswith("\\\\"):
        found.append("\\DEVICE\\MUP" + path[1:])
    if file.drive == "hot":
        found.append("%HOT%" + path[2:])
    if file.drive == "removable":
        found.append("%REMOVABLE%" + path[2:])
    return found


def plain(path: str) -> str:
    """Upper case, backslashes, no `..`."""
    path = big(path).replace("/", "\\")
    for prefix, instead in (("\\\\?\\UNC\\", "\\\\"), ("\\\\?\\", "")):
        if path.startswith(prefix):
            path = instead + path[len(prefix) :]
    return ntpath.normpath(path)


def big(text: str) -> str:
    """Upper case, one character for one character."""
    return "".join(c.upper() if len(c.upper()) == 1 and c.upper().lower() == c and ord(c) < 65536 else c for c in text)


def glob(pattern: str, text: str) -> bool:
    """FsRtlIsNameInExpression with * ? < > and the quotation mark: the places in the pattern where one may stand."""
    places = {0}
    for at in range(len(text) + 1):
        for place in sorted(places):
            while place < len(pattern) and needs_nothing(pattern[place], text, at):
                place += 1
                places.add(place)
        if at == len(text):
            return len(pattern) in places
        following = set()
        for place in places:
            if place < len(pattern):
                sign, letter = pattern[place], text[at]
                if sign == "*" or (sign == "<" and at != text.rfind(".")):
                    following.add(place)
                if sign in ("?", letter) or (sign == ">" and letter != ".") or (sign == '"' and letter == "."):
                    following.add(place + 1)
        places = following
        if not places:
            return False
    return False


def needs_nothing(sign: str, text: str, at: int) -> bool:
    """Whether a sign may stand for no character here."""
    ends = at == len(text)
    return sign in "*<" or (sign == ">" and (ends or text[at] == ".")) or (sign == '"' and ends)


def publisher_matches(condition: PublisherCondition, file: File) -> bool:
    """Fields are equal or `*`; a file name with a wildcard within matches what contains the rest."""
    if not file.publisher:
        return False
    if condition.publisher != "*" and big(condition.publisher) != big(file.publisher):
        return False
    if condition.product != "*" and big(condition.product) != big(file.product or ""):
        return False
    binary, name = big(condition.binary), big(file.binary or "")
    if len(binary) > 1 and ("*" in binary or "?" in binary):
        if re.sub(r"[*?]", "", binary) not in name:
            return False
    elif binary not in ("*", "?", name):
        return False
    version = file.version or (0, 0, 0, 0)
    return (condition.low or (0, 0, 0, 0)) <= version <= (condition.high or (65535, 65535, 65535, 65535))


def hash_matches(type: str, data: str, file: File, collection: str) -> bool:
    """SHA256 is the Authenticode hash for images and the whole file's for everything else."""
    authenticode, flat, sha1 = (
        None if value is None else value.lower().removeprefix("0x")
        for value in (file.authenticode_sha256, file.flat_sha256, file.sha1)
    )
    if file.size_bytes == 0 or flat == EMPTY:
        authenticode = flat = None
    if type == "SHA1":
        return data.lower() == sha1
    if type == "SHA256Flat":
        return data.lower() == flat
    return data.lower() == (authenticode if collection in ("Exe", "Dll") else flat or authenticode)


def has_short_name(path: str) -> bool:
    """A part such as PROGRA~1."""
    return any(
        re.fullmatch(r"[^*?]{1,6}~[0-9]{1,6}(\.[^*?]{0,3})?\*?.*", part) and _short(part) for part in path.split("\\")
    )


def _short(part: str) -> bool:
    head = part.split("*")[0]
    return re.fullmatch(r"[^\\*?]{1,6}~[0-9]{1,6}(\.[^\\*?]{0,3})?", head) is not None
