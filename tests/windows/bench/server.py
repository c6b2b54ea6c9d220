"""A real Wayleave server on loopback, made with the commands of the README, and a person who looks at its pages."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import httpx

from tests.windows.bench.places import REPOSITORY

EMAIL, PASSWORD = "admin@example.com", "correct horse battery staple"


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A server that runs, and its administrator's browser."""

    url: str
    environment: Mapping[str, str]
    browser: httpx.Client

    def enrolment_secret(self) -> str:
        """A new secret with which one agent may enrol."""
        found = re.search(r"wle_\d+_[\w-]+", command(self.environment, "enrol-secret", "create"))
        assert found is not None
        return found[0]

    def page(self, path: str) -> str:
        """The HTML of a page. raises: AssertionError for anything but 200."""
        answer = self.browser.get(path)
        assert answer.status_code == 200, f"{path}: {answer.status_code}\n{answer.text[:2000]}"
        return answer.text

    def export(self, patterns: Iterable[str], base: str, sid: str = "S-1-1-0") -> str:
        """The XML that the export page gives for path rules of these patterns, added to a base policy."""
        chosen = list(patterns)
        fields = {
            "pattern": chosen,
            "kind": [f"{pattern}=path" for pattern in chosen],
            "sid": sid,
            "project_roots": "C:\\src",
        }
        review = self.browser.post("/export", data=fields, files={"base_file": ("base.xml", base, "text/xml")})
        assert review.status_code == 200, review.text[:3000]
        answer = self.browser.post("/export/file", data={**fields, "base": base})
        assert answer.status_code == 200, answer.text[:3000]
        assert "attachment" in answer.headers["Content-Disposition"]
        return answer.text


@contextmanager
def running_server(data_dir: Path) -> Iterator[Server]:
    """A server on a fresh embedded database. It is ended on the way out."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WAYLEAVE_")}
    environment = {**kept, "WAYLEAVE_DATA_DIR": str(data_dir), "WAYLEAVE_BASE_URL": url}
    command(environment, "db", "upgrade")
    command(environment, "admin", "create", "--email", EMAIL, "--password-stdin", told=f"{PASSWORD}\n")
    with (data_dir / "server.log").open("wb") as log:
        serve = [sys.executable, "-m", "app.cli.main", "serve", "--host", "127.0.0.1", "--port", str(port)]
        process = subprocess.Popen(
            serve, cwd=REPOSITORY, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            with httpx.Client(base_url=url, timeout=30) as browser:
                _wait_until_ready(browser, process, data_dir / "server.log")
                answer = browser.post("/login", data={"email": EMAIL, "password": PASSWORD})
                assert answer.status_code == 303, answer.text[:2000]
                yield Server(url=url, environment=environment, browser=browser)
        finally:
            process.terminate()
            process.wait(30)


def command(environment: Mapping[str, str], *arguments: str, told: str | None = None) -> str:
    """The output of a `wayleave` command. raises: AssertionError with it when the command fails."""
    finished = subprocess.run(
        [sys.executable, "-m", "app.cli.main", *arguments],
        cwd=REPOSITORY,
        env=environment,
        input=told or "",
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert finished.returncode == 0, f"wayleave {' '.join(arguments)}\n{finished.stdout}\n{finished.stderr}"
    return finished.stdout


def text_of(html: str) -> str:
    """What a person reads on a page, one line per piece of text."""
    reader = _Reader()
    reader.feed(html)
    return "\n".join(reader.pieces)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[str] = []
        self._silent = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._silent += tag in ("script", "style", "template")

    def handle_endtag(self, tag: str) -> None:
        self._silent -= tag in ("script", "style", "template")

    def handle_data(self, data: str) -> None:
        if not self._silent and data.strip():
            self.pieces.append(" ".join(data.split()))


def _wait_until_ready(browser: httpx.Client, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        assert process.poll() is None, log.read_text(errors="replace")
        try:
            if browser.get("/readyz").status_code == 200:
                return
        except httpx.TransportError:
            pass
        assert time.monotonic() < deadline, log.read_text(errors="replace")
        time.sleep(0.1)
