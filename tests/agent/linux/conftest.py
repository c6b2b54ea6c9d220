"""A workstation for each test."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.linux.workstation import Workstation, build, noexec_mount


@pytest.fixture
def workstation(tmp_path: Path) -> Workstation:
    """A workstation where everything may run."""
    if not sys.platform.startswith("linux"):
        pytest.skip("needs linux")
    (tmp_path / "home").mkdir()
    return build(tmp_path / "home", tmp_path / "outside")


@pytest.fixture
def closed_workstation(tmp_path: Path) -> Iterator[Workstation]:
    """A workstation whose home is mounted noexec."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        pytest.skip("needs linux and root to mount")
    home = tmp_path / "home"
    with noexec_mount(home):
        yield build(home, tmp_path / "outside")
