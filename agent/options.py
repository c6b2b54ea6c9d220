"""What an administrator may set: by command line, by environment, or in `wayleave-agent.toml`; in this order."""

# ruff: noqa: PTH117
# Paths are text here: the catalogue's globs are, and no step may normalise them behind our back.
from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from agent._platform import PLATFORM, find_state_dir

PREFIX = "WAYLEAVE_AGENT_"

_SHA256 = re.compile(r"[0-9A-Fa-f]{64}")
METHODS = ("auto", "start", "policy")


class OptionsError(ValueError):
    """A setting that is unknown or of the wrong kind; the message names it and where it stands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The agent's settings.

    `project_roots`: folders in which projects live. `search_projects`: whether to look for `.venv`s besides.
    `probing`: False is the kill switch: nothing is started, nothing is placed. `ask_uv`: whether uv may be run to ask
    it for its directories. `read_events`: whether AppLocker's events of uv's patterns are told. `count_rule_uses`:
    whether it is counted by day how often each rule in force let something start. `ca_file`: authorities to trust
    besides the system's, as PEM. `cycle_s`: time between two looks at the workstation. `insecure`: allow
    plain http to another machine. `machine_dir`: where the two halves of a machine-wide installation meet. `method`:
    `start` tries by starting, `policy` starts nothing and lets the server judge by the policy, `auto` chooses.
    `ephemeral`: a machine that is made anew at each start, and known by its account in the domain. `known_uv`:
    Authenticode SHA-256 of uv.exe that may be run to be asked, besides those that are known by signer or release.
    """

    state_dir: Path
    project_roots: tuple[str, ...] = ()
    search_projects: bool = True
    probing: bool = True
    ask_uv: bool = True
    read_events: bool = True
    count_rule_uses: bool = False
    ca_file: Path | None = None
    cycle_s: int = 3_600
    insecure: bool = False
    machine_dir: Path | None = None
    method: str = "auto"
    ephemeral: bool = False
    known_uv: tuple[str, ...] = ()


def read_options(environment: Mapping[str, str], *, config: Path | None = None) -> Options:
    """Settings from the configuration file and the environment. raises: OptionsError"""
    options = Options(state_dir=find_state_dir(environment))
    named = config or (Path(environment[PREFIX + "CONFIG"]) if environment.get(PREFIX + "CONFIG") else None)
    path = named or default_config(environment)
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        if named is not None:
            raise OptionsError(f"{named}: no such file") from error
    except OSError as error:
        raise OptionsError(f"{path}: {error.strerror}") from error
    else:
        options = _with_file(options, content, path)
    return _with_environment(options, environment)


def default_config(environment: Mapping[str, str]) -> Path:
    """Where the configuration file lies when nothing else is said."""
    if PLATFORM == "windows":
        return Path(environment.get("PROGRAMDATA", "C:\\ProgramData")) / "Wayleave" / "wayleave-agent.toml"
    return Path("/etc/wayleave/wayleave-agent.toml")


def _with_file(options: Options, content: bytes, path: Path) -> Options:
    try:
        data = tomllib.loads(content.decode())
    except ValueError as error:
        raise OptionsError(f"{path}: {error}") from error
    known = {item.name for item in fields(Options)}
    for name in data:
        if name not in known:
            raise OptionsError(f"{path}: unknown setting {name!r} (known: {', '.join(sorted(known))})")
    return replace(options, **{name: _read(name, value, str(path)) for name, value in data.items()})


def _with_environment(options: Options, environment: Mapping[str, str]) -> Options:
    values: dict[str, Any] = {}
    for item in fields(Options):
        text = environment.get(PREFIX + item.name.upper())
        if not text:
            continue
        value: object = text
        if item.name in ("project_roots", "known_uv"):
            value = [part for part in text.split(os.pathsep) if part]
        elif isinstance(getattr(options, item.name), bool):
            if text.lower() not in ("0", "1", "true", "false"):
                raise OptionsError(f"{PREFIX}{item.name.upper()}: {text!r} is neither true nor false")
            value = text.lower() in ("1", "true")
        elif item.name == "cycle_s":
            value = int(text) if text.isascii() and text.isdigit() else text
        values[item.name] = _read(item.name, value, PREFIX + item.name.upper())
    return replace(options, **values)


def _read(name: str, value: object, where: str) -> Any:
    if name in ("state_dir", "ca_file", "machine_dir"):
        if isinstance(value, str) and os.path.isabs(value):
            return Path(value)
        raise OptionsError(f"{where}: {name} must be an absolute path")
    if name == "project_roots":
        if isinstance(value, list) and all(isinstance(item, str) and os.path.isabs(item) for item in value):
            return tuple(value)
        raise OptionsError(f"{where}: project_roots must be a list of absolute folders")
    if name == "method":
        if value in METHODS:
            return value
        raise OptionsError(f"{where}: method must be one of {', '.join(METHODS)}")
    if name == "known_uv":
        if isinstance(value, list) and all(isinstance(item, str) and _SHA256.fullmatch(item) for item in value):
            return tuple(item.lower() for item in value)
        raise OptionsError(f"{where}: known_uv must be a list of SHA-256 digests, 64 hexadecimal digits each")
    if name == "cycle_s":
        if isinstance(value, int) and not isinstance(value, bool) and 60 <= value <= 7 * 86_400:
            return value
        raise OptionsError(f"{where}: cycle_s must be a number of seconds between 60 and 604800")
    if isinstance(value, bool):
        return value
    raise OptionsError(f"{where}: {name} must be true or false")
