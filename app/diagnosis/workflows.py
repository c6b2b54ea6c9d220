"""Which of the catalogue's workflows an output is of: from the command that was typed, else from what was refused."""

from __future__ import annotations

import re

from agent.catalogue import load

_BUILDS = frozenset(
    {
        "cache-builds-venv-python",
        "cache-builds-venv-entrypoint-exe",
        "cache-builds-venv-native-lib",
        "cache-sdist-source-tree",
        "cache-sdist-staging-temp",
        "cache-git-checkout",
        "build-backend-python-temp",
    }
)
_SCRIPT_ENVIRONMENT = frozenset(
    {"cache-script-env-python", "cache-script-env-entrypoint-exe", "cache-script-env-other"}
)


def workflow_of(pattern: str | None, commands: list[str]) -> str | None:
    """The id of a workflow, None if neither the commands nor the pattern tell one."""
    for command in reversed(commands):
        found = _of_command(command, pattern)
        if found:
            return found
    if pattern in _BUILDS:
        return "sync-build"
    if pattern == "venv-python":
        return "run-python"
    for workflow in load().workflows:
        if pattern in workflow.needs:
            return workflow.id
    return next((workflow.id for workflow in load().workflows if pattern in workflow.optional), None)


def _of_command(command: str, pattern: str | None) -> str | None:
    words = [word for word in command.split() if not word.startswith("-")]
    program, rest = words[0], words[1:]
    if program == "uvx" or rest[:2] == ["tool", "run"]:
        return "uvx"
    first = rest[0] if rest else ""
    if first == "run":
        return _of_run(command, rest[1:], pattern)
    if first in ("sync", "add", "lock", "pip", "remove"):
        return "sync-build" if pattern in _BUILDS else "sync-wheels"
    named = {
        ("venv",): "venv",
        ("build",): "build",
        ("format",): "format",
        ("check",): "format",
        ("python", "install"): "python-install",
        ("tool", "install"): "tool-install",
        ("tool", "upgrade"): "tool-install",
        ("self", "update"): "self-update",
    }
    return named.get(tuple(rest[:1])) or named.get(tuple(rest[:2]))


def _of_run(command: str, arguments: list[str], pattern: str | None) -> str:
    if pattern in _BUILDS and pattern != "cache-builds-venv-python":
        return "sync-build"
    if re.search(r" --with\b", command):
        return "run-with"
    if pattern == "cache-builds-venv-python":
        return "sync-build"
    if pattern in _SCRIPT_ENVIRONMENT or " --script" in command:
        return "run-script"
    what = arguments[0].lower() if arguments else ""
    is_python = not what or what.startswith("python") or what.endswith((".py", ".pyw"))
    return "run-python" if is_python or pattern == "venv-python" else "run-entrypoint"
