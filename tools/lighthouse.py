"""`make lighthouse`: Lighthouse over the pages of a made fleet, the median of three runs; exits with 1 below a target.

Starts a server of its own on a free port with data in a temporary folder. Needs Chromium; Lighthouse is an optional
package of package-lock.json and is installed at the first call. Below a page that misses a target stand the audits that
cost it. Usage: lighthouse.py [PATH...]
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pyotp
from vendor import MODULES, ROOT, VendorError, find_npm

PAGES = (
    "/",
    "/workflows",
    "/workflows?pattern=cache-builds-venv-python",
    "/patterns",
    "/patterns/venv-python",
    "/hosts",
    "/hosts?pattern=venv-python&outcome=blocked",
    "/hosts/1",
    "/hosts/1/tried",
    "/hosts/1/revoke",
    "/hosts/1/forget",
    "/sightings",
    "/sightings?by=path",
    "/versions",
    "/preflight?from=0.12.9&to=0.13.8",
    "/policies",
    "/policies/{first}",
    "/verified",
    "/baseline",
    "/relocation",
    "/rule-sets",
    "/rule-sets/new?pattern=venv-python",
    "/rule-sets/1",
    "/rule-sets/1/patterns/cache-builds-venv-python",
    "/rule-sets/1/plan",
    "/rule-sets/1/what-if",
    "/rule-sets/1/review",
    "/rule-sets/1/export",
    "/export?pattern=venv-python",
    "/exports",
    "/exports/1",
    "/exports/1/what-if",
    "/exports/1/after",
    "/exports/1/hosts",
    "/removals",
    "/requests",
    "/notices",
    "/notices/1",
    "/groups",
    "/agents",
    "/imports",
    "/imports/1",
    "/work",
    "/jobs",
    "/settings",
    "/health",
    "/accounts",
    "/tokens",
    "/audit",
    "/account",
    "/account/codes",
    "/account/codes/remove",
    "/search?q=python",
    "/login",
    "/login/code",
    "/invitation/{invitation}",
    "/blocked",
)
SIGNED_OUT = ("/login", "/blocked")
"""Those and invitations are opened by nobody, /login/code by somebody who gave their password, the others by Ada."""
ANALYST = "analyst@example.com"
RUNS = 3
TRIES = 4
TIMEOUT_S = 120
# What Lighthouse says of a recording that lacks its first or last event, not of the page.
BAD_RECORDINGS = {"NO_NAVSTART", "NO_TRACING_STARTED", "NO_FCP", "NO_LCP", "NO_DCL", "PROTOCOL_TIMEOUT"}
NODE_AT_LEAST = 22
HOSTS = 2_000
TARGETS = {"performance": 95, "accessibility": 100, "best-practices": 100}
# Our Cross-Origin-Opener-Policy makes Chromium load each page in a new process, which on a busy machine begins to
# record after the navigation began (NO_NAVSTART). With a limit of one the page comes into the process that records.
CHROME_FLAGS = "--headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --renderer-process-limit=1"


def main(pages: list[str]) -> int:
    """Prints a table. Exit codes: 0 all targets met, 1 one missed, 2 something needed is not there."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        print("make lighthouse needs chromium (Debian: apt-get install chromium)", file=sys.stderr)
        return 2
    try:
        program, path = install()
    except VendorError as error:
        print(f"tools/lighthouse.py: {error}", file=sys.stderr)
        return 2
    missed = 0
    with (
        tempfile.TemporaryDirectory(prefix="wayleave-lighthouse-") as folder,
        serving(Path(folder)) as site,
    ):
        environment = {**os.environ, "PATH": path, "CHROME_PATH": chromium}
        print(f"{'page':<48}" + "".join(f"{name:>16}" for name in TARGETS))
        for page in [site.address(page) for page in pages or PAGES]:
            scores, costly = measure(program, f"{site.url}{page}", site.cookie_for(page), environment)
            print(f"{page:<48}" + "".join(f"{scores[name]:>16.0f}" for name in TARGETS), flush=True)
            short = sum(scores[name] < target for name, target in TARGETS.items())
            missed += short
            for audit in costly if short else ():
                print(f"    {audit}", flush=True)
    targets = ", ".join(f"{name} {target}" for name, target in TARGETS.items())
    print(f"Targets ({targets}): {'all met' if not missed else f'{missed} missed'}")
    return 1 if missed else 0


def install() -> tuple[Path, str]:
    """Lighthouse's program, installed from the lock if it is not there, and the PATH it needs. raises: VendorError"""
    npm = find_npm(NODE_AT_LEAST)
    path = f"{Path(npm[0]).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    program = MODULES / ".bin" / "lighthouse"
    if not program.exists():
        print("   npm ci, with Lighthouse", flush=True)
        done = subprocess.run([*npm, "ci", "--loglevel=error"], cwd=ROOT, env={**os.environ, "PATH": path}, check=False)
        if done.returncode or not program.exists():
            raise VendorError("`npm ci` did not install Lighthouse (see above)")
    return program, path


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A server with a made fleet. `cookie`: of somebody who signed in; `policy`, `invitation`: addresses of pages."""

    url: str
    password: str
    cookie: str
    policy: str
    invitation: str

    def address(self, page: str) -> str:
        """A page's address, with what its name leaves out."""
        return page.replace("/policies/{first}", self.policy).replace("/invitation/{invitation}", self.invitation)

    def cookie_for(self, page: str) -> str:
        """What a browser sends that may open this page."""
        if page == "/login/code":  # good for some minutes only
            with entering(self.url, ANALYST, self.password) as client:
                return cookies_of(client)
        return "" if page in SIGNED_OUT or page.startswith("/invitation/") else self.cookie


@contextmanager
def entering(url: str, email: str, password: str) -> Iterator[httpx.Client]:
    """Somebody who gave their password."""
    transport = httpx.HTTPTransport(retries=5)
    with httpx.Client(base_url=url, transport=transport, headers={"Origin": url}) as client:
        client.post("/login", data={"email": email, "password": password})
        yield client


def cookies_of(client: httpx.Client) -> str:
    return "; ".join(f"{item.name}={item.value}" for item in client.cookies.jar)


def find(pattern: str, client: httpx.Client, path: str, data: dict[str, str] | None = None) -> str:
    """What a page says, or its answer to a form. raises: SystemExit where it does not"""
    answer = client.get(path) if data is None else client.post(path, data=data)
    found = re.search(pattern, answer.text)
    if found is None:
        raise SystemExit(f"{path} shows nothing like {pattern}")
    return found[1]


def use_codes(client: httpx.Client) -> None:
    """Whoever signed in sets up one-time codes. raises: SystemExit"""
    secret = find(r"Or type this secret: <code[^>]*>([A-Z2-7 ]+)<", client, "/account/codes").replace(" ", "")
    find("(recovery)", client, "/account/codes", {"code": pyotp.TOTP(secret).now()})


@contextmanager
def serving(folder: Path) -> Iterator[Site]:
    """Starts a server with a made fleet, and ends it."""
    environment = {**os.environ, "WAYLEAVE_DATA_DIR": str(folder), "WAYLEAVE_DATABASE_URL": ""}
    wayleave = [sys.executable, "-m", "app.cli.main"]
    email, password = "ada@example.com", secrets.token_urlsafe(16)

    def run(*arguments: str, stdin: str = "") -> None:
        command = [*wayleave, *arguments]
        subprocess.run(
            command, cwd=ROOT, env=environment, input=stdin, text=True, check=True, stdout=subprocess.DEVNULL
        )

    run("db", "upgrade")
    run("fleet", "make", "--hosts", str(HOSTS))
    run("admin", "create", "--email", email, "--password-stdin", stdin=password)
    story = [sys.executable, str(ROOT / "tools" / "demo_story.py"), ANALYST, "approver@example.com"]
    subprocess.run(story, cwd=ROOT, env=environment, input=password, text=True, check=True)
    command = [*wayleave, "serve", "--port", "0"]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            found = None
            while found is None and (line := server.stdout.readline()):
                found = re.search(r"listens on (http://\S+)", line)
            if found is None:
                raise SystemExit("the server did not start")
            with entering(found[1], ANALYST, password) as client:
                use_codes(client)
            invited = {"email": "new@example.com", "role": "viewer"}
            with entering(found[1], email, password) as client:
                site = Site(
                    url=found[1],
                    password=password,
                    policy=find(r'href="(/policies/\d+)"', client, "/policies"),
                    invitation=find(r"(/invitation/[\w-]{20,})", client, "/accounts/invitations", invited),
                    cookie=cookies_of(client),
                )
            yield site
        finally:
            server.terminate()


def measure(program: Path, url: str, cookie: str, environment: dict[str, str]) -> tuple[dict[str, float], list[str]]:
    """Category -> the median score of several runs, 0 to 100, and which audits lacked. raises: SystemExit"""
    collected: dict[str, list[float]] = {name: [] for name in TARGETS}
    costly: set[str] = set()
    for _ in range(RUNS):
        report = run_once(program, url, cookie, environment)
        for name in TARGETS:
            category = report["categories"][name]
            collected[name].append(100 * (category["score"] or 0))
            for one in category["auditRefs"]:
                audit = report["audits"][one["id"]]
                if one["weight"] and audit["score"] is not None and audit["score"] < 0.9:
                    costly.add(f"{name}: {audit['title']} ({audit.get('displayValue', 'failed')})")
    return {name: statistics.median(scores) for name, scores in collected.items()}, sorted(costly)


def run_once(program: Path, url: str, cookie: str, environment: dict[str, str]) -> dict[str, Any]:
    """One report; a recording that failed is made again a few times. raises: SystemExit when Lighthouse fails"""
    command = [str(program), url, "--output=json", "--quiet", f"--chrome-flags={CHROME_FLAGS}", "--preset=desktop"]
    command += [f"--only-categories={','.join(TARGETS)}"]
    if cookie:
        command += ["--extra-headers", json.dumps({"Cookie": cookie})]
    said = ""
    for _ in range(TRIES):
        try:
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, check=False, timeout=TIMEOUT_S
            )
        except subprocess.TimeoutExpired:
            said = f"no answer in {TIMEOUT_S} s"
            continue
        said = done.stderr[-2000:]
        if not done.returncode:
            report: dict[str, Any] = json.loads(done.stdout)
            if urlpath(report["finalDisplayedUrl"]) != urlpath(url):
                raise SystemExit(f"{url} led to {report['finalDisplayedUrl']}")
            return report
        if not any(f"({code})" in said for code in BAD_RECORDINGS):
            break
        print(f"    a recording failed and is made again: {said.splitlines()[0]}", file=sys.stderr)
    raise SystemExit(f"Lighthouse failed on {url}:\n{said}")


def urlpath(url: str) -> str:
    return httpx.URL(url).path


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
