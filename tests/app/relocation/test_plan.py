"""The relocation plan: what is set and for whom, what stays, which rules remain; its files, read by their readers."""

from __future__ import annotations

import io
import json
import tomllib
import zipfile

import pytest
import tree_sitter
import tree_sitter_powershell
from lxml import etree

from agent.catalogue import load
from agent.catalogue.changes import read_version
from agent.catalogue.settings import get_setting, load_settings
from app.applocker.evaluate import compile_policy
from app.applocker.model import STANDARD_USER, File, Verdict
from app.errors import InvalidError
from app.relocation.choices import Relocation, checked_relocation
from app.relocation.files import EXTENSION_NAMES, write_files, write_zip
from app.relocation.plan import RelocationPlan, plan_relocation

USERS = "S-1-5-32-545"


def plan(**chosen: object) -> RelocationPlan:
    return plan_relocation(checked_relocation(**chosen), sid=USERS)


def files(of: RelocationPlan) -> dict[str, bytes]:
    return {one.name: one.content for one in write_files(of)}


def test_under_program_files_pythons_and_tools_need_no_rule() -> None:
    found = plan(project_roots=[r"C:\src"])
    assert found.need_no_rule == ("managed-python-exe", "tool-env-python", "tool-bin-exe")
    assert found.rules is not None
    opened = {pattern for rule in found.rules.rules for pattern in rule.patterns}
    assert {"cache-builds-venv-python", "venv-python"} <= opened
    assert not opened & set(found.need_no_rule)
    # Every pattern that a command needs is accounted for, once.
    needed = {name for workflow in load().workflows for name in workflow.needs}
    assert opened | set(found.need_no_rule) | {name for name, _why in found.unopened} == needed
    assert all(why for _name, why in found.unopened)
    assert {one.place for one in found.staying} == {"uv's cache", "projects", "the temporary folder"}


def test_outside_program_files_a_rule_is_needed_at_the_new_place() -> None:
    found = plan(python=r"D:\apps\python", cache=r"D:\uv-cache\%username%", project_roots=[r"D:\src"])
    assert "managed-python-exe" not in found.need_no_rule
    assert found.rules is not None
    compiled = compile_policy(found.rules.policy)

    def verdict(path: str) -> Verdict:
        return compiled.decide(File(path=path), STANDARD_USER, "Exe").verdict

    assert verdict(r"D:\apps\python\cpython-3.13.2-windows-x86_64-none\python.exe") is Verdict.ALLOWED
    assert verdict(r"D:\uv-cache\ann\builds-v0\.tmpAb12Cd\Scripts\python.exe") is Verdict.ALLOWED
    assert (
        verdict(r"C:\Users\ann\AppData\Local\uv\cache\builds-v0\.tmpAb12Cd\Scripts\python.exe") is not Verdict.ALLOWED
    )
    assert verdict(r"C:\Users\ann\AppData\Roaming\uv\python\cpython-3.13.2\python.exe") is not Verdict.ALLOWED
    assert any("python" in risk and "outside Program Files" in risk for risk in found.risks)
    assert [(one.folder, one.kind) for one in found.folders][-1] == (r"D:\uv-cache", "own")


def test_a_users_own_cache_is_a_users_variable_and_a_shared_one_the_machines() -> None:
    own = {one.name: one for one in plan(cache=r"D:\uv-cache\%USERNAME%").settings}["UV_CACHE_DIR"]
    assert (own.is_user, own.expands, own.key) == (True, True, None)
    shared_plan = plan(cache=r"D:\uv-cache")
    shared = {one.name: one for one in shared_plan.settings}["UV_CACHE_DIR"]
    assert (shared.is_user, shared.key, shared.key_since) == (False, r"cache-dir = 'D:\uv-cache'", "0.4.26")
    assert any("One cache for all users" in risk for risk in shared_plan.risks)
    assert "UV_CACHE_DIR" not in {one.name for one in plan().settings}


def test_what_an_older_uv_ignores() -> None:
    found = plan()
    assert found.ignored_by("0.13.8") == ()
    assert found.ignored_by("0.7.12") == ("UV_PYTHON_INSTALL_REGISTRY",)
    assert found.ignored_by("0.4.28") == ("UV_INSTALL_DIR", "UV_PYTHON_BIN_DIR", "UV_PYTHON_INSTALL_REGISTRY")


def test_every_setting_has_a_version_and_a_source() -> None:
    for one in load_settings():
        read_version(one.since)
        assert one.sources, one.variable
        assert (one.key is None) == (one.key_since is None), one.variable
    with pytest.raises(KeyError):
        get_setting("UV_NOTHING")


@pytest.mark.parametrize(
    ("chosen", "field"),
    [
        ({"python": r"\\server\share\python"}, "python"),
        ({"uv": "uv"}, "uv"),
        ({"tools": r"%USERPROFILE%\tools"}, "tools"),
        ({"bin_folder": r"C:\Program Files\uv\tools"}, "tools"),
        ({"cache": r"C:\Program Files\uv\cache"}, "cache"),
        ({"cache": r"D:\%USERNAME%"}, "cache"),
        ({"cache": r"D:\a%USERNAME%"}, "cache"),
        ({"cache": r"%LOCALAPPDATA%\%USERNAME%"}, "cache"),
        ({"cache": "D:\\uv\"'$(calc)|"}, "cache"),
        ({"project_roots": ["C:"]}, "project_roots"),
    ],
)
def test_what_cannot_be_is_refused_by_name(chosen: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidError) as refused:
        plan(**chosen)
    assert refused.value.field == field


def test_preferences_are_as_the_editor_writes_them() -> None:
    found = files(plan(cache=r"D:\uv & co\%USERNAME%"))
    machine, user = etree.fromstring(found["machine-environment.xml"]), etree.fromstring(found["user-environment.xml"])
    assert machine.get("clsid") == "{BF141A63-327B-438a-B9BF-2C188F13B7AD}"
    values = {item.get("name"): item for item in machine}
    assert len({item.get("uid") for item in (*machine, *user)}) == len(machine) + len(user)
    python = values["UV_PYTHON_INSTALL_DIR"]
    assert python.get("status") == r"UV_PYTHON_INSTALL_DIR = C:\Program Files\uv\python"
    assert dict(python[0].attrib) == {
        "action": "U",
        "name": "UV_PYTHON_INSTALL_DIR",
        "value": r"C:\Program Files\uv\python",
        "user": "0",
        "partial": "0",
    }
    # PATH is only ever added to.
    assert {item[0].get("partial") for item in machine if item.get("name") == "PATH"} == {"1"}
    assert [(item[0].get("value"), item[0].get("user")) for item in user] == [(r"D:\uv & co\%USERNAME%", "1")]
    groups = EXTENSION_NAMES.strip("[]").split("][")
    assert len(groups) == 2
    assert groups == sorted(groups)


def test_the_registry_file_and_uv_toml_say_the_same_as_the_plan() -> None:
    made = plan(cache=r"D:\uv-cache\%USERNAME%", forbid_builds=True)
    registry = files(made)["relocate.reg"].decode("utf-16")
    assert registry.startswith("Windows Registry Editor Version 5.00\r\n\r\n[HKEY_LOCAL_MACHINE\\SYSTEM\\")
    assert '"UV_TOOL_DIR"="C:\\\\Program Files\\\\uv\\\\tools"\r\n' in registry
    data = registry.split('"UV_CACHE_DIR"=hex(2):')[1].split("\r\n")[0]
    assert bytes.fromhex(data.replace(",", "")).decode("utf-16-le") == "D:\\uv-cache\\%USERNAME%\0"
    assert registry.index("HKEY_CURRENT_USER") < registry.index("UV_CACHE_DIR")
    assert tomllib.loads(files(made)["uv.toml"].decode()) == {"python-downloads": "never", "no-build": True}
    assert tomllib.loads(files(plan(cache=r"D:\uv"))["uv.toml"].decode())["cache-dir"] == r"D:\uv"


@pytest.mark.parametrize("name", ["relocate.ps1", "intune-script.ps1"])
def test_scripts_are_powershell_without_an_error(name: str) -> None:
    content = files(plan(python=r"D:\it's\python", cache=r"D:\uv-cache\%USERNAME%"))[name]
    assert content.startswith(b"\xef\xbb\xbf#Requires")
    assert b"@@" not in content
    assert b"'D:\\it''s\\python'" in content
    parser = tree_sitter.Parser(tree_sitter.Language(tree_sitter_powershell.language()))
    tree = parser.parse(content[3:].replace(b"\r\n", b"\n"))
    wrong: list[str] = []

    def visit(node: tree_sitter.Node) -> None:
        if node.is_error or node.is_missing:
            wrong.append(f"{node.start_point}: {node.text!r}")
        for child in node.children:
            visit(child)

    visit(tree.root_node)
    assert wrong == []


def test_the_same_choice_gives_the_same_bytes() -> None:
    first, again = write_zip(plan(cache=r"D:\c\%USERNAME%")), write_zip(plan(cache=r"D:\c\%USERNAME%"))
    assert first == again
    assert first != write_zip(plan(cache=r"D:\d\%USERNAME%"))
    package = zipfile.ZipFile(io.BytesIO(first))
    assert set(package.namelist()) == {*files(plan(cache=r"D:\c\%USERNAME%")), "SHA256SUMS"}
    told = json.loads(package.read("plan.json"))
    assert told["need_no_rule"] == ["managed-python-exe", "tool-env-python", "tool-bin-exe"]


def test_a_cache_above_users_folders() -> None:
    assert Relocation(cache=r"D:\a\b\%USERNAME%\uv").cache_parent == r"D:\a\b"
    assert Relocation(cache=r"%LOCALAPPDATA%\uv2").cache_parent is None
