"""Gathers the byte code of the agent and of what it imports into one zip, under the Windows Python whose code it is.

Usage: python -P -s -B freeze.py AGENT_FOLDER PACKAGES_FOLDER OUTPUT_ZIP. Beside the zip it writes what is inside as
JSON: the modules, the data files, and the extension modules that have to stand beside it. With PYTHONHASHSEED set, the
same sources give the same bytes: times are fixed, byte code is checked by nobody and names no folder of this machine.
"""

from __future__ import annotations

import importlib.util
import json
import marshal
import pyexpat
import ssl
import sys
import sysconfig
import zipfile
import zlib
from collections.abc import Iterator
from modulefinder import Module, ModuleFinder
from pathlib import Path

# The entry, and what is imported by name at run time.
ENTRIES = ("agent.cli", "encodings.idna", "encodings.utf_8")
WHOLE = ("agent", "encodings")
DATA = {"agent": (".toml",), "certifi": (".pem",)}

# What would run a caller's code if it could be reached, and what only tests, tools and other ways of using httpx need.
LEFT_OUT = (
    *("code", "codeop", "runpy", "site", "sitecustomize", "usercustomize", "pdb", "bdb", "cmd", "pydoc", "doctest"),
    *("multiprocessing", "_pyrepl", "idlelib", "pip", "ensurepip", "venv", "tkinter", "turtle", "unittest", "test"),
    *("compileall", "py_compile", "trace", "timeit", "profile", "cProfile", "pstats", "zipapp", "pickletools"),
    *(
        "asyncio",
        "concurrent.futures.process",
        "anyio",
        "sniffio",
        "trio",
        "h2",
        "socksio",
        "rich",
        "click",
        "pygments",
    ),
    *("brotli", "brotlicffi", "zstandard", "sqlite3", "webbrowser", "xmlrpc", "http.server", "socketserver"),
    # Only what would read compressed archives or count in decimals asks for these: fewer foreign libraries to keep up.
    *("bz2", "_bz2", "lzma", "_lzma", "tarfile", "ftplib", "plistlib"),
    *("decimal", "_decimal", "_pydecimal", "fractions", "statistics"),
    *("_wmi", "_osx_support", "_scproxy", "readline", "rlcompleter", "setuptools", "pkg_resources"),
)
LONG_AGO = (1980, 1, 1, 0, 0, 0)
UNCHECKED = 0b01


def main(agent: Path, packages: Path, output: Path) -> int:
    """Writes the zip and its list. Exit codes: 0 done, 1 something that the agent imports is not there."""
    library = Path(sysconfig.get_path("stdlib"))
    # Found are modules by their files alone: neither the working directory nor this Python's own packages count.
    finder = ModuleFinder(
        [str(agent.parent), str(packages), str(library), str(library.parent / "DLLs")], excludes=LEFT_OUT
    )
    for name in (
        *ENTRIES,
        *_names_below(agent.parent / "agent", "agent"),
        *_names_below(library / "encodings", "encodings"),
    ):
        finder.import_hook(name, None, ["*"] if name in WHOLE else None)
    sources, extensions = {}, []
    for name, module in sorted(finder.modules.items()):
        file = getattr(module, "__file__", None)
        if file is None:
            continue
        path = Path(file)
        if path.suffix == ".py":
            sources[_place(name, module)] = path
        else:
            extensions.append(path.name)
    data = {
        f"{package}/{path.relative_to(root / package).as_posix()}": path
        for package, endings in DATA.items()
        for root in (agent.parent, packages)
        if (root / package).is_dir()
        for path in sorted((root / package).rglob("*"))
        if path.suffix in endings
    }
    with zipfile.ZipFile(output, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for place, path in sorted((sources | data).items()):
            content = path.read_bytes()
            if path.suffix == ".py":
                content = _byte_code(content, place)
                place += "c"
            entry = zipfile.ZipInfo(place, LONG_AGO)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 0
            archive.writestr(entry, content)
    told = {
        "python": sys.version.split()[0],
        "libraries": {
            "openssl": ssl.OPENSSL_VERSION.split()[1],
            "expat": pyexpat.EXPAT_VERSION.removeprefix("expat_"),
            "zlib": zlib.ZLIB_VERSION,
        },
        "modules": {place: _origin(path, agent, packages) for place, path in sorted((sources | data).items())},
        "extensions": sorted(extensions),
        "not_found": sorted(finder.any_missing()),
    }
    output.with_suffix(".json").write_text(json.dumps(told, indent=1), encoding="utf-8")
    return 0


def _names_below(folder: Path, package: str) -> Iterator[str]:
    for path in sorted(folder.rglob("*.py")):
        parts = (package, *path.relative_to(folder).with_suffix("").parts)
        if not path.stem.endswith(("_posix", "__main__")):
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _place(name: str, module: Module) -> str:
    return name.replace(".", "/") + ("/__init__.py" if getattr(module, "__path__", None) else ".py")


def _byte_code(source: bytes, place: str) -> bytes:
    """The content of a .pyc that is taken as it is, compiled as if it lay at `place`."""
    # Once through marshal: what it writes of a code object just compiled depends on who else holds its constants.
    written = marshal.dumps(compile(source, place, "exec", dont_inherit=True, optimize=0))
    code = marshal.loads(written)  # noqa: S302 - written one line above
    return (
        importlib.util.MAGIC_NUMBER
        + UNCHECKED.to_bytes(4, "little")
        + importlib.util.source_hash(source)
        + marshal.dumps(code)
    )


def _origin(path: Path, agent: Path, packages: Path) -> str:
    for name, root in (("agent", agent.parent), ("packages", packages)):
        if path.is_relative_to(root):
            return name
    return "python"


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
