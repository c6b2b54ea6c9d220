"""`wayleave policy convert`: a policy in another form, with what that form has no place for."""

from __future__ import annotations

import base64
from pathlib import Path

import click

from app.applocker.model import AppLockerError, Policy, Problem
from app.applocker.registry import left_out, render_registry_pol
from app.applocker.wdac import Certificate, render_supplemental
from app.applocker.write import render_collection, render_policy
from app.cli.policy_files import (
    file_argument,
    json_option,
    out_option,
    print_json,
    read_policy_file,
    refuse,
    write_out,
)

_NODES = {"Exe": "EXE", "Dll": "DLL", "Script": "Script", "Msi": "MSI", "Appx": "StoreApps"}
OMA_URI = "./Vendor/MSFT/AppLocker/ApplicationLaunchRestrictions/{grouping}/{node}/Policy"


def _certificates(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> list[Certificate]:
    found = []
    for value in values:
        parts = [part.strip() for part in value.split("|")]
        if len(parts) != 4 or not all(parts):
            raise click.BadParameter("write PUBLISHER|ISSUER|ISSUER'S TBS HASH|LEAF'S NAME")
        found.append(Certificate(publisher=parts[0], issuer=parts[1], issuer_tbs=parts[2], leaf=parts[3]))
    return found


@click.command("convert")
@file_argument
@click.option(
    "--to",
    "form",
    type=click.Choice(["xml", "oma-uri", "registry-pol", "wdac"]),
    default="xml",
    show_default=True,
    help="xml: the whole policy, sorted. oma-uri: one RuleCollection for Intune. registry-pol: a registry.pol file. "
    "wdac: an App Control supplemental policy.",
)
@click.option("--collection", metavar="C", help="With oma-uri: the collection. Needed if the policy has several.")
@click.option("--base-policy-id", metavar="GUID", help="With wdac: the id of the base policy.")
@click.option("--name", default="Wayleave", show_default=True, help="With wdac: the policy's name.")
@click.option(
    "--certificate",
    "certificates",
    multiple=True,
    callback=_certificates,
    metavar="P|I|H|L",
    help="With wdac: a publisher, its issuer's name and TBS hash, and the leaf certificate's name.",
)
@out_option
@json_option
def convert(
    file: str,
    form: str,
    collection: str | None,
    base_policy_id: str | None,
    name: str,
    certificates: list[Certificate],
    out: Path | None,
    *,
    as_json: bool,
) -> None:
    """Write a policy in another form; what it has no place for goes to standard error.

    Exit codes: 0 converted whole, 1 converted but something was left out, 2 invalid input.
    """
    policy = read_policy_file(file, as_json=as_json)
    extra: dict[str, object] = {}
    content: str | bytes
    missing: list[str] = []
    notes: list[str] = []
    try:
        if form == "oma-uri":
            content, extra["oma_uri"] = _oma_uri(policy, collection)
        elif form == "registry-pol":
            content, missing = render_registry_pol(policy), list(left_out(policy))
        elif form == "wdac":
            if base_policy_id is None:
                raise click.UsageError("--to wdac needs --base-policy-id.")
            result = render_supplemental(policy, base_policy_id=base_policy_id, name=name, certificates=certificates)
            content, extra["policy_id"] = result.xml, result.policy_id
            missing = [f'the rule "{rule.name}" ({rule.id}): {why}' for rule, why in result.left_out]
            notes = list(result.notes)
        else:
            content = render_policy(policy)
    except AppLockerError as error:
        refuse(file, error, as_json=as_json)
    if as_json:
        if isinstance(content, bytes):
            extra["content_base64"] = base64.b64encode(content).decode()
        else:
            extra["content"] = content
        print_json({"form": form, **extra, "left_out": missing, "notes": notes})
    else:
        write_out(content, out)
        for sentence in missing:
            click.echo(f"left out: {sentence}", err=True)
        for note in notes:
            click.echo(f"note: {note}", err=True)
    raise SystemExit(1 if missing else 0)


def _oma_uri(policy: Policy, type: str | None) -> tuple[str, str]:
    ruled = [collection.type for collection in policy.collections if collection.rules]
    if type is None and len(ruled) == 1:
        type = ruled[0]
    known = {name.lower(): name for name in _NODES}
    found = policy.collection(known.get((type or "").lower(), ""))
    if found is None or found.type not in _NODES:
        has = ", ".join(collection.type for collection in policy.collections) or "none"
        message = f"name the collection for this OMA-URI with --collection; the policy has: {has}"
        raise AppLockerError((Problem(line=None, rule=None, message=message),))
    return render_collection(found), OMA_URI.format(grouping="{grouping}", node=_NODES[found.type])
