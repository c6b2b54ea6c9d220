"""Real uv obeys a relocation plan: it writes at the new places, runs from there under a policy for just those, and an
older uv honours exactly the variables that the data says it does.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from agent.catalogue.settings import get_setting, load_settings
from app.applocker.export import add
from app.applocker.read import parse_policy
from app.applocker.write import render_policy
from app.relocation.choices import checked_relocation
from app.relocation.files import render_uv_toml
from app.relocation.plan import RelocationPlan, plan_relocation
from tests.windows.bench.commands import PROJECT, decisions, make_project, refused
from tests.windows.bench.index import SCRIPTED
from tests.windows.bench.places import (
    LOCAL_APPDATA,
    MANAGED_KEY,
    MANAGED_PYTHON,
    SHIM_LOG,
    UV,
    UV_BEFORE_SIGNING,
    on_disk,
)
from tests.windows.bench.policy import enforce
from tests.windows.bench.run import run, run_under_policy

pytestmark = pytest.mark.windows

CACHE = r"C:\uv-cache\%USERNAME%"
NEW_PYTHON = rf"C:\Program Files\uv\python\{MANAGED_KEY}\python.exe"
USERS_CACHE = r"C:\uv-cache\alice"
ASKED = {
    "UV_CACHE_DIR": ("cache", "dir"),
    "UV_PYTHON_INSTALL_DIR": ("python", "dir"),
    "UV_PYTHON_BIN_DIR": ("python", "dir", "--bin"),
    "UV_TOOL_DIR": ("tool", "dir"),
    "UV_TOOL_BIN_DIR": ("tool", "dir", "--bin"),
    "UV_CREDENTIALS_DIR": ("auth", "dir"),
}


@pytest.fixture
def plan() -> RelocationPlan:
    return plan_relocation(checked_relocation(cache=CACHE, project_roots=[r"C:\src"]), sid="S-1-1-0")


@pytest.fixture
def no_moved_cache() -> Iterator[None]:
    yield
    shutil.rmtree(on_disk(r"C:\uv-cache"), ignore_errors=True)
    shutil.rmtree(on_disk(r"C:\Program Files\uv\python"), ignore_errors=True)
    on_disk(r"C:\ProgramData\uv\uv.toml").unlink(missing_ok=True)


def test_uv_writes_and_runs_where_the_plan_says(
    clean_bench: None, no_moved_cache: None, index_url: str, default_rules: str, plan: RelocationPlan
) -> None:
    assert plan.rules is not None
    merged = add(parse_policy(default_rules), [rule.suggestion for rule in plan.rules.added]).policy
    # As Windows does at logon for a user's own variable.
    variables = {"UV_DEFAULT_INDEX": index_url}
    variables |= {one.name: one.value.replace("%USERNAME%", "alice") for one in plan.settings}
    # What an administrator does with the plan's variables set: a Python in the new place.
    shutil.copytree(on_disk(MANAGED_PYTHON).parent, on_disk(NEW_PYTHON).parent, symlinks=True)
    command = (UV, "run", "--managed-python", "--python", "3.13", SCRIPTED)
    make_project()
    enforce(default_rules)
    before = run_under_policy(command, directory=PROJECT, variables=variables)
    assert before.code != 0, before
    assert refused(), before
    shutil.rmtree(on_disk(PROJECT + r"\.venv"), ignore_errors=True)
    on_disk(SHIM_LOG).unlink(missing_ok=True)

    enforce(render_policy(merged))
    after = run_under_policy(command, directory=PROJECT, variables=variables)
    assert after.code == 0, after
    assert refused() == []
    assert on_disk(USERS_CACHE + r"\archive-v0").is_dir()
    assert not on_disk(LOCAL_APPDATA + r"\uv\cache").exists()
    assert on_disk(PROJECT + r"\.venv\Scripts\python.exe").is_file()
    started = [one.path.lower() for one in decisions() if one.collection.lower() == "exe"]
    assert NEW_PYTHON.lower() in started, started
    assert not any("\\appdata\\" in path for path in started), started


@pytest.mark.parametrize(("uv", "version"), [(UV, "0.13.8"), (UV_BEFORE_SIGNING, "0.7.12")])
def test_each_uv_honours_exactly_what_the_data_says(uv: str, version: str, clean_bench: None) -> None:
    for variable, command in ASKED.items():
        place = rf"C:\moved\{variable.lower()}"
        told = run((uv, *command), variables={variable: place})
        honoured = told.code == 0 and place.lower() in told.output.lower()
        assert honoured is get_setting(variable).is_honoured_by(version), (variable, told)
    assert set(ASKED) == {one.variable for one in load_settings() if one.variable.endswith("_DIR")} - {"UV_INSTALL_DIR"}


@pytest.mark.parametrize("uv", [UV, UV_BEFORE_SIGNING])
def test_the_machines_file_is_read(uv: str, clean_bench: None, no_moved_cache: None) -> None:
    shared = plan_relocation(checked_relocation(cache=r"C:\uv-cache\all"), sid="S-1-1-0")
    file = on_disk(r"C:\ProgramData\uv\uv.toml")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(render_uv_toml(shared.settings), encoding="utf-8")
    told = run((uv, "cache", "dir"))
    assert r"C:\uv-cache\all" in told.output, told
