"""Judges the files that hosts really tried, as they claim: before and after a draft, for each policy they live under.

Bounded, and each host before all: a host that tells of a pattern without end is heard with its newest files alone, so
that it pushes nobody else's off, neither from what is judged nor from the reviewer's list; what was left out is
counted. What a file says of itself is judged as if it were true, which can only make more of it look allowed; which
pattern it is of, its path tells, not its host. Nothing of it reaches a rule.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, func, select, union_all
from sqlalchemy.orm import Session

from app.applocker.evaluate import collection_of
from app.applocker.model import STANDARD_USER, File, Token
from app.fleet.standing import Standing
from app.fleet.tables import Sighting, Subject
from app.policies.judgement import Judge
from app.policies.outcome import SightingCounts, SightingOutcome
from app.policies.roots import Places
from app.policies.specimens import file_of_sighting
from app.policies.told_pattern import pattern_of_told

if TYPE_CHECKING:
    from app.policies.simulate import Simulator

NEWEST_OF_PATTERN = 500
NEWEST_OF_HOST = 20
"""Distinct files of one pattern that one host may tell, when it tells more than that many events of it."""
MOST_LOUD = 200
MOST_FILES = 2000
SHOWN_OF_EACH = 50
"""Of each verdict, asked for or not: a flood of one kind hides no other."""
_ROUNDS = 4
_COLLECTIONS = frozenset({"Exe", "Dll", "Script", "Msi"})
_ORDER = ("newly blocked", "newly allowed", "still blocked", "allowed already")
_ALIKE = (
    Sighting.path,
    Sighting.pattern,
    Sighting.collection,
    Sighting.sha256,
    Sighting.fqbn,
    Sighting.host_id,
    Sighting.subject_id,
    Sighting.bucket,
)

Key = tuple[str, str, str, str | None]


def judge_sightings(
    session: Session, simulator: Simulator, asked: Collection[str]
) -> tuple[tuple[SightingOutcome, ...], SightingCounts]:
    """The files tried lately: those that change first, of them those of most hosts. `asked`: patterns asked for."""
    patterns = [one.id for one in simulator.catalogue.patterns if one.is_executed]
    roots = simulator.rule_set.project_roots
    loud = _loud_hosts(session, patterns)
    rows = _files(session, patterns, loud)
    verdicts: dict[Key, Counter[str]] = defaultdict(Counter)
    tellers: dict[Key, set[int]] = defaultdict(set)
    rules: dict[Key, str] = {}
    known: dict[tuple[str, str, Places], str] = {}
    for row in rows:
        collection = row.collection if row.collection in _COLLECTIONS else collection_of(row.path)
        judge = simulator.judges.get(row.policy_id)
        if collection not in _COLLECTIONS or judge is None:
            continue
        places = simulator.places.get(row.environment_id, ())
        file = file_of_sighting(row.path, row.sha256, row.fqbn, places, roots)
        told = (row.path, row.pattern, places)
        if told not in known:
            known[told] = pattern_of_told(row.path, row.pattern, simulator.catalogue, places, roots)
        key = (row.path, known[told], collection, row.sha256)
        tellers[key] |= {row.first_host, row.last_host}
        for verdict, rule in _verdicts(judge, simulator.groups, file, collection).items():
            verdicts[key][verdict] += row.hosts
            if rule:
                rules.setdefault(key, rule)
    found = [
        SightingOutcome(
            path=path,
            pattern=pattern,
            collection=collection,
            sha256=sha256,
            # One host may tell of a file in many forms, and for many users.
            hosts=hosts if len(tellers[path, pattern, collection, sha256]) > 1 else 1,
            verdict=verdict,
            rule=rules.get((path, pattern, collection, sha256)) if verdict == "newly allowed" else None,
            asked=pattern in asked,
        )
        for (path, pattern, collection, sha256), counts in verdicts.items()
        for verdict, hosts in counts.items()
    ]
    shown = tuple(_shown(found))
    counts = SightingCounts(
        files=len(verdicts),
        of_loud_hosts=len(loud),
        left_out=rows[0].kinds - len(rows) if rows else 0,
        not_shown=len(found) - len(shown),
    )
    return shown, counts


def _verdicts(judge: Judge, groups: Sequence[str], file: File, collection: str) -> dict[str, str | None]:
    """What becomes of a file: each way in which it changes for a member of any one group, with our rule that opens it.

    Whose token it was is not asked, and nobody is taken to be in two of the groups: a Deny rule for one of them
    hides nothing that another one's members may start.
    """
    changed: dict[str, str | None] = {}
    is_open = True
    for sids in dict.fromkeys((STANDARD_USER.sids | {sid.upper()}) & judge.named for sid in groups or ("S-1-1-0",)):
        was, will, decisions = judge.allows(file, collection, Token(sids=sids, deny_only=frozenset()))
        is_open = is_open and was and will
        if will and not was:
            ours = (rule.name for each in decisions for rule in each.rules if rule.id in judge.place_of)
            changed["newly allowed"] = changed.get("newly allowed") or next(ours, None)
        elif was and not will:
            changed["newly blocked"] = None
    return changed or {"allowed already" if is_open else "still blocked": None}


def _shown(found: Sequence[SightingOutcome]) -> Iterator[SightingOutcome]:
    """Of each verdict those that nobody asked for first, then those of most hosts; of the same, as they came."""
    for verdict in _ORDER:
        for asked in (False, True):
            some = [one for one in found if one.verdict == verdict and one.asked is asked]
            yield from sorted(some, key=lambda one: -one.hosts)[:SHOWN_OF_EACH]


def _loud_hosts(session: Session, patterns: Sequence[str]) -> list[int]:
    """Hosts that tell so much of a pattern that their own newest would be most of what is judged of it."""
    loud: set[int] = set()
    for _ in range(_ROUNDS):
        newest = union_all(*(select(part) for part in _newest(patterns, loud))).subquery("newest")
        found = session.scalars(
            select(newest.c.host_id)
            .group_by(newest.c.pattern, newest.c.host_id)
            .having(func.count() > NEWEST_OF_HOST)
            .order_by(func.count().desc(), newest.c.host_id)
        ).all()
        loud.update(list(dict.fromkeys(found))[: MOST_LOUD - len(loud)])
        if not found or len(loud) >= MOST_LOUD:
            break
    return sorted(loud)


def _newest(patterns: Sequence[str], without: Collection[int]) -> list[Any]:
    query: Any = select(*_ALIKE, Sighting.at.label("at"))
    if without:
        query = query.where(Sighting.host_id.not_in(sorted(without)))
    # Pattern by pattern, as the index has them: a common pattern must not hide a rare one.
    return [
        query.where(Sighting.pattern == pattern).order_by(Sighting.at.desc()).limit(NEWEST_OF_PATTERN).subquery()
        for pattern in patterns
    ]


def _files(session: Session, patterns: Sequence[str], loud: Sequence[int]) -> list[Any]:
    """Alike files once, those of most hosts first, then each host's newest before any other's second."""
    parts = [select(part) for part in _newest(patterns, loud)]
    if loud:
        alike = (
            select(*_ALIKE, func.max(Sighting.at).label("at"))
            .where(Sighting.host_id.in_(loud), Sighting.pattern.in_(patterns))
            .group_by(*_ALIKE)
            .subquery()
        )
        place = func.row_number().over(partition_by=(alike.c.host_id, alike.c.pattern), order_by=alike.c.at.desc())
        ranked = select(alike, place.label("place")).subquery()
        names = [ranked.c[column.name] for column in alike.c]
        parts.append(select(*names).where(ranked.c.place <= NEWEST_OF_HOST))
    newest = union_all(*parts).subquery("newest")
    turn = func.row_number().over(partition_by=newest.c.host_id, order_by=(newest.c.at.desc(), newest.c.path))
    heard = select(newest, turn.label("turn")).subquery("heard")
    hosts = func.count(heard.c.host_id.distinct()).label("hosts")
    kinds = (
        heard.c.path,
        heard.c.pattern,
        heard.c.collection,
        heard.c.sha256,
        heard.c.fqbn,
        Subject.policy_id,
        Subject.environment_id,
    )
    return list(
        session.execute(
            select(
                *kinds,
                hosts,
                func.min(heard.c.host_id).label("first_host"),
                func.max(heard.c.host_id).label("last_host"),
                func.count().over().label("kinds"),
            )
            .join(Subject, and_(Subject.id == heard.c.subject_id, Subject.bucket == heard.c.bucket))
            .where(Subject.standing == Standing.COUNTED.value)
            .group_by(*kinds)
            .order_by(hosts.desc(), func.min(heard.c.turn), heard.c.path, heard.c.sha256)
            .limit(MOST_FILES)
        )
    )
