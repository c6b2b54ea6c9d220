"""The sections of the site, in the order in which somebody works through them, and who sees which."""

from __future__ import annotations

from dataclasses import dataclass

from app.accounts.roles import Permission
from app.accounts.sessions import Person
from app.accounts.tokens import TokenBearer


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One entry of the menu. `icon` is a name in static/vendor/icons.svg."""

    key: str
    title: str
    path: str
    icon: str
    permission: Permission
    heading: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Heading:
    """A heading of the menu with its sections."""

    title: str
    sections: tuple[Section, ...]


SECTIONS = (
    Section(
        key="overview",
        title="Overview",
        path="/",
        icon="layout-dashboard",
        permission=Permission.VIEW_FLEET,
        heading="Fleet",
    ),
    Section(
        key="notices",
        title="Notices",
        path="/notices",
        icon="bell",
        permission=Permission.VIEW_FLEET,
        heading="Fleet",
    ),
    Section(
        key="workflows",
        title="uv commands",
        path="/workflows",
        icon="checks",
        permission=Permission.VIEW_FLEET,
        heading="Fleet",
    ),
    Section(
        key="patterns",
        title="Patterns",
        path="/patterns",
        icon="route",
        permission=Permission.VIEW_FLEET,
        heading="Fleet",
    ),
    Section(
        key="hosts",
        title="Hosts",
        path="/hosts",
        icon="device-desktop",
        permission=Permission.VIEW_FLEET,
        heading="Fleet",
    ),
    Section(
        key="versions",
        title="uv versions",
        path="/versions",
        icon="versions",
        permission=Permission.VIEW_FLEET,
        heading="Fleet",
    ),
    Section(
        key="sightings",
        title="Sightings",
        path="/sightings",
        icon="eye",
        permission=Permission.VIEW_FLEET,
        heading="Fleet",
    ),
    Section(
        key="policies",
        title="Policies in force",
        path="/policies",
        icon="shield",
        permission=Permission.VIEW_FLEET,
        heading="Rules",
    ),
    Section(
        key="rule-sets",
        title="Rule sets",
        path="/rule-sets",
        icon="clipboard-check",
        permission=Permission.VIEW_FLEET,
        heading="Rules",
    ),
    Section(
        key="baseline",
        title="Trusted files",
        path="/baseline",
        icon="fingerprint",
        permission=Permission.VIEW_FLEET,
        heading="Rules",
    ),
    Section(
        key="export",
        title="Export rules",
        path="/export",
        icon="file-export",
        permission=Permission.DRAFT_RULES,
        heading="Rules",
    ),
    Section(
        key="preflight",
        title="Upgrade check",
        path="/preflight",
        icon="radar",
        permission=Permission.VIEW_FLEET,
        heading="Rules",
    ),
    Section(
        key="relocation",
        title="Relocation",
        path="/relocation",
        icon="folders",
        permission=Permission.VIEW_FLEET,
        heading="Rules",
    ),
    Section(
        key="exports",
        title="Exports",
        path="/exports",
        icon="package-export",
        permission=Permission.VIEW_FLEET,
        heading="Rules",
    ),
    Section(
        key="verified",
        title="Checked on Windows",
        path="/verified",
        icon="shield-check",
        permission=Permission.VIEW_FLEET,
        heading="Rules",
    ),
    Section(
        key="work",
        title="Work in progress",
        path="/work",
        icon="progress",
        permission=Permission.VIEW_FLEET,
        heading="Rules",
    ),
    Section(
        key="removals",
        title="Rules to take out",
        path="/removals",
        icon="trash",
        permission=Permission.VIEW_FLEET,
        heading="Rules",
    ),
    Section(
        key="requests",
        title="Requests",
        path="/requests",
        icon="message-circle",
        permission=Permission.ANSWER_REQUESTS,
        heading="Rules",
    ),
    Section(
        key="groups",
        title="Groups and tags",
        path="/groups",
        icon="tags",
        permission=Permission.VIEW_FLEET,
        heading="Fleet",
    ),
    Section(
        key="agents",
        title="Agents",
        path="/agents",
        icon="robot",
        permission=Permission.MANAGE_AGENTS,
        heading="Settings",
    ),
    Section(
        key="imports",
        title="Imports",
        path="/imports",
        icon="file-import",
        permission=Permission.MANAGE_AGENTS,
        heading="Settings",
    ),
    Section(
        key="accounts",
        title="Accounts",
        path="/accounts",
        icon="users",
        permission=Permission.MANAGE_ACCOUNTS,
        heading="Settings",
    ),
    Section(
        key="tokens",
        title="API tokens",
        path="/tokens",
        icon="key",
        permission=Permission.MANAGE_ACCOUNTS,
        heading="Settings",
    ),
    Section(
        key="jobs",
        title="Jobs",
        path="/jobs",
        icon="clock",
        permission=Permission.MANAGE_SETTINGS,
        heading="Settings",
    ),
    Section(
        key="health",
        title="Health",
        path="/health",
        icon="heart-rate-monitor",
        permission=Permission.MANAGE_SETTINGS,
        heading="Settings",
    ),
    Section(
        key="settings",
        title="Settings",
        path="/settings",
        icon="settings",
        permission=Permission.MANAGE_SETTINGS,
        heading="Settings",
    ),
    Section(
        key="audit",
        title="Audit log",
        path="/audit",
        icon="history",
        permission=Permission.VIEW_AUDIT,
        heading="Settings",
    ),
)


def menu_for(person: Person | TokenBearer) -> list[Heading]:
    """The menu of a person: only the sections they may open."""
    allowed = [section for section in SECTIONS if section.permission in person.permissions]
    titles = dict.fromkeys(section.heading for section in allowed)
    return [
        Heading(title=title, sections=tuple(section for section in allowed if section.heading == title))
        for title in titles
    ]
