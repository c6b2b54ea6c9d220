"""Paths as AppLocker compares them: upper case, every written form, variables, wildcards that cross backslashes.

A file's path has several forms (`C:\\Windows\\x.exe`, `%WINDIR%\\x.exe`, `%OSDRIVE%\\Windows\\x.exe`, the native
`\\Device\\HarddiskVolume3\\Windows\\x.exe`), and a rule matches if any of them does. Instead of comparing each form, a
rule that begins with a variable is written out once, for each folder the variable stands for; only rules that begin
with a wildcard have to be held against all forms.

source: Microsoft, Understanding the path rule condition in AppLocker; J. Forshaw, The Internals of AppLocker, part 3;
FsRtlIsNameInExpression for the wildcards
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache

from app.applocker.model import Drive, Machine

Matches = Callable[[str], bool]

DRIVE_VARIABLES = {Drive.HOT: "%HOT%", Drive.REMOVABLE: "%REMOVABLE%"}
UNKNOWN_VOLUME = "\\DEVICE\\HARDDISKVOLUME3"
MAX_DOS_PATTERN = 512
"""Longer patterns with DOS wildcards match nothing here: comparing them could take seconds; no real rule has any."""
NETWORK_DEVICE = "\\DEVICE\\MUP"

_WILDCARD = re.compile(r'[*?<>"]')
_DOS_WILDCARD = re.compile(r'[<>"]')
_PREFIXES = (("\\\\?\\UNC\\", "\\\\"), ("\\??\\UNC\\", "\\\\"), ("\\\\?\\", ""), ("\\\\.\\", ""), ("\\??\\", ""))
_SHORT_NAME = re.compile(r"(?:^|\\)[^\\*?]{1,6}~[0-9]{1,6}(?:\.[^\\*?]{0,3})?(?=\\|$|\*)")


def upcase(text: str) -> str:
    """Upper case as Windows has it: one character stays one character.

    >>> upcase("straße\\\\µ.exe")
    'STRAßE\\\\µ.EXE'
    """
    if text.isascii():
        return text.upper()
    return text.upper() if not _odd_letters().search(text) else "".join(map(_upcase_letter, text))


def normal_path(path: str) -> str:
    """A file's path as the kernel has it: upper case, backslashes, no `\\\\?\\` and no `..`.

    >>> normal_path("\\\\\\\\?\\\\C:/Tools/x/../a.exe")
    'C:\\\\TOOLS\\\\A.EXE'
    """
    path = upcase(path)
    if path[1:3] == ":\\" and "/" not in path and "\\\\" not in path and "\\.." not in path and "\\.\\" not in path:
        return path
    path = path.replace("/", "\\")
    for prefix, replacement in _PREFIXES:
        if path.startswith(prefix):
            path = replacement + path[len(prefix) :]
            break
    return _without_dots(path)


def has_short_name(path: str) -> bool:
    """True if a part of the path looks like an 8.3 name.

    >>> has_short_name("C:\\\\PROGRA~1\\\\x.exe"), has_short_name("C:\\\\Program Files\\\\x.exe")
    (True, False)
    """
    return "~" in path and _SHORT_NAME.search(path) is not None


def roots(machine: Machine) -> dict[str, tuple[str, ...]]:
    """The folders that each variable stands for, in upper case."""
    return {
        "%WINDIR%": (upcase(machine.windows),),
        "%SYSTEM32%": tuple(map(upcase, machine.system32)),
        "%OSDRIVE%": (upcase(machine.os_drive),),
        "%PROGRAMFILES%": tuple(map(upcase, machine.program_files)),
    }


def volumes(machine: Machine) -> tuple[tuple[str, str], ...]:
    """Native volume paths and their drives, in upper case."""
    return tuple((upcase(device), upcase(drive)) for device, drive in machine.devices)


def variable_forms(path: str, machine: Machine) -> tuple[str, ...]:
    """The forms of a normal path that begin with a variable.

    >>> variable_forms("C:\\\\WINDOWS\\\\SYSTEM32\\\\A.EXE", Machine())
    ('%WINDIR%\\\\SYSTEM32\\\\A.EXE', '%SYSTEM32%\\\\A.EXE', '%OSDRIVE%\\\\WINDOWS\\\\SYSTEM32\\\\A.EXE')
    """
    return tuple(
        variable + path[len(folder) :]
        for variable, folders in roots(machine).items()
        for folder in folders
        if path.startswith(folder + "\\")
    )


def native_forms(path: str, machine: Machine) -> tuple[str, ...]:
    """The forms of a normal path that begin with `\\DEVICE`, as far as the machine's volumes are known."""
    if path.startswith("\\\\"):
        return (NETWORK_DEVICE + path[1:],)
    return tuple(device + path[len(drive) :] for device, drive in volumes(machine) if path.startswith(drive + "\\"))


def written_out(pattern: str, machine: Machine) -> tuple[str, ...]:
    """A rule's path in upper case, once for each folder its variable stands for; others come back as they are.

    `%WINDIR%*` matches the form `%WINDIR%\\...` only, so a backslash is put in.

    >>> written_out("%system32%\\\\a.exe", Machine())
    ('C:\\\\WINDOWS\\\\SYSTEM32\\\\A.EXE', 'C:\\\\WINDOWS\\\\SYSWOW64\\\\A.EXE')
    >>> written_out("%TEMP%\\\\*", Machine())
    ('%TEMP%\\\\*',)
    """
    pattern = upcase(pattern)
    for variable, folders in (*roots(machine).items(), *_devices(machine)):
        if not pattern.startswith(variable) or len(pattern) == len(variable):
            continue
        tail = pattern[len(variable) :]
        if tail[0] == "\\":
            tails = [tail]
        elif tail[0] == "*":
            rest = tail.lstrip("*")
            tails = ["\\*" + rest, *([rest] if rest.startswith("\\") else [])]
        elif tail[0] == "?":
            tails = ["\\" + tail[1:]]
        else:
            return (pattern,)
        return tuple(folder + tail for folder in folders for tail in tails)
    return (pattern,)


def needs_all_forms(pattern: str, machine: Machine) -> bool:
    """True if a written-out pattern can match a form of the path although it doesn't match the path itself.

    What stands behind a root is the same in all forms; so the pattern's first text has to reach into a root.

    >>> [needs_all_forms(pattern, Machine()) for pattern in ("*", "*\\\\TOOLS\\\\*", "*.EXE", "*DIR*", "C:\\\\*")]
    [False, False, False, True, False]
    """
    first = _WILDCARD.split(pattern.lstrip("*"), maxsplit=1)[0]
    if pattern.startswith(tuple(DRIVE_VARIABLES.values())):
        return False
    if pattern.startswith("%"):
        return any((root + "\\").startswith(first) or first.startswith(root + "\\") for root in _other_roots(machine))
    if not _WILDCARD.match(pattern):
        return False
    if not first:
        return pattern.strip("*") != ""
    return any(
        first in root or any(first.startswith(root[start:] + "\\") for start in range(len(root)))
        for root in _other_roots(machine)
    )


def matcher(pattern: str) -> Matches:
    """A function that tells whether an upper-case path matches an upper-case pattern; time linear in the path.

    >>> matcher("C:\\\\TOOLS\\\\*")("C:\\\\TOOLS\\\\SUB\\\\A.EXE")
    True
    """
    if _DOS_WILDCARD.search(pattern):
        return _dos_matcher(pattern)
    if "?" not in pattern:
        if "*" not in pattern:
            return pattern.__eq__
        head, _, tail = pattern.partition("*")
        if not tail:
            return lambda path: path.startswith(head)
        if not head and "*" not in tail:
            return lambda path: path.endswith(tail)
    return _regex(pattern)


def _other_roots(machine: Machine) -> tuple[str, ...]:
    """How a path's other forms can begin."""
    devices = (device for device, _ in volumes(machine))
    return (*roots(machine), *DRIVE_VARIABLES.values(), *devices, NETWORK_DEVICE, UNKNOWN_VOLUME)


def _regex(pattern: str) -> Matches:
    # Each piece between two stars is taken at its first place, for good: no backtracking into an earlier star.
    pieces = [re.escape(piece).replace("\\?", ".") for piece in re.sub(r"\*+", "*", pattern).split("*")]
    if len(pieces) == 1:
        text = pieces[0]
    else:
        first, *middle, last = pieces
        text = first + "".join(f"(?>.*?{piece})" for piece in middle) + (f".*{last}" if last else "")
    fullmatch = (
        re.compile(text, re.DOTALL).fullmatch if pieces[-1] or len(pieces) == 1 else re.compile(text, re.DOTALL).match
    )
    return lambda path: fullmatch(path) is not None


def loose_matcher(pattern: str) -> Matches:
    """As `matcher`, but ? stands for one character or none."""
    return _nfa(pattern, dos=False, loose=True)


def literal_matcher(pattern: str) -> Matches:
    """As `matcher`, but only * is a wildcard."""
    return _nfa(pattern, dos=False, loose=False, question=False)


def _dos_matcher(pattern: str) -> Matches:
    if len(pattern) > MAX_DOS_PATTERN:
        return lambda _: False
    return _nfa(pattern, dos=True, loose=False)


def _nfa(pattern: str, *, dos: bool, loose: bool, question: bool = True) -> Matches:
    """All states at once: for the rare patterns that a regular expression without backtracking can't say.

    source: FsRtlIsNameInExpression: < is any text up to the last dot, > one character or none before a dot or the end,
    a quotation mark a dot or the end
    """

    end = len(pattern)

    def leaves(state: int, path: str, place: int) -> bool:
        """Whether the state may be left without taking a character."""
        sign = pattern[state]
        if sign == "*" or (sign == "?" and loose):
            return True
        if not dos:
            return False
        at_end = place == len(path)
        return sign == "<" or (sign == ">" and (at_end or path[place] == ".")) or (sign == '"' and at_end)

    def stays(sign: str, is_last_dot: bool) -> bool:
        return sign == "*" or (dos and sign == "<" and not is_last_dot)

    def advances(sign: str, letter: str) -> bool:
        if sign == letter or (sign == "?" and question):
            return True
        return dos and ((sign == ">" and letter != ".") or (sign == '"' and letter == "."))

    def closed(states: set[int], path: str, place: int) -> set[int]:
        todo = list(states)
        while todo:
            state = todo.pop()
            if state < end and state + 1 not in states and leaves(state, path, place):
                states.add(state + 1)
                todo.append(state + 1)
        return states

    def matches(path: str) -> bool:
        last_dot = path.rfind(".")
        states = closed({0}, path, 0)
        for place, letter in enumerate(path):
            going = {state for state in states if state < end}
            following = {state for state in going if stays(pattern[state], place == last_dot)}
            following |= {state + 1 for state in going if advances(pattern[state], letter)}
            states = closed(following, path, place + 1)
            if not states:
                return False
        return end in states

    return matches


def _devices(machine: Machine) -> tuple[tuple[str, tuple[str, ...]], ...]:
    network = ((NETWORK_DEVICE, ("\\",)),)
    return (*((device, (drive,)) for device, drive in volumes(machine)), *network)


def _without_dots(path: str) -> str:
    """No empty parts, no `.` and no `..`; a share's `\\\\` stays."""
    share = path.startswith("\\\\")
    parts: list[str] = []
    for part in path.split("\\"):
        if part == ".." and len(parts) > 1:
            parts.pop()
        elif part not in ("", ".", ".."):
            parts.append(part)
    begins = "\\\\" if share else "\\" if path.startswith("\\") else ""
    return begins + "\\".join(parts)


@cache
def _odd_letters() -> re.Pattern[str]:
    odd = [letter for letter in map(chr, range(0x80, 0x1E944)) if letter.upper() != _upcase_letter(letter)]
    return re.compile(f"[{''.join(odd)}]")


def _upcase_letter(letter: str) -> str:
    # Windows maps within the basic plane, one to one, and only where the way back leads to the same letter.
    upper = letter.upper()
    return upper if len(upper) == 1 and ord(letter) < 0x10000 and upper.lower() == letter else letter
