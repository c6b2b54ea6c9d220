"""Organisational units, out of the names that directories give machines."""

from __future__ import annotations

import pytest

from agent.unit import MAX_LENGTH, unit_of


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("CN=PC1,OU=Finance,OU=Workstations,DC=corp,DC=example", "OU=Finance,OU=Workstations,DC=corp,DC=example"),
        (r"CN=Smith\, PC,OU=A\,B,DC=corp", r"OU=A\,B,DC=corp"),
        ("CN=PC1,CN=Computers,DC=corp", "CN=Computers,DC=corp"),
        ("CN=PC1", None),
        ("CN=PC1,", None),
        ("no name at all, with a comma", None),
        ("CN=PC1,OU=a\nb", None),
        ("CN=PC1,OU=" + "x" * MAX_LENGTH, None),
        ("", None),
        (None, None),
    ],
)
def test_the_unit_is_all_but_the_machines_own_name(name: str | None, unit: str | None) -> None:
    assert unit_of(name) == unit
