"""`wayleave relocate`: plan where uv's directories go, say what that takes and leaves, write the files."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import click
from sqlalchemy.exc import DatabaseError

from app.db.engine import open_engine
from app.db.session import session_scope
from app.errors import InvalidError
from app.policies.choices import COLLECTIONS
from app.relocation.choices import ADMIN_ROOTS, checked_relocation
from app.relocation.files import describe_plan, write_files, write_zip
from app.relocation.plan import RelocationPlan, plan_relocation
from app.relocation.whatif import RelocationWhatIf, simulate_relocation
from app.settings import Settings


@click.command()
@click.option("--uv", default=ADMIN_ROOTS["uv"], show_default=True, help="Where administrators put uv.exe.")
@click.option("--python", default=ADMIN_ROOTS["python"], show_default=True, help="Where they install Pythons.")
@click.option("--tools", default=ADMIN_ROOTS["tools"], show_default=True, help="Where they install tools.")
@click.option("--bin", "bin_folder", default=ADMIN_ROOTS["bin"], show_default=True, help="Programs of both, on PATH.")
@click.option("--cache", default="", help=r"Each user's cache, such as D:\uv-cache\%USERNAME%. [default: stays]")
@click.option("--project-root", "project_roots", multiple=True, help="A folder with projects. Repeatable.")
@click.option("--sid", default="S-1-5-32-545", show_default=True, help="For whom the remaining rules are.")
@click.option("--collection", "collections", type=click.Choice(COLLECTIONS), multiple=True, default=("Exe",))
@click.option("--downloads", is_flag=True, help="Don't forbid users to download Pythons.")
@click.option("--no-build", "forbid_builds", is_flag=True, help="Forbid builds from source.")
@click.option("--out", type=click.Path(path_type=Path), help="A zip, or a folder for the files.")
@click.option("--what-if", "what_if", is_flag=True, help="Compare with what the fleet reported.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    uv: str,
    python: str,
    tools: str,
    bin_folder: str,
    cache: str,
    project_roots: tuple[str, ...],
    sid: str,
    collections: tuple[str, ...],
    downloads: bool,
    forbid_builds: bool,
    out: Path | None,
    what_if: bool,
    as_json: bool,
) -> None:
    r"""Plan where uv's directories go: variables, rights, what stays, and the rules that remain.

    \b
    Examples:
      wayleave relocate --project-root C:\src --out plan.zip
      wayleave relocate --cache 'D:\uv-cache\%USERNAME%' --what-if --json
    """
    try:
        choice = checked_relocation(
            uv=uv,
            python=python,
            tools=tools,
            bin_folder=bin_folder,
            cache=cache,
            project_roots=project_roots,
            forbid_downloads=not downloads,
            forbid_builds=forbid_builds,
        )
        plan = plan_relocation(choice, sid=sid, collections=collections)
    except InvalidError as error:
        raise click.UsageError(f"{error.field}: {error.message}") from error
    fleet = _simulated(plan) if what_if else None
    if out is not None:
        _write(out, plan)
    if as_json:
        told = describe_plan(plan) | ({"what_if": dataclasses.asdict(fleet)} if fleet else {})
        click.echo(json.dumps(told, indent=1))
    else:
        _print(plan, fleet)


def _simulated(plan: RelocationPlan) -> RelocationWhatIf:
    engine = open_engine(Settings())
    try:
        with session_scope(engine, writes=False) as session:
            return simulate_relocation(session, plan)
    except DatabaseError as error:
        raise click.ClickException(f"{error.orig}. Is the database there? See `wayleave db upgrade`.") from error
    finally:
        engine.dispose()


def _write(out: Path, plan: RelocationPlan) -> None:
    try:
        if out.suffix.lower() == ".zip":
            out.write_bytes(write_zip(plan))
        else:
            out.mkdir(parents=True, exist_ok=True)
            for one in write_files(plan):
                (out / one.name).write_bytes(one.content)
    except OSError as error:
        raise click.FileError(str(out), hint=error.strerror or str(error)) from error
    click.echo(f"{out}: {len(write_files(plan))} files", err=True)


def _print(plan: RelocationPlan, fleet: RelocationWhatIf | None) -> None:
    click.secho("Set", bold=True)
    for one in plan.settings:
        key = f"; uv.toml since {one.key_since}: {one.key}" if one.key else ""
        click.echo(f"  {one.name}={one.value}  ({'user' if one.is_user else 'machine'}, since uv {one.since}{key})")
    click.secho("Rights", bold=True)
    for folder in plan.folders:
        click.echo(f"  {folder.folder}: {folder.sentence}")
    click.secho("Stays", bold=True)
    for stays in plan.staying:
        click.echo(f"  {stays.place}: {stays.why}")
    click.secho("Rules that remain", bold=True)
    for rule in plan.rules.rules if plan.rules else ():
        click.echo(f"  {rule.collection}: {rule.name}")
    for title, sentences in (("Risks", plan.risks), ("What follows", plan.consequences)):
        click.secho(title, bold=True)
        for sentence in sentences:
            click.echo(f"  - {sentence}")
    if fleet is not None:
        click.secho(f"Fleet: {fleet.users} users, {fleet.environments} environments", bold=True)
        for root in fleet.roots:
            click.echo(
                f"  {root.root}: {root.there} there, {root.moved} would be moved, {root.differs} set otherwise, "
                f"{root.unknown} not reported"
            )
            for old in root.orphaned:
                click.echo(f"    left behind by {old.users}: {old.place}")
        for setting in fleet.ignored:
            click.echo(f"  {setting.name} is ignored by the uv of {setting.users} users: {', '.join(setting.versions)}")
