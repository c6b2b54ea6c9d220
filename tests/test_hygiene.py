"""What must never be committed: package hosts, paths of one machine, third-party code, large files, secrets."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAX_FILE_BYTES = 400_000
MAX_LINE_CHARACTERS = 5_000

# Written in pieces, so that this file does not name what it forbids.
DOT = r"\."
PACKAGE_HOSTS = [
    f"pypi{DOT}org",
    f"pythonhosted{DOT}org",
    f"npmjs{DOT}org",
    f"npmjs{DOT}com",
    f"deb{DOT}debian{DOT}org",
]
PACKAGE_HOSTS += [f"security{DOT}debian{DOT}org", f"registry{DOT}yarnpkg", f"files{DOT}python"]
MACHINE_PATHS = ["/wo" + r"rk/(main|shared|steering|\.library|\.mirror)\b", "/ro" + r"ot/(?!\*)[\w.]"]
SECRETS = [
    "-----BEGIN (RSA |EC |OPENSSH )?PRIVATE" + " KEY-----",
    r"\bgh[pousr]_[A-Za-z0-9]{30,}",
    r"\bAKIA[0-9A-Z]{16}\b",
]


def committed_files() -> list[Path]:
    """Every file that git tracks and that is still there."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listing.returncode != 0:
        pytest.skip("shared: not a git checkout")
    names = listing.stdout.decode().split("\0")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


def text_of(path: Path) -> str:
    content = path.read_bytes()
    return "" if b"\0" in content[:8000] else content.decode("utf-8", "replace")


@pytest.mark.parametrize("pattern", [*PACKAGE_HOSTS, *MACHINE_PATHS, *SECRETS])
def test_no_committed_file_names(pattern: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for path in committed_files()
        for number, line in enumerate(text_of(path).splitlines(), 1)
        if re.search(pattern, line, re.IGNORECASE)
    ]
    assert found == []


def test_no_committed_file_is_large() -> None:
    assert [path.name for path in committed_files() if path.stat().st_size > MAX_FILE_BYTES] == []


def test_no_committed_file_is_minified_or_vendored() -> None:
    suspicious = [
        path.relative_to(ROOT)
        for path in committed_files()
        if re.search(r"\.min\.(js|css)$|(^|/)(node_modules|vendor|dist)/", str(path.relative_to(ROOT)))
        or (path.suffix in {".js", ".css", ".html", ".svg"} and has_long_lines(path))
    ]
    assert suspicious == []


def has_long_lines(path: Path) -> bool:
    return any(len(line) > MAX_LINE_CHARACTERS for line in text_of(path).splitlines())


def test_package_lock_names_versions_and_checksums_alone() -> None:
    lock = json.loads((ROOT / "package-lock.json").read_text())
    packages = {name: entry for name, entry in lock["packages"].items() if name}
    assert len(packages) > 5
    assert [name for name, entry in packages.items() if "resolved" in entry] == []
    assert [name for name, entry in packages.items() if not entry["integrity"].startswith("sha512-")] == []


@pytest.mark.parametrize("path", sorted(ROOT.glob("requirements/*.txt")), ids=lambda path: path.name)
def test_requirements_are_pinned_with_hashes_and_without_an_index(path: Path) -> None:
    text = path.read_text().replace("\\\n", " ")
    entries = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    assert entries
    assert [line for line in entries if not re.match(r"[\w.\[\],-]+==\S+", line) or "--hash=sha256:" not in line] == []
    assert "://" not in text


def test_files_begin_with_their_story() -> None:
    """Every Python file has a docstring; empty package markers excepted."""
    mute = [
        path.relative_to(ROOT)
        for path in committed_files()
        if path.suffix == ".py" and (text := text_of(path).strip()) and not re.match(r'(#!.*\n)?[rR]?"""', text)
    ]
    assert mute == []


def test_what_a_checker_is_not_to_say_has_a_reason_beside_it() -> None:
    marks = re.compile(r"#\s*(noqa\b|type:\s*ignore)" + r"(?P<rest>.*)$")
    bare, unread = [], []
    for path in committed_files():
        if path.suffix != ".py":
            continue
        for number, line in enumerate(text_of(path).splitlines(), 1):
            found = marks.search(line)
            if found is None or path == Path(__file__):
                continue
            place = f"{path.relative_to(ROOT)}:{number}"
            if not re.search(r"(-|#)\s*\W?\w+.*\w", re.sub(r"^(\[[^\]]*\]|:\s*[A-Z0-9, ]+)", "", found["rest"])):
                bare.append(place)
            if found[1] != "noqa" and path.relative_to(ROOT).parts[0] not in ("app", "agent"):
                unread.append(place)
    assert bare == []
    assert unread == [], "types are checked in app and agent alone"
