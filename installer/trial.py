"""`agent.pyz`: the agent as one file for whoever has a Python and wants to try it. For trials, and it says so."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

from tests.windows.bench.places import DOWNLOADS, REPOSITORY

_LONG_AGO = (1980, 1, 1, 0, 0, 0)
_MAIN = '''\
"""Starts the agent out of the archive."""
import sys

if sys.version_info < (3, 11):
    sys.exit("agent.pyz needs Python 3.11 or newer")
print(
    "agent.pyz is for trials: what it reports is unattested, and the Python that runs it runs anything. "
    "For a roll-out use the installer (docs/agent-packages.md).",
    file=sys.stderr,
)
from agent.cli import main

sys.exit(main())
'''


def build_trial(target: Path) -> Path:
    """Build the archive: sources of the agent and of what it imports, the same on every platform."""
    files = {"__main__.py": _MAIN.encode()}
    for root in (REPOSITORY, DOWNLOADS / "site-packages"):
        for path in root.glob("agent/**/*" if root == REPOSITORY else "**/*"):
            parts = path.relative_to(root).parts
            wanted = path.suffix in (".py", ".toml", ".pem") or path.name == "py.typed"
            if path.is_file() and wanted and not parts[0].endswith(".dist-info") and "bin" not in parts:
                files["/".join(parts)] = path.read_bytes()
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as contents:
        for name, content in sorted(files.items()):
            entry = zipfile.ZipInfo(name, _LONG_AGO)
            entry.compress_type = zipfile.ZIP_DEFLATED
            contents.writestr(entry, content)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(b"#!/usr/bin/env python3\n" + archive.getvalue())
    target.chmod(0o755)
    return target
