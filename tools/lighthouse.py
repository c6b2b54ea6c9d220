"""`make lighthouse`: Lighthouse over the pages of a made fleet, the median of three runs; exits with 1 below a target.

Starts a server of its own on a free port with data in a temporary folder. Needs Chromium; Lighthouse is an optional
package of package-lock.json and is installed at the first call. Usage: lighthouse.py [PATH...]
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
from pathlib import Path

import httpx
from vendor import MODULES, ROOT, VendorError, find_npm

PAGES = ("/", "/patterns", "/patterns/venv-python", "/hosts", "/versions", "/export")
RUNS = 3
NODE_AT_LEAST = 22
HOSTS = 2_000
TARGETS = {"performance": 95, "accessibility": 100, "best-practices": 100}
CHROME_FLAGS = "--headless=new --no-sandbox --disable-gpu"


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
    with tempfile.TemporaryDirectory(prefix="wayleave-lighthouse-") as folder, serving(Path(folder)) as (url, cookie):
        print(f"{'page':<28}" + "".join(f"{name:>16}" for name in TARGETS))
        for page in pages or PAGES:
            scores = measure(program, f"{url}{page}", cookie, {**os.environ, "PATH": path, "CHROME_PATH": chromium})
            print(f"{page:<28}" + "".join(f"{scores[name]:>16.0f}" for name in TARGETS), flush=True)
            missed += sum(scores[name] < target for name, target in TARGETS.items())
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


@contextmanager
def serving(folder: Path) -> Iterator[tuple[str, str]]:
    """A server with a made fleet: its address, and the cookie of somebody who signed in."""
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
    command = [*wayleave, "serve", "--port", "0"]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            found = None
            while found is None and (line := server.stdout.readline()):
                found = re.search(r"listens on (http://\S+)", line)
            if found is None:
                raise SystemExit("the server did not start")
            with httpx.Client(base_url=found[1], transport=httpx.HTTPTransport(retries=5)) as client:
                client.post("/login", data={"email": email, "password": password}, headers={"Origin": found[1]})
                cookie = "; ".join(f"{item.name}={item.value}" for item in client.cookies.jar)
            yield found[1], cookie
        finally:
            server.terminate()


def measure(program: Path, url: str, cookie: str, environment: dict[str, str]) -> dict[str, float]:
    """Category -> the median score of several runs, 0 to 100. raises: SystemExit when Lighthouse fails"""
    command = [str(program), url, "--output=json", "--quiet", f"--chrome-flags={CHROME_FLAGS}"]
    command += [f"--only-categories={','.join(TARGETS)}", "--extra-headers", json.dumps({"Cookie": cookie})]
    command += ["--preset=desktop"]
    collected: dict[str, list[float]] = {name: [] for name in TARGETS}
    for _ in range(RUNS):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"Lighthouse failed on {url}:\n{done.stderr[-2000:]}")
        report = json.loads(done.stdout)
        if urlpath(report["finalDisplayedUrl"]) != urlpath(url):
            raise SystemExit(f"{url} led to {report['finalDisplayedUrl']}")
        for name in TARGETS:
            collected[name].append(100 * (report["categories"][name]["score"] or 0))
    return {name: statistics.median(scores) for name, scores in collected.items()}


def urlpath(url: str) -> str:
    return httpx.URL(url).path


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
