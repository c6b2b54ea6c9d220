"""Settings: by file, by environment, by command line; and clear words for what is wrong."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from agent.options import Options, OptionsError, read_options

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX paths")


def read(tmp_path: Path, text: str = "", **environment: str) -> Options:
    path = tmp_path / "agent.toml"
    path.write_text(text, encoding="utf-8")
    return read_options({"HOME": "/home/jo", **environment}, config=path)


def test_defaults(tmp_path: Path) -> None:
    assert read(tmp_path) == Options(state_dir=Path("/home/jo/.local/state/wayleave-agent"))


def test_a_file_and_the_environment_over_it(tmp_path: Path) -> None:
    text = 'project_roots = ["/srv/a"]\nprobing = false\ncycle_s = 900\nstate_dir = "/var/lib/a"\nca_file = "/a.pem"'
    options = read(tmp_path, text, WAYLEAVE_AGENT_PROJECT_ROOTS="/srv/b:/srv/c", WAYLEAVE_AGENT_PROBING="true")
    assert options == Options(
        state_dir=Path("/var/lib/a"),
        project_roots=("/srv/b", "/srv/c"),
        probing=True,
        cycle_s=900,
        ca_file=Path("/a.pem"),
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("projectroots = []", "unknown setting 'projectroots'"),
        ('project_roots = "C:/src"', "project_roots must be a list"),
        ('project_roots = ["relative"]', "project_roots must be a list of absolute"),
        ("probing = 1", "probing must be true or false"),
        ("cycle_s = 5", "cycle_s must be"),
        ("cycle_s = true", "cycle_s must be"),
        ('state_dir = "here"', "state_dir must be an absolute path"),
        ("broken [", "agent.toml"),
    ],
)
def test_what_is_wrong_is_named_with_its_file(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(OptionsError, match=r"agent\.toml") as caught:
        read(tmp_path, text)
    assert words in str(caught.value)


def test_a_wrong_variable_is_named(tmp_path: Path) -> None:
    with pytest.raises(OptionsError, match="WAYLEAVE_AGENT_PROBING"):
        read(tmp_path, WAYLEAVE_AGENT_PROBING="maybe")
    with pytest.raises(OptionsError, match="WAYLEAVE_AGENT_CYCLE_S"):
        read(tmp_path, WAYLEAVE_AGENT_CYCLE_S="soon")


def test_a_named_file_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(OptionsError, match="no such file"):
        read_options({"HOME": "/home/jo"}, config=tmp_path / "missing.toml")
    with pytest.raises(OptionsError, match="no such file"):
        read_options({"HOME": "/home/jo", "WAYLEAVE_AGENT_CONFIG": str(tmp_path / "missing.toml")})


def test_known_uvs_are_digests(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text(f"known_uv = ['{'A' * 64}']")
    assert read_options({}, config=file).known_uv == ("a" * 64,)
    for wrong in ("'x'", "['x']", "[1]", f"['{'g' * 64}']"):
        file.write_text(f"known_uv = {wrong}")
        with pytest.raises(OptionsError, match="known_uv must be"):
            read_options({}, config=file)
