"""The four roles and what each may do. A page names the permission it needs; nothing else decides."""

from __future__ import annotations

from enum import StrEnum


class Permission(StrEnum):
    """One thing somebody may do."""

    OWN_ACCOUNT = "own_account"
    VIEW_FLEET = "view_fleet"
    DRAFT_RULES = "draft_rules"
    APPROVE_RULES = "approve_rules"
    ANSWER_REQUESTS = "answer_requests"
    VIEW_AUDIT = "view_audit"
    VIEW_SIGHTINGS = "view_sightings"
    MANAGE_AGENTS = "manage_agents"
    MANAGE_BASELINE = "manage_baseline"
    MANAGE_ACCOUNTS = "manage_accounts"
    MANAGE_SETTINGS = "manage_settings"


class Role(StrEnum):
    """Who somebody is to Wayleave."""

    VIEWER = "viewer"
    ANALYST = "analyst"
    APPROVER = "approver"
    ADMINISTRATOR = "administrator"


_VIEWER = frozenset({Permission.OWN_ACCOUNT, Permission.VIEW_FLEET})
_ANALYST = _VIEWER | {Permission.DRAFT_RULES}
_APPROVER = _ANALYST | {
    Permission.APPROVE_RULES,
    Permission.ANSWER_REQUESTS,
    Permission.VIEW_AUDIT,
    Permission.VIEW_SIGHTINGS,
}

PERMISSIONS: dict[Role, frozenset[Permission]] = {
    Role.VIEWER: _VIEWER,
    Role.ANALYST: _ANALYST,
    Role.APPROVER: _APPROVER,
    Role.ADMINISTRATOR: frozenset(Permission),
}

DESCRIPTIONS: dict[Role, str] = {
    Role.VIEWER: "Sees the fleet's state.",
    Role.ANALYST: "Also drafts rules and exports them.",
    Role.APPROVER: (
        "Also approves rules, answers requests for access, reads the audit log and may look up who ran what on a host."
    ),
    Role.ADMINISTRATOR: "Also manages agents, trusted files, accounts and settings.",
}


def may(role: Role, permission: Permission) -> bool:
    """Whether a role has a permission.

    >>> may(Role.VIEWER, Permission.DRAFT_RULES), may(Role.ANALYST, Permission.DRAFT_RULES)
    (False, True)
    """
    return permission in PERMISSIONS[role]
