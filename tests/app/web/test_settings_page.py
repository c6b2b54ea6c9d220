"""Settings: administrators see each one, what it means and whether it was set; no secret is shown."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from app.accounts.create import create_account
from app.all_tables import metadata
from app.db.session import session_scope
from app.main import create_app
from app.settings import Settings

SECRETS = ("0123456789abcdef" * 4, "the client's secret", "the key of the webhook", "hook-secret")


@pytest.fixture
def page(tmp_path: Path) -> str:
    app = create_app(
        Settings(
            data_dir=tmp_path,
            base_url="http://wayleave.example",
            server_key=SECRETS[0],
            oidc_issuer="https://login.example.com",
            oidc_client_id="wayleave",
            oidc_client_secret=SECRETS[1],
            oidc_roles={"staff": "viewer"},
            audit_webhook=f"https://hooks.example.com/in?key={SECRETS[3]}",
            audit_webhook_key=SECRETS[2],
        )
    )
    metadata().create_all(app.state.engine)
    with session_scope(app.state.engine) as session:
        create_account(session, "ada@example.com", "correct horse battery", "administrator")
    client = TestClient(app, base_url="http://wayleave.example", follow_redirects=False)
    client.post("/login", data={"email": "ada@example.com", "password": "correct horse battery"})
    return client.get("/settings").text


def test_every_setting_is_there_with_its_meaning(page: str) -> None:
    for name, field in Settings.model_fields.items():
        assert f"WAYLEAVE_{name.upper()}" in page
        assert field.description, f"{name} says nothing"
    assert "staff → viewer" in page
    assert "9</strong> of" in page


def test_no_secret_is_shown(page: str) -> None:
    assert page.count("set, not shown") == 3
    for secret in SECRETS:
        assert secret not in page
        assert secret.replace("'", "&#39;") not in page


@pytest.mark.parametrize("role", ["viewer", "analyst", "approver"])
def test_others_may_not(signed_in: Callable[[str], TestClient], role: str) -> None:
    assert signed_in(role).get("/settings").status_code == 403
