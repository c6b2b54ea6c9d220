"""A package's App Control (WDAC) policy: rules for everyone alone, as App Control knows no users; others are named."""

from __future__ import annotations

from app.applocker.export import added_rules
from app.applocker.model import AppLockerError
from app.applocker.wdac import Supplemental, render_supplemental
from app.errors import InvalidError
from app.policies.export import Export


def plan_wdac(export: Export, base_id: str, name: str) -> Supplemental:
    """The supplemental policy of an export's new rules. raises: InvalidError about `wdac_base_id` if it is none"""
    try:
        return render_supplemental(
            added_rules([rule.suggestion for rule in export.added]), base_policy_id=base_id, name=name
        )
    except AppLockerError as error:
        raise InvalidError(f"App Control's base policy: {error}", field="wdac_base_id") from error


def refuse_empty(found: Supplemental) -> None:
    """Nobody asks for a policy that carries nothing. raises: InvalidError about `wdac_base_id`, with the reasons"""
    if not found.carried:
        reasons = "; ".join(dict.fromkeys(why for _, why in found.left_out)) or "there is no rule to add"
        raise InvalidError(
            f"No rule can be carried over to App Control: {reasons}. Leave its base policy's id empty.",
            field="wdac_base_id",
        )


def wdac_files(found: Supplemental) -> dict[str, bytes]:
    """The supplemental policy, and what is not in it; one that carries nothing, as was once made, is left out."""
    lines = [f"{found.carried} rules were carried over."]
    lines += [f"Left out: {rule.name}: {why}" for rule, why in found.left_out]
    lines += [f"Note: {note}" for note in found.notes]
    notes = {"wdac-notes.txt": ("\r\n".join(lines) + "\r\n").encode()}
    return {**notes, "wdac-supplemental.xml": found.xml.encode()} if found.carried else notes
