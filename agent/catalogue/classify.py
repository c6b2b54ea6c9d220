"""Which of uv's patterns a path belongs to: the first that matches, in any written form of the path."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping

from agent.catalogue.expand import Machine
from agent.catalogue.load import load
from agent.catalogue.model import Pattern
from agent.catalogue.normalise import lookup, lower_ascii, normalise

_TOKEN = re.compile(r"<([A-Z_]+)>")
_NEVER = r"(?!)"

# What fills a `<NAME>` of an expression: the machine's variables, in the order in which uv asks for them.
_TOKENS: dict[str, tuple[str, ...]] = {
    "TEMP_OVERRIDE": ("tmp", "temp", "temp_override"),
    "UV_CACHE_DIR": ("uv_cache_dir",),
    "UV_INSTALL_DIR": ("uv_install_dir", "uv_unmanaged_install"),
    "UV_PYTHON_INSTALL_DIR": ("uv_python_install_dir",),
    "UV_PYTHON_BIN_DIR": ("uv_python_bin_dir",),
    "UV_TOOL_DIR": ("uv_tool_dir",),
    "UV_TOOL_BIN_DIR": ("uv_tool_bin_dir",),
    "XDG_BIN_HOME": ("xdg_bin_home",),
    "XDG_DATA_HOME_BIN": ("xdg_data_home", "xdg_data_home_bin"),
    "CARGO_HOME": ("cargo_home",),
    "PIPX_HOME": ("pipx_home",),
    "LOCALAPPDATA": ("localappdata",),
    "APPDATA": ("appdata",),
    "VENV_ROOT": ("uv_project_environment", "virtual_env", "venv_root"),
    "PIP_TARGET": ("pip_target", "target"),
}
_ANSWERS = {
    "UV_CACHE_DIR": "cache_dir",
    "UV_PYTHON_INSTALL_DIR": "python_dir",
    "UV_PYTHON_BIN_DIR": "python_bin_dir",
    "UV_TOOL_DIR": "tool_dir",
    "UV_TOOL_BIN_DIR": "tool_bin_dir",
}


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
    for pattern, expression in _expressions(_token_values(env, known, machine)):
        if expression.search(lowered) and _evidence_allows(pattern, known):
            return pattern.id
    return None


def _read_env(context: Mapping[str, object], machine: Machine | None) -> dict[str, str]:
    env = lookup(machine.env) if machine else {}
    given = context.get("env")
    if isinstance(given, Mapping):
        env |= lookup({str(name): value for name, value in given.items() if isinstance(value, str)})
    return env


def _evidence_allows(pattern: Pattern, context: Mapping[str, object]) -> bool:
    found = [context[key] for key in pattern.needs_evidence if context.get(key) is not None]
    return not found or any(found)


def _token_values(
    env: Mapping[str, str], context: Mapping[str, object], machine: Machine | None
) -> tuple[tuple[str, str], ...]:
    """(token, expression) for every token that this machine or file gives a value, hashable."""
    values: list[tuple[str, str]] = []
    for token, names in _TOKENS.items():
        places = [env[name] for name in names if name in env]
        if token == "XDG_DATA_HOME_BIN" and "xdg_data_home" in env:  # noqa: S105 - not a password
            places[0] += "\\..\\bin"
        if machine and (answer := machine.answers.get(_ANSWERS.get(token, ""))):
            places.append(answer)
        expressions = [found for place in places if (found := _place_expression(place, env, token))]
        if token == "PIP_TARGET":  # noqa: S105 - not a password
            expressions += _known_targets(context.get("known_pip_target"), env)
        if expressions:
            values.append((token, "(?:" + "|".join(expressions) + ")"))
    return tuple(values)


def _place_expression(place: str, env: Mapping[str, str], token: str) -> str | None:
    plain = normalise(place, env)
    if plain is None:
        return None
    plain = lower_ascii(plain).rstrip("\\")
    if not plain.startswith("\\") or plain.startswith("\\\\"):
        return "^" + re.escape(plain)
    # A relative directory: uv takes it below the project for environments, and XDG values not at all.
    if token == "VENV_ROOT":  # noqa: S105 - not a password
        return re.escape(plain)
    return None


def _known_targets(known: object, env: Mapping[str, str]) -> list[str]:
    if known is True:
        return [r"^.+"]
    if isinstance(known, str) and (place := _place_expression(known, env, "PIP_TARGET")):
        return [place]
    return []


@functools.lru_cache(maxsize=256)
def _expressions(tokens: tuple[tuple[str, str], ...]) -> tuple[tuple[Pattern, re.Pattern[str]], ...]:
    values = dict(tokens)
    compiled = []
    for pattern in load().patterns:
        if not pattern.match:
            continue  # files that uv starts but did not write: no path tells
        # Paths are lower-cased before, so that the expressions can be plain: `\d` is the only class they use.
        source = lower_ascii(_TOKEN.sub(lambda found: f"\x00{found[1]}\x00", pattern.match))
        source = re.sub(r"\x00([a-z_]+)\x00", lambda found: values.get(found[1].upper(), _NEVER), source)
        compiled.append((pattern, re.compile(source, re.ASCII)))
    return tuple(compiled)
