"""What stands in the way of each uv command, in a short word per user: enough to say what any opening would change.

The word has a letter for each pattern that the command needs and, after a bar, for each that only parts of it need:
`o` open, `b` closed, `u` not known; in capitals what no rule of AppLocker's changes. A command needs few patterns, so
there are few words however many distinct sets of probes there are, and their counts stand for the sets.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import cache, lru_cache

from agent import catalogue
from app.fleet.probes import PatternFact
from app.fleet.workflows import CLOSED_OUTCOMES, OPEN_OUTCOMES, Verdict, gives_way

MAX_WORD = 40
"""So long a word fits the column; a test holds the catalogue to it."""
_BAR = "|"
_AFTER = {"b": "o", "u": "o"}


def words_of(facts: Iterable[PatternFact]) -> tuple[tuple[str, str], ...]:
    """(workflow, word) of every command, in the catalogue's order.

    >>> dict(words_of([PatternFact("venv-python", "blocked", "applocker")]))["sync-wheels"]
    'b|o'
    """
    letters = {fact.pattern: _letter(fact) for fact in facts}
    find = letters.get
    return tuple(
        (
            workflow,
            "".join([find(name, "u") for name in needs])
            + _BAR
            # Of what only parts need, only that it is closed counts.
            + "".join(["o" if find(name, "o") in "ouU" else letters[name] for name in optional]),
        )
        for workflow, needs, optional in _plan(catalogue.load().etag)
    )


@lru_cache(maxsize=20_000)
def verdict_of(word: str) -> Verdict:
    """As `judge_workflows` says.

    >>> verdict_of("oo|"), verdict_of("ob|"), verdict_of("u|b"), verdict_of("o|B")
    ('works', 'blocked', 'unknown', 'partly')
    """
    needs, _, optional = word.partition(_BAR)
    if "b" in needs or "B" in needs:
        return "blocked"
    if "u" in needs or "U" in needs:
        return "unknown"
    return "partly" if "b" in optional or "B" in optional else "works"


@lru_cache(maxsize=20_000)
def rows_of(workflow: str, word: str) -> tuple[tuple[tuple[str, str], ...], tuple[tuple[str, str], ...]]:
    """What one user with the word adds: to (workflow, verdict), and to (workflow, word)."""
    verdict = verdict_of(word)
    verdicts: tuple[tuple[str, str], ...] = ((workflow, verdict),)
    if verdict == "works":
        verdicts = ((workflow, "open"),)
    elif verdict == "partly":
        verdicts = ((workflow, "open"), (workflow, "partly"))
    return verdicts, ((workflow, word),) if _can_change(word) else ()


def after_opening(workflow: str, word: str, patterns: Collection[str]) -> Verdict:
    """The verdict if AppLocker allowed these patterns.

    >>> after_opening("sync-wheels", "b|b", ["venv-python"])
    'partly'
    """
    plan = catalogue.load().workflow(workflow)
    opened = "".join(
        _AFTER.get(letter, letter) if name in patterns else letter
        for name, letter in zip((*plan.needs, _BAR, *plan.optional), word, strict=True)
    )
    return verdict_of(opened)


def workflows_with(patterns: Collection[str]) -> tuple[str, ...]:
    """The commands that need one of these patterns, wholly or in part: the verdicts of others don't change."""
    return tuple(one.id for one in catalogue.load().workflows if not {*one.needs, *one.optional}.isdisjoint(patterns))


def _can_change(word: str) -> bool:
    """Whether opening some patterns would change the verdict."""
    needs, _, optional = word.partition(_BAR)
    if "B" in needs:
        return False
    if "b" in needs:
        return True
    if "U" in needs:
        return False
    return "u" in needs or ("b" in optional and "B" not in optional)


def _letter(fact: PatternFact) -> str:
    if fact.outcome in OPEN_OUTCOMES:
        return "o"
    letter = "b" if fact.outcome in CLOSED_OUTCOMES else "u"
    return letter if gives_way(fact) else letter.upper()


@cache
def _plan(etag: str) -> tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...]:  # noqa: ARG001 - of which catalogue
    return tuple((one.id, one.needs, one.optional) for one in catalogue.load().workflows)
