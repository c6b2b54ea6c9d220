"""Signing in at an OpenID Connect provider: the way there, and what comes back, checked.

source: OpenID Connect Core 1.0 section 3.1 (authorization code flow), RFC 7636 (PKCE, S256), RFC 9207 (iss in the
answer). Authlib speaks OAuth, joserfc checks the signature and claims of the ID token.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Any

from authlib.common.security import generate_token
from authlib.integrations.httpx_client import OAuth2Client, OAuthError
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from joserfc.jwt import JWTClaimsRegistry, decode

from app.accounts.sso import Identity

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Signatures by a private key alone: with the client's secret, or none, anybody who knows it could sign."""

TIMEOUT_S = 10.0
KNOWN_FOR_S = 3600.0
"""So long the provider's addresses and keys are believed without asking again."""
LEEWAY_S = 60


class SsoError(Exception):
    """The provider's answer can't be used. The text is for the log and an administrator, not for the person."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Departure:
    """Where the browser goes, and what it must bring back; `kept` stays sealed in its cookie meanwhile."""

    url: str
    kept: dict[str, str]


@dataclass(slots=True, kw_only=True)
class Provider:
    """An OpenID Connect provider, by its issuer address. `groups_claim` names the claim with a person's groups."""

    issuer: str
    client_id: str
    client_secret: str
    redirect_uri: str
    groups_claim: str = "groups"
    scope: str = "openid email profile"
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _metadata: dict[str, Any] | None = None
    _keys: Any = None
    _known_at_s: float = 0.0

    def depart(self) -> Departure:
        """The address to send a browser to. raises: SsoError when the provider does not answer."""
        metadata = self._read_metadata()
        state, nonce, verifier = generate_token(40), generate_token(40), generate_token(64)
        with self._client() as client:
            url, _state = client.create_authorization_url(
                metadata["authorization_endpoint"], state=state, code_verifier=verifier, nonce=nonce
            )
        return Departure(url=url, kept={"state": state, "nonce": nonce, "verifier": verifier})

    def arrive(self, answer: dict[str, str], kept: dict[str, str]) -> Identity:
        """Who came back. `answer`: the query of the redirection; `kept`: what was sealed at the departure.

        raises: SsoError.
        """
        if not answer.get("state") or answer["state"] != kept["state"]:
            raise SsoError("the answer's state is not the one that was sent")
        if answer.get("iss", self.issuer).rstrip("/") != self.issuer.rstrip("/"):
            raise SsoError("the answer comes from another issuer")
        if "error" in answer:
            raise SsoError(f"the provider refused: {answer['error'][:80]}")
        if not answer.get("code"):
            raise SsoError("the answer has no code")
        metadata = self._read_metadata()
        try:
            with self._client() as client:
                token = client.fetch_token(
                    metadata["token_endpoint"],
                    grant_type="authorization_code",
                    code=answer["code"],
                    code_verifier=kept["verifier"],
                )
        except OAuthError as error:
            raise SsoError(f"the provider gave no token: {error}") from error
        except Exception as error:  # whatever the HTTP library raises: the provider is away or answers nonsense
            raise SsoError(f"the provider gave no token: {type(error).__name__}") from error
        claims = self._check_id_token(metadata, str(token.get("id_token") or ""), nonce=kept["nonce"])
        if self.groups_claim not in claims or "email" not in claims:
            claims |= self._read_userinfo(metadata, token, subject=claims["sub"])
        return self._identity(claims)

    def _client(self) -> OAuth2Client:
        return OAuth2Client(
            client_id=self.client_id,
            client_secret=self.client_secret,
            scope=self.scope,
            redirect_uri=self.redirect_uri,
            code_challenge_method="S256",
            timeout=TIMEOUT_S,
            follow_redirects=False,
        )

    def _read_metadata(self) -> dict[str, Any]:
        with self._lock:
            if self._metadata is None or time.monotonic() - self._known_at_s > KNOWN_FOR_S:
                metadata = self._fetch(self.issuer.rstrip("/") + "/.well-known/openid-configuration")
                if str(metadata.get("issuer", "")).rstrip("/") != self.issuer.rstrip("/"):
                    raise SsoError("the provider calls itself by another address than the issuer that was set")
                missing = {"authorization_endpoint", "token_endpoint", "jwks_uri"} - metadata.keys()
                if missing:
                    raise SsoError(f"the provider's metadata lacks {', '.join(sorted(missing))}")
                self._metadata, self._keys = metadata, None
                self._known_at_s = time.monotonic()
            return self._metadata

    def _read_keys(self, metadata: dict[str, Any], *, anew: bool) -> KeySet:
        with self._lock:
            if self._keys is None or anew:
                try:
                    self._keys = KeySet.import_key_set(self._fetch(metadata["jwks_uri"]))  # type: ignore[arg-type]  # the library checks what the provider sent
                except (JoseError, ValueError, KeyError) as error:
                    raise SsoError("the provider's keys can't be read") from error
            keys: KeySet = self._keys
            return keys

    def _fetch(self, url: str, **headers: str) -> dict[str, Any]:
        try:
            with self._client() as client:
                answer = client.request("GET", url, withhold_token=True, headers=headers)
                answer.raise_for_status()
                value = answer.json()
        except Exception as error:  # whatever the HTTP library raises
            raise SsoError(f"{url} does not answer: {type(error).__name__}") from error
        if not isinstance(value, dict):
            raise SsoError(f"{url} answers no JSON object")
        return value

    def _check_id_token(self, metadata: dict[str, Any], id_token: str, *, nonce: str) -> dict[str, Any]:
        registry = JWTClaimsRegistry(
            leeway=LEEWAY_S,
            iss={"essential": True, "value": metadata["issuer"]},
            aud={"essential": True, "value": self.client_id},
            exp={"essential": True},
            iat={"essential": True},
            sub={"essential": True},
            nonce={"essential": True, "value": nonce},
        )
        for anew in (False, True):
            # A key that is not known may be new: the provider is asked once more.
            try:
                token = decode(id_token, self._read_keys(metadata, anew=anew), algorithms=ALGORITHMS)
            except (JoseError, ValueError, KeyError) as error:
                if anew:
                    raise SsoError(f"the ID token's signature can't be checked: {type(error).__name__}") from error
                continue
            try:
                registry.validate(token.claims)
            except JoseError as error:
                raise SsoError(f"the ID token is not good: {error}") from error
            claims = dict(token.claims)
            audience = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
            if len(audience) > 1 and claims.get("azp") != self.client_id:
                raise SsoError("the ID token was made for several, and not for us first")
            return claims
        raise AssertionError("the second look raises")

    def _read_userinfo(self, metadata: dict[str, Any], token: dict[str, Any], *, subject: str) -> dict[str, Any]:
        if "userinfo_endpoint" not in metadata or not token.get("access_token"):
            return {}
        claims = self._fetch(metadata["userinfo_endpoint"], Authorization=f"Bearer {token['access_token']}")
        if claims.get("sub") != subject:
            raise SsoError("the provider tells of somebody else than it signed for")
        return claims

    def _identity(self, claims: dict[str, Any]) -> Identity:
        groups = claims.get(self.groups_claim, ())
        if isinstance(groups, str):
            groups = groups.replace(",", " ").split()
        email = claims.get("email")
        # Providers that check every address leave the claim out; one that says "no" means it.
        verified = claims.get("email_verified", True) in (True, "true", "True", 1, "1")
        return Identity(
            issuer=self.issuer,
            subject=str(claims["sub"])[:255],
            email=email if isinstance(email, str) and verified else None,
            groups=tuple(str(one)[:200] for one in groups if isinstance(one, str))[:1000]
            if isinstance(groups, list | tuple)
            else (),
        )
