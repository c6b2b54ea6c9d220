"""Single sign-on at a real provider: who gets in, as what, and that nothing forged does."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import uvicorn
from fastapi import FastAPI
from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey
from pydantic import ValidationError
from sqlalchemy import select
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from app.accounts.create import create_account
from app.accounts.tables import Account
from app.all_tables import metadata
from app.audit.tables import AuditEntry
from app.db.session import session_scope
from app.main import create_app
from app.settings import Settings

SPEC = spec_from_file_location("provider", Path(__file__).with_name("provider.py"))
assert SPEC is not None
assert SPEC.loader is not None
provider = module_from_spec(SPEC)
sys.modules[SPEC.name] = provider  # its dataclass looks itself up
SPEC.loader.exec_module(provider)

BASE_URL = "http://wayleave.example"
CALLBACK = f"{BASE_URL}/login/sso/callback"
ROLES = {"staff": "viewer", "policy": "approver", "wayleave-admins": "administrator"}


def server(folder: Path, issuer: str, secret: str = provider.CLIENT_SECRET) -> FastAPI:
    app = create_app(
        Settings(
            data_dir=folder,
            database_url="",
            base_url=BASE_URL,
            oidc_issuer=issuer,
            oidc_client_id=provider.CLIENT_ID,
            oidc_client_secret=secret,
            oidc_roles=ROLES,
            oidc_name="Example login",
        )
    )
    metadata().create_all(app.state.engine)
    return app


def browser(app: FastAPI) -> TestClient:
    return TestClient(app, base_url=BASE_URL, follow_redirects=False)


def audit(app: FastAPI, action: str) -> list[dict[str, Any]]:
    with session_scope(app.state.engine, writes=False) as session:
        return list(
            session.scalars(select(AuditEntry.detail).where(AuditEntry.action == action).order_by(AuditEntry.id))
        )


@pytest.fixture(scope="module")
def idp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    if not provider.is_installed():
        pytest.skip("needs glewlwyd")
    with provider.running_glewlwyd(tmp_path_factory.mktemp("provider"), CALLBACK) as running:
        running.add_person("grace", "Grace@example.com", ["staff", "wayleave-admins", "chess"])
        running.add_person("linus", "linus@example.com", ["staff"])
        running.add_person("guest", "guest@example.com", ["visitors"])
        yield running


@pytest.fixture
def app(tmp_path: Path, idp: Any) -> FastAPI:
    return server(tmp_path, idp.issuer)


def come_back(app: FastAPI, idp: Any, name: str, *, next_page: str = "/") -> tuple[TestClient, Response]:
    client = browser(app)
    away = client.get("/login/sso", params={"next": next_page})
    assert away.status_code == 303
    back = idp.sign_in(name, away.headers["location"])
    assert back.startswith(CALLBACK)
    return client, client.get(back)


def test_the_login_page_offers_it(app: FastAPI) -> None:
    assert "Sign in with Example login" in browser(app).get("/login?next=/hosts").text


def test_somebody_new_gets_an_account_with_the_highest_role_of_their_groups(app: FastAPI, idp: Any) -> None:
    client, answer = come_back(app, idp, "grace", next_page="/hosts")
    assert (answer.status_code, answer.headers["location"]) == (303, "/hosts")
    page = client.get("/account").text
    assert "grace@example.com" in page
    assert "administrator" in page
    assert "identity provider" in page
    assert audit(app, "account.created") == [{"role": "administrator", "by": "single sign-on"}]
    assert audit(app, "login.succeeded") == [{"how": "single sign-on"}]


def test_the_second_time_it_is_the_same_account_and_the_role_follows_the_groups(app: FastAPI, idp: Any) -> None:
    come_back(app, idp, "linus")
    idp.set_groups("linus", ["staff", "policy"])
    try:
        client, _ = come_back(app, idp, "linus")
    finally:
        idp.set_groups("linus", ["staff"])
    assert "approver" in client.get("/account").text
    with session_scope(app.state.engine, writes=False) as session:
        assert len(session.scalars(select(Account.id)).all()) == 1
    assert audit(app, "account.role_changed") == [{"old": "viewer", "new": "approver", "why": "groups"}]


def test_who_left_every_group_is_out_at_once(app: FastAPI, idp: Any) -> None:
    client, _ = come_back(app, idp, "linus")
    assert client.get("/account").status_code == 200
    idp.set_groups("linus", [])
    try:
        _, answer = come_back(app, idp, "linus")
    finally:
        idp.set_groups("linus", ["staff"])
    assert answer.status_code == 403
    assert client.get("/account").status_code == 303, "the older session ended too"


def test_nobody_gets_in_without_a_group_that_has_a_role(app: FastAPI, idp: Any) -> None:
    client, answer = come_back(app, idp, "guest")
    assert answer.status_code == 403
    assert "None of your groups has a role here" in answer.text
    assert client.get("/").headers["location"].startswith("/login")
    assert audit(app, "login.refused") == [{"why": "no group with a role"}]


def test_an_account_with_a_password_is_not_taken_over(app: FastAPI, idp: Any) -> None:
    with session_scope(app.state.engine) as session:
        create_account(session, "grace@example.com", "correct horse battery", "viewer")
    _, answer = come_back(app, idp, "grace")
    assert answer.status_code == 403
    assert "already an account with your address" in answer.text


def test_a_disabled_account_stays_out(app: FastAPI, idp: Any) -> None:
    come_back(app, idp, "linus")
    with session_scope(app.state.engine) as session:
        account = session.scalars(select(Account)).one()
        account.disabled_at = account.created_at
    _, answer = come_back(app, idp, "linus")
    assert answer.status_code == 403
    assert "disabled" in answer.text


def test_an_administrator_cannot_give_another_role(app: FastAPI, idp: Any) -> None:
    come_back(app, idp, "linus")
    client, _ = come_back(app, idp, "grace")
    with session_scope(app.state.engine, writes=False) as session:
        linus = session.scalars(select(Account.id).where(Account.email == "linus@example.com")).one()
    answer = client.post(f"/accounts/{linus}/role", data={"role": "administrator"})
    assert answer.status_code == 422
    assert "follows their groups" in answer.text


def test_an_answer_is_good_once_and_only_in_the_browser_that_asked(app: FastAPI, idp: Any) -> None:
    client = browser(app)
    back = idp.sign_in("linus", client.get("/login/sso").headers["location"])
    stranger = browser(app).get(back)
    assert stranger.status_code == 422
    assert "was not begun here" in stranger.text
    assert client.get(back).status_code == 303
    client.cookies.clear()
    assert client.get(back).status_code == 422


def test_another_state_is_refused(app: FastAPI, idp: Any) -> None:
    client = browser(app)
    back = idp.sign_in("linus", client.get("/login/sso").headers["location"])
    state = parse_qs(urlsplit(back).query)["state"][0]
    answer = client.get(back.replace(state, "x" * len(state)))
    assert answer.status_code == 422
    assert "state" in audit(app, "login.refused")[0]["why"]


def test_a_wrong_client_secret_is_told_in_the_log_alone(tmp_path: Path, idp: Any) -> None:
    app = server(tmp_path, idp.issuer, secret="not the client's secret")
    _, answer = come_back(app, idp, "linus")
    assert answer.status_code == 422
    assert "server&#39;s log" in answer.text or "server's log" in answer.text
    assert "no token" in audit(app, "login.refused")[0]["why"]


def test_a_provider_that_is_away_is_said_to_be(tmp_path: Path) -> None:
    answer = browser(server(tmp_path, "http://127.0.0.1:9/nowhere")).get("/login/sso")
    assert answer.status_code == 503
    assert "does not answer" in answer.text


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"oidc_client_secret": None}, "WAYLEAVE_OIDC_CLIENT_SECRET"),
        ({"oidc_roles": {}}, "WAYLEAVE_OIDC_ROLES"),
        ({"base_url": ""}, "WAYLEAVE_BASE_URL"),
        ({"oidc_issuer": "http://login.example.com"}, "https://"),
        ({"oidc_roles": {"staff": "king"}}, "oidc_roles"),
    ],
)
def test_settings_that_are_not_whole_are_refused(tmp_path: Path, changed: dict[str, Any], problem: str) -> None:
    whole: dict[str, Any] = {
        "data_dir": tmp_path,
        "base_url": BASE_URL,
        "oidc_issuer": "https://login.example.com",
        "oidc_client_id": "a",
        "oidc_client_secret": "b",
        "oidc_roles": ROLES,
    }
    Settings(**whole)
    with pytest.raises(ValidationError, match=problem):
        Settings(**(whole | changed))


class Forger:
    """A provider that answers whatever a test wants."""

    def __init__(self) -> None:
        self.key = RSAKey.generate_key(2048, {"kid": "one"})
        self.published = [self.key.as_dict(private=False)]
        self.make: Callable[[dict[str, Any]], str] = lambda claims: self.sign(claims)
        self.nonce = ""
        self.url = ""

    def sign(self, claims: dict[str, Any], key: Any = None, alg: str = "RS256", kid: str = "one") -> str:
        return jwt.encode({"alg": alg, "kid": kid}, claims, key or self.key, algorithms=[alg])

    def claims(self) -> dict[str, Any]:
        at_s = int(time.time())
        return {
            "iss": self.url,
            "aud": provider.CLIENT_ID,
            "sub": "1",
            "iat": at_s,
            "exp": at_s + 60,
            "nonce": self.nonce,
            "email": "eve@example.com",
            "groups": ["wayleave-admins"],
        }

    async def configuration(self, _request: Request) -> JSONResponse:
        names = {"authorization_endpoint": "auth", "token_endpoint": "token", "jwks_uri": "keys"}
        return JSONResponse({"issuer": self.url} | {name: f"{self.url}/{path}" for name, path in names.items()})

    async def token(self, _request: Request) -> JSONResponse:
        token = self.make(self.claims())
        return JSONResponse({"access_token": "a", "token_type": "Bearer", "expires_in": 60, "id_token": token})

    async def keys(self, _request: Request) -> JSONResponse:
        return JSONResponse({"keys": self.published})


@pytest.fixture(scope="module")
def forging() -> Iterator[Forger]:
    forger = Forger()
    routes = [
        Route("/.well-known/openid-configuration", forger.configuration),
        Route("/token", forger.token, methods=["POST"]),
        Route("/keys", forger.keys),
    ]
    running = uvicorn.Server(uvicorn.Config(Starlette(routes=routes), port=0, log_level="error", ws="none"))
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    while not running.started:
        time.sleep(0.01)
    forger.url = f"http://127.0.0.1:{running.servers[0].sockets[0].getsockname()[1]}"
    yield forger
    running.should_exit = True
    thread.join(10)


@pytest.fixture
def forger(forging: Forger) -> Forger:
    forging.published = [forging.key.as_dict(private=False)]
    forging.make = forging.sign
    return forging


def arrive(tmp_path: Path, forger: Forger) -> Response:
    client = browser(server(tmp_path, forger.url))
    asked = parse_qs(urlsplit(client.get("/login/sso").headers["location"]).query)
    forger.nonce = asked["nonce"][0]
    return client.get("/login/sso/callback", params={"code": "c", "state": asked["state"][0]})


def test_what_the_forger_signs_rightly_is_taken(tmp_path: Path, forger: Forger) -> None:
    assert arrive(tmp_path, forger).status_code == 303


def unsigned(forger: Forger, claims: dict[str, Any]) -> str:
    _header, body, _signature = forger.sign(claims).split(".")
    return f"eyJhbGciOiJub25lIn0.{body}."


FORGERIES: dict[str, Callable[[Forger, dict[str, Any]], str]] = {
    "another key": lambda f, c: f.sign(c, RSAKey.generate_key(2048)),
    "no signature": unsigned,
    "signed with the public key as a secret": lambda f, c: f.sign(
        c, OctKey.import_key(f.key.as_pem(private=False)), "HS256"
    ),
    "signed with the client's secret": lambda f, c: f.sign(c, OctKey.import_key(provider.CLIENT_SECRET), "HS256"),
    "another audience": lambda f, c: f.sign(c | {"aud": "somebody-else"}),
    "another issuer": lambda f, c: f.sign(c | {"iss": "https://login.example.org"}),
    "another nonce": lambda f, c: f.sign(c | {"nonce": "n"}),
    "no nonce": lambda f, c: f.sign({key: value for key, value in c.items() if key != "nonce"}),
    "expired": lambda f, c: f.sign(c | {"exp": int(time.time()) - 120}),
    "from the future": lambda f, c: f.sign(c | {"iat": int(time.time()) + 3600, "exp": int(time.time()) + 7200}),
    "for several, not for us first": lambda f, c: f.sign(c | {"aud": [provider.CLIENT_ID, "b"], "azp": "b"}),
    "nonsense": lambda _f, _c: "a.b.c",
    "nothing": lambda _f, _c: "",
}


@pytest.mark.filterwarnings("ignore::joserfc.errors.SecurityWarning")
@pytest.mark.parametrize("name", FORGERIES)
def test_forged_tokens_open_nothing(tmp_path: Path, forger: Forger, name: str) -> None:
    forger.make = lambda claims: FORGERIES[name](forger, claims)
    answer = arrive(tmp_path, forger)
    assert answer.status_code == 422
    assert "set-cookie" not in answer.headers or "wayleave_session" not in answer.headers["set-cookie"]


def test_a_new_key_of_the_provider_is_fetched(tmp_path: Path, forger: Forger) -> None:
    app = server(tmp_path, forger.url)
    for kid in ("one", "two"):
        key = RSAKey.generate_key(2048, {"kid": kid})
        forger.published = [key.as_dict(private=False)]
        forger.make = lambda claims, key=key, kid=kid: forger.sign(claims, key, kid=kid)
        client = browser(app)
        asked = parse_qs(urlsplit(client.get("/login/sso").headers["location"]).query)
        forger.nonce = asked["nonce"][0]
        answer = client.get("/login/sso/callback", params={"code": "c", "state": asked["state"][0]})
        assert answer.status_code == 303, kid


def test_an_address_that_nobody_checked_makes_no_account(tmp_path: Path, forger: Forger) -> None:
    forger.make = lambda claims: forger.sign(claims | {"email_verified": False})
    answer = arrive(tmp_path, forger)
    assert answer.status_code == 403
    assert "no verified e-mail address" in answer.text
