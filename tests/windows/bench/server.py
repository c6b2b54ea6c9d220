"""A real Wayleave server on loopback, made with the commands of the README, and a person who looks at its pages."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import lxml.html

from tests.free_port import free_port
from tests.windows.bench.places import REPOSITORY

EMAIL, PASSWORD = "admin@example.com", "correct horse battery staple"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownProbe:
    """One row of the probes on a host's page, in its words."""

    outcome: str
    engine: str
    error: str


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

    def blocked_patterns(self) -> set[str]:
        """The ids of the patterns that the patterns page lists as blocked for somebody."""
        return _linked_patterns(self.page("/patterns?state=refused"))

    def open_patterns(self) -> set[str]:
        """The ids of the patterns that it lists as open for all who tried."""
        return _linked_patterns(self.page("/patterns?state=open"))

    def choosable_patterns(self) -> set[str]:
        """The ids of the patterns that the export page offers to open."""
        return set(parse(self.page("/export")).xpath("//input[@name='pattern']/@value"))

    def probes_of_only_host(self) -> dict[str, ShownProbe]:
        """What the page of the fleet's only host shows of its probes, by pattern."""
        hosts = set(parse(self.page("/hosts")).xpath("//tbody//a[starts-with(@href, '/hosts/')]/@href"))
        assert len(hosts) == 1, hosts
        shown = {}
        for row in parse(self.page(hosts.pop())).xpath("//tr[td[@data-label='Tried with']]"):
            cells = {cell.get("data-label"): " ".join(cell.text_content().split()) for cell in row.xpath("td")}
            [pattern] = row.xpath("th/a/@href")
            outcome = cells["Outcome"].split()[0].lower()
            shown[pattern.removeprefix("/patterns/")] = ShownProbe(
                outcome=outcome, engine=cells["By"], error=cells["Error"]
            )
        return shown

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
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WAYLEAVE_")}
    environment = {
        **kept,
        "WAYLEAVE_DATA_DIR": str(data_dir),
        "WAYLEAVE_BASE_URL": url,
        # The tests change the policy more often in a minute than a workstation's changes in a year.
        "WAYLEAVE_NEW_SETS_PER_DAY": "500",
    }
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


def parse(html: str) -> Any:
    """A page as a tree."""
    return lxml.html.fromstring(html)


def _linked_patterns(html: str) -> set[str]:
    links = parse(html).xpath("//tbody//th/a[starts-with(@href, '/patterns/')]/@href")
    return {link.removeprefix("/patterns/") for link in links}


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
