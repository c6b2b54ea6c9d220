"""An enrolled workstation for the tests of what machines send."""

from __future__ import annotations

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from tests.app.ingest.workstation import Workstation, enrolled


@pytest.fixture
def workstation(client: TestClient, server: FastAPI) -> Workstation:
    return enrolled(client, server)
