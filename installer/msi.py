"""The MSI of a frozen directory, built on Linux with wixl. The same files give the same codes."""

from __future__ import annotations

import hashlib
import re
import shutil
import struct
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from string import Template
from xml.sax.saxutils import quoteattr

from agent.pe import identify
from installer.binaries import SOURCES, WINDOWED, BuildError, run_tool

# Of all versions: by this Windows knows that one replaces another.
UPGRADE_CODE = uuid.UUID("6c1c4d0e-6a35-4c39-9d8f-0e2a6a3f4d71")

# What wixl has no words for, or gets wrong. source: Windows Installer's documentation of each table
CORRECTIONS = (
    # Sets a property (51) at once; the flag for "by the system account" belongs to what runs later.
    "UPDATE `CustomAction` SET `Type` = 51 WHERE `Source` = 'INSTALLCOMMAND'",
    "UPDATE `CustomAction` SET `Type` = 51 WHERE `Source` = 'UNINSTALLCOMMAND'",
    # A program of the package (18), failures ignored (64), on rollback (256), in the script (1024), as system (2048).
    "UPDATE `CustomAction` SET `Type` = 3410 WHERE `Action` = 'UndoSetUp'",
    # May be given by who starts msiexec; without this, some would not reach the system account's half of it.
    "UPDATE `Property` SET `Value` = "
    "'NEWERFOUND;OLDERFOUND;INSTALLDIR;SERVER;SECRETFILE;CAFILE;REGISTERTASKS;KEEPSTATE' "
    "WHERE `Property` = 'SecureCustomProperties'",
)
_TYPE_FILETIME = 64
_FILETIME_OF_1980 = 119_600_064_000_000_000


def build_msi(directory: Path, target: Path, *, version: str) -> None:
    """Build the MSI of what lies in `directory`, which is signed already if it is to be. raises: BuildError"""
    if shutil.which("wixl") is None:
        raise BuildError("needs wixl (Debian package wixl)")
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    # Windows takes two installers of one code for the same; the code follows what is inside.
    content = hashlib.sha256()
    for path in files:
        content.update(
            path.relative_to(directory).as_posix().encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest()
        )
    values = {
        "version": version,
        "upgrade_code": _braced(UPGRADE_CODE),
        "product_code": _braced(_code(f"product {version} {content.hexdigest()}")),
        "package_code": _braced(_code(f"package {version} {content.hexdigest()}")),
        "noted_guid": _braced(_code("component noted")),
        "program": _identifier(WINDOWED),
        "files": "\n".join(_tree(directory, directory, files)),
        "references": "\n".join(f'      <ComponentRef Id="{_identifier(_name(path, directory))}"/>' for path in files),
    }
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "agent.wxs"
        # wixl looks for files beside its source, by relative names alone.
        for path in files:
            link = Path(folder) / _name(path, directory)
            link.parent.mkdir(exist_ok=True)
            link.symlink_to(path.resolve())
        source.write_text(
            Template((SOURCES / "agent.wxs").read_text(encoding="utf-8")).substitute(values), encoding="utf-8"
        )
        run_tool(["wixl", "--arch", "x64", "--output", str(target), str(source)])
    # Replaces what is older (from 0, 256) or of the same version (512), and keeps the choice of features (1).
    older = (
        "INSERT INTO `Upgrade` (`UpgradeCode`, `VersionMin`, `VersionMax`, `Attributes`, `ActionProperty`) "
        f"VALUES ('{values['upgrade_code']}', '0.0.0', '{version}', 769, 'OLDERFOUND')"
    )
    run_tool(["msibuild", str(target), "-q", older, *CORRECTIONS, *_versions(directory, files)])
    _fix_summary(target, values["package_code"])


def _versions(root: Path, files: list[Path]) -> Iterator[str]:
    """The version of each binary: without it Windows keeps an older file, since any version beats none."""
    for path in files:
        if path.suffix in (".exe", ".dll", ".pyd") and (version := identify(path).version):
            file = _identifier(_name(path, root))
            yield f"UPDATE `File` SET `Version` = '{version}' WHERE `File` = '{file}'"


def _fix_summary(msi: Path, package_code: str) -> None:
    """Puts our package code for wixl's random one, and a fixed time for the two times of building."""
    content = bytearray(msi.read_bytes())
    found = re.search(r"\{[0-9A-F-]{36}\}", run_tool(["msiinfo", "suminfo", str(msi)]))
    if found is None or content.count(found[0].encode()) != 1:
        raise BuildError("the MSI's summary holds no package code")
    position = content.index(found[0].encode())
    content[position : position + 38] = package_code.encode()
    for _ in ("created", "saved"):
        position = content.index(struct.pack("<I", _TYPE_FILETIME), position)
        struct.pack_into("<Q", content, position + 4, _FILETIME_OF_1980)
        position += 12
    msi.write_bytes(content)


def _tree(folder: Path, root: Path, files: list[Path]) -> list[str]:
    """The components of the files in a folder, and of those below it."""
    lines = []
    for path in (path for path in files if path.parent == folder):
        name = _name(path, root)
        # One component a file, known by where it lies: that is what Windows counts references by.
        guid = _braced(_code(f"component {name}"))
        lines.append(f'<Component Id="{_identifier(name)}" Guid="{guid}" Win64="yes">')
        lines.append(
            f'  <File Id="{_identifier(name)}" Name={quoteattr(path.name)} Source={quoteattr(name)} KeyPath="yes"/>'
        )
        lines.append("</Component>")
    for below in sorted({path.parent for path in files if path.parent.parent == folder}):
        lines += [
            f'<Directory Id="{_identifier(_name(below, root))}" Name={quoteattr(below.name)}>',
            *_tree(below, root, files),
        ]
        lines.append("</Directory>")
    return lines


def _name(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _identifier(name: str) -> str:
    return "f_" + re.sub(r"[^A-Za-z0-9_.]", "_", name)


def _code(of: str) -> uuid.UUID:
    return uuid.uuid5(UPGRADE_CODE, of)


def _braced(code: uuid.UUID) -> str:
    return f"{{{str(code).upper()}}}"
