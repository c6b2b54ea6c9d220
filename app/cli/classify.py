"""`wayleave classify`: which of uv's patterns a path belongs to, for a few paths or for a stream of them.

With `--jsonl` every line of standard input is a JSON object with `path` and, if more is known, `context`; every line
gets its answer in the same place of the output, so that the two can be read side by side. What was read is answered
before more is waited for. A line that can't be read is answered with `"error"`, told on standard error by its number,
and makes the exit code 2 when all others have been answered. Empty lines are passed over.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from typing import BinaryIO

import click

from agent.catalogue import classify

MAX_LINE_BYTES = 1 << 20
_CHUNK_BYTES = 1 << 16
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class LineError(ValueError):
    """What is wrong with a line, in words for the person who wrote it. `path` is its path, if that could be read."""

    def __init__(self, message: str, path: str | None = None) -> None:
        super().__init__(message)
        self.path = path


@click.command()
@click.argument("paths", metavar="[PATH]...", nargs=-1)
@click.option(
    "variables", "--env", multiple=True, metavar="NAME=VALUE", help="A variable of the machine that the paths are from."
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array of {path, pattern}.")
@click.option("--jsonl", "as_lines", is_flag=True, help="Read {path, context} lines on standard input, answer each.")
def command(paths: tuple[str, ...], variables: tuple[str, ...], as_json: bool, as_lines: bool) -> None:
    """Say which of uv's patterns a path belongs to.

    Any written form will do: %OSDRIVE%\\..., \\\\?\\C:\\..., UNC, forward slashes, AppLocker's upper case. A path
    that is none of uv's gets `-` (null in JSON).

    \b
    Examples:
      wayleave classify "%OSDRIVE%\\USERS\\JO\\APPDATA\\ROAMING\\UV\\TOOLS\\RUFF\\SCRIPTS\\RUFF.EXE"
      wayleave classify D:\\bin\\mypy.exe --env UV_TOOL_BIN_DIR=D:\\bin --json
      wayleave classify --jsonl < paths.jsonl
    """
    env = _read_variables(variables)
    if as_lines:
        if paths or as_json:
            raise click.UsageError("--jsonl takes its paths from standard input: leave out PATH and --json.")
        sys.exit(_answer_lines(sys.stdin.buffer, env))
    if not paths:
        raise click.UsageError("Name at least one PATH, or use --jsonl to read them from standard input.")
    answers = [(path, classify(path, {"env": env})) for path in paths]
    if as_json:
        click.echo(json.dumps([{"path": path, "pattern": pattern} for path, pattern in answers], indent=1))
        return
    width = max(len(pattern or "-") for _, pattern in answers)
    for path, pattern in answers:
        click.echo(f"{pattern or '-':<{width}}  {path}")


def _read_variables(variables: tuple[str, ...]) -> dict[str, str]:
    env = {}
    for given in variables:
        name, equals, value = given.partition("=")
        if not name or not equals:
            raise click.BadParameter(f"{given!r} is not NAME=VALUE.", param_hint="--env")
        env[name] = value
    return env


def _answer_lines(stream: BinaryIO, env: Mapping[str, str]) -> int:
    """Answers every line of a stream; 2 if one could not be read, else 0."""
    exit_code = 0
    number = 0
    for lines in _batches(stream):
        answers = []
        for line in lines:
            number += 1
            if not line.strip():
                continue
            try:
                path, context = _read_line(line)
            except LineError as error:
                exit_code = 2
                click.echo(f"line {number}: {error}", err=True)
                answers.append(json.dumps({"path": error.path, "pattern": None, "error": str(error)}))
                continue
            known = {**context, "env": {**env, **context.get("env", {})}}
            answers.append(json.dumps({"path": path, "pattern": classify(path, known)}))
        if answers:
            sys.stdout.write("\n".join(answers) + "\n")
            sys.stdout.flush()
    return exit_code


def _read_line(line: bytes) -> tuple[str, dict[str, dict[str, str]]]:
    """(path, context) of a line. raises: LineError"""
    if len(line) > MAX_LINE_BYTES:
        raise LineError(f"longer than {MAX_LINE_BYTES} bytes")
    try:
        # Bytes that are not UTF-8 become lone surrogates, and come out as \udcXX.
        document = json.loads(line.decode("utf-8", "surrogateescape"))
    except ValueError as error:
        raise LineError(f"not JSON: {error}") from None
    except RecursionError:
        raise LineError("not readable: nested too deeply") from None
    if not isinstance(document, dict):
        raise LineError('not an object of the form {"path": ..., "context": ...}')
    path = document.get("path")
    if not isinstance(path, str):
        raise LineError("path: missing" if path is None else "path: not a string")
    context = document.get("context")
    if context is None:
        return path, {}
    if not isinstance(context, dict):
        raise LineError("context: not an object", path)
    env = context.get("env", {})
    if env is None:
        env = {}
    if not isinstance(env, dict):
        raise LineError("context.env: not an object", path)
    for name, value in env.items():
        if value is not None and not isinstance(value, str):
            raise LineError(f"context.env.{name}: not a string", path)
    return path, {**context, "env": {name: value for name, value in env.items() if value is not None}}


def _batches(stream: BinaryIO) -> Iterator[list[bytes]]:
    """The lines of a stream, as many at a time as have arrived; of a line over the limit only its beginning."""
    rest = b""
    first = True
    while chunk := stream.read1(_CHUNK_BYTES):  # type: ignore[attr-defined]  # every buffered reader has it
        if first:
            chunk = chunk.removeprefix(_BYTE_ORDER_MARK)
            first = False
        *lines, tail = chunk.split(b"\n")
        if lines:
            lines[0] = rest + lines[0]
            rest = tail
            yield lines
        else:
            rest += tail
        rest = rest[: MAX_LINE_BYTES + 1]
    if rest:
        yield [rest]
