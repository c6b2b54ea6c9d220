"""Static files: their folder, their addresses with a content hash in them, and how long browsers may keep them."""

from __future__ import annotations

import hashlib
from pathlib import Path

from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from app.settings import bundled

STATIC_PATH = "/static"

# path inside static/ -> (modification time, size, short hash)
_hashes: dict[str, tuple[int, int, str]] = {}


def static_url(name: str) -> str:
    """The address of a static file; it changes with the file's content, so that browsers may keep it for ever."""
    path = bundled("static") / name
    try:
        stat = path.stat()
    except OSError:
        return f"{STATIC_PATH}/{name}"  # the build has not filled static/vendor: the page works, plainly
    known = _hashes.get(name)
    if known is None or known[:2] != (stat.st_mtime_ns, stat.st_size):
        known = (stat.st_mtime_ns, stat.st_size, hashlib.sha256(path.read_bytes()).hexdigest()[:12])
        _hashes[name] = known
    return f"{STATIC_PATH}/{name}?v={known[2]}"


class HashedStaticFiles(StaticFiles):
    """Files under /static. An address with a hash is kept for a year, one without is asked for again each time."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory=directory, check_dir=False)

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        if response.status_code in (200, 304):
            is_hashed = scope["query_string"].startswith(b"v=")
            response.headers["Cache-Control"] = (
                "public, max-age=31536000, immutable" if is_hashed else "public, no-cache"
            )
        return response
