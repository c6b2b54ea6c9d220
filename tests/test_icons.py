"""Icons: those that pages name are in the file that pages load, and it carries no other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LISTED = {
    line for line in (ROOT / "tools" / "icons.txt").read_text("utf-8").splitlines() if line and not line.startswith("#")
}
# The first words of these calls are names of icons; of a dictionary its values.
CALLS = re.compile(r"""\b(?:ui_icon|icon|empty)\((?:"([a-z0-9-]+)"|\{([^}]*)\})|\bicon="([a-z0-9-]+)\"""")
CHOSEN = re.compile(r"""\bui_icon\("([a-z0-9-]+)" if .*? else "([a-z0-9-]+)"\)""")
VALUES = re.compile(r':\s*"([a-z0-9-]+)"')


def named() -> Iterator[str]:
    for path in (*(ROOT / "templates").rglob("*.html"), *(ROOT / "app").rglob("*.py")):
        text = path.read_text("utf-8")
        for one, several, keyword in CALLS.findall(text):
            yield from (name for name in (one, keyword, *VALUES.findall(several)) if name)
        for names in CHOSEN.findall(text):
            yield from names


def test_every_icon_that_pages_name_is_there_and_no_other() -> None:
    assert set(named()) == LISTED
