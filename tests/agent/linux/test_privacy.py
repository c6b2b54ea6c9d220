"""Promise 9 with everything real: secrets planted around a real uv are nowhere in wire, spool, state or output."""

from __future__ import annotations

import base64
import secrets
import urllib.parse
from pathlib import Path

import pytest

from agent._platform import read_machine_id
from agent.spool import Identity, Progress, hash_machine, locked, save_identity, save_progress
from tests.agent.linux.workstation import Workstation, build, use_uv


@pytest.fixture
def planted() -> dict[str, str]:
    return {name: f"zq{secrets.token_hex(6)}" for name in ("user", "project", "password", "index", "tool")}


@pytest.fixture
def secretive(tmp_path: Path, planted: dict[str, str]) -> Workstation:
    """A workstation whose home, project, settings and variables are full of secrets."""
    home = tmp_path / planted["user"]
    home.mkdir()
    made = build(home, tmp_path / "outside")
    use_uv(made)
    project = home / "src" / planted["project"]
    made.project.rename(project)
    tool = home / ".local/share/uv/tools" / planted["tool"]
    (home / ".local/share/uv/tools/greeter").rename(tool)
    (tool / "bin" / "greet").rename(tool / "bin" / planted["tool"])
    settings = home / ".config" / "uv"
    settings.mkdir(parents=True)
    index = f"https://{planted['user']}:{planted['password']}@{planted['index']}.example/simple"
    (settings / "uv.toml").write_text(f'extra-index-url = ["{index}"]\ncache-dir = "{home}/{planted["project"]}"\n')
    return made


def spellings(secret: str) -> set[bytes]:
    written = {secret, secret.upper(), secret.capitalize(), urllib.parse.quote(secret, safe="")}
    encoded = {base64.b64encode(b" " * lead + secret.encode())[4:-4].decode() for lead in range(3)}
    return {text.encode() for text in written | encoded | {secret[:6].upper() + "~1"}}


def test_planted_secrets_are_nowhere(secretive: Workstation, planted: dict[str, str]) -> None:
    variables = {
        "UV_INDEX_URL": f"https://{planted['user']}:{planted['password']}@{planted['index']}.example",
        "UV_PUBLISH_TOKEN": planted["password"],
        "UV_PROJECT_ENVIRONMENT": f"{secretive.home}/{planted['project']}/.venv",
        "UV_LINK_MODE": planted["password"],
        "XDG_BIN_HOME": f"{secretive.home}/{planted['tool']}/bin",
        "HTTPS_PROXY": f"http://{planted['user']}:{planted['password']}@127.0.0.1:9",
    }
    with locked(secretive.state_dir) as state_dir:
        save_identity(
            state_dir,
            Identity(server="https://127.0.0.1:9", host_id="1", token="t", machine=hash_machine(read_machine_id())),
        )
        save_progress(state_dir, Progress(epoch=1))

    wire = secretive.run_agent("probe", "--format", "wire", variables=variables)
    table = secretive.run_agent("probe", "--format", "table", variables=variables)
    once = secretive.run_agent("once", variables=variables)
    status = secretive.run_agent("status", variables=variables)

    assert (wire.returncode, table.returncode, once.returncode, status.returncode) == (0, 0, 5, 0)
    # The secrets were met: a real environment, found by searching, and a real tool were tried.
    for pattern in ("venv-entrypoint-exe", "tool-env-entrypoint-exe"):
        assert any(line.startswith(pattern) and line.endswith("real") for line in table.stdout.splitlines()), (
            table.stdout
        )
    places = {"standard output": "".join(run.stdout for run in (wire, table, once, status)).encode()}
    places["standard error"] = "".join(run.stderr for run in (wire, table, once, status)).encode()
    files = [path for path in secretive.state_dir.rglob("*") if path.is_file()]
    assert any(path.parent.name == "spool" for path in files)
    places |= {str(path.relative_to(secretive.state_dir)): path.read_bytes() for path in files}
    for place, content in places.items():
        for name, secret in planted.items():
            for spelling in spellings(secret):
                assert spelling not in content, (place, name, spelling)
