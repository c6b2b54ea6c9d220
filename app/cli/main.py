"""`wayleave`: the server's command line. One file per sub-command, imported only when that command runs."""

from __future__ import annotations

import importlib
import sys

import click

# Command name -> (module, one line of help). The module has a click command of the name `command`.
COMMANDS: dict[str, tuple[str, str]] = {
    "admin": ("app.cli.admin", "Create administrators."),
    "baseline": ("app.cli.baseline", "Record identities of trusted files."),
    "catalogue": ("app.cli.catalogue", "Look up uv's paths, and what changes between uv versions."),
    "classify": ("app.cli.classify", "Say which of uv's patterns a path belongs to."),
    "db": ("app.cli.db", "Create, migrate and check the database."),
    "diagnose": ("app.cli.diagnose", "Say what an output of uv shows of a policy block."),
    "enrol-secret": ("app.cli.enrol_secret", "Create secrets with which agents enrol."),
    "export": ("app.cli.export", "Write AppLocker rules for patterns."),
    "fleet": ("app.cli.fleet", "Make a fleet to try Wayleave with."),
    "host": ("app.cli.host", "Approve, move, revoke or erase workstations."),
    "import": ("app.cli.import_", "Import event logs and exports as sightings."),
    "policy": ("app.cli.policy", "Show, lint, test, compare, merge and convert AppLocker policies."),
    "probing": ("app.cli.probing", "Stop agents from probing, for all hosts or a group."),
    "preflight": ("app.cli.preflight", "Say what an upgrade of uv would break, before anybody upgrades."),
    "relocate": ("app.cli.relocate", "Plan where uv's directories go, and write the files that move them."),
    "serve": ("app.cli.serve", "Run the server."),
    "token": ("app.cli.token", "Create API tokens."),
    "verified": ("app.cli.verified", "Record what real PCs did with the cases of the conformance kit."),
}


class LazyGroup(click.Group):
    """Loads a sub-command's module only when it is asked for, so that `classify` never imports the database."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(COMMANDS[cmd_name][0]).command
        assert isinstance(command, click.Command)  # noqa: S101 - a programming error, not input
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][1]) for name in sorted(COMMANDS)])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="wayleave")
def wayleave() -> None:
    """Find the ways uv needs across an AppLocker-locked Windows fleet, and write the narrowest rules that open them."""


def main() -> None:
    """Entry point of the `wayleave` script. Exit codes: 0 done, 1 a negative answer, 2 invalid input."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # paths may hold lone surrogates
    wayleave()


if __name__ == "__main__":
    main()
