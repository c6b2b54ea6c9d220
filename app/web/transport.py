"""Whether people reach this server over TLS, also where a proxy in front of it ends the encryption."""

from __future__ import annotations

from starlette.types import Scope


def is_https(scope: Scope) -> bool:
    """Whether the request came over TLS, or the server's public address says that all do."""
    if scope["scheme"] == "https":
        return True
    app = scope.get("app")
    settings = getattr(app.state, "settings", None) if app is not None else None
    return settings is not None and settings.public_url.startswith("https://")
