"""What is wrong or risky about the paths of rules.

source: Microsoft, Understanding the path rule condition in AppLocker; Security considerations for AppLocker; lists of
writable folders in `defaults.py`
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from app.applocker.compile import CompiledRule
from app.applocker.defaults import WRITABLE
from app.applocker.facts import facts_of
from app.applocker.findings import Finding, Severity, finding
from app.applocker.model import ADMINISTRATORS, Action, File, Machine, PathCondition, Rule
from app.applocker.paths import has_short_name, matcher, roots, upcase, written_out

_ERROR, _WARNING, _INFO = Severity.ERROR, Severity.WARNING, Severity.INFO

_VARIABLE = re.compile(r"%[^%\\*?]+%")
_KNOWN = ("%WINDIR%", "%SYSTEM32%", "%OSDRIVE%", "%PROGRAMFILES%", "%REMOVABLE%", "%HOT%")
_INSTEAD = {
    "%USERPROFILE%": "%OSDRIVE%\\Users\\*",
    "%LOCALAPPDATA%": "%OSDRIVE%\\Users\\*\\AppData\\Local",
    "%APPDATA%": "%OSDRIVE%\\Users\\*\\AppData\\Roaming",
    "%TEMP%": "%OSDRIVE%\\Users\\*\\AppData\\Local\\Temp",
    "%TMP%": "%OSDRIVE%\\Users\\*\\AppData\\Local\\Temp",
    "%PUBLIC%": "%OSDRIVE%\\Users\\Public",
    "%PROGRAMDATA%": "%OSDRIVE%\\ProgramData",
    "%ALLUSERSPROFILE%": "%OSDRIVE%\\ProgramData",
    "%SYSTEMROOT%": "%WINDIR%",
    "%SYSTEMDRIVE%": "%OSDRIVE%",
    "%PROGRAMFILES(X86)%": "%PROGRAMFILES%",
    "%PROGRAMW6432%": "%PROGRAMFILES%",
    "%SYSTEMDIRECTORY%": "%SYSTEM32%",
}
_TRUSTED_SIDS = frozenset({ADMINISTRATORS, "S-1-5-18", "S-1-5-19", "S-1-5-20"})
_PROGRAM = re.compile(r"\.[A-Za-z0-9]{1,10}$")
_EXAMPLE_NAMES = {"Dll": "x.dll", "Script": "x.ps1", "Msi": "x.msi"}

_NARROWER = "Prefer a publisher rule, or hashes, or a folder that only administrators can write to."


def path_findings(collection: str, rule: Rule, machine: Machine) -> Iterator[Finding]:
    """Everything about a rule's own path and the paths of its exceptions."""
    if isinstance(rule.condition, PathCondition):
        broken = list(_text_findings(collection, rule, rule.condition.path))
        yield from broken
        if rule.action is Action.ALLOW and not any(each.severity is _ERROR for each in broken):
            yield from _reach(collection, rule, rule.condition.path, machine)
        if rule.action is Action.DENY:
            yield finding(
                "path-deny",
                _INFO,
                collection,
                rule,
                "A Deny rule by path stops the file only there: a copy somewhere else is another path.",
                "Deny by publisher or hash, or see to it that users can't start programs from where they can write.",
            )
    for exception in rule.exceptions:
        if isinstance(exception, PathCondition):
            yield from _text_findings(collection, rule, exception.path, "The exception's path")
            if isinstance(rule.condition, PathCondition) and _is_outside(exception.path, rule.condition.path, machine):
                yield finding(
                    "exception-outside",
                    _WARNING,
                    collection,
                    rule,
                    f"The exception {exception.path} lies outside of the rule's path, so it excepts nothing.",
                    "Remove it, or write it below the rule's path.",
                )


def is_for_users(rule: Rule) -> bool:
    """True if others than administrators and services have the rule's SID."""
    return rule.sid not in _TRUSTED_SIDS


# Texts that match nothing, or not what they seem to


def _text_findings(collection: str, rule: Rule, path: str, what: str = "The path") -> Iterator[Finding]:
    def error(code: str, message: str, remedy: str, severity: Severity = _ERROR) -> Finding:
        return finding(code, severity, collection, rule, f"{what} {path} {message}", remedy)

    upper = upcase(path)
    for variable in dict.fromkeys(_VARIABLE.findall(upper)):
        if variable not in _KNOWN:
            instead = _INSTEAD.get(variable)
            remedy = f"Write {instead} instead." if instead else f"AppLocker knows only {', '.join(_KNOWN)}."
            yield error(
                "path-unknown-variable", f"has {variable}, which AppLocker doesn't know: it never matches.", remedy
            )
        elif not upper.startswith(variable):
            yield error(
                "path-variable-inside",
                f"has {variable} in its middle, where it is plain text: it never matches.",
                "Begin the path with the variable.",
            )
    if has_short_name(upper):
        yield error("path-short-name", "has a short (8.3) name: such rules are not enforced.", "Write the long name.")
    if upper.startswith(("\\\\?\\", "\\??\\", "\\\\.\\")):
        yield error(
            "path-long-prefix",
            "begins with a prefix that no file's path has here: it never matches.",
            "Leave the prefix out.",
        )
    elif not re.match(r"[A-Z*?]:\\|[%*?]|\\\\|\\DEVICE\\", upper):
        yield error("path-relative", "is no full path: it never matches.", "Begin with a variable, a drive or a share.")
    if "/" in path:
        yield error(
            "path-forward-slash",
            "has forward slashes, which are taken literally: it never matches.",
            "Write backslashes.",
        )
    if re.search(r"\\\.\.?(?:\\|$)", path):
        yield error(
            "path-dot-dot",
            "has . or .. as a folder, which are taken literally: it never matches.",
            "Write the folder itself.",
        )
    if re.search(r'[<>"]', path):
        yield error(
            "path-dos-wildcard",
            'has < > or ", which the kernel takes for wildcards.',
            "No file name has these: remove them.",
        )
    if path.endswith("\\"):
        yield error(
            "path-trailing-backslash",
            "ends with a backslash and matches no file.",
            f"Write {path}* for all files in it.",
        )
    elif not re.search(r"[*?]", path.rpartition("\\")[2]) and not _PROGRAM.search(path):
        yield error(
            "path-folder-without-star",
            "looks like a folder; without \\* it matches nothing inside it.",
            f"Write {path}\\* for all files in it.",
            _WARNING,
        )
    if "?" in path:
        yield error(
            "path-question-mark",
            "has ?, which AppLocker's documentation doesn't mention.",
            "Write the names out, or use *.",
            _INFO,
        )


# What a path admits


def _reach(collection: str, rule: Rule, path: str, machine: Machine) -> Iterator[Finding]:
    if not is_for_users(rule):
        return
    place = _place(path, machine)
    if place is not None:
        code, severity, why = place
        yield finding(
            code,
            severity,
            collection,
            rule,
            f"{path} is allowed, and {why}",
            _NARROWER,
            _example(path, collection, machine),
        )
    holes = list(_holes(collection, rule, machine))
    if holes:
        shown = ", ".join(folder for folder, _ in holes[:4]) + (f" and {len(holes) - 4} more" if len(holes) > 4 else "")
        yield finding(
            "path-writable-windows",
            _WARNING,
            collection,
            rule,
            f"{path} admits folders of Windows that users can write to: {shown}.",
            "Add exceptions for each, as folder\\* and as folder:* (alternate streams).",
            holes[0][1],
        )
    yield from _stars(collection, rule, path, machine)


def _place(path: str, machine: Machine) -> tuple[str, Severity, str] | None:
    """Why users can write to where the path leads, if they can."""
    upper = upcase(path)
    if upper.strip("*.\\") == "":
        return "path-everything", _WARNING, "that is every file, wherever users put it."
    if upper.startswith(("%HOT%", "%REMOVABLE%")):
        return "path-removable", _WARNING, "anybody can bring a stick or a disc."
    if upper.startswith(("*", "?")):
        return None  # `_stars` says it with an example.
    found: tuple[str, Severity, str] | None = None
    drive = upcase(machine.os_drive)
    safe = tuple(folder + "\\" for name in ("%WINDIR%", "%PROGRAMFILES%") for folder in roots(machine)[name])
    for text in written_out(path, machine):
        if text.startswith(safe):
            continue
        if text.startswith("\\\\"):
            found = found or ("path-share", _INFO, "whoever can write to the share decides what runs.")
        elif not text.startswith(drive + "\\"):
            found = found or (
                "path-other-drive",
                _INFO,
                "whether users can write there depends on that drive's permissions.",
            )
        elif text.startswith(drive + "\\USERS\\"):
            found = ("path-profile", _WARNING, "users can write to their own profiles: whatever they put there runs.")
        elif text.startswith(drive + "\\PROGRAMDATA\\"):
            found = ("path-program-data", _WARNING, "users can create files in ProgramData.")
        elif re.fullmatch(re.escape(drive) + r"\\[*?.]*", text):
            found = ("path-everything", _WARNING, "that is the whole drive, profiles included.")
        else:
            found = found or (
                "path-drive-root",
                _WARNING,
                "users can create folders in the root of the drive: unless an administrator created this one and "
                "closed it, they can write to it.",
            )
    return found


def _holes(collection: str, rule: Rule, machine: Machine) -> Iterator[tuple[str, str]]:
    """Writable folders of Windows that the rule admits, each with an example."""
    if not any(text.startswith(upcase(machine.windows)) for text in written_out(_path_of(rule), machine)):
        return
    compiled = CompiledRule(rule, machine)
    for folder in WRITABLE:
        for written in written_out(f"{folder}\\{_name(collection)}", machine):
            if compiled.match(facts_of(File(path=written), collection, machine)):
                yield folder, written
                break


def _stars(collection: str, rule: Rule, path: str, machine: Machine) -> Iterator[Finding]:
    """Wildcards that admit other folders than the author sees."""
    if path.strip("*.\\") == "" or upcase(path).startswith(("%HOT%", "%REMOVABLE%")):
        return
    drive = machine.os_drive
    written = written_out(path, machine)[0]
    if written.startswith(("*", "?")):
        tail = written.lstrip("*?").lstrip("\\").replace("*", "x").replace("?", "x")
        tail = tail + _name(collection) if tail.endswith("\\") else tail
        yield from _starred(
            "path-any-folder",
            collection,
            rule,
            written,
            f"{drive}\\Users\\a\\Downloads\\{tail}",
            f"{path} begins with a wildcard, so the file may lie in any folder of any drive.",
            "Begin with the folder.",
        )
        return
    head, _, rest = written.partition("*")
    if not head.endswith("\\") and "\\" not in rest and not rest:
        yield from _starred(
            "path-sibling-folders",
            collection,
            rule,
            written,
            f"{head}2\\{_name(collection)}",
            f"{path} has no backslash before its *, so it also admits other folders whose names begin alike.",
            f"Write {path[:-1]}\\* for that folder alone.",
        )
    elif "\\" in rest and _is_writable(head, machine):
        tail = rest.replace("*", "x").replace("?", "x")
        tail = tail + _name(collection) if tail.endswith("\\") else tail
        yield from _starred(
            "path-star-crosses-folders",
            collection,
            rule,
            written,
            f"{head}a\\Downloads\\any{tail if tail.startswith(chr(92)) else chr(92) + tail}",
            f"the * in the middle of {path} stands for any number of folders, not for one.",
            "Nothing narrower can be said in a path: " + _NARROWER[0].lower() + _NARROWER[1:],
        )


def _starred(
    code: str, collection: str, rule: Rule, written: str, example: str, message: str, remedy: str
) -> Iterator[Finding]:
    """The finding, if its example really is admitted."""
    if matcher(written)(upcase(example)):
        yield finding(code, _WARNING, collection, rule, message[0].upper() + message[1:], remedy, example)


def _is_writable(folder: str, machine: Machine) -> bool:
    safe = tuple(root for name in ("%WINDIR%", "%PROGRAMFILES%") for root in roots(machine)[name])
    return not upcase(folder).startswith(safe)


def _is_outside(exception: str, path: str, machine: Machine) -> bool:
    """True if no file can match both, as far as their texts before the first wildcard tell."""

    def heads(text: str) -> list[str]:
        return [re.split(r'[*?<>"]', each, maxsplit=1)[0] for each in written_out(text, machine)]

    return not any(one.startswith(other) or other.startswith(one) for one in heads(exception) for other in heads(path))


def _example(path: str, collection: str, machine: Machine) -> str | None:
    """A path that the pattern admits."""
    written = written_out(path, machine)[0]
    example = written.replace("*", "x").replace("?", "x")
    if written == "*":
        example = f"{machine.os_drive}\\Users\\a\\Downloads\\{_name(collection)}"
    elif written.endswith("\\*"):
        example = written[:-1].replace("*", "x").replace("?", "x") + _name(collection)
    return example if matcher(written)(upcase(example)) else None


def _path_of(rule: Rule) -> str:
    return rule.condition.path if isinstance(rule.condition, PathCondition) else ""


def _name(collection: str) -> str:
    return _EXAMPLE_NAMES.get(collection, "x.exe")
