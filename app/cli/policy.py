"""`wayleave policy`: show, lint, test, compare, merge and convert AppLocker policies, on any system.

Exit codes of every sub-command: 0 done, 1 a negative answer (a finding, a difference, a disagreement), 2 invalid input.
"""

from __future__ import annotations

import click

from app.cli.policy_compare import diff, merge
from app.cli.policy_convert import convert
from app.cli.policy_judge import judge
from app.cli.policy_lint import check
from app.cli.policy_show import show


@click.group("policy", context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Show, lint, test, compare, merge and convert AppLocker policies.

    A FILE is a policy's XML (whole, or one RuleCollection), a registry.pol, the folder of a GPO backup, or - for
    standard input. Exit codes: 0 done, 1 a negative answer, 2 invalid input.
    """


for sub_command in (show, check, judge, diff, merge, convert):
    command.add_command(sub_command)
