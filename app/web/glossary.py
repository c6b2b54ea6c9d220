"""The words Wayleave uses, each explained in one sentence: shown on hover or focus where a page uses one first."""

from __future__ import annotations

from app.fleet.standing import Standing

GLOSSARY: dict[str, str] = {
    "pattern": "A place where uv writes or runs a file, such as the Python of a build environment in uv's cache.",
    "collection": "One of AppLocker's five kinds of files with rules of their own: Exe, Dll, Script, Msi, Appx.",
    "probe": "One try of the agent at one pattern: it starts a harmless program there and notes what Windows answers.",
    "canary": "The small program that the agent starts where no real file stands. Its SHA-256 is published.",
    "engine": "What blocked: AppLocker, Software Restriction Policies, App Control (WDAC), an antivirus, file rights.",
    "subject": "One user on one host. AppLocker decides by user, so one host can have several.",
    "workflow": "A uv command as people type it, and the patterns that must be open for it to work.",
    "group": "Hosts of one organisational unit or enrolment tag. The server decides it, never a report.",
    "share": "Counted are subjects seen in the last 14 days, without administrator rights, under an enforcing policy.",
    "base policy": "The AppLocker policy that rules are added to, as exported from your Group Policy object.",
    "enforced": "Rules in effect. A collection that has rules and the mode NotConfigured is enforced, too.",
    "identity": "What a rule can know of a file besides its path: its hash, or its publisher, product and version.",
}

# The catalogue's groups of patterns, as people would name them.
GROUP_TITLES: dict[str, str] = {
    "blocked": "Blocked on this fleet",
    "cache": "uv’s cache",
    "venv": "Projects (.venv)",
    "managed-python": "Managed Pythons",
    "tools": "Installed tools",
    "bin": "On PATH",
    "uv-binary": "uv itself",
    "self-update": "Self-update",
    "installer": "uv’s installer",
    "temp": "Temporary files",
    "build": "Builds",
    "external": "Other programs",
    "misc": "Other places",
}


STANDING_WORDS: dict[Standing, str] = {
    Standing.COUNTED: "counted in shares",
    Standing.ADMINISTRATOR: "with administrator rights",
    Standing.NOT_ENFORCING: "under no enforced policy",
    Standing.TRIAL: "Linux trials",
    Standing.QUARANTINED: "in quarantine",
    Standing.SILENT: "silent",
    Standing.REVOKED: "revoked",
    Standing.IMPORTED: "named in imported files alone",
}
