"""Real uv under a path policy: each command is refused at the pattern the catalogue names, and works once it is open.

The policies here are AppLocker XML written by hand, with broad rules for uv's folders; that the product's own rules do
the same is for `test_circle.py`.
"""

from __future__ import annotations

import pytest

from agent.catalogue import classify
from tests.windows.bench.commands import COMMANDS, Command, did_work, refused, run_command
from tests.windows.bench.places import UV_BEFORE_SIGNING
from tests.windows.bench.policy import enforce

pytestmark = pytest.mark.windows

PLACES = (
    r"%OSDRIVE%\Users\*\AppData\Local\uv\*",
    r"%OSDRIVE%\Users\*\AppData\Roaming\uv\*",
    r"%OSDRIVE%\src\*",
)
FIRST_REFUSED = {
    "uv venv": "managed-python-exe",
    "uv run": "managed-python-exe",
    "uvx": "cache-archive-env-python",
    "uv pip install (sdist)": "cache-builds-venv-python",
}


def with_places(policy: str, places: tuple[str, ...]) -> str:
    """A policy with rules that let everyone run what is in these places."""
    start = 'UserOrGroupSid="S-1-1-0" Action="Allow"><Conditions><FilePathCondition Path='
    rules = "".join(
        f'<FilePathRule Id="00000000-0000-4000-8000-00000000000{number}" Name="place" Description="" '
        f'{start}"{place}"/></Conditions></FilePathRule>'
        for number, place in enumerate(places)
    )
    opening = '<RuleCollection Type="Exe" EnforcementMode="Enabled">'
    assert opening in policy
    return policy.replace(opening, opening + rules)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_a_command_is_refused_at_its_pattern_and_works_once_that_is_open(
    command: Command, clean_bench: None, index_url: str, default_rules: str
) -> None:
    enforce(default_rules)
    before = run_command(command, index_url)
    assert before.code != 0, before
    assert "(os error 1260)" in before.output, before
    assert [classify(path) for path in refused()[:1]] == [FIRST_REFUSED[command.name]], before

    enforce(with_places(default_rules, PLACES))
    after = run_command(command, index_url)
    assert did_work(command, after), after
    assert refused() == []


@pytest.mark.parametrize("missing", range(len(PLACES)))
def test_one_place_left_out_stays_refused(missing: int, clean_bench: None, index_url: str, default_rules: str) -> None:
    left = tuple(place for number, place in enumerate(PLACES) if number != missing)
    enforce(with_places(default_rules, left))
    command = COMMANDS[(2, 0, 1)[missing]]
    finished = run_command(command, index_url)
    assert not did_work(command, finished), finished
    expected = (r"\AppData\Local\uv\cache" + "\\", r"\AppData\Roaming\uv\python" + "\\", r"\.venv" + "\\")[missing]
    assert all(expected in path for path in refused()), refused()
    assert refused()


def test_an_older_uv_is_refused_the_same_way(clean_bench: None, index_url: str, default_rules: str) -> None:
    enforce(default_rules)
    command = COMMANDS[3]
    older = Command(name=command.name, arguments=(UV_BEFORE_SIGNING, *command.arguments[1:]), says=command.says)
    finished = run_command(older, index_url)
    assert finished.code != 0, finished
    assert "1260" in finished.output, finished
    assert [classify(path) for path in refused()[:1]] == ["cache-builds-venv-python"], finished
