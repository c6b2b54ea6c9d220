"""PowerShell's language mode: what a user's interactive PowerShell may do, asked once for each policy that is in force.

It is the one program that the agent runs to the end besides uv. What it prints is believed only behind a token that was
made for this question: a stub, a profile or a wrapper that prints something else says nothing.
"""

from __future__ import annotations

import re
import secrets
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from agent._platform import CREATION_FLAGS, PLATFORM
from agent.storage import read_json, write_json

NAME = "language.json"
TIMEOUT_S = 15.0
MODES = ("FullLanguage", "ConstrainedLanguage", "RestrictedLanguage", "NoLanguage")
_MAX_OUTPUT = 4_096

Run = Callable[[Sequence[str]], str | None]
"""Run a command and give what it printed; None if it could not be run, failed or took too long."""


def find_language_mode(state_dir: Path, policy: str, environment: Mapping[str, str], *, run: Run | None = None) -> str:
    """The mode under a policy (its set's digest): as it was learnt for this policy, else as PowerShell says now.

    Empty if PowerShell does not say; it is asked again then only under another policy. raises: OSError
    """
    known = read_json(state_dir / NAME) or {}
    if known.get("policy") == policy and known.get("mode") in (*MODES, ""):
        return str(known["mode"])
    mode = ask_language_mode(environment, run=run or _runner(environment)) or ""
    write_json(state_dir / NAME, {"policy": policy, "mode": mode})
    return mode


def ask_language_mode(environment: Mapping[str, str], *, run: Run, token: str | None = None) -> str | None:
    """What PowerShell says, if it echoes a token. `token`: made at random if none is given."""
    program = powershell(environment)
    if program is None:
        return None
    token = token or secrets.token_hex(12)
    question = f"'{token}=' + $ExecutionContext.SessionState.LanguageMode"
    output = run([program, "-NoLogo", "-NoProfile", "-NonInteractive", "-Command", question])
    return read_answer(output, token)


def read_answer(output: str | None, token: str) -> str | None:
    """The mode in PowerShell's output; None unless one line is the token and a mode, and nothing else.

    >>> read_answer("abc=ConstrainedLanguage\\r\\n", "abc"), read_answer("FullLanguage", "abc")
    ('ConstrainedLanguage', None)
    """
    found = re.findall(rf"(?m)^{re.escape(token)}=([A-Za-z]+)\r?$", output or "")
    return found[0] if len(found) == 1 and found[0] in MODES else None


def powershell(environment: Mapping[str, str]) -> str | None:
    """Windows' own PowerShell, by its place and not by PATH."""
    root = {name.upper(): value for name, value in environment.items()}.get("SYSTEMROOT", "C:\\Windows")
    if PLATFORM != "windows":
        return None
    return f"{root}\\System32\\WindowsPowerShell\\v1.0\\powershell.exe"


def _runner(environment: Mapping[str, str]) -> Run:
    quiet = {name: value for name, value in environment.items() if name.upper() != "PSMODULEPATH"}

    def run(command: Sequence[str]) -> str | None:
        try:
            done = subprocess.run(  # noqa: S603 - the system's own PowerShell, with a question of ours
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=str(Path(command[0]).parent),
                env=quiet,
                timeout=TIMEOUT_S,
                check=False,
                creationflags=CREATION_FLAGS,
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout[:_MAX_OUTPUT].decode("utf-8", "replace") if done.returncode == 0 else None

    return run
