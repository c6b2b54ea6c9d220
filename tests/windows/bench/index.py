"""A package index on loopback with two tiny projects of ours: a tool as a wheel, and a library that has to be built.

The library's source distribution brings its own build backend, so that building it needs no other package: uv makes a
build environment and runs its Python there, which is the step a policy refuses.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOOL = "waysign"
"""A wheel with the command `waysign`, which prints `this way`."""
LIBRARY = "waystone"
"""A source distribution; `import waystone; waystone.NAME` is `waystone`."""
SCRIPTED = "wayfare"
"""A wheel of a project dependency with the command `wayfare`, which prints the Python it runs on."""

_METADATA = "Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
_WHEEL = "Wheel-Version: 1.0\nGenerator: bench\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
_BACKEND = '''
"""The build backend of this one project."""
import pathlib, zipfile

NAME = "waystone-1.0-py3-none-any.whl"
WHEEL = "Wheel-Version: 1.0\\nGenerator: bench\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    files = {
        "waystone.py": 'NAME = "waystone"\\n',
        "waystone-1.0.dist-info/METADATA": "Metadata-Version: 2.1\\nName: waystone\\nVersion: 1.0\\n",
        "waystone-1.0.dist-info/WHEEL": WHEEL,
    }
    record = "".join(f"{name},,\\n" for name in [*files, "waystone-1.0.dist-info/RECORD"])
    with zipfile.ZipFile(pathlib.Path(wheel_directory) / NAME, "w") as wheel:
        for name, text in {**files, "waystone-1.0.dist-info/RECORD": record}.items():
            wheel.writestr(name, text)
    return NAME
'''


def wheel_with_command(name: str, statement: str) -> bytes:
    """A wheel whose one command runs one Python statement."""
    files = {
        f"{name}.py": f'"""A command for the bench."""\nimport sys\n\n\ndef main() -> None:\n    {statement}\n',
        f"{name}-1.0.dist-info/METADATA": _METADATA.format(name=name),
        f"{name}-1.0.dist-info/WHEEL": _WHEEL,
        f"{name}-1.0.dist-info/entry_points.txt": f"[console_scripts]\n{name} = {name}:main\n",
    }
    record = "".join(f"{path},,\n" for path in [*files, f"{name}-1.0.dist-info/RECORD"])
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, text in {**files, f"{name}-1.0.dist-info/RECORD": record}.items():
            archive.writestr(path, text)
    return buffer.getvalue()


def source_distribution() -> bytes:
    """The library's source distribution."""
    files = {
        "PKG-INFO": _METADATA.format(name=LIBRARY),
        "pyproject.toml": (
            f'[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n\n'
            f'[project]\nname = "{LIBRARY}"\nversion = "1.0"\n'
        ),
        "backend.py": _BACKEND,
    }
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for path, text in files.items():
            entry = tarfile.TarInfo(f"{LIBRARY}-1.0/{path}")
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
    return buffer.getvalue()


def packages() -> dict[str, bytes]:
    """All files of the index by name."""
    return {
        f"{TOOL}-1.0-py3-none-any.whl": wheel_with_command(TOOL, 'print("this way")'),
        f"{SCRIPTED}-1.0-py3-none-any.whl": wheel_with_command(SCRIPTED, "print(sys.executable)"),
        f"{LIBRARY}-1.0.tar.gz": source_distribution(),
    }


@contextmanager
def package_index() -> Iterator[str]:
    """Serves the packages on a free loopback port. Yields the address of the simple API."""
    served = packages()

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = _simple_page(self.path, served)
            name = self.path.removeprefix("/files/")
            body = page.encode() if page is not None else served.get(name)
            self.send_response(HTTPStatus.NOT_FOUND if body is None else HTTPStatus.OK)
            self.send_header("Content-Type", "application/octet-stream" if page is None else "text/html")
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body or b"")

        do_HEAD = do_GET

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/simple/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def _simple_page(path: str, served: dict[str, bytes]) -> str | None:
    if not path.startswith("/simple/"):
        return None
    project = path.removeprefix("/simple/").strip("/")
    names = [name for name in served if name.startswith(f"{project}-")]
    if not names:
        return None
    digests = {name: hashlib.sha256(served[name]).hexdigest() for name in names}
    links = "".join(f'<a href="/files/{name}#sha256={digests[name]}">{name}</a>' for name in names)
    return f"<!DOCTYPE html><html><body>{links}</body></html>"
