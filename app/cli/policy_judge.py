"""`wayleave policy test`: judge one file under a policy, or a whole file of cases.

Exit codes: 0 judged (with --cases: all of high and medium confidence agree), 1 a case disagrees, 2 invalid input.
"""

from __future__ import annotations

from pathlib import Path

import click

from app.applocker.cases import Answer, case_of, judge_cases
from app.applocker.evaluate import NOT_CONTROLLED, compile_policy
from app.applocker.model import (
    COLLECTION_TYPES,
    EVERYONE,
    STANDARD_USER,
    AppLockerError,
    Decision,
    Drive,
    File,
    Policy,
    Problem,
    Token,
    Version,
    parse_version,
)
from app.applocker.xmltree import MAX_BYTES
from app.cli.policy_files import json_option, print_json, read_policy_file, refuse

_COLLECTIONS = (*COLLECTION_TYPES, NOT_CONTROLLED)


def _version(_: click.Context, __: click.Parameter, value: str | None) -> Version | None:
    if value is None:
        return None
    try:
        return parse_version(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _sids(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> frozenset[str]:
    for value in values:
        if not value.upper().startswith("S-1-"):
            raise click.BadParameter(f"{value!r} is no SID such as {EVERYONE}")
    return frozenset(value.upper() for value in values)


def _digest(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    if value is None:
        return None
    digits = value.lower().removeprefix("0x")
    if len(digits) != 64 or set(digits) - set("0123456789abcdef"):
        raise click.BadParameter("a SHA-256 has 64 hexadecimal digits, with or without 0x before them")
    return value


@click.command("test")
@click.argument("file", metavar="[FILE]", required=False, type=click.Path(allow_dash=True))
@click.option("--path", metavar="P", help="The file's path on the workstation, as it is opened.")
@click.option(
    "--collection",
    type=click.Choice(_COLLECTIONS, case_sensitive=False),
    help="The collection that judges it. Without it: by the file's extension.",
)
@click.option("--sid", "sids", metavar="S", multiple=True, callback=_sids, help="A SID enabled in the user's token.")
@click.option(
    "--linked-sid", "linked", metavar="S", multiple=True, callback=_sids, help="A SID of the linked full token (UAC)."
)
@click.option("--deny-only-sid", "deny_only", metavar="S", multiple=True, callback=_sids, help="A deny-only SID.")
@click.option("--publisher", metavar="TEXT", help="The signer's subject as AppLocker writes it. Without it: unsigned.")
@click.option("--product", metavar="TEXT", help="The product name of a signed file.")
@click.option("--binary", metavar="TEXT", help="The original file name of a signed file.")
@click.option("--version", metavar="V", callback=_version, help="The file version of a signed file: 1.2.3.4.")
@click.option("--sha256", metavar="H", callback=_digest, help="The SHA-256 that AppLocker computes (Authenticode).")
@click.option("--flat-sha256", metavar="H", callback=_digest, help="The SHA-256 of the whole file.")
@click.option("--resolves-to", metavar="P", help="The real path behind a short name, mapped drive, junction or link.")
@click.option("--drive", type=click.Choice([drive.value for drive in Drive]), default="fixed", show_default=True)
@click.option(
    "--cases",
    metavar="FILE.json",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Judge a file of cases instead, and say how many agree.",
)
@click.option("--as-case", is_flag=True, help="Print the decision as a case for a run on a real PC, with its doubts.")
@json_option
def judge(
    file: str | None,
    path: str | None,
    collection: str | None,
    sids: frozenset[str],
    linked: frozenset[str],
    deny_only: frozenset[str],
    publisher: str | None,
    product: str | None,
    binary: str | None,
    version: Version | None,
    sha256: str | None,
    flat_sha256: str | None,
    resolves_to: str | None,
    drive: str,
    cases: Path | None,
    *,
    as_case: bool,
    as_json: bool,
) -> None:
    """Judge what a policy does with a file.

    Without --sid the token is a standard user's: Everyone (S-1-1-0), Authenticated Users (S-1-5-11) and Users
    (S-1-5-32-545). Exit codes: 0 judged, 1 a case of --cases disagrees at high or medium confidence, 2 invalid input.
    """
    policy = read_policy_file(file, as_json=as_json) if file is not None else None
    if cases is not None:
        judge_file(cases, policy, as_json=as_json)
        return
    if policy is None or not path:
        raise click.UsageError("Give a policy FILE and --path, or --cases.")
    token = Token(sids=sids or STANDARD_USER.sids, linked=linked, deny_only=deny_only)
    subject = File(
        path=path,
        resolves_to=resolves_to,
        drive=Drive(drive),
        publisher=publisher,
        product=product,
        binary=binary,
        version=version,
        authenticode_sha256=sha256,
        flat_sha256=flat_sha256,
    )
    decision = compile_policy(policy).decide(subject, token, collection)
    if as_case:
        print_json({"cases": [case_of("case-1", policy, subject, token, collection, decision)]})
    elif as_json:
        print_json(_as_json(decision))
    else:
        _print(decision, token)


def judge_file(cases: Path, policy: Policy | None, *, as_json: bool) -> None:
    """Judges a file of cases; exit code 1 if one disagrees at high or medium confidence."""
    with cases.open("rb") as content:
        data = content.read(MAX_BYTES + 1)
    try:
        if len(data) > MAX_BYTES:
            message = f"the cases are larger than {MAX_BYTES // 1024 // 1024} MB"
            raise AppLockerError((Problem(line=None, rule=None, message=message),))
        answers = judge_cases(data, policy)
    except AppLockerError as error:
        refuse(str(cases), error, as_json=as_json)
    wrong = [answer for answer in answers if answer.differences]
    serious = [answer for answer in wrong if answer.case.confidence != "low"]
    if as_json:
        summary = {"cases": len(answers), "agree": len(answers) - len(wrong), "disagree": len(wrong)}
        results = [_answer(answer) for answer in answers]
        print_json({**summary, "disagree_at_high_or_medium_confidence": len(serious), "results": results})
    else:
        for answer in wrong:
            sentences = "; ".join(answer.differences)
            click.echo(f"{answer.case.id} ({answer.case.confidence} confidence): {sentences}. {answer.decision.reason}")
        click.echo(
            f"{len(answers)} cases: {len(answers) - len(wrong)} agree, {len(wrong)} disagree, "
            f"{len(serious)} of them at high or medium confidence."
        )
    raise SystemExit(1 if serious else 0)


def _answer(answer: Answer) -> dict[str, object]:
    return {
        "id": answer.case.id,
        "agrees": not answer.differences,
        "differences": list(answer.differences),
        "expected_confidence": answer.case.confidence,
        **_as_json(answer.decision),
    }


def _as_json(decision: Decision) -> dict[str, object]:
    return {
        "decision": decision.verdict.value,
        "rule_id": decision.rule_id,
        "collection": decision.collection,
        "effect": decision.effect.value,
        "confidence": decision.confidence.value,
        "reason": decision.reason,
    }


def _print(decision: Decision, token: Token) -> None:
    event = f" (event {decision.event_id})" if decision.event_id else ""
    click.echo(f"{decision.verdict}: {decision.effect}{event}, {decision.confidence} confidence")
    click.echo(decision.reason)
    for rule in decision.rules:
        click.echo(f"  {rule.action} {rule.kind} rule {rule.id} {rule.name!r} for {rule.sid}")
    for doubt in decision.doubts:
        click.echo(f"  Not settled ({doubt.code}): {doubt.question} Source: {doubt.origin}.")
    if EVERYONE not in token.sids:
        click.echo(f"  Note: every real token has {EVERYONE} (Everyone); the one given has not.", err=True)
