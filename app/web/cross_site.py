"""Refuses requests that another site made a browser send (CSRF), by the headers that browsers can't be made to forge.

A browser says in Sec-Fetch-Site (older ones in Origin) where a request comes from. Programs send neither, and carry
no cookie of ours unless somebody gave it to them; they pass.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def is_cross_site(headers: Headers) -> bool:
    """Whether a browser says that a page of another origin caused this request.

    >>> is_cross_site(Headers({"sec-fetch-site": "cross-site"})), is_cross_site(Headers({"host": "a"}))
    (True, False)
    """
    fetch_site = headers.get("sec-fetch-site")
    if fetch_site is not None:
        return fetch_site not in ("same-origin", "none")
    origin = headers.get("origin")
    if origin is None:
        return False
    return urlsplit(origin).netloc.casefold() != headers.get("host", "").casefold()


class RefuseCrossSite:
    """Answers 403 to requests that would change something and come from another site."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] not in SAFE_METHODS and is_cross_site(Headers(scope=scope)):
            refusal = PlainTextResponse(
                "Refused: this request was sent by another site. Nothing was changed. Open Wayleave itself and try"
                " again there.\n",
                status_code=403,
            )
            await refusal(scope, receive, send)
            return
        await self.app(scope, receive, send)
