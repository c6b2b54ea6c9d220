"""`docker compose up`, whole: the demo agent's real report arrives through the TLS proxy, and the page shows it."""

from __future__ import annotations

import json
import re
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.free_port import free_port

ROOT = Path(__file__).resolve().parents[2]
PROJECT = "wayleavetest"
EMAIL, PASSWORD = "reviewer@wayleave.example", "a long enough password for a test"
ROOT_CERTIFICATE = "/data/caddy/pki/authorities/local/root.crt"
MAX_SERVER_IMAGE_BYTES = 420_000_000
"""A quarter of them are the solver that plans rules, and numpy, which it needs."""

pytestmark = [pytest.mark.containers, pytest.mark.slow, pytest.mark.timeout(900)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """The running compose file. `browser` is signed in, and trusts the proxy's own authority alone."""

    url: str
    browser: httpx.Client
    anonymous: httpx.Client


def container(service: str) -> str:
    return f"{PROJECT}_{service}_1"


@pytest.fixture(scope="module")
def fleet(podman: Callable[..., str], images: Mapping[str, str], environment: Mapping[str, str]) -> Iterator[Fleet]:
    https_port, http_port = free_port(), free_port()
    settings = {**environment, "WAYLEAVE_HTTPS_PORT": str(https_port), "WAYLEAVE_HTTP_PORT": str(http_port)}
    compose = ["podman-compose", "--project-name", PROJECT, "--file", str(ROOT / "docker-compose.yml")]
    started = subprocess.run(
        [*compose, "up", "--detach"],
        cwd=ROOT,
        env=settings,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    try:
        assert started.returncode == 0, started.stdout + started.stderr
        authority = wait_for(
            lambda: podman("exec", container("proxy"), "cat", ROOT_CERTIFICATE), "the proxy's authority"
        )
        trust = ssl.create_default_context(cadata=authority)
        url = f"https://localhost:{https_port}"
        with (
            httpx.Client(base_url=url, verify=trust, timeout=20) as anonymous,
            httpx.Client(base_url=url, verify=trust, timeout=20, follow_redirects=True) as browser,
        ):
            wait_for(lambda: anonymous.get("/readyz").raise_for_status(), "the server behind the proxy")
            create = ("wayleave", "admin", "create", "--email", EMAIL, "--password-stdin")
            podman("exec", "--interactive", container("server"), *create, stdin=PASSWORD + "\n")
            answer = browser.post("/login", data={"email": EMAIL, "password": PASSWORD}, headers={"Origin": url})
            assert answer.status_code == 200, answer.text[:2000]
            yield Fleet(url=url, browser=browser, anonymous=anonymous)
    except BaseException:
        for service in ("secrets", "database", "server", "proxy", "enrolment", "agent"):
            logs = subprocess.run(
                ["podman", "logs", "--tail", "25", container(service)],
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
            )
            print(f"---- {service}\n{logs.stdout}{logs.stderr}", flush=True)
        raise
    finally:
        down = [*compose, "down", "--volumes", "--timeout", "3"]
        subprocess.run(down, cwd=ROOT, env=settings, stdin=subprocess.DEVNULL, capture_output=True, check=False)


def wait_for(attempt: Callable[[], object], what: str, timeout_s: float = 120) -> str:
    """The first answer of `attempt` that raises nothing and is not empty. raises: AssertionError with the last one."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            answer = attempt()
            if answer:
                return str(answer)
            trouble: object = "an empty answer"
        except (AssertionError, httpx.HTTPError, OSError) as error:
            trouble = error
        assert time.monotonic() < deadline, f"waited {timeout_s:.0f} s for {what}: {trouble}"
        time.sleep(1)


def test_a_real_report_arrives_through_the_proxy(fleet: Fleet) -> None:
    def host_page() -> str:
        listing = fleet.browser.get("/hosts", params={"os": "linux"}).raise_for_status().text
        found = re.search(r'href="(/hosts/[^"?/]+)"[^>]*>\s*demo-workstation', listing)
        assert found, "no demo-workstation in the list of hosts"
        page = fleet.browser.get(found[1]).raise_for_status().text
        assert "no user has reported from it yet" not in page
        return page

    page = wait_for(host_page, "the demo agent's report")
    # What the noexec mount over uv's cache makes of its build environments.
    row = re.search(r'<th scope="row"><a href="/patterns/cache-builds-venv-python">.*?</tr>', page, re.DOTALL)
    assert row, page
    assert "blocked" in row[0]
    assert ">13<" in row[0]  # EACCES


def test_strangers_see_the_login_alone(fleet: Fleet) -> None:
    answer = fleet.anonymous.get("/hosts")
    assert (answer.status_code, answer.headers["location"].partition("?")[0]) == (303, "/login")
    assert fleet.anonymous.post("/api/v1/reports", content=b"{}").status_code == 401


def test_cookies_are_for_tls_alone(fleet: Fleet) -> None:
    assert len(fleet.browser.cookies.jar) > 0
    assert all(cookie.secure for cookie in fleet.browser.cookies.jar)


@pytest.mark.parametrize("service", ["server", "agent", "database", "proxy"])
def test_containers_are_confined(service: str, fleet: Fleet, podman: Callable[..., str]) -> None:
    (facts,) = json.loads(podman("inspect", container(service)))
    assert facts["HostConfig"]["ReadonlyRootfs"]
    assert "no-new-privileges" in " ".join(facts["HostConfig"]["SecurityOpt"])
    status = podman("exec", container(service), "cat", "/proc/1/status")
    capabilities = int(re.search(r"^CapBnd:\s*(\w+)", status, re.MULTILINE)[1], 16)
    net_bind_service = 1 << 10
    assert capabilities == (net_bind_service if service == "proxy" else 0)
    uid = re.search(r"^Uid:\s*(\d+)", status, re.MULTILINE)
    assert uid is not None
    assert (uid[1] != "0") or service == "proxy"


def test_our_images_are_small_and_hold_no_authority_of_the_builder(
    images: Mapping[str, str], podman: Callable[..., str]
) -> None:
    (facts,) = json.loads(podman("image", "inspect", images["server"]))
    assert facts["Size"] < MAX_SERVER_IMAGE_BYTES
    assert facts["Config"]["User"] == "10001:10001"
    assert "Healthcheck" in facts or "Healthcheck" in facts["Config"]
    words = json.dumps(facts["Config"]) + json.dumps(facts["History"])
    assert "/ca.crt" not in words.replace("ARG", "")
    # Podman leaves an empty file where it had mounted the authority; what matters is that nothing is in it.
    looking = (
        "for f in /ca.crt /source /build /wheel; do [ ! -s $f ] || echo $f; done; command -v pip npm node gcc || true"
    )
    assert podman("run", "--rm", "--network=none", images["server"], "sh", "-c", looking) == ""


def test_no_secret_is_committed_and_each_is_made_once(fleet: Fleet, podman: Callable[..., str]) -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    assert not re.search(r"PASSWORD:\s*\S", text)
    password = podman("exec", container("database"), "cat", "/secrets/database-password").strip()
    assert len(password) >= 32
    assert password not in text
    pgpass = podman("exec", container("server"), "stat", "--format=%a %u", "/secrets/pgpass").split()
    assert pgpass == ["600", "10001"]
    with pytest.raises(AssertionError):
        podman("exec", container("database"), "cat", "/secrets/pgpass")


def test_the_server_listens_behind_the_proxy_alone(fleet: Fleet, podman: Callable[..., str]) -> None:
    (facts,) = json.loads(podman("inspect", container("server")))
    assert [port for port, published in facts["HostConfig"]["PortBindings"].items() if published] == []
