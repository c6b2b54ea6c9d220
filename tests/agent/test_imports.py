"""The agent's start is lean: no pydantic, nothing of the server, no network code before there is something to send."""

from __future__ import annotations

import json
import subprocess
import sys

FOREIGN = {"pydantic", "app", "fastapi", "starlette", "sqlalchemy", "click", "jinja2", "cryptography"}
NETWORK = {"httpx", "truststore", "ssl"}


def loaded_by(module: str) -> set[str]:
    code = f"import sys, json, {module}; print(json.dumps(sorted({{name.split('.')[0] for name in sys.modules}})))"
    finished = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(finished.stdout))


def test_the_command_line_loads_neither_the_server_nor_the_network() -> None:
    assert loaded_by("agent.cli") & (FOREIGN | NETWORK) == set()


def test_delivery_loads_nothing_of_the_server() -> None:
    # click comes with httpx's own command line where both are installed.
    assert loaded_by("agent.delivery, agent.enrolling") & (FOREIGN - {"click"}) == set()
