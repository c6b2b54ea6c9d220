"""How what changed reads, on the page and in messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def change_words(change: Mapping[str, Any]) -> str:
    """One change, in words.

    >>> change_words({"what": "uv", "before": "0.12.9", "after": "0.13.8", "users": 12})
    'uv 0.12.9 → 0.13.8 (12 users)'
    >>> change_words({"what": "token", "before": "", "after": "", "users": 1})
    'the groups in the user’s token (1 user)'
    """
    name = {
        "policy": "the policy in force",
        "uv": "uv",
        "catalogue": "the agent’s catalogue",
        "agent": "the agent",
        "environment": "where uv keeps things, or its settings",
        "token": "the groups in the user’s token",
    }.get(change["what"], "something else")
    arrow = f" {change['before']} → {change['after']}" if change["before"] or change["after"] else ""
    return f"{name}{arrow} ({change['users']:,} user{'' if change['users'] == 1 else 's'})"
