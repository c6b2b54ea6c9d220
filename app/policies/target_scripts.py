"""The scripts of a package, filled in: what they apply, what they accept as a target, what they take out again.

They hold ids, digests and names of collections alone, never free text. What a target must be is a digest of what its
policy does, computed here from the base and there from what Windows gives.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from app.applocker.model import HashCondition, PathCondition, Policy, PublisherCondition, Rule, format_version
from app.policies.plan import PlannedRule

SCRIPTS = Path(__file__).with_name("scripts")


def policy_state(policy: Policy) -> str:
    """The digest of what a policy does, as the scripts compute it from the policy that they find on the target.

    Collections without rules, names and descriptions do not count; modes, ids, SIDs and conditions do.
    """
    lines = []
    for collection in policy.collections:
        if not collection.rules:
            continue
        mode = collection.mode.value if collection.mode else "NotConfigured"
        lines.append(f"collection|{collection.type}|{mode}")
        for rule in collection.rules:
            lines += _rule_lines(collection.type, rule)
    return _digest(lines)


def rule_state(collection: str, rule: Rule) -> str:
    """The digest of what one rule does."""
    return _digest(_rule_lines(collection, rule))


def policy_scripts(
    added: Sequence[PlannedRule],
    *,
    rules_sha256: str,
    is_separate: bool,
    states: Sequence[str] = (),
    seen_ids: Sequence[str] = (),
    base_ids: Mapping[str, Sequence[str]] | None = None,
    earlier: Sequence[PlannedRule] = (),
) -> dict[str, bytes]:
    """What applies rules to a target and takes them back; for an object of its own what checks a machine, too.

    `states`: those of the targets that are taken, any if empty; `seen_ids`: the rules that a target may have, any if
    empty; `base_ids`: the rules, by collection, that these are added to; `earlier`: the pilot's.
    """
    of_rules = _rules_in_words(added, base_ids or {})
    known = _known((*added, *earlier))
    separate = {"IS_SEPARATE": "yes" if is_separate else "no", "KNOWN_RULES": known}
    files = {
        "apply.ps1": _filled(
            "apply.ps1",
            {
                **of_rules,
                **separate,
                "RULES_SHA256": rules_sha256,
                "EXPECTED_STATES": _quoted(states),
                "SEEN_IDS": _quoted(seen_ids),
                "BASE_RULES": of_rules["BASE_RULES"] if is_separate else "",
            },
        ),
        "rollback.ps1": _filled(
            "rollback.ps1",
            {
                "FILE_NAME": "rollback.ps1",
                "RULE_IDS": of_rules["RULE_IDS"],
                **separate,
                "KNOWN_RULES": _known(added),
                # Others may have been added since, and stay.
                "EXPECTED_STATES": "",
                "SEEN_IDS": "",
            },
        ),
    }
    if is_separate:
        files["check-machine.ps1"] = _filled("check-gpo.ps1", of_rules)
    return files


def intune_check(added: Sequence[PlannedRule], base_ids: Mapping[str, Sequence[str]]) -> bytes:
    """The script that refuses a machine without the grouping."""
    return _filled("check-intune.ps1", _rules_in_words(added, base_ids))


def removal_script(
    removed: Sequence[PlannedRule],
    *,
    is_separate: bool = False,
    states: Sequence[str] = (),
    seen_ids: Iterable[str] = (),
) -> bytes:
    """The script that takes these rules out of a policy, and leaves all others; targets as for `policy_scripts`."""
    return _filled(
        "rollback.ps1",
        {
            "FILE_NAME": "remove.ps1",
            "RULE_IDS": _quoted(sorted({rule.id.lower() for rule in removed})),
            "KNOWN_RULES": _known(removed),
            "EXPECTED_STATES": _quoted(states),
            "SEEN_IDS": _quoted(sorted(set(seen_ids))),
            "IS_SEPARATE": "yes" if is_separate else "no",
        },
    )


def _rule_lines(collection: str, rule: Rule) -> list[str]:
    identifier = rule.id.lower()
    lines = [f"rule|{collection}|{identifier}|{rule.action.value}|{rule.sid}"]
    for place, conditions in (("Conditions", (rule.condition,)), ("Exceptions", rule.exceptions)):
        for condition in conditions:
            lines += [f"{place}|{identifier}|{text}" for text in _condition_lines(condition)]
    return lines


def _condition_lines(condition: PathCondition | PublisherCondition | HashCondition) -> list[str]:
    match condition:
        case PathCondition():
            return [f"path|{condition.path}"]
        case PublisherCondition():
            names = f"{condition.publisher}|{condition.product}|{condition.binary}"
            return [f"publisher|{names}|{format_version(condition.low)}|{format_version(condition.high)}"]
        case HashCondition():
            return [f"hash|{file.type}|0X{file.data.upper()}" for file in condition.hashes]


def _digest(lines: Iterable[str]) -> str:
    # .NET's ordinal order is that of UTF-16 units.
    ordered = sorted(lines, key=lambda line: line.encode("utf-16-be", "surrogatepass"))
    return hashlib.sha256("\n".join(ordered).encode("utf-8", "replace")).hexdigest()


def _rules_in_words(added: Sequence[PlannedRule], base_ids: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """What the scripts must know of the export's rules, and of those that they need beside them."""
    collections = sorted({rule.collection for rule in added})
    return {
        "RULE_IDS": _quoted(sorted(rule.id for rule in added)),
        "COLLECTIONS": _quoted(collections),
        "BASE_RULES": _quoted([f"{kind} {number}" for kind in collections for number in base_ids.get(kind, ())]),
    }


def _known(rules: Iterable[PlannedRule]) -> str:
    """Ids with the digest of what each does: that a rule has an id does not say that it still does that."""
    return _quoted(sorted({f"{rule.id.lower()} {rule_state(rule.collection, rule.rule)}" for rule in rules}))


def _filled(name: str, values: Mapping[str, str]) -> bytes:
    """A script with its shared functions and values, in Windows' lines."""
    script = _script(name)
    for shared in ("common", "checking"):
        script = script.replace(f"@@{shared.upper()}@@\n", _script(f"{shared}.ps1"))
    for placeholder, value in values.items():
        script = script.replace(f"@@{placeholder}@@", value)
    return script.replace("\n", "\r\n").encode("ascii")


def _script(name: str) -> str:
    return (SCRIPTS / name).read_text(encoding="ascii")


def _quoted(values: Sequence[str]) -> str:
    """PowerShell string literals, one a line. The values are ids and names of collections, never free text."""
    return ",\n".join(f"    '{value}'" for value in values)
