"""What a relocation would do to the fleet: who is there already, who would be moved, what uv would no longer find.

Each distinct environment that hosts report is judged once; how many have it comes from the tallies. No host is read.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.fleet.standing import Standing
from app.fleet.tables import KIND_NUMBERS, FactSet, Tally, VersionTally
from app.relocation.choices import Relocation
from app.relocation.plan import RelocationPlan

SHOWN_PLACES = 8
_COUNTED = (Standing.COUNTED.value, Standing.ADMINISTRATOR.value, Standing.NOT_ENFORCING.value)
_ANSWERS = {"python": "python_dir", "tools": "tool_dir", "bin": "tool_bin_dir", "cache": "cache_dir"}
_VARIABLES = {
    "python": "UV_PYTHON_INSTALL_DIR",
    "tools": "UV_TOOL_DIR",
    "bin": "UV_TOOL_BIN_DIR",
    "cache": "UV_CACHE_DIR",
}
_DEFAULTS = {
    "python": r"%appdata%\uv\python",
    "tools": r"%appdata%\uv\tools",
    "bin": r"%userprofile%\.local\bin",
    "cache": r"%localappdata%\uv\cache",
}
_SAME = (
    (r"%osdrive%", "c:"),
    (r"%systemdrive%", "c:"),
    (r"%programfiles%", r"c:\program files"),
    (r"%programdata%", r"c:\programdata"),
    (r"c:\users\*\appdata\local", "%localappdata%"),
    (r"c:\users\*\appdata\roaming", "%appdata%"),
    (r"c:\users\*", "%userprofile%"),
    (r"%userprofile%\appdata\local", "%localappdata%"),
    (r"%userprofile%\appdata\roaming", "%appdata%"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OldPlace:
    """Where uv keeps something now, for how many users; after the move uv no longer looks there."""

    place: str
    users: int
    is_default: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RootWhatIf:
    """One of uv's directories over the fleet, in users.

    `there`: it is where the plan wants it; `moved`: it is at uv's default, and would go; `differs`: somebody set
    another place. Of these the machine's variable moves those who got theirs from the machine; a user's own variable
    wins over it. `unknown`: not reported. `orphaned`: the places that would be left behind, most users first.
    """

    root: str
    target: str | None
    there: int
    moved: int
    differs: int
    unknown: int
    orphaned: tuple[OldPlace, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class IgnoredSetting:
    """A setting that some uv of the fleet does not read yet: those versions, and their users."""

    name: str
    since: str
    users: int
    versions: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RelocationWhatIf:
    """The fleet under a relocation. `environments`: how many distinct ones were judged."""

    users: int
    environments: int
    roots: tuple[RootWhatIf, ...]
    ignored: tuple[IgnoredSetting, ...]

    @property
    def is_known(self) -> bool:
        return self.users > 0


def simulate_relocation(session: Session, plan: RelocationPlan, group_id: int | None = None) -> RelocationWhatIf:
    """Judge each distinct environment of the fleet, or of one group, against a plan. Three statements at most."""
    query = (
        select(FactSet.body, func.sum(Tally.subjects))
        .join(Tally, Tally.set_id == FactSet.id)
        .where(FactSet.kind == KIND_NUMBERS["environment"], Tally.standing.in_(_COUNTED), Tally.subjects > 0)
        .group_by(FactSet.id, FactSet.body)
    )
    if group_id is not None:
        query = query.where(Tally.group_id == group_id)
    counts: dict[str, defaultdict[str, int]] = {root: defaultdict(int) for root in _ANSWERS}
    places: dict[str, defaultdict[str, int]] = {root: defaultdict(int) for root in _ANSWERS}
    users = environments = 0
    for body, subjects in session.execute(query):
        environment = json.loads(body)
        environments += 1
        users += int(subjects)
        for root in _ANSWERS:
            verdict, place = judge_root(environment, root, plan.choice)
            counts[root][verdict] += int(subjects)
            if verdict in ("moved", "differs") and place:
                places[root][place] += int(subjects)
    return RelocationWhatIf(
        users=users,
        environments=environments,
        roots=tuple(_root(root, plan.choice, counts[root], places[root]) for root in _ANSWERS),
        ignored=_ignored(session, plan, group_id),
    )


def judge_root(environment: Mapping[str, object], root: str, choice: Relocation) -> tuple[str, str | None]:
    """(`there`, `moved`, `differs` or `unknown`; where it is now) of one directory in a reported environment.

    uv's own answer counts before the variable; where neither was reported, uv's default is not assumed.
    """
    answers, variables = environment.get("answers") or {}, environment.get("variables") or {}
    assert isinstance(answers, dict)  # noqa: S101 - the shape was checked when it was stored
    assert isinstance(variables, dict)  # noqa: S101 - the same
    names = {name.upper(): value for name, value in variables.items()}
    place = answers.get(_ANSWERS[root]) or names.get(_VARIABLES[root])
    if not place:
        return "unknown", None
    current = same_form(str(place))
    target = getattr(choice, root)
    if current == same_form(target or _DEFAULTS[root]):
        return "there", str(place)
    return ("moved" if current == _DEFAULTS[root] else "differs"), str(place)


def same_form(place: str) -> str:
    r"""A folder in one form, so that a chosen one and a reported one can be compared.

    >>> same_form(r"C:\Program Files\uv\python") == same_form(r"%PROGRAMFILES%\UV\python\\")
    True
    >>> same_form(r"D:\uv-cache\%USERNAME%") == same_form(r"D:\uv-cache\*")
    True
    """
    form = re.sub(r"[\\/]+", r"\\", place).rstrip("\\").lower().replace("%username%", "*")
    for start, plain in _SAME:
        if form == start or form.startswith(start + "\\"):
            form = plain + form[len(start) :]
    return form


def _root(root: str, choice: Relocation, counts: Mapping[str, int], places: Mapping[str, int]) -> RootWhatIf:
    ordered = sorted(places.items(), key=lambda item: (-item[1], item[0]))[:SHOWN_PLACES]
    return RootWhatIf(
        root=root,
        target=getattr(choice, root) or None,
        there=counts.get("there", 0),
        # A cache that stays where uv has it moves nobody.
        moved=counts.get("moved", 0),
        differs=counts.get("differs", 0),
        unknown=counts.get("unknown", 0),
        orphaned=tuple(
            OldPlace(place=place, users=users, is_default=same_form(place) == _DEFAULTS[root])
            for place, users in ordered
            if root != "cache" or choice.cache
        ),
    )


def _ignored(session: Session, plan: RelocationPlan, group_id: int | None) -> tuple[IgnoredSetting, ...]:
    query = (
        select(VersionTally.version, func.sum(VersionTally.subjects))
        .where(VersionTally.standing.in_(_COUNTED), VersionTally.version != "", VersionTally.subjects > 0)
        .group_by(VersionTally.version)
    )
    if group_id is not None:
        query = query.where(VersionTally.group_id == group_id)
    users: defaultdict[str, int] = defaultdict(int)
    versions: defaultdict[str, list[str]] = defaultdict(list)
    for version, subjects in session.execute(query):
        try:
            names = plan.ignored_by(version)
        except ValueError:
            continue  # a version in words of its own
        for name in names:
            users[name] += int(subjects)
            versions[name].append(version)
    return tuple(
        IgnoredSetting(
            name=one.name, since=one.since, users=users[one.name], versions=tuple(sorted(versions[one.name]))
        )
        for one in plan.settings
        if users[one.name]
    )
