"""The wheel carries all that the server needs: pages, migrations, and the front-end packages that git does not hold."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    (built,) = folder.glob("wayleave-*.whl")
    return built


def test_the_wheel_holds_all_source_and_data_files(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    expected = {str(path.relative_to(ROOT)) for name in ("agent", "app") for path in source_files(ROOT / name)}
    for name in ("templates", "static", "migrations"):
        expected |= {f"app/_data/{path.relative_to(ROOT)}" for path in source_files(ROOT / name)}
    assert expected - held == set()
    for vendored in ("tabler/tabler.min.css", "htmx/htmx.min.js", "echarts/echarts.min.js", "icons.svg"):
        assert f"app/_data/static/vendor/{vendored}" in held
    assert "app/_data/migrations/env.py" in held
    assert not [name for name in held if "__pycache__" in name or name.startswith("tests/")]


def test_an_installed_wheel_finds_its_data(wheel: Path, tmp_path: Path) -> None:
    """In a fresh environment that borrows only the pinned dependencies of this one."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(python),
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        str(wheel),
    ]
    subprocess.run(pip, check=True)
    (site,) = (tmp_path / "venv").glob("lib/python3.*/site-packages")
    borrowed = next(path for path in map(Path, sys.path) if path.name == "site-packages")
    # A path entry of its own, not a .pth processed one: our checkout's editable install must not leak in.
    code = (
        f"import sys; sys.path.append({str(borrowed)!r}); import app.settings as s;"
        f"assert s.__file__.startswith({str(site)!r}), s.__file__;"
        "print(all((s.bundled(n) / f).is_file() for n, f in"
        " [('static', 'vendor/htmx/htmx.min.js'), ('templates', 'layout/page.html'), ('migrations', 'env.py')]))"
    )
    run = subprocess.run([str(python), "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.stdout.strip() == "True", run.stderr
    for script in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]:
        assert (tmp_path / "venv" / "bin" / script).is_file()


def source_files(folder: Path) -> list[Path]:
    """The files of a folder, without what Python or the build leave there."""
    return [
        path
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and "vendor" not in path.parts and path.suffix != ".pyc"
    ]
