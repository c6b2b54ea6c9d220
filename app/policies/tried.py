"""Judges the files that hosts really tried, as they claim: before and after a draft, for each policy they live under.

Bounded: the newest sightings, alike ones once. What a file says of itself is judged as if it were true, which can only
make more of it look allowed; nothing of it reaches a rule.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, func, select, union_all
from sqlalchemy.orm import Session

from app.applocker.evaluate import collection_of
from app.applocker.model import Token
from app.fleet.standing import Standing
from app.fleet.tables import Sighting, Subject
from app.policies.outcome import SightingOutcome
from app.policies.specimens import file_of_sighting

if TYPE_CHECKING:
    from app.policies.simulate import Simulator

NEWEST_OF_PATTERN = 500
MOST_FILES = 2000
SHOWN = 200
_COLLECTIONS = frozenset({"Exe", "Dll", "Script", "Msi"})
_ORDER = {"newly blocked": 0, "newly allowed": 1, "still blocked": 2, "allowed already": 3}


def judge_sightings(session: Session, simulator: Simulator) -> tuple[SightingOutcome, ...]:
    """The files tried lately, those that change first, then those of most hosts."""
    verdicts: dict[tuple[str, str, str, str | None], Counter[str]] = {}
    rules: dict[tuple[str, str, str, str | None], str] = {}
    for row in _files(session, [one.id for one in simulator.catalogue.patterns if one.is_executed]):
        collection = row.collection if row.collection in _COLLECTIONS else collection_of(row.path)
        if collection not in _COLLECTIONS or row.policy_id is None:
            continue
        judge = simulator.judges.get(row.policy_id)
        if judge is None:
            continue
        # Whose token it was is not asked: a file that any member may start is newly allowed to somebody.
        token, _ = judge.token_of(frozenset(simulator.groups), frozenset())
        token = Token(sids=token.sids | (frozenset(simulator.groups) & judge.named))
        was, will, decisions = judge.allows(
            file_of_sighting(row.path, row.sha256, row.fqbn, simulator.places.get(row.environment_id, ())),
            collection,
            token,
        )
        verdict = (
            "allowed already"
            if was and will
            else "newly allowed"
            if will
            else "newly blocked"
            if was
            else "still blocked"
        )
        key = (row.path, row.pattern, collection, row.sha256)
        verdicts.setdefault(key, Counter())[verdict] += row.hosts
        if verdict == "newly allowed":
            opened = next((rule.name for each in decisions for rule in each.rules if rule.id in judge.place_of), None)
            if opened:
                rules.setdefault(key, opened)
    found = [
        SightingOutcome(
            path=path,
            pattern=pattern,
            collection=collection,
            sha256=sha256,
            hosts=hosts,
            verdict=verdict,
            rule=rules.get((path, pattern, collection, sha256)) if verdict == "newly allowed" else None,
        )
        for (path, pattern, collection, sha256), counts in verdicts.items()
        for verdict, hosts in counts.items()
    ]
    found.sort(key=lambda one: (_ORDER[one.verdict], -one.hosts, one.path, one.sha256 or ""))
    return tuple(found[:SHOWN])


def _files(session: Session, patterns: Sequence[str]) -> list[Any]:
    columns = (
        Sighting.path,
        Sighting.pattern,
        Sighting.collection,
        Sighting.sha256,
        Sighting.fqbn,
        Sighting.host_id,
        Sighting.subject_id,
        Sighting.bucket,
    )
    # Pattern by pattern, as the index has them: a common pattern must not hide a rare one.
    parts = [
        select(*columns)
        .where(Sighting.pattern == pattern)
        .order_by(Sighting.at.desc())
        .limit(NEWEST_OF_PATTERN)
        .subquery()
        for pattern in patterns
    ]
    newest = union_all(*(select(part) for part in parts)).subquery("newest")
    hosts = func.count(newest.c.host_id.distinct()).label("hosts")
    alike = (
        newest.c.path,
        newest.c.pattern,
        newest.c.collection,
        newest.c.sha256,
        newest.c.fqbn,
        Subject.policy_id,
        Subject.environment_id,
    )
    return list(
        session.execute(
            select(*alike, hosts)
            .join(Subject, and_(Subject.id == newest.c.subject_id, Subject.bucket == newest.c.bucket))
            .where(Subject.standing == Standing.COUNTED.value)
            .group_by(*alike)
            .order_by(hosts.desc(), newest.c.path)
            .limit(MOST_FILES)
        )
    )
