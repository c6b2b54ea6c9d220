"""Podman with a storage of its own under .bench/, and the images that docker-compose.yml asks a registry for.

There is no registry here: `debian:trixie-slim` is imported from the bench's Debian folder, `postgres:17` and `caddy:2`
are built from Debian's packages (images/). Our own two images are built by the repository's Dockerfile, unchanged.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.windows.bench.debian import BenchError
from tests.windows.bench.places import BENCH
from tests.windows.bench.setup import build_base

ROOT = Path(__file__).resolve().parents[2]
IMAGES = Path(__file__).parent / "images"
STORAGE = BENCH / "containers"
AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
NEEDED = ("podman", "podman-compose", "runc", "debootstrap", "unshare")

# Podman where there is neither systemd nor an editable cgroup tree: Debian's runc, and limits that any root may set.
CONTAINERS_CONF = """
[containers]
default_ulimits = ["nofile=1024:4096", "nproc=1024:2048"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
tmp_dir = "{storage}/tmp"
[network]
network_config_dir = "{storage}/networks"
"""
STORAGE_CONF = """
[storage]
driver = "overlay"
graphroot = "{storage}/graph"
runroot = "{storage}/run"
"""

type_of_podman = Callable[..., str]


@pytest.fixture(scope="session")
def environment() -> Mapping[str, str]:
    """The environment in which podman uses our storage. Skips with what the machine lacks."""
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")
    if os.geteuid() != 0:
        pytest.skip("needs root")
    STORAGE.mkdir(parents=True, exist_ok=True)
    for name, text in (("containers.conf", CONTAINERS_CONF), ("storage.conf", STORAGE_CONF)):
        (STORAGE / name).write_text(text.format(storage=STORAGE))
    return {
        **os.environ,
        "CONTAINERS_CONF": str(STORAGE / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(STORAGE / "storage.conf"),
    }


@pytest.fixture(scope="session")
def podman(environment: Mapping[str, str]) -> Iterator[type_of_podman]:
    """Runs podman and returns what it prints. Afterwards no container, volume or network of ours is left."""

    def run(*arguments: str, stdin: str | None = None, timeout_s: float = 300) -> str:
        started = time.monotonic()
        finished = subprocess.run(
            ["podman", *arguments],
            env=environment,
            input=stdin if stdin is not None else "",
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if finished.returncode:
            tail = "\n".join((finished.stdout + finished.stderr).splitlines()[-40:])
            raise AssertionError(f"podman {' '.join(arguments)} ended with {finished.returncode}:\n{tail}")
        if time.monotonic() - started > 5:
            print(f"podman {arguments[0]} ... {arguments[-1]}: {time.monotonic() - started:.0f} s", flush=True)
        return finished.stdout

    clean(environment)
    yield run
    clean(environment)


def clean(environment: Mapping[str, str]) -> None:
    """Removes all containers, pods, volumes and networks of our storage, and what is mounted for them."""
    for command in (
        ("pod", "rm", "--all", "--force", "--time", "3"),
        ("rm", "--all", "--force", "--volumes", "--time", "3"),
        ("volume", "prune", "--force"),
        ("network", "prune", "--force"),
    ):
        subprocess.run(
            ["podman", *command], env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
    # Podman leaves the storage folder mounted on itself; without this, `rm -rf .bench` would stumble over it.
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for mount in sorted((item for item in mounts if item.startswith(f"{STORAGE}/")), reverse=True):
        subprocess.run(["umount", mount], capture_output=True, check=False)


@pytest.fixture(scope="session")
def images(podman: type_of_podman, environment: Mapping[str, str]) -> Mapping[str, str]:
    """Every image that docker-compose.yml names: purpose -> image."""
    try:
        debian = build_base()
    except BenchError as error:
        pytest.fail(str(error))
    base = "docker.io/library/debian:trixie-slim"
    if not has_image(base, environment):
        import_folder(debian, base, environment)
    for name in ("caddy:2", "postgres:17"):
        tag, folder = f"docker.io/library/{name}", IMAGES / name.partition(":")[0]
        podman("build", "--quiet", "--isolation=chroot", "--tag", tag, str(folder))
    built = {"server": "localhost/wayleave-server:latest", "agent": "localhost/wayleave-agent:latest"}
    authorities = []
    if AUTHORITIES.is_file():
        arguments = [f"--build-arg={name}=/ca.crt" for name in ("PIP_CERT", "NODE_EXTRA_CA_CERTS")]
        authorities = [f"--volume={AUTHORITIES}:/ca.crt:ro", *arguments]
    for target, tag in built.items():
        command = ("build", "--isolation=chroot", "--format=docker", *authorities, "--target", target, "--tag", tag)
        podman(*command, str(ROOT), timeout_s=600)
    return {**built, "database": "docker.io/library/postgres:17", "proxy": "docker.io/library/caddy:2"}


def has_image(name: str, environment: Mapping[str, str]) -> bool:
    return subprocess.run(["podman", "image", "exists", name], env=environment, check=False).returncode == 0


def import_folder(folder: Path, tag: str, environment: Mapping[str, str]) -> None:
    """Makes an image of a Debian folder. raises: AssertionError"""
    packages = "./var/cache/apt/archives/*.deb"
    with subprocess.Popen(
        ["tar", "--create", f"--directory={folder}", f"--exclude={packages}", "."], stdout=subprocess.PIPE
    ) as tar:
        done = subprocess.run(
            ["podman", "import", "-", tag], stdin=tar.stdout, env=environment, capture_output=True, check=False
        )
    assert (done.returncode, tar.returncode) == (0, 0), done.stderr.decode()
