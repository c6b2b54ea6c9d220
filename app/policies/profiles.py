"""The fleet as a simulation needs it: how many subjects share what they report, projected on what rules can tell apart.

Rules know a user by SIDs alone, so a token counts only by those SIDs that some rule names; of probes only by what came
of each pattern. Users who differ in nothing else are one row, whatever the number of hosts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Select,
    String,
    and_,
    any_,
    bindparam,
    case,
    cast,
    column,
    exists,
    func,
    literal,
    or_,
    select,
)
from sqlalchemy.orm import Session

from agent.catalogue import Catalogue
from agent.contract.facts import Engine, Outcome
from app.fleet.marks import mark
from app.fleet.standing import Standing
from app.fleet.tables import KIND_NUMBERS, FactSet, Subject, Tally
from app.policies.reported_policy import reported_policy

BITS = 60
"""So many SIDs have a bit each in one whole number of either database; more take more numbers."""

_SETS_AT_ONCE = 500

_MOST_KINDS = 12
"""So many kinds of tokens are counted side by side; more are joined."""


@dataclass(frozen=True, slots=True)
class Profile:
    """Subjects that are alike: `sids`, `deny_only` are bits over the named SIDs."""

    group_id: int
    policy_id: int | None
    environment_id: int | None
    probes_id: int | None
    sids: int
    deny_only: int
    subjects: int


@dataclass(frozen=True, slots=True)
class Told:
    """What a set of probes says, as bits over the catalogue's patterns.

    `tried`: judged at all; `applocker`: refused by AppLocker, or by an engine that did not name itself; `others`:
    refused by an engine that no AppLocker rule overrides.
    """

    tried: int = 0
    applocker: int = 0
    others: int = 0


NOTHING_TOLD = Told()


@dataclass(frozen=True, slots=True)
class _TokenKind:
    """Token sets that are alike to the rules. `words`: their bits; `sets`: how many; `ids`: with commas between."""

    words: tuple[int, ...]
    sets: int
    ids: str


def policies_in_use(session: Session) -> dict[int, str]:
    """The bodies of the policies that counted subjects report."""
    rows = session.execute(
        select(FactSet.id, FactSet.body).where(
            FactSet.kind == KIND_NUMBERS["policy"],
            exists().where(Tally.set_id == FactSet.id, Tally.standing == Standing.COUNTED.value, Tally.subjects > 0),
        )
    )
    return {set_id: body for set_id, body in rows}  # noqa: C416 - a Row is no pair to the type checker


def read_profiles(
    session: Session, named: Sequence[str], *, subject_ids: Sequence[int] | Select[int] | None = None
) -> list[Profile]:
    """All counted subjects, those that are alike in one row. `named`: SIDs that can matter."""
    columns: list[Any] = [Subject.group_id, Subject.policy_id, Subject.environment_id, Subject.probes_id]
    words = -(-len(named) // BITS)
    query = select(*columns)
    if named:
        is_whole = subject_ids is None and session.get_bind().dialect.name == "postgresql"
        kinds = _found_tokens(session, named) if is_whole else ()
        if is_whole and len(kinds) <= _MOST_KINDS and _hashes_lists(session):
            return _read_by_kinds(session, columns, kinds, words)
        tokens = _as_table(kinds, words) if is_whole else _matching_tokens(session, named).cte("tokens")
        columns += [func.coalesce(bits, 0) for bits in tokens.c if bits is not tokens.c.id]
        query = select(*columns, func.count()).outerjoin(tokens, tokens.c.id == Subject.token_id)
    else:
        query = select(*columns, func.count())
    query = query.where(Subject.standing == Standing.COUNTED.value)
    if subject_ids is not None:
        query = query.where(Subject.id.in_(subject_ids))
    rows = session.execute(query.select_from(Subject).group_by(*columns))
    return [
        Profile(
            row[0],
            row[1],
            row[2],
            row[3],
            _joined(row[4 : 4 + words]),
            _joined(row[4 + words : 4 + 2 * words]),
            row[-1],
        )
        for row in rows
    ]


def _hashes_lists(session: Session) -> bool:
    """Whether a value is looked up in a long list by its hash; older servers would compare it with each."""
    return bool((session.connection().dialect.server_version_info or (0,)) >= (14,))


def _read_by_kinds(session: Session, columns: Sequence[Any], kinds: Sequence[_TokenKind], words: int) -> list[Profile]:
    """All counted subjects at one go over their table, by several processes, without a join.

    A join's result looks far larger to the planner than it is: it would sort a million users by their tokens, alone.
    The lists stand in the statement: as parameters of a plan that is kept, they would not be hashed.
    """
    counts = [
        func.count().filter(
            Subject.token_id
            == any_(cast(bindparam(None, f"{{{one.ids}}}", String, literal_execute=True), ARRAY(BigInteger)))
        )
        for one in kinds
    ]
    rows = session.execute(
        select(*columns, func.count(), *counts).where(Subject.standing == Standing.COUNTED.value).group_by(*columns)
    )
    bits = [(_joined(one.words[:words]), _joined(one.words[words:])) for one in kinds]
    found = []
    for group_id, policy_id, environment_id, probes_id, subjects, *of_kinds in rows:
        rest = subjects - sum(of_kinds)
        for (sids, deny_only), some in zip((*bits, (0, 0)), (*of_kinds, rest), strict=True):
            if some:
                found.append(Profile(group_id, policy_id, environment_id, probes_id, sids, deny_only, some))
    return found


def sids_of(bits: int, named: Sequence[str]) -> frozenset[str]:
    """The SIDs that bits stand for."""
    return frozenset(sid for place, sid in enumerate(named) if bits >> place & 1)


def read_told(session: Session, ids: Iterable[int | None], catalogue: Catalogue) -> dict[int | None, Told]:
    """What sets of probes say, from the numbers that the database keeps of them."""
    meaning = _marks(catalogue.etag, tuple(pattern.id for pattern in catalogue.patterns))
    told: dict[int | None, Told] = {}
    for some in _in_parts(sorted(number for number in set(ids) if number is not None)):
        for set_id, facts in session.execute(select(FactSet.id, FactSet.facts).where(FactSet.id.in_(some))):
            tried = applocker = others = 0
            for number in facts or ():
                found = meaning.get(number)
                if found is not None:
                    tried |= found[0]
                    applocker |= found[1]
                    others |= found[2]
            told[set_id] = Told(tried, applocker, others)
    return told


def has_intune_policy(body: str) -> bool:
    """Whether a policy from Intune is in force besides what Group Policy says."""
    return bool(json.loads(body).get("csp", "none") != "none")


def group_policy_of(body: str) -> Any:
    """The policy that Group Policy put in force, whatever Intune adds to it; None if it could not be read."""
    value = json.loads(body)
    return reported_policy(json.dumps({**value, "csp": "none"}))


@lru_cache(maxsize=4)
def _marks(_etag: str, patterns: tuple[str, ...]) -> Mapping[int, tuple[int, int, int]]:
    """Of each number: the bits for tried, refused by AppLocker, refused by another engine."""
    meaning: dict[int, tuple[int, int, int]] = {}
    for place, pattern in enumerate(patterns):
        bit = 1 << place
        for outcome in Outcome:
            if outcome not in (Outcome.ALLOWED, Outcome.BLOCKED, Outcome.AUDITED, Outcome.DENIED):
                continue
            refused = outcome in (Outcome.BLOCKED, Outcome.DENIED)
            for engine in ("", *Engine):
                ours = outcome is Outcome.BLOCKED and engine in ("", "applocker", "unknown")
                theirs = refused and not ours
                meaning[mark(pattern, outcome, engine)] = (bit, bit if ours else 0, bit if theirs else 0)
    return meaning


def _found_tokens(session: Session, named: Sequence[str]) -> tuple[_TokenKind, ...]:
    """The token sets that hold any of the SIDs, alike ones together.

    Asked in one statement with the subjects, it would look a million users' tokens up one by one; alone, it reads them
    by several processes. The numbers stay the text in which they came: to read and write a million takes a second.
    """
    found = _matching_tokens(session, named).subquery()
    bits = [one for one in found.c if one is not found.c.id]
    rows = session.execute(
        select(*bits, func.count(), cast(func.array_agg(found.c.id), String)).group_by(*bits).order_by(*bits)
    )
    return tuple(_TokenKind(tuple(row[:-2]), row[-2], row[-1].strip("{}")) for row in rows)


def _as_table(kinds: Sequence[_TokenKind], words: int) -> Any:
    """The token sets given back to PostgreSQL as a table."""
    given = [",".join(one.ids for one in kinds)]
    for place in range(2 * words):
        given.append(",".join(",".join([str(one.words[place])] * one.sets) for one in kinds))
    arrays = [cast(literal(f"{{{text}}}", String), ARRAY(BigInteger)) for text in given]
    names = ["id", *(f"sids{place}" for place in range(words)), *(f"deny{place}" for place in range(words))]
    columns = [column(name, BigInteger) for name in names]
    return func.unnest(*arrays).table_valued(*columns, name="tokens").render_derived()


def _matching_tokens(session: Session, named: Sequence[str]) -> Any:
    """The token sets that hold any of the SIDs, with a bit for each. A body is canonical JSON, its keys sorted."""
    find = func.strpos if session.get_bind().dialect.name == "postgresql" else func.instr
    begin = find(FactSet.body, '"sids":')
    enabled, before = func.substr(FactSet.body, begin), func.substr(FactSet.body, 1, begin)

    def bits(text: ColumnElement[str], some: Sequence[str]) -> ColumnElement[int]:
        total: ColumnElement[int] = literal(0, BigInteger)
        for place, sid in enumerate(some):
            is_in = find(text, f'"{sid}"') > 0
            total = total + case((is_in, literal(1 << place, BigInteger)), else_=literal(0, BigInteger))
        return total

    parts = [named[at : at + BITS] for at in range(0, len(named), BITS)]
    return select(
        FactSet.id,
        *(bits(enabled, some).label(f"sids{place}") for place, some in enumerate(parts)),
        *(bits(before, some).label(f"deny{place}") for place, some in enumerate(parts)),
    ).where(
        and_(
            FactSet.kind == KIND_NUMBERS["token"],
            or_(*(find(FactSet.body, f'"{sid}"') > 0 for sid in named)),
        )
    )


def _joined(words: Sequence[int]) -> int:
    return sum(word << BITS * place for place, word in enumerate(words))


def _in_parts(ids: Sequence[int]) -> Iterable[Sequence[int]]:
    for begin in range(0, len(ids), _SETS_AT_ONCE):
        yield ids[begin : begin + _SETS_AT_ONCE]
