"""Policies from files for the command line: XML, registry.pol, a GPO backup's folder, or `-` for standard input.

Nothing is read further than a policy can reach, so that a file of any size costs neither memory nor time.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import IO, NoReturn

import click

from app.applocker.model import AppLockerError, Policy, Problem
from app.applocker.registry import MAX_REGISTRY_BYTES, SIGNATURE
from app.applocker.sources import machine_registry, parse_source
from app.applocker.xmltree import MAX_BYTES

MAX_BACKUP_FILES = 10_000

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
out_option = click.option(
    "--out", "-o", type=click.Path(dir_okay=False, path_type=Path), help="Write to this file instead of the terminal."
)
file_argument = click.argument("file", metavar="FILE", type=click.Path(allow_dash=True))
files_argument = click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(allow_dash=True))


def read_policy_file(name: str, *, as_json: bool = False) -> Policy:
    """The policy of a file or folder; what is wrong with it is printed, and the command ends with exit code 2."""
    try:
        return parse_source(_content(name))
    except OSError as error:
        problem = Problem(line=None, rule=None, message=error.strerror or str(error))
        refuse(name, AppLockerError((problem,)), as_json=as_json)
    except AppLockerError as error:
        refuse(name, error, as_json=as_json)


def refuse(name: str, error: AppLockerError, *, as_json: bool) -> NoReturn:
    """Prints the problems of a file and ends the command with exit code 2."""
    if as_json:
        problems = [{"line": each.line, "rule": each.rule, "message": each.message} for each in error.problems]
        print_json({"file": name, "problems": problems})
    else:
        for problem in error.problems:
            click.echo(f"{name}: {problem}", err=True)
    raise SystemExit(2)


def print_json(value: object) -> None:
    """A value as JSON on standard output."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=2))


def write_out(content: str | bytes, out: Path | None) -> None:
    """Writes a text as UTF-8, or bytes, to a file or to standard output."""
    data = content.encode() if isinstance(content, str) else content
    if out is None:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    else:
        out.write_bytes(data)


def _content(name: str) -> bytes:
    if name == "-":
        return _bounded(sys.stdin.buffer)
    path = Path(name)
    if path.is_dir():
        path = path / machine_registry(dict.fromkeys(_names(path)))
    with path.open("rb") as file:
        return _bounded(file)


def _bounded(file: IO[bytes]) -> bytes:
    """The content, but one byte more than allowed at most: enough for the reader to refuse it."""
    head = file.read(len(SIGNATURE))
    return head + file.read((MAX_REGISTRY_BYTES if head == SIGNATURE else MAX_BYTES) + 1)


def _names(folder: Path) -> list[str]:
    found: list[str] = []
    for directory, _, names in os.walk(folder):
        found += [Path(directory, name).relative_to(folder).as_posix() for name in names]
        if len(found) > MAX_BACKUP_FILES:
            problem = Problem(line=None, rule=None, message=f"the folder holds more than {MAX_BACKUP_FILES} files")
            raise AppLockerError((problem,))
    return found
