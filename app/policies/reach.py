"""What a rule admits besides what it is for: in plain words, with examples, and for how long.

No suggestion hides its reach. The examples are computed from the rule's own path, and a test holds that AppLocker's
judgement admits every one of them.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.catalogue import Catalogue, Pattern, Signer
from app.policies.baselines import TrustedFile
from app.policies.choices import DEFAULT_ROOTS, ROOT_VARIABLES

PYTHON_RISK = (
    "A Python that may start runs any Python code the user has: AppLocker does not look into .py files. "
    "Whoever may run python.exe can do whatever a program could do in that user's name."
)
USER_PATH_RISK = (
    "Users can write there, so any program that they, or malware in their name, save under such a path runs: "
    "for this group and these paths AppLocker no longer protects."
)

# What AppLocker's variables stand for on nearly every machine, for examples that people read.
_SHOWN = {
    "%OSDRIVE%": "C:",
    "%PROGRAMFILES%": r"C:\Program Files",
    "%WINDIR%": r"C:\Windows",
    "%SYSTEM32%": r"C:\Windows\System32",
}
_PROTECTED = ("%PROGRAMFILES%\\", "%WINDIR%\\", "%SYSTEM32%\\")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """What a rule admits. `examples`: paths or programs that it admits too, though nobody asked for them.

    `users_can_write`: whether ordinary users can put a file there that the rule admits.
    """

    admits: str
    examples: tuple[str, ...]
    users_can_write: bool
    writable: str
    lasts: str
    risk: str
    narrower: str | None


def is_writable_by_users(path: str) -> bool:
    r"""Whether users can write where a path rule points, by Windows' default permissions.

    >>> is_writable_by_users(r"%PROGRAMFILES%\uv\*"), is_writable_by_users(r"%OSDRIVE%\Users\*\x.exe")
    (False, True)
    """
    return not path.upper().startswith(_PROTECTED)


def reach_of_path(path: str, collection: str, patterns: tuple[Pattern, ...], narrower: str | None) -> Reach:
    """The reach of a path rule."""
    writable = is_writable_by_users(path)
    stars = path.count("*")
    admits = f"Any file of the {collection} collection whose path has the form {shown(path)}"
    if stars:
        admits += "; a * stands for any text, and for any number of folders"
    return Reach(
        admits=admits + ".",
        examples=path_examples(path),
        users_can_write=writable,
        writable=(
            "Yes: ordinary users can save programs there."
            if writable
            else "No, by Windows' default permissions; check that nobody changed them."
        ),
        lasts=_layout_lasts(patterns),
        risk=_risk(patterns, USER_PATH_RISK if writable else ""),
        narrower=narrower,
    )


def reach_of_signer(catalogue: Catalogue, signer: Signer, patterns: tuple[Pattern, ...], narrower: str | None) -> Reach:
    """The reach of a publisher rule for one of the catalogue's known signers."""
    others = [pattern for pattern in catalogue.patterns if pattern.signer == signer.id and pattern not in patterns]
    return Reach(
        admits=signer.admits,
        examples=tuple(f"{pattern.title} ({pattern.default_path})" for pattern in others[:5]),
        users_can_write=True,
        writable="Users can put such a file anywhere, but only the publisher can make one.",
        lasts=f"Until the publisher's name changes. {_signed_since(signer)}".strip(),
        risk=_risk(patterns, f"Whatever else {signer.name} signs, now or later, is admitted too."),
        narrower=narrower,
    )


def reach_of_trusted_publisher(file: TrustedFile, patterns: tuple[Pattern, ...], narrower: str | None) -> Reach:
    """The reach of a publisher rule made from a signed file of the baseline."""
    what = f"every file that names itself {file.binary}" if file.binary else "every file"
    product = f" of the product {file.product}" if file.product else ""
    return Reach(
        admits=f"{what[0].upper()}{what[1:]}{product}, signed by {file.publisher}, of any version, anywhere.",
        examples=(f"Older versions of {file.name}, with whatever faults they had.",),
        users_can_write=True,
        writable="Users can put such a file anywhere, but only the publisher can make one.",
        lasts="Until the publisher's name, the product or the original file name changes.",
        risk=_risk(patterns, ""),
        narrower=narrower,
    )


def reach_of_file(file: TrustedFile, patterns: tuple[Pattern, ...]) -> Reach:
    """The reach of a hash rule: one file, anywhere."""
    return Reach(
        admits=f"This one file ({file.name}, {file.size_bytes} bytes), wherever it lies and whatever it is called.",
        examples=(),
        users_can_write=True,
        writable="Users can copy the file anywhere, but any change to it ends the match.",
        lasts="Until this file changes: every new build needs its own hash.",
        risk=_risk(patterns, ""),
        narrower=None,
    )


def path_examples(path: str) -> tuple[str, ...]:
    r"""Paths that a path rule admits too: under other names, and with folders where nobody expects them.

    >>> path_examples(r"%OSDRIVE%\*\.venv\Scripts\python*.exe")[1]
    'C:\\Users\\anyone\\Downloads\\.venv\\Scripts\\python-anything.exe'
    """
    stars = path.count("*")
    if stars == 0:
        return ()
    folder_stars = path.rpartition("\\")[0].count("*")
    name_stars = stars - folder_stars
    plain = ["anyone" if before.lower().endswith("\\users\\") else "any" for before in path.split("*")[:stars]]
    if name_stars:
        plain[-name_stars:] = ["-anything"] * name_stars
        if path.endswith("\\*"):
            plain[-1] = "any\\folder\\anything"
    fillings = [tuple(plain)]
    if folder_stars:
        deep = list(plain)
        before = path.split("*")[0].lower()
        if before == "%osdrive%\\":
            deep[0] = "Users\\anyone\\Downloads"
        else:
            deep[0] = "anyone\\Downloads" if before.endswith("\\users\\") else f"{plain[0]}\\deeper\\folder"
        fillings.append(tuple(deep))
    examples = []
    for filling in fillings:
        pieces = path.split("*")
        text = "".join(piece + fill for piece, fill in zip(pieces, (*filling, ""), strict=True))
        examples.append(shown(text) + (".exe" if path.endswith("\\*") else ""))
    return tuple(dict.fromkeys(examples))


def shown(path: str) -> str:
    """A rule's path with AppLocker's variables replaced by what they mostly stand for."""
    for variable, folder in _SHOWN.items():
        if path.upper().startswith(variable):
            return folder + path[len(variable) :]
    return path


def narrower_than_path(
    path: str, patterns: tuple[Pattern, ...], *, has_project_roots: bool, has_hash: bool
) -> str | None:
    """What would admit less than this path rule, None if nothing that works is known."""
    if not is_writable_by_users(path):
        return None
    advice = []
    if path.lower().startswith("%osdrive%\\*\\") and not has_project_roots:
        advice.append("Name the folders in which your projects live (project roots): the rule then holds only there.")
    if has_hash:
        advice.append("Record the trusted files with `wayleave baseline add`, and take hash rules.")
    for name, prefix in DEFAULT_ROOTS.items():
        if name in ("python", "tools", "bin") and path.lower().startswith(prefix.lower()):
            advice.append(
                f"Move the folder with {ROOT_VARIABLES[name]} to one that only administrators can write, "
                "and let them install there."
            )
    if not advice and any(pattern.rule_advice for pattern in patterns):
        advice.extend(dict.fromkeys(pattern.rule_advice for pattern in patterns if pattern.rule_advice))
    return " ".join(advice) or None


def _layout_lasts(patterns: tuple[Pattern, ...]) -> str:
    ended = [pattern for pattern in patterns if pattern.until]
    if ended and len(ended) == len(patterns):
        return (
            f"Only for old uv releases: uv used these paths until {', '.join(sorted({str(p.until) for p in ended}))}."
        )
    since = sorted({str(pattern.since) for pattern in patterns if pattern.since})
    return (
        f"Until uv lays out its folders differently (so since {', '.join(since)})."
        if since
        else ("Until uv lays out its folders differently.")
    )


def _signed_since(signer: Signer) -> str:
    return f"Releases before {signer.since} are not signed and stay blocked." if signer.since else ""


def _risk(patterns: tuple[Pattern, ...], of_kind: str) -> str:
    """What can go wrong. The catalogue's own risk is that of a path rule; what a Python means holds for every kind."""
    sentences = [of_kind] if of_kind else []
    if any(runs_python(pattern) for pattern in patterns):
        sentences.append(PYTHON_RISK)
    return " ".join(sentences) or "None known beyond that: the file is what an administrator vouched for."


def runs_python(pattern: Pattern) -> bool:
    """Whether a pattern's files include a Python interpreter or its launcher."""
    names = [template.rpartition("\\")[2].lower() for template in pattern.templates]
    return "python.exe" in pattern.risk or any(name.startswith("python") and ".exe" in name for name in names)
