"""`wayleave diagnose`: what an output of uv says of a policy block."""

from __future__ import annotations

import dataclasses
import json
import sys
import textwrap
from typing import BinaryIO

import click

from app.diagnosis import Diagnosis, diagnose


@click.command()
@click.argument("file", type=click.File("rb"), default="-")
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
def command(file: BinaryIO, as_json: bool) -> None:
    """Say whether an output of uv shows a policy block, of which file, and what helps.

    FILE holds what uv printed, as pasted or redirected (UTF-8 or UTF-16); `-` is standard input. The exit code is 0
    if something was blocked and 1 if not.

    \b
    Examples:
      uv sync 2>&1 | wayleave diagnose
      wayleave diagnose output.txt --json
    """
    answer = diagnose(_decode(file.read()))
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(answer), indent=1, ensure_ascii=True))
    else:
        _print(answer)
    sys.exit(0 if answer.blocked else 1)


def _decode(data: bytes) -> str:
    """Text as Windows writes it: PowerShell redirects as UTF-16, all else is taken for UTF-8."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", "replace")
    if data[1:2] == b"\x00":
        return data.decode("utf-16-le", "replace")
    return data.decode("utf-8-sig", "replace")


def _print(answer: Diagnosis) -> None:
    click.secho("Blocked." if answer.blocked else "Not blocked.", bold=True)
    click.echo(_wrapped(answer.reason))
    for finding in answer.findings:
        click.echo()
        click.echo(f"File:      {finding.path or 'not named'}")
        click.echo(f"Pattern:   {finding.pattern or 'none of uv’s'}")
        click.echo(f"Certainty: {finding.certainty}. {finding.explanation}")
        if finding.workflow:
            click.echo(f"Workflow:  {finding.workflow}")
        for number, advice in enumerate(finding.advice, start=1):
            click.echo(_wrapped(f"{number}. {advice.audience.capitalize()}: {advice.text}", "   "))


def _wrapped(text: str, indent: str = "") -> str:
    return textwrap.fill(text, 100, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
