"""The Windows bench for the tests of this folder: built once, warm for the session, and quiet afterwards."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from pathlib import Path

import pytest

from installer.frozen import Frozen, freeze
from tests.windows.bench import setup
from tests.windows.bench.agent import forget_state, install_agent
from tests.windows.bench.commands import forget_what_uv_made
from tests.windows.bench.index import package_index
from tests.windows.bench.places import BENCH, SHIM_POLICY, on_disk
from tests.windows.bench.run import start_server, stop_server

POLICIES = Path(__file__).parent / "policies"


@pytest.fixture(scope="session")
def bench(request: pytest.FixtureRequest) -> Iterator[None]:
    """The bench, for this session alone. Skips with what the machine lacks."""
    reason = setup.missing()
    if reason:
        pytest.skip(reason)
    # Building takes a minute or more: its progress is shown as it goes.
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        setup.build(say=lambda line: print(f"\n{line}", end="", flush=True))
    with (BENCH / ".in-use").open("w") as lock:
        # Two test processes would see each other's programs: the second waits for the first.
        fcntl.flock(lock, fcntl.LOCK_EX)
        start_server()
        yield
        stop_server()


@pytest.fixture(scope="session")
def agent_installed(bench: None) -> None:
    """The repository's agent in the bench's Python, as it stands now."""
    install_agent()


@pytest.fixture(scope="session")
def frozen(bench: None, tmp_path_factory: pytest.TempPathFactory) -> Frozen:
    """The packaged agent's directory, made from the sources as they stand now."""
    return freeze(tmp_path_factory.mktemp("frozen") / "agent")


@pytest.fixture
def clean_bench(bench: None) -> Iterator[None]:
    """The bench with no policy, nothing that uv made before, and an agent that has not run yet."""
    on_disk(SHIM_POLICY).unlink(missing_ok=True)
    forget_state()
    forget_what_uv_made()
    yield
    on_disk(SHIM_POLICY).unlink(missing_ok=True)


@pytest.fixture(scope="session")
def index_url() -> Iterator[str]:
    """The address of a package index on loopback."""
    with package_index() as url:
        yield url


@pytest.fixture(scope="session")
def default_rules() -> str:
    """The XML of AppLocker's default rules."""
    return (POLICIES / "default-rules.xml").read_text(encoding="utf-8")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whichever test comes first builds the bench, which may take minutes on a busy machine."""
    for item in items:
        if item.path.is_relative_to(POLICIES.parent) and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(900))
