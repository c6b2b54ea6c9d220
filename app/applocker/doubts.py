"""The questions that the documentation leaves open, each with who says what: one run on a real PC settles it."""

from __future__ import annotations

from app.applocker.model import Confidence, Doubt

_MATCHER = "FsRtlIsNameInExpression documentation; public reverse engineering of the AppLocker driver's compare routine"
_FORSHAW = "J. Forshaw, The Internals of AppLocker, parts 3 and 4"
_PATH_PAGE = "Microsoft, Understanding the path rule condition in AppLocker"
_PUBLISHER_PAGE = "Microsoft, Understanding the publisher rule condition in AppLocker"
_AARON = "AaronLocker manual and scripts"


def _doubt(code: str, confidence: Confidence, question: str, origin: str) -> Doubt:
    return Doubt(code=code, confidence=confidence, question=question, origin=origin)


_LOW, _MEDIUM = Confidence.LOW, Confidence.MEDIUM

QUESTION_MARK = _doubt(
    "rule-question-mark",
    _MEDIUM,
    "Does ? in a path rule stand for exactly one character?",
    f"{_MATCHER}; {_PATH_PAGE} doesn't mention ?",
)
FOLDER_WITHOUT_STAR = _doubt(
    "rule-folder-without-star",
    _MEDIUM,
    "Does a path rule for a folder without \\* match nothing inside it?",
    f"{_AARON} always add \\*; not documented",
)
TRAILING_BACKSLASH = _doubt(
    "rule-trailing-backslash",
    _LOW,
    "Does a path rule that ends with a backslash match nothing?",
    f"inferred from {_MATCHER}",
)
FORWARD_SLASH = _doubt(
    "rule-forward-slash", _LOW, "Is a forward slash in a path rule a literal character?", f"inferred from {_MATCHER}"
)
DOT_DOT = _doubt("rule-dot-dot", _LOW, "Is .. in a path rule left as it is?", f"inferred from {_MATCHER}")
LONG_PREFIX = _doubt(
    "rule-long-path-prefix",
    _LOW,
    "Does a path rule that begins with \\\\?\\ match nothing?",
    f"inferred from {_MATCHER}",
)
DOS_WILDCARD = _doubt(
    "rule-dos-wildcard",
    _LOW,
    "Are < > \" in a path rule wildcards, as the kernel's matcher documents?",
    f"{_MATCHER}; {_PATH_PAGE} doesn't mention them",
)
SHORT_NAME_RULE = _doubt(
    "rule-short-name",
    _LOW,
    "Is a path rule with something like a short name (PROGRA~1) never enforced, even for a file of just that name?",
    _PATH_PAGE,
)
SHORT_NAME_FILE = _doubt(
    "file-short-name",
    _LOW,
    "Is a file that is started by its short name judged by its long path?",
    f"inferred, {_FORSHAW}",
)
NATIVE_PATH = _doubt(
    "native-path",
    _LOW,
    "Which number has the volume in \\Device\\HarddiskVolume…, and is that form of the path matched too?",
    _FORSHAW,
)
VARIABLE_FORM = _doubt(
    "variable-form",
    _LOW,
    "Does a rule that begins with a wildcard match a path's form with variables (%OSDRIVE%\\…) as text?",
    _FORSHAW,
)
EVENT_PATH = _doubt(
    "file-variable",
    _MEDIUM,
    "Which of its folders does the variable at the beginning of the file's path stand for?",
    _PATH_PAGE,
)
LINK_TARGET = _doubt(
    "file-link-target",
    _MEDIUM,
    "Is a file opened through a junction or a symbolic link judged by the real path?",
    _FORSHAW,
)
LINK_PATH = _doubt(
    "file-link-path",
    _LOW,
    "Does a rule for the path of a junction or symbolic link match nothing that is opened through it?",
    f"inferred, {_FORSHAW}",
)
MAPPED_DRIVE = _doubt(
    "file-mapped-drive", _MEDIUM, "Are mapped and SUBST drives judged by the path they stand for?", _AARON
)
STREAM = _doubt(
    "file-stream", _MEDIUM, "Is a file's alternate stream judged by the path with the stream's name?", _AARON
)
EMPTY_VERSION_INFO = _doubt(
    "file-empty-version-info",
    _MEDIUM,
    "Does a rule with product or file name * match a signed file that has none?",
    f"{_AARON}; events show empty fields",
)
PUBLISHER_WILDCARD = _doubt(
    "rule-publisher-wildcard",
    _LOW,
    "Is * or ? within a publisher's or product's text a literal character?",
    f"{_PUBLISHER_PAGE} says literal; the kernel's compare routine says wildcard",
)
FILE_NAME_WILDCARD = _doubt(
    "rule-file-name-wildcard",
    _LOW,
    "Does a file name with a wildcard match every file name that contains the rest of it?",
    f"{_PUBLISHER_PAGE} says contains; the kernel's compare routine says wildcard",
)
FILE_NAME_QUESTION_MARK = _doubt(
    "rule-file-name-question-mark",
    _MEDIUM,
    "Does the file name ? stand for any file name?",
    f"{_PUBLISHER_PAGE} says any; the kernel's compare routine says one character",
)
FLAT_HASH = _doubt(
    "rule-flat-hash", _LOW, "Does AppLocker honour hashes of the type SHA256Flat?", "the policy schema alone"
)
SHA1_HASH = _doubt("rule-sha1-hash", _LOW, "Does AppLocker honour hashes of the type SHA1?", "the policy schema alone")
INSTALLER_HASH = _doubt(
    "file-installer-hash",
    _MEDIUM,
    "Is an installer's hash the flat hash of the file?",
    "AaronLocker 2's hash computation",
)
SCRIPT_HASH = _doubt(
    "file-script-hash",
    _MEDIUM,
    "Is the hash given for this script the flat hash of the file, which is what AppLocker compares?",
    "AaronLocker 2's hash computation",
)
LINKED_TOKEN = _doubt(
    "token-linked",
    _MEDIUM,
    "Is the linked full token of an unelevated administrator used for programs, and for nothing else?",
    f"{_FORSHAW}; {_AARON}",
)
DENY_ONLY = _doubt(
    "token-deny-only",
    _MEDIUM,
    "Do deny-only SIDs count for deny rules, and not for allow rules?",
    f"{_FORSHAW}; Windows Internals",
)
APP_CONTAINER = _doubt(
    "token-app-container",
    _MEDIUM,
    "Do Exe and Dll collections allow app containers (ALL APPLICATION PACKAGES) without a rule?",
    _FORSHAW,
)
MODE_ABSENT = _doubt(
    "mode-absent",
    _MEDIUM,
    "Is a collection without EnforcementMode, but with rules, enforced?",
    "Microsoft, Working with AppLocker rules, says so of Not configured; the schema makes the attribute optional",
)
SERVICE_SCRIPTS = _doubt(
    "service-scripts",
    _MEDIUM,
    "Are scripts, installers and packaged apps of services out of scope, as their programs are?",
    "Microsoft, Rule collection extensions, speaks of Exe and Dll",
)
SERVICES_ONLY = _doubt(
    "services-only", _LOW, "Does ServicesOnly leave the programs of users alone?", "the policy schema alone"
)
APPX_AUDITED = _doubt(
    "appx-audited",
    _LOW,
    "Do packaged apps run when Exe rules or an empty Appx collection are only audited and there is no Appx rule?",
    "Microsoft, Working with AppLocker rules, speaks of enforced Exe rules",
)
EXTENSION = _doubt(
    "file-extension",
    _MEDIUM,
    "Is the file no program or library? One of those is judged by Exe or Dll whatever its extension.",
    "Microsoft, Working with AppLocker rules",
)

ALL = {value.code: value for value in list(globals().values()) if isinstance(value, Doubt)}
"""Every doubt by its code."""
