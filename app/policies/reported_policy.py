"""What decides on a host, read back from what it reported: group policy's rules, and the SIDs of a user's token."""

from __future__ import annotations

import json

from app.applocker.model import STANDARD_USER, AppLockerError, Collection, Policy
from app.applocker.read import parse_policy


def reported_policy(body: str | None) -> Policy | None:
    """The GPO policy of a set's body; None if it, or a policy besides it, could not be read."""
    value = json.loads(body) if body is not None else {}
    collections = value.get("gpo")
    if collections is None or value.get("csp", "none") != "none":
        return None  # what Intune's policy says is not reported, and a file must be allowed by both
    parsed: list[Collection] = []
    for name, collection in collections.items():
        if not collection.get("rules"):
            continue
        mode = collection.get("mode", "")
        attribute = f' EnforcementMode="{mode}"' if mode in ("NotConfigured", "AuditOnly", "Enabled") else ""
        if not name.isalpha():
            return None
        # One by one: the registry holds each collection by itself, so an id may come again in another.
        text = f'<RuleCollection Type="{name}"{attribute}>{"".join(collection["rules"])}</RuleCollection>'
        try:
            parsed += parse_policy(text).collections
        except AppLockerError:
            return None
    return Policy(collections=tuple(parsed))


def sids_of_token(body: str | None) -> frozenset[str]:
    """The SIDs of a token set; where none was told, those that every user has."""
    if body is None:
        return STANDARD_USER.sids
    return frozenset(sid.upper() for sid in json.loads(body).get("sids", ())) | STANDARD_USER.sids
