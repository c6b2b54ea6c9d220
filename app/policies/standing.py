"""What of Wayleave's judging was seen on real Windows: by kind of rule, from the answers that were recorded.

A rule is marked "not verified on Windows" until a recorded PC has answered every question that its kind rests on, by a
real start or load, and the engine agreed. Test-AppLockerPolicy alone is not enough: it is a judge of its own. One
answer that disagrees keeps the mark, with another word: then the engine is known to be wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.policies.tables import VerifiedCase

# The conformance kit's cases that each kind of rule rests on (conformance/make_cases.py).
QUESTIONS: Mapping[str, tuple[str, ...]] = {
    "path": ("star-crosses-folders", "star-in-the-middle", "star-within-a-name", "osdrive", "case", "other-folder"),
    "hash": ("hash-authenticode",),
    "publisher": ("publisher-exact", "publisher-any-product", "publisher-other"),
}
COLLECTION_QUESTIONS: Mapping[str, tuple[str, ...]] = {
    "Exe": ("started-suspended",),
    "Dll": ("library-in-the-rule", "library-outside"),
    "Script": ("script-in-the-rule", "script-outside"),
}
USER_QUESTIONS = ("administrators-by-linked-token", "device-management-and-group-policy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What to say of a rule or a judgement: `missing` questions nobody answered, `wrong` ones answered otherwise."""

    missing: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """In the words of the page."""
        if self.wrong:
            return "Windows judged otherwise"
        return "not verified on Windows" if self.missing else "verified on Windows"

    @property
    def is_verified(self) -> bool:
        return not self.missing and not self.wrong


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedStanding:
    """Which questions real PCs answered as the engine does, and which otherwise; `builds`: of which Windows."""

    agreed: frozenset[str] = frozenset()
    wrong: frozenset[str] = frozenset()
    builds: tuple[str, ...] = ()

    def of_rule(self, kind: str, collection: str) -> Mark:
        """The mark of one rule. `kind`: path, hash or publisher.

        >>> VerifiedStanding().of_rule("hash", "Exe").text
        'not verified on Windows'
        """
        # A kind that nobody asked about can't have been answered.
        asked = (*QUESTIONS.get(kind, (f"kind-{kind}",)), *COLLECTION_QUESTIONS.get(collection, (f"in-{collection}",)))
        return self._mark(asked)

    def of_judgement(self) -> Mark:
        """The mark of a judgement over whole policies, which rests on every question."""
        kinds = (name for names in QUESTIONS.values() for name in names)
        collections = (name for names in COLLECTION_QUESTIONS.values() for name in names)
        return self._mark((*kinds, *collections, *USER_QUESTIONS))

    def _mark(self, asked: tuple[str, ...]) -> Mark:
        return Mark(
            missing=tuple(name for name in asked if name not in self.agreed and name not in self.wrong),
            wrong=tuple(name for name in asked if name in self.wrong),
        )


def read_standing(session: Session) -> VerifiedStanding:
    """What was recorded, as far as the pages' marks need it. One statement."""
    was_started = VerifiedCase.error.is_not(None)
    rows = session.execute(
        select(VerifiedCase.case_id, VerifiedCase.agrees, was_started, VerifiedCase.windows_build).distinct()
    ).all()
    wrong = frozenset(case_id for case_id, agrees, _, _ in rows if not agrees)
    return VerifiedStanding(
        agreed=frozenset(case_id for case_id, agrees, started, _ in rows if agrees and started) - wrong,
        wrong=wrong,
        builds=tuple(sorted({build for _, _, _, build in rows})),
    )
