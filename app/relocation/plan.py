"""The plan of a relocation: what to set, which rights folders need, what stays where it was, and which rules remain.

Pure: from the choice and the catalogue alone. What the fleet has set already is compared in `whatif`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from agent.catalogue import Catalogue, Pattern
from agent.catalogue import load as load_catalogue
from agent.catalogue.changes import read_version
from agent.catalogue.settings import get_setting
from app.errors import InvalidError
from app.policies.baselines import TrustedFile
from app.policies.choices import COLLECTIONS, RULE_KINDS, PatternChoice, checked_sid
from app.policies.export import Export, plan_export
from app.policies.plan import rule_giver
from app.relocation.choices import Relocation, can_users_write

_ROOT = re.compile(r"^(<[^<>]+>|%[^%]+%)")
_MOVED = {"<python dir>": "python", "<tool dir>": "tools", "<bin>": "bin", "<tool bin>": "bin", "<python bin>": "bin"}
SYSTEM_FILE = r"C:\ProgramData\uv\uv.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedSetting:
    """One variable to set, for the machine or (`is_user`) for each user. `key`: what says the same in uv.toml, quoted.

    `since`: the first uv that reads the variable, `key_since`: the key; `expands`: Windows fills in a variable inside.
    """

    name: str
    value: str
    is_user: bool
    since: str
    why: str
    key: str | None = None
    key_since: str | None = None

    @property
    def expands(self) -> bool:
        return "%" in self.value


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderRights:
    """A folder to make and who may do what there. `kind`: `admin` (users read), `own` (users make one of their own)."""

    folder: str
    kind: str
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Staying:
    """Something that is executed and that no setting moves out of users' reach: where, and which patterns."""

    place: str
    why: str
    patterns: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RelocationPlan:
    """Everything that follows from a choice.

    `moved`: patterns that now lie where only administrators write; of them `need_no_rule` lie where AppLocker's
    default rules allow all. `rules`: what must still be opened by rules, None if nothing; `unopened`: patterns that
    get no rule, and why; `risks` and `consequences` in plain words.
    """

    choice: Relocation
    settings: tuple[PlannedSetting, ...]
    path_folders: tuple[str, ...]
    folders: tuple[FolderRights, ...]
    moved: tuple[str, ...]
    need_no_rule: tuple[str, ...]
    staying: tuple[Staying, ...]
    rules: Export | None
    unopened: tuple[tuple[str, str], ...]
    risks: tuple[str, ...]
    consequences: tuple[str, ...]

    def ignored_by(self, version: str) -> tuple[str, ...]:
        """The settings that a uv version does not read. raises: ValueError for what is no version"""
        return tuple(one.name for one in self.settings if read_version(version) < read_version(one.since))


def plan_relocation(
    choice: Relocation,
    *,
    sid: str,
    collections: Sequence[str] = ("Exe",),
    baseline: Sequence[TrustedFile] = (),
    catalogue: Catalogue | None = None,
) -> RelocationPlan:
    """What a relocation takes and leaves. `sid`: for whom the remaining rules are; `collections`: those in force.

    raises: InvalidError about `sid` or `collections`.
    """
    catalogue = catalogue or load_catalogue()
    for name in collections:
        if name not in COLLECTIONS:
            raise InvalidError(
                f"There is no collection {name[:40]!a}; choose {', '.join(COLLECTIONS)}.", field="collections"
            )
    checked_sid(sid)
    needed = _needed(catalogue, choice)
    moved = tuple(pattern.id for pattern in needed if _moved_root(pattern))
    protected = {name for name in ("python", "tools", "bin") if not can_users_write(getattr(choice, name))}
    need_no_rule = tuple(pattern.id for pattern in needed if _moved_root(pattern) in protected)
    wanted = [pattern for pattern in needed if pattern.id not in need_no_rule]
    rules, unopened = _remaining(catalogue, choice, wanted, sid, collections, baseline)
    return RelocationPlan(
        choice=choice,
        settings=tuple(_settings(choice)),
        path_folders=tuple(dict.fromkeys((choice.uv, choice.bin))),
        folders=tuple(_folders(choice)),
        moved=moved,
        need_no_rule=need_no_rule,
        staying=_staying(needed),
        rules=rules,
        unopened=unopened,
        risks=tuple(_risks(choice)),
        consequences=tuple(_consequences(choice)),
    )


def _settings(choice: Relocation) -> list[PlannedSetting]:
    found = [
        _setting("UV_INSTALL_DIR", choice.uv, "The standalone installer puts uv.exe there, or fails for users."),
        _setting("UV_PYTHON_INSTALL_DIR", choice.python, "Pythons that administrators install for everybody."),
        _setting("UV_PYTHON_BIN_DIR", choice.bin, "Their shims, such as python3.13.exe."),
        _setting("UV_TOOL_DIR", choice.tools, "Tools that administrators install for everybody."),
        _setting("UV_TOOL_BIN_DIR", choice.bin, "The tools' programs."),
    ]
    if choice.cache:
        whose = "Each user's own cache." if choice.is_cache_per_user else "One cache for all users of a machine."
        found.append(_setting("UV_CACHE_DIR", choice.cache, whose, is_user=choice.is_cache_per_user))
    if choice.forbid_downloads:
        found.append(_setting("UV_PYTHON_DOWNLOADS", "never", "Users cannot write where Pythons would go."))
        found.append(
            _setting("UV_PYTHON_INSTALL_REGISTRY", "0", "No entries in the installing administrator's registry.")
        )
    if choice.forbid_builds:
        found.append(
            _setting("UV_NO_BUILD", "1", "Nothing is built from source, so no program runs in build environments.")
        )
    return found


def _setting(name: str, value: str, why: str, *, is_user: bool = False) -> PlannedSetting:
    known = get_setting(name)
    written = "true" if name == "UV_NO_BUILD" else f"'{value}'"
    # uv fills in no variable in a path of uv.toml.
    key = f"{known.key} = {written}" if known.key and "%" not in value else None
    return PlannedSetting(
        name=name,
        value=value,
        is_user=is_user,
        since=known.since,
        why=why,
        key=key,
        key_since=known.key_since if key else None,
    )


def _folders(choice: Relocation) -> list[FolderRights]:
    shared = "Administrators and SYSTEM may do everything, users read and run. Nothing is inherited from above."
    found = [
        FolderRights(folder=folder, kind="admin", sentence=shared)
        for folder in dict.fromkeys((choice.uv, choice.python, choice.tools, choice.bin))
    ]
    if choice.cache_parent:
        found.append(
            FolderRights(
                folder=choice.cache_parent,
                kind="own",
                sentence="Each user may make a folder there, which is theirs alone: others neither read nor write it.",
            )
        )
    elif choice.cache and not choice.is_cache_per_user:
        found.append(
            FolderRights(
                folder=choice.cache, kind="shared", sentence="All users may write everywhere in it: see the risks."
            )
        )
    return found


def _needed(catalogue: Catalogue, choice: Relocation) -> list[Pattern]:
    """The patterns that uv's commands need, in the catalogue's order; without what the choice does away with."""
    names = {name for workflow in catalogue.workflows for name in workflow.needs}
    if choice.forbid_builds:
        names -= {name for name in names if name.startswith("cache-builds-")}
        names |= {"cache-builds-venv-python"}  # `uv run --with` puts its packages there all the same
    return [pattern for pattern in catalogue.patterns if pattern.id in names]


def _moved_root(pattern: Pattern) -> str | None:
    roots = {_MOVED.get(found[1]) if (found := _ROOT.match(template)) else None for template in pattern.templates}
    return next(iter(roots)) if len(roots) == 1 else None


def _staying(needed: Sequence[Pattern]) -> tuple[Staying, ...]:
    kinds = (
        ("<cache>", "uv's cache", "uv writes environments there and starts programs in them: builds, uvx, scripts."),
        ("<project>", "projects", "Environments (.venv) lie beside the code that users write."),
        ("%TEMP%", "the temporary folder", "Self-update runs its installer and a copy of uv there: only TMP moves it."),
    )
    found = []
    for root, place, why in kinds:
        patterns = tuple(one.id for one in needed if any(template.startswith(root) for template in one.templates))
        if patterns:
            found.append(Staying(place=place, why=why, patterns=patterns))
    return tuple(found)


def _remaining(
    catalogue: Catalogue,
    choice: Relocation,
    wanted: Sequence[Pattern],
    sid: str,
    collections: Sequence[str],
    baseline: Sequence[TrustedFile],
) -> tuple[Export | None, tuple[tuple[str, str], ...]]:
    """The rules for what stays within users' reach; each pattern is tried alone, so that none spoils the others."""
    roots = {name: getattr(choice, name) for name in ("python", "tools", "bin")}
    if choice.cache:
        roots["cache"] = choice.cache
    # Self-update does nothing for a uv that administrators installed.
    open_ids = [one for one in wanted if one.group != "self-update"]
    unopened = [
        (one.id, "uv is deployed by administrators: `uv self update` is not for users then.")
        for one in wanted
        if one.group == "self-update"
    ]

    def planned(choices: Sequence[PatternChoice]) -> Export:
        return plan_export(
            choices,
            sid,
            baseline=baseline,
            project_roots=choice.project_roots,
            roots=roots,
            collections=tuple(collections),
            catalogue=catalogue,
        )

    chosen: list[PatternChoice] = []
    for pattern in open_ids:
        try:
            rule_giver(catalogue, pattern)
        except InvalidError as error:
            unopened.append((pattern.id, error.message))
            continue
        if not set(pattern.collections) & set(collections):
            unopened.append((pattern.id, f"It needs {', '.join(pattern.collections)} rules, which are not in force."))
            continue
        refused = None
        for kind in (None, *RULE_KINDS):
            try:
                planned([PatternChoice(pattern=pattern.id, kind=kind)])
            except InvalidError as error:
                if error.field in ("sid", "collections", "project_roots"):
                    raise
                refused = error
            else:
                chosen.append(PatternChoice(pattern=pattern.id, kind=kind))
                break
        else:
            unopened.append((pattern.id, refused.message if refused else ""))
    return (planned(chosen) if chosen else None), tuple(unopened)


def _risks(choice: Relocation) -> list[str]:
    found = [
        "Users still decide what code runs: a Python that may start runs any .py file, wherever it lies.",
        "The cache and .venv stay where users write: a path rule there admits whatever is put there. Hash rules for "
        "the Python launchers are narrower.",
    ]
    if choice.cache and not choice.is_cache_per_user:
        found.append(
            "One cache for all users: whoever can write it can replace a program or a package that another user, or an "
            "administrator, then runs. Take a folder per user, such as D:\\uv-cache\\%USERNAME%."
        )
    if not choice.forbid_downloads:
        found.append("uv will try to download Pythons into a folder that users cannot write, and fail there.")
    outside = [name for name in ("uv", "python", "tools", "bin") if can_users_write(getattr(choice, name))]
    if outside:
        found.append(
            f"The folders for {', '.join(outside)} lie outside Program Files: they are safe only while the rights "
            "below hold, and each needs a path rule."
        )
    found.append(
        "A user can set variables of their own, which win over the machine's, and write again to a folder of their "
        "choice; what then runs there is for AppLocker to decide, as before."
    )
    return found


def _consequences(choice: Relocation) -> list[str]:
    found = [
        "uv links wheels from its cache into environments (hard links) where both lie on one volume; across volumes it "
        "copies, which takes time and space, and says so once.",
        "AppLocker judges the path by which a file is opened, so a hard link in .venv is judged there, not in the "
        "cache; a junction is judged at its target: allow the Python's own folder, not cpython-3.13-….",
        "Every new Python and tool is installed by an administrator, with the same variables set: "
        "`uv python install 3.13`, `uv tool install ruff`.",
        "The folder of tools needs its .gitignore and .lock, and users must be able to write .lock: without it `uvx` "
        "and `uv tool list` fail with access denied. The script makes both.",
        "What users installed before stays on disk, no longer found by uv: see what would be orphaned.",
        "Never set UV_PROJECT_ENVIRONMENT for a machine: all projects would share one environment.",
    ]
    if choice.cache and choice.project_roots:
        drives = {choice.cache[:2].upper(), *(root[:2].upper() for root in choice.project_roots)}
        if len(drives) > 1 and not choice.cache.startswith("%"):
            found.append(f"Cache and projects lie on different volumes ({', '.join(sorted(drives))}): uv copies.")
    return found
