"""Every page, filter and form on SQLite and on PostgreSQL alike: the same fleet gives the same figures."""

from __future__ import annotations

import re
import sys
from html import unescape
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

from fastapi import FastAPI
from starlette.testclient import TestClient

from app.accounts.create import create_account
from app.db.session import session_scope

PASSWORD = "correct horse battery"
SID = "S-1-5-21-1004336348-1177238915-682003330-1234"

SPEC = spec_from_file_location("small_fleet", Path(__file__).with_name("small_fleet.py"))
assert SPEC is not None
assert SPEC.loader is not None
small_fleet = module_from_spec(SPEC)
sys.modules[SPEC.name] = small_fleet  # its dataclasses look themselves up
SPEC.loader.exec_module(small_fleet)

PAGES = {
    "/": "<strong>32",
    "/patterns?state=refused": "cache-builds-venv-python",
    "/patterns/cache-builds-venv-python": "8004",
    "/hosts": "<strong>27 hosts</strong>",
    "/hosts?q=sales": "<strong>8 hosts</strong>",
    "/hosts?pattern=venv-python": "<strong>8 hosts</strong>",
    "/hosts?pattern=venv-python&outcome=allowed&standing=counted": "<strong>17 hosts</strong>",
    "/hosts?version=0.12.9": "<strong>5 hosts</strong>",
    "/hosts?older=0.13.0": "<strong>5 hosts</strong>",
    "/hosts/1": "is blocked at",
    "/versions": "&amp;older=",
    "/export": "blocked for 68",
    "/agents": "<strong>27 hosts</strong>",
    "/accounts": "<strong>1 person</strong>",
    "/audit?q=LOGIN": "login.succeeded",
    "/requests": "Nobody has asked yet",
    "/imports": "Nothing was imported yet",
    "/work": "Nothing is being worked out at the moment",
    "/account": "ada@example.com",
}


def test_every_page(client: TestClient, server: FastAPI) -> None:
    with session_scope(server.state.engine) as session:
        create_account(session, "ada@example.com", PASSWORD, "administrator")
    small_fleet.report_all(server, client, small_fleet.machines())
    client.post("/login", data={"email": "ada@example.com", "password": PASSWORD})
    for path, words in PAGES.items():
        page = client.get(path)
        assert page.status_code == 200, path
        assert words in page.text, path


def test_every_form(client: TestClient, server: FastAPI) -> None:
    with session_scope(server.state.engine) as session:
        create_account(session, "ada@example.com", PASSWORD, "administrator")
    assert client.post("/login", data={"email": "ada@example.com", "password": "wrong"}).status_code == 422
    client.post("/login", data={"email": "ada@example.com", "password": PASSWORD})
    secret = client.post("/agents/secrets", data={"group": "Lab", "uses": "3", "network": "10.0.0.0/8"})
    assert "--secret wle_" in secret.text
    assert "10.0.0.0/8" in client.get("/agents").text
    invited = client.post("/accounts/invitations", data={"email": "eve@example.com", "role": "viewer"})
    link = re.search(r"http://[^<\"]+(/invitation/[\w-]+)", unescape(invited.text))
    assert link is not None
    made = client.post(link[1], data={"password": PASSWORD, "repeated": PASSWORD}, follow_redirects=False)
    assert made.status_code == 303
    client.post("/login", data={"email": "ada@example.com", "password": PASSWORD})
    choice = {"pattern": ["venv-python"], "sid": SID}
    assert client.post("/export/file", data=choice).status_code == 200
    assert client.get("/exports/1").status_code == 200
    new = {"current": PASSWORD, "password": PASSWORD + "!", "repeated": PASSWORD + "!"}
    assert "Your password is changed" in client.post("/account/password", data=new).text
    assert client.post("/logout").url.path == "/login"
