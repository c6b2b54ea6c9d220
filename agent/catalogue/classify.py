"""Which of uv's patterns a path belongs to: the first that matches, in any written form of the path."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping

from agent.catalogue.expand import Machine
from agent.catalogue.load import load
from agent.catalogue.matcher import Expression, Matcher, read_needs
from agent.catalogue.model import Pattern
from agent.catalogue.normalise import lookup, lower_ascii, normalise

_TOKEN = re.compile(r"<([A-Z_]+)>")
_NEVER = r"(?!)"
# Forms that name a volume but not its letter: the machine's own directories tell which it may be.
_WITHOUT_LETTER = re.compile(
    r"^[\s\"']*(?:[\\/][^:]*?device[\\/]harddisk|[\\/]{2}[?.][\\/]volume\{|%(?:removable|hot)%)", re.I
)
_DRIVE = re.compile(r"^(?:[\\/]{2}[?.][\\/])?([A-Za-z]:)")

# What fills a `<NAME>` of an expression: every one of these variables that the machine has.
_TOKENS: dict[str, tuple[str, ...]] = {
    "TEMP_OVERRIDE": ("temp_override",),
    "PYTHON_TEMP_OVERRIDE": ("temp_override",),
    "UV_CACHE_DIR": ("uv_cache_dir",),
    "UV_INSTALL_DIR": ("uv_install_dir", "uv_unmanaged_install", "cargo_dist_force_install_dir"),
    "UV_PYTHON_INSTALL_DIR": ("uv_python_install_dir", "uv_toolchain_dir"),
    "UV_PYTHON_BIN_DIR": ("uv_python_bin_dir",),
    "UV_TOOL_DIR": ("uv_tool_dir",),
    "UV_TOOL_BIN_DIR": ("uv_tool_bin_dir",),
    "XDG_BIN_HOME": ("xdg_bin_home",),
    "XDG_DATA_HOME_BIN": ("xdg_data_home_bin",),
    "CARGO_HOME": ("cargo_home",),
    "PIPX_HOME": ("pipx_home",),
    "SCOOP": ("scoop", "scoop_global"),
    "CHOCOLATEY": ("chocolateyinstall",),
    "RUNNER_TOOL_CACHE": ("runner_tool_cache",),
    "LOCALAPPDATA": ("localappdata",),
    "APPDATA": ("appdata",),
    "VENV_ROOT": ("uv_project_environment", "virtual_env", "venv_root"),
    "PIP_TARGET": ("pip_target",),
}
# Of these the first absolute one counts alone: GetTempPath2W asks TMP before TEMP, Python's tempfile after it.
_FIRST_OF: dict[str, tuple[str, ...]] = {
    "TEMP_OVERRIDE": ("tmp", "temp"),
    "PYTHON_TEMP_OVERRIDE": ("tmpdir", "temp", "tmp"),
}
# uv takes a relative directory from the current folder; XDG's and the system's it only takes if they are absolute.
_MAY_BE_RELATIVE = frozenset(
    {
        "UV_CACHE_DIR",
        "UV_INSTALL_DIR",
        "UV_PYTHON_INSTALL_DIR",
        "UV_PYTHON_BIN_DIR",
        "UV_TOOL_DIR",
        "UV_TOOL_BIN_DIR",
        "VENV_ROOT",
        "PIP_TARGET",
    }
)
_ANSWERS = {
    "UV_CACHE_DIR": "cache_dir",
    "UV_PYTHON_INSTALL_DIR": "python_dir",
    "UV_PYTHON_BIN_DIR": "python_bin_dir",
    "UV_TOOL_DIR": "tool_dir",
    "UV_TOOL_BIN_DIR": "tool_bin_dir",
}
_VARIABLES = frozenset(
    {name for names in (*_TOKENS.values(), *_FIRST_OF.values()) for name in names}
    | {"xdg_data_home", "userprofile", "homedrive", "homepath", "systemdrive", "systemroot", "windir", "programdata"}
    | {"programfiles", "programfiles(x86)", "programw6432", "public", "allusersprofile", "osdrive"}
)


def classify(path: str, context: Mapping[str, object] | None = None, machine: Machine | None = None) -> str | None:
    """The id of the pattern that a path belongs to, None if it is none of uv's.

    `context`: `env` (a machine's variables) and what else is known of the file: `parent_is_uv`, `ancestor_is_uv`,
    `pyvenv_cfg_uv`, `uv_dist_info`, `publisher_or_hash_ok`, `uv_tool_receipt_lists_path`, `known_pip_target`. A key
    that is absent is unknown, and the path decides; False says that this evidence is known to be missing, and then
    a pattern that needs it does not match. Other keys are ignored. `machine` gives variables and uv's own answers.

    >>> classify(r"%OSDRIVE%\\USERS\\A\\APPDATA\\LOCAL\\UV\\CACHE\\BUILDS-V0\\.TMPAB12CD\\SCRIPTS\\PYTHON.EXE")
    'cache-builds-venv-python'
    """
    known = context or {}
    env = _read_env(known, machine)
    plain = normalise(path, env)
    if plain is None:
        return None
    lowered = lower_ascii(plain)
    matcher = _matcher_for(env, known, machine)
    texts = [lowered]
    if _WITHOUT_LETTER.match(path):
        texts += [drive + lowered[2:] for drive in _drives(env, machine)]
    for text in texts:
        for pattern in matcher.matching(text):
            if _evidence_allows(pattern, known):
                return pattern.id
    return None


def expressions(values: tuple[tuple[str, str], ...] = ()) -> tuple[Expression, ...]:
    """Every pattern's expression in order, with (name, expression) values for its `<NAME>`s; those that can match."""
    filled = dict(values)
    found = []
    for pattern in load().patterns:
        if not pattern.match:
            continue  # files that uv starts but did not write: no path tells
        # Paths are lower-cased before, so that the expressions can be plain: `\d` is the only class they use.
        source = lower_ascii(_TOKEN.sub(lambda token: f"\x00{token[1]}\x00", pattern.match))
        source = re.sub(r"\x00([a-z_]+)\x00", lambda token: filled.get(token[1].upper(), _NEVER), source)
        needs = read_needs(source)
        if needs is not None:
            found.append(Expression(pattern=pattern, regex=re.compile(source, re.ASCII), needs=needs))
    return tuple(found)


def forget_matchers() -> None:
    """Make nothing of what was learnt from the catalogue that was in use before."""
    _machine_matcher.cache_clear()
    _matcher.cache_clear()


def _drives(env: Mapping[str, str], machine: Machine | None) -> list[str]:
    """The drives on which this machine's directories lie, as `d:`."""
    places = [*(env[name] for name in sorted(_VARIABLES & env.keys())), *(machine.answers.values() if machine else ())]
    found = (_DRIVE.match(place) for place in places)
    return list(dict.fromkeys(drive[1].lower() for drive in found if drive))


def _read_env(context: Mapping[str, object], machine: Machine | None) -> dict[str, str]:
    env = lookup(machine.env) if machine else {}
    given = context.get("env")
    if isinstance(given, Mapping):
        env |= lookup({str(name): value for name, value in given.items() if isinstance(value, str)})
    return env


def _evidence_allows(pattern: Pattern, context: Mapping[str, object]) -> bool:
    found = [context[key] for key in pattern.needs_evidence if context.get(key) is not None]
    return not found or any(found)


def _matcher_for(env: Mapping[str, str], context: Mapping[str, object], machine: Machine | None) -> Matcher:
    answers = machine.answers if machine else {}
    target = context.get("known_pip_target")
    if not env and not answers and not target:
        return _matcher(())
    return _machine_matcher(
        tuple((name, env[name]) for name in sorted(_VARIABLES & env.keys())),
        tuple((name, answers[name]) for name in sorted(_ANSWERS.values()) if answers.get(name)),
        target if isinstance(target, str) else bool(target),
    )


@functools.lru_cache(maxsize=256)
def _machine_matcher(
    variables: tuple[tuple[str, str], ...], answers: tuple[tuple[str, str], ...], target: str | bool
) -> Matcher:
    return _matcher(_token_values(dict(variables), dict(answers), target))


@functools.lru_cache(maxsize=256)
def _matcher(values: tuple[tuple[str, str], ...]) -> Matcher:
    return Matcher(expressions(values))


def _token_values(
    env: Mapping[str, str], answers: Mapping[str, str], target: str | bool
) -> tuple[tuple[str, str], ...]:
    """(token, expression) for every token that this machine or file gives a value."""
    values: list[tuple[str, str]] = []
    for token, names in _TOKENS.items():
        places = [env[name] for name in names if name in env]
        if token in _FIRST_OF:
            places += [env[name] for name in _FIRST_OF[token] if _is_absolute(env.get(name), env)][:1]
        if token == "XDG_DATA_HOME_BIN" and "xdg_data_home" in env:  # noqa: S105 - not a password
            places.append(env["xdg_data_home"] + "\\..\\bin")
        if answer := answers.get(_ANSWERS.get(token, "")):
            places.append(answer)
        if token == "PIP_TARGET" and isinstance(target, str):  # noqa: S105 - not a password
            places.append(target)
        found = [_place_expression(place, env, token in _MAY_BE_RELATIVE) for place in places]
        written = [expression for expression in dict.fromkeys(found) if expression]
        if token == "PIP_TARGET" and target is True and not written:  # noqa: S105 - not a password
            written = [r"^.+"]
        if written:
            values.append((token, "(?:" + "|".join(written) + ")"))
    return tuple(values)


def _is_absolute(place: str | None, env: Mapping[str, str]) -> bool:
    return place is not None and _place_expression(place, env, False) is not None


def _place_expression(place: str, env: Mapping[str, str], may_be_relative: bool) -> str | None:
    """An expression for a directory; None if it names none, or is relative and may not be."""
    plain = normalise(place, env)
    if plain is None:
        return None
    plain = lower_ascii(plain).rstrip("\\")
    if not plain:
        return None
    if not plain.startswith("\\") or plain.startswith("\\\\"):
        return "^" + re.escape(plain)
    return re.escape(plain) if may_be_relative else None
