"""Promise 9 with the packaged agent on Windows: secrets planted all around uv are nowhere in what it says or keeps.

The secrets are new in each run and stand where people have theirs: names of projects, folders and tools, indexes with
passwords, tokens, settings files, and events of all kinds, also with the short names that Windows makes of them.
"""

from __future__ import annotations

import base64
import gzip
import json
import secrets
import shutil
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest

from agent.places import NOTE_NAME
from installer.frozen import Frozen
from tests.windows.bench.events import APPLOCKER_EXE, CODE_INTEGRITY, forget_channels, write_channel
from tests.windows.bench.places import LOCAL_APPDATA, MANAGED_PYTHON, ROAMING_APPDATA, on_disk
from tests.windows.bench.run import run
from tests.windows.bench.server import running_server
from tests.windows.frozen import CONSOLE, WINDOWED, put_in_place, run_elevated
from tests.windows.test_events_to_server import applocker, other

pytestmark = pytest.mark.windows

STATE, USER_STATE = r"C:\ProgramData\Wayleave", rf"{LOCAL_APPDATA}\Wayleave"
NAMES = ("project", "folder", "tool", "index", "password", "token", "package", "game")


@pytest.fixture
def planted() -> dict[str, str]:
    """Secrets by what they are; those in paths have what is written differently in addresses."""
    made = {name: f"zq{secrets.token_hex(6)}" for name in NAMES}
    return made | {"project": f"zq {secrets.token_hex(5)} ü", "folder": f"zq+{secrets.token_hex(5)}&"}


@pytest.fixture
def workstation(clean_bench: None, frozen: Frozen, planted: dict[str, str]) -> Iterator[dict[str, str]]:
    """The bench, full of secrets, with the packaged agent on it. Gives the variables that a user has set."""
    put_in_place(frozen.directory)
    project, tool = rf"C:\src\{planted['project']}", planted["tool"]
    index = f"https://{planted['token']}:{planted['password']}@{planted['index']}.example/simple"
    plant(rf"{project}\.venv\Scripts\python.exe", on_disk(MANAGED_PYTHON).read_bytes())
    plant(rf"{project}\.venv\pyvenv.cfg", f"home = C:\\{planted['folder']}\nuv = 0.13.8\nprompt = {tool}\n")
    plant(rf"{project}\uv.toml", f'index-url = "{index}"\n')
    tools = rf"C:\src\{planted['folder']}\tools\{tool}"
    plant(rf"{tools}\Scripts\{tool}.exe", on_disk(MANAGED_PYTHON).read_bytes())
    plant(rf"{tools}\uv-receipt.toml", f'[tool]\nrequirements = [{{ name = "{planted["package"]}" }}]\n')
    settings = f'extra-index-url = ["{index}"]\ncache-dir = "C:/src/{planted["folder"]}/cache"\n'
    for place in (ROAMING_APPDATA, r"C:\ProgramData"):
        plant(rf"{place}\uv\uv.toml", settings)
    yield {
        "UV_INDEX_URL": index,
        "UV_DEFAULT_INDEX": index,
        "UV_PUBLISH_TOKEN": planted["token"],
        "UV_INDEX_PRIVATE_PASSWORD": planted["password"],
        "UV_PROJECT_ENVIRONMENT": rf"{project}\.venv",
        "UV_LINK_MODE": planted["password"],
        "UV_TOOL_DIR": rf"C:\src\{planted['folder']}\tools",
        "XDG_BIN_HOME": rf"C:\src\{planted['folder']}\bin",
        "HTTPS_PROXY": f"http://{planted['token']}:{planted['password']}@127.0.0.1:9",
        "VIRTUAL_ENV": rf"{project}\.venv",
    }
    forget_channels()
    for path in (rf"{ROAMING_APPDATA}\uv\uv.toml", r"C:\ProgramData\uv\uv.toml"):
        on_disk(path).unlink()
    for folder in (STATE, USER_STATE):
        shutil.rmtree(on_disk(folder), ignore_errors=True)


def plant(path: str, content: bytes | str) -> None:
    file = on_disk(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content.encode() if isinstance(content, str) else content)


def plant_events(sid: str, planted: dict[str, str]) -> None:
    """Refusals of uv's patterns in secret places, by long and by short names, and of what is none of our business."""
    short = f"{planted['project'].replace(' ', '')[:6].upper()}~1"
    venvs = [rf"C:\src\{name}\.venv\Scripts\python.exe" for name in (planted["project"], short, planted["folder"])]
    inside = rf"{planted['tool']}\Scripts\{planted['tool']}.exe"
    tools = [rf"{place}\tools\{inside}" for place in (rf"C:\src\{planted['folder']}", rf"{ROAMING_APPDATA}\uv")]
    archive = rf"{LOCAL_APPDATA}\uv\cache\archive-v0\{'a' * 16}\Scripts\{planted['tool']}.exe"
    mine = [*venvs, *tools, archive, rf"C:\Users\alice\{planted['game']}\{planted['game']}.exe"]
    events = [applocker(number, sid, path=path) for number, path in enumerate(mine, 10)]
    events.append(
        applocker(
            10 + len(events), "S-1-5-21-7-7-7-7777", path=rf"C:\Users\{planted['token']}\.venv\Scripts\python.exe"
        )
    )
    write_channel(APPLOCKER_EXE, events)
    device = tools[1].replace("C:", r"\Device\HarddiskVolume3")
    write_channel(
        CODE_INTEGRITY,
        [other(70, sid, "Microsoft-Windows-CodeIntegrity", 3077, f"<Data Name='File Name'>{device}</Data>")],
    )


def spellings(secret: str) -> set[bytes]:
    """A secret as it is, in capitals, as an address or base64 writes it, and as a short name."""
    written = {secret, secret.upper(), secret.capitalize(), urllib.parse.quote(secret, safe="")}
    written |= {urllib.parse.quote_plus(secret), urllib.parse.quote(secret, safe="").lower()}
    encoded = {base64.b64encode(b" " * lead + secret.encode())[4:-4].decode() for lead in range(3)}
    escaped = {json.dumps(text)[1:-1] for text in written}
    short = {secret.replace(" ", "")[:6].upper() + "~1", secret.replace("+", "_")[:6].upper() + "~1"}
    texts = written | encoded | escaped | short
    return {text.encode() for text in texts} | {text.encode("utf-16-le") for text in texts}


@contextmanager
def listening_on_the_wire(server: str) -> Iterator[tuple[str, list[bytes]]]:
    """Stands between agent and server. Gives an address, and all that the agent says there, headers included."""
    heard: list[bytes] = []

    class Between(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            plain = gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body
            told = {name: value for name, value in self.headers.items() if name.lower() not in ("host", "connection")}
            heard.append(f"{self.path}\n{self.headers}".encode() + plain)
            answer = httpx.post(server + self.path, content=body, headers=told, timeout=30)
            self.send_response(answer.status_code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        do_GET = do_POST

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Between) as between:
        Thread(target=between.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{between.server_address[1]}", heard
        between.shutdown()


def test_planted_secrets_are_nowhere(workstation: dict[str, str], planted: dict[str, str], tmp_path: Path) -> None:
    outputs: list[bytes] = []

    def keep(output: str) -> str:
        outputs.append(output.encode())
        return output

    with running_server(tmp_path) as server, listening_on_the_wire(server.url) as (address, wire):
        plant(r"C:\src\secret.txt", server.enrolment_secret())
        installed = run_elevated(
            CONSOLE, "install", "--no-tasks", "--server", address, "--secret-file", r"C:\src\secret.txt"
        )
        assert installed.code == 0, installed
        first = run_elevated(CONSOLE, "machine", variables=workstation)
        [inbox] = on_disk(rf"{STATE}\inbox").iterdir()
        plant_events(inbox.name, planted)
        seen = keep(run([CONSOLE, "probe", "--format", "wire"], variables=workstation).output)
        table = keep(run([CONSOLE, "probe", "--format", "table"], variables=workstation).output)

        noted = run([WINDOWED, "user"], variables=workstation)
        assert (first.code, noted.code) == (0, 0), (first, noted)
        # Once into the spool, where it waits, and once to the server.
        unreachable = {**workstation, "HTTP_PROXY": "http://127.0.0.1:1"}
        waiting = run_elevated(CONSOLE, "machine", "--force", variables=unreachable)
        assert "1 waiting" in waiting.output, waiting
        spooled = contents(STATE) | contents(USER_STATE)
        assert any("spool" in name for name in spooled)
        sent = run_elevated(CONSOLE, "machine", "--force", variables=workstation)
        assert (sent.code, " 0 waiting" in sent.output) == (0, True), sent
        for words in (first, noted, waiting, sent, run_elevated(CONSOLE, "doctor", variables=workstation)):
            keep(words.output)
        keep(run([CONSOLE, "status"], variables=workstation).output)

    # The secrets were met: a real environment and a real tool were tried, and the events of uv's patterns were told.
    for pattern in ("venv-python", "tool-env-entrypoint-exe"):
        assert any(line.startswith(f"{pattern} ") and line.endswith("real") for line in table.splitlines()), table
    assert_what_was_shown_was_sent(seen, wire)

    places = {f"output {number}": output for number, output in enumerate(outputs)}
    places |= {f"wire {number}": told for number, told in enumerate(wire)}
    places |= spooled | contents(STATE) | contents(USER_STATE)
    places |= {f"server's {path.name}": path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert len(wire) > 2
    for place, content in places.items():
        for name, secret in planted.items():
            found = [spelling for spelling in spellings(secret) if spelling in content]
            assert not found, (place, name, found)


def assert_what_was_shown_was_sent(shown: str, wire: list[bytes]) -> None:
    """What `probe` prints is what the system's half sends of this user, but for saying that an installation did."""
    [line] = [line for line in shown.splitlines() if line.startswith("{")]
    probe = json.loads(line)
    reports = [json.loads(told[told.index(b"{") :]) for told in wire if told.startswith(b"/api/v1/reports")]
    assert probe["sightings"] == [sighting for report in reports for sighting in report["sightings"]]
    assert {sighting["event_id"] for sighting in probe["sightings"]} == {8004, 3077}
    assert "tool-env-entrypoint-exe" in {sighting["pattern"] for sighting in probe["sightings"]}
    sent = {kind: body for report in reports for kind, body in bodies_of(report).items()}
    assert json.loads(sent.pop("host")) == {**json.loads(bodies_of(probe).pop("host")), "attested": True}
    assert sent == {kind: body for kind, body in bodies_of(probe).items() if kind != "host"}


def bodies_of(report: dict[str, Any]) -> dict[str, str]:
    return {kind: report["bodies"][name] for kind, name in report["sets"].items() if name in report["bodies"]}


def contents(folder: str) -> dict[str, bytes]:
    """Every file below a folder of the bench's drive, by its path.

    A user's note tells the system's half, on the same machine, where that user's places are; that part stays out.
    """
    files = {path: path.read_bytes() for path in on_disk(folder).rglob("*") if path.is_file()}
    for path, content in files.items():
        if path.name == NOTE_NAME:
            note = json.loads(content)
            assert note.pop("machine")["project_roots"]
            files[path] = json.dumps(note, ensure_ascii=False).encode()
    return {str(path.relative_to(on_disk("C:\\"))): content for path, content in files.items()}
