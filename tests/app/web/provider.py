"""Glewlwyd, an OpenID Connect provider of Debian, on loopback with a database of its own: a client and people in it."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.free_port import free_port

CLIENT_ID, CLIENT_SECRET = "wayleave", "the client's secret"
PASSWORD = "a password at the provider"
SCHEMA = Path("/usr/share/dbconfig-common/data/glewlwyd/install/sqlite3")
MODULES = Path("/usr/lib/glewlwyd")


@dataclass(frozen=True, kw_only=True)
class Glewlwyd:
    """A running provider. `admin` is signed in at its administration."""

    url: str
    issuer: str
    admin: httpx2.Client

    def add_person(self, name: str, email: str, groups: Sequence[str]) -> None:
        person = {"username": name, "password": PASSWORD, "email": email, "groups": list(groups), "enabled": True}
        self.admin.post("/api/user/", json=person | {"scope": ["openid", "g_profile"]}).raise_for_status()

    def set_groups(self, name: str, groups: Sequence[str]) -> None:
        person = self.admin.get(f"/api/user/{name}").json() | {"groups": list(groups)}
        self.admin.put(f"/api/user/{name}", json=person).raise_for_status()

    def sign_in(self, name: str, address: str) -> str:
        """What a person's browser does at the provider: password, consent; the address it is sent back to."""
        with httpx2.Client(base_url=self.url) as browser:
            browser.post("/api/auth/", json={"username": name, "password": PASSWORD}).raise_for_status()
            browser.put(f"/api/auth/grant/{CLIENT_ID}/", json={"scope": "openid"}).raise_for_status()
            answer = browser.get(f"{address}&g_continue")
            assert answer.status_code == 302, answer.text
            return answer.headers["location"]


def is_installed() -> bool:
    return shutil.which("glewlwyd") is not None and SCHEMA.exists()


@contextmanager
def running_glewlwyd(folder: Path, redirect_uri: str) -> Iterator[Glewlwyd]:
    """A provider until the block ends. `folder`: where its database and its log are."""
    _make_database(folder / "provider.sqlite")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    config = folder / "provider.conf"
    config.write_text(_config(port, url, folder / "provider.sqlite"))
    with (folder / "provider.log").open("w") as log:
        process = subprocess.Popen(["glewlwyd", f"--config-file={config}"], stdout=log, stderr=subprocess.STDOUT)
    try:
        with httpx2.Client(base_url=url) as admin:
            _wait_for(admin, folder / "provider.log")
            admin.post("/api/auth/", json={"username": "admin", "password": "password"}).raise_for_status()
            _set_up(admin, f"{url}/api/oidc", redirect_uri)
            yield Glewlwyd(url=url, issuer=f"{url}/api/oidc", admin=admin)
    finally:
        process.terminate()
        process.wait(20)


def _make_database(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.executescript(SCHEMA.read_text())
        (text,) = database.execute("SELECT gumi_parameters FROM g_user_module_instance").fetchone()
        parameters = json.loads(text)
        parameters["data-format"]["groups"] = {"multiple": True, "read": True, "write": True}
        database.execute("UPDATE g_user_module_instance SET gumi_parameters = ?", [json.dumps(parameters)])
    database.close()


def _config(port: int, url: str, database: Path) -> str:
    settings: dict[str, object] = {
        "port": port,
        "bind_address": "127.0.0.1",
        "external_url": url,
        "login_url": "login.html",
        "api_prefix": "api",
        "cookie_domain": "127.0.0.1",
        "cookie_secure": 0,
        "cookie_same_site": "lax",
        "session_key": "SESSION",
        "session_expiration": 86400,
        "admin_scope": "g_admin",
        "profile_scope": "g_profile",
        "log_mode": "console",
        "log_level": "WARNING",
        "user_module_path": str(MODULES / "user"),
        "user_middleware_module_path": str(MODULES / "user_middleware"),
        "client_module_path": str(MODULES / "client"),
        "user_auth_scheme_module_path": str(MODULES / "scheme"),
        "plugin_module_path": str(MODULES / "plugin"),
        "hash_algorithm": "SHA512",
    }
    lines = [f"{name}={json.dumps(value)}" for name, value in settings.items()]
    return "\n".join([*lines, f'database = {{ type="sqlite3" path="{database}" }};', ""])


def _wait_for(admin: httpx2.Client, log: Path) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            admin.get("/config")
        except httpx2.TransportError as error:
            if time.monotonic() > deadline:
                raise AssertionError(log.read_text()) from error
            time.sleep(0.05)
        else:
            return


def _set_up(admin: httpx2.Client, issuer: str, redirect_uri: str) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    public = key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    parameters: dict[str, object] = {
        "iss": issuer,
        "jwt-type": "rsa",
        "jwt-key-size": "256",
        "key": private.decode(),
        "cert": public.decode(),
        "access-token-duration": 600,
        "refresh-token-duration": 600,
        "code-duration": 60,
        "auth-type-code-enabled": True,
        "pkce-allowed": True,
        "pkce-mandatory": True,
        "subject-type": "public",
        "jwks-show": True,
        "oauth-as-iss-id": True,
        "scope": [],
        "email-claim": "mandatory",
        "claims": [{"name": "groups", "user-property": "groups", "type": "string", "mandatory": True, "scope": []}],
    }
    plugin = {"module": "oidc", "name": "oidc", "display_name": "OpenID Connect", "parameters": parameters}
    admin.post("/api/mod/plugin/", json=plugin).raise_for_status()
    client = {
        "client_id": CLIENT_ID,
        "name": "Wayleave",
        "password": CLIENT_SECRET,
        "client_secret": CLIENT_SECRET,
        "confidential": True,
        "enabled": True,
        "scope": ["openid"],
        "redirect_uri": [redirect_uri],
        "authorization_type": ["code"],
        "token_endpoint_auth_method": ["client_secret_basic"],
    }
    admin.post("/api/client/", json=client).raise_for_status()
