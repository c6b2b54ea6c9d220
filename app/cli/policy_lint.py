"""`wayleave policy lint`: what is wrong or risky in policies.

Exit codes: 0 nothing worse than an information, 1 errors or warnings, 2 invalid input.
"""

from __future__ import annotations

import click

from app.applocker.findings import Finding, Severity
from app.applocker.lint import lint
from app.cli.policy_files import files_argument, json_option, print_json, read_policy_file


@click.command("lint")
@files_argument
@click.option("--sid", "sids", metavar="S", multiple=True, help="A SID that exists; rules for any other are reported.")
@json_option
def check(files: tuple[str, ...], sids: tuple[str, ...], *, as_json: bool) -> None:
    """Find what is wrong or risky in policies, and how to mend it.

    Exit codes: 0 nothing worse than an information, 1 errors or warnings, 2 invalid input.
    """
    known = frozenset(sid.upper() for sid in sids) or None
    results = [(name, lint(read_policy_file(name, as_json=as_json), known_sids=known)) for name in files]
    if as_json:
        print_json([{"file": name, "findings": [_as_json(each) for each in found]} for name, found in results])
    else:
        for name, found in results:
            for each in found:
                _print(name, each)
            counts = ", ".join(f"{sum(each.severity is level for each in found)} {level}" for level in Severity)
            click.echo(f"{name}: {counts}.")
    bad = any(each.severity is not Severity.INFO for _, found in results for each in found)
    raise SystemExit(1 if bad else 0)


def _print(name: str, found: Finding) -> None:
    line = f":{found.rule.line}" if found.rule and found.rule.line else ""
    whose = f' rule "{found.rule.name}"' if found.rule else ""
    click.echo(f"{name}{line}: {found.severity} {found.code}: {found.collection}{whose}: {found.message}")
    if found.example:
        click.echo(f"    example: {found.example}")
    click.echo(f"    mend: {found.remedy}")


def _as_json(found: Finding) -> dict[str, object]:
    return {
        "code": found.code,
        "severity": found.severity.value,
        "collection": found.collection,
        "rule_id": found.rule.id if found.rule else None,
        "rule_name": found.rule.name if found.rule else None,
        "line": found.rule.line if found.rule else None,
        "message": found.message,
        "remedy": found.remedy,
        "example": found.example,
    }
