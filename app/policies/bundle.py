"""An export as a zip that can be handed over: rules, scripts, fragments, evidence, checksums. The same export and
delivery give the same bytes.

How it will be delivered decides what is in it. Rules for a separate Group Policy object are always NotConfigured, so
that they never change how others are enforced; Intune gets each collection whole, because groupings are not added up.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from textwrap import wrap

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from app.applocker.export import add, added_rules, alone_on_a_machine
from app.applocker.model import Collection, Policy
from app.applocker.write import render_collection, render_policy
from app.errors import InvalidError
from app.policies.describe import describe_export, render_review
from app.policies.export import Export
from app.policies.plan import PlannedRule
from app.policies.target_scripts import intune_check, policy_scripts, policy_state

MAX_INTUNE_BYTES = 350_000
NOT_APPROVED = (
    "NOT SIMULATED, NOT APPROVED: these rules come from no rule set, so nobody judged them against the fleet for a "
    "reviewer, and nobody but their author has agreed to them."
)
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest a zip can say: the content alone decides the bytes
_MORE_FILES = {
    "environment.xml": (
        "environment.xml holds environment variables as Group Policy preferences. In the Group Policy editor, under",
        "Computer Configuration, Preferences, Windows Settings, Environment: paste its content. Make the folders that",
        "they name first, so that only administrators can write there, and install uv's Pythons and tools into them.",
        "Intune has no such preferences: set the variables with a platform script.",
    ),
    "remove.ps1": (
        "remove.ps1 takes the rules of this package out of a policy and leaves all others. It refuses where a",
        "collection would be left without rules. On a machine with the AppLocker cmdlets, with -WhatIf first:",
        "    .\\remove.ps1 -GpoGuid <id of the object>        or, for one machine's own policy:  .\\remove.ps1 -Local",
    ),
    "wdac-supplemental.xml": (
        "wdac-supplemental.xml is a supplemental policy of App Control for the base that was named. App Control knows",
        "no users: only rules for everyone (S-1-1-0) are in it, and they hold for every account of the machine, also",
        "administrators and services. Rules for a group are not in it; wdac-notes.txt names each, and why. Convert it",
        "with ConvertFrom-CIPolicy; no real Windows has taken it yet.",
    ),
}
_WAY_BACK = (
    "To undo it: put back the values from intune-before, which are those of the base. Compare them with what the",
    "profile has now before you begin: if they differ, the base has changed since, and so must these values.",
)
_SUM_OF_SEVERAL = (
    "The base was seen in force, the sum of several policies: nobody knows what the one target should be. apply.ps1",
    "refuses rules whose ids were not seen; it does not know their content, nor the modes. Look yourself, first, at",
    "what the target holds.",
)
_OMA_URI = "./Vendor/MSFT/AppLocker/ApplicationLaunchRestrictions"
OMA_NAMES = {"Exe": "EXE", "Dll": "DLL", "Script": "Script", "Msi": "MSI", "Appx": "StoreApps"}


class Delivery(StrEnum):
    """How the rules reach machines."""

    SAME_GPO = "same-gpo"
    SEPARATE_GPO = "separate-gpo"
    LOCAL = "local"
    INTUNE = "intune"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A zip, its digest, and the digests of the files in it by name."""

    file_name: str
    content: bytes
    sha256: str
    files: Mapping[str, str]


def build_bundle(
    export: Export,
    delivery: Delivery | str = Delivery.SAME_GPO,
    *,
    key: Ed25519PrivateKey | None = None,
    more: Mapping[str, bytes] | None = None,
    evidence: Mapping[str, object] | None = None,
    seen_base: Mapping[str, Sequence[str]] | None = None,
    earlier: Sequence[PlannedRule] = (),
    is_approved: bool = False,
) -> Bundle:
    """The zip for one way of delivery; with a key its manifest is signed.

    `more`: files besides, such as settings of a relocation; `evidence`: what evidence.json says besides; `seen_base`:
    the rule ids by collection of a base that is the sum of several policies, which the export does not hold;
    `earlier`: the pilot's rules, which the target may have already beside those of the base; `is_approved`: it is of a
    rule set that was simulated and approved; of any other the name and the words in it say that it was not.

    raises: InvalidError about `delivery` when this export is not fit for it.
    """
    try:
        delivery = Delivery(delivery)
    except ValueError:
        raise InvalidError(
            f"There is no delivery {str(delivery)[:40]!a}; choose {', '.join(Delivery)}.", field="delivery"
        ) from None
    if not export.added and not more:
        raise InvalidError("The base has all of these rules already: there is nothing to deliver.", field="patterns")
    files = dict(more or {})
    if export.added:
        base_ids = _ids_of_base(export, seen_base or {})
        if delivery is Delivery.INTUNE:
            files |= _intune_files(export, base_ids)
        else:
            files |= _policy_files(export, delivery, base_ids, earlier)
    warning = None if is_approved else NOT_APPROVED
    files["evidence.json"] = _json(
        {
            "delivery": delivery.value,
            "is_approved": is_approved,
            **({"warning": warning} if warning else {}),
            **describe_export(export),
            **(evidence or {}),
        }
    )
    files["review.html"] = render_review(export, warning=warning).encode()
    files["README.txt"] = _readme(export, delivery, frozenset(files), earlier, warning=warning).encode()
    digests = {name: hashlib.sha256(files[name]).hexdigest() for name in sorted(files)}
    sums = "".join(f"{digest}  {name}\n" for name, digest in digests.items())
    files["SHA256SUMS"] = sums.encode()
    if key is not None:
        files["manifest.json"] = _manifest(export, delivery, digests, key)
        files["manifest.sig"] = key.sign(files["manifest.json"])
    content = _zipped(files)
    sha256 = hashlib.sha256(content).hexdigest()
    name = f"wayleave-{'' if is_approved else 'not-approved-'}{delivery.value}-{export.sha256[:8]}.zip"
    return Bundle(file_name=name, content=content, sha256=sha256, files=digests)


def _accepted_states(export: Export, earlier: Sequence[PlannedRule]) -> list[str]:
    """The states of the target that the rules may be added to: the base, and the base with the pilot's rules in it."""
    base = _base_of(export)
    with_earlier = add(base, [rule.suggestion for rule in earlier]).policy
    return list(dict.fromkeys((policy_state(base), policy_state(with_earlier))))


def _policy_files(
    export: Export, delivery: Delivery, base_ids: Mapping[str, Sequence[str]], earlier: Sequence[PlannedRule]
) -> dict[str, bytes]:
    rules = added_rules([rule.suggestion for rule in export.added])
    if delivery is not Delivery.SEPARATE_GPO and export.is_whole_policy:
        # Windows' documents disagree on what -Merge does to modes: with the target's own there is nothing to decide.
        rules = replace(rules, collections=tuple(_with_mode_of(export.policy, one) for one in rules.collections))
    rules = replace(rules, comments=(_told(export), *alone_on_a_machine(rules)))
    xml = render_policy(rules).encode()
    files = {"rules.xml": xml}
    if export.is_whole_policy and delivery is not Delivery.SEPARATE_GPO:
        files["whole-policy.xml"] = export.xml.encode()
    is_separate = delivery is Delivery.SEPARATE_GPO
    is_known = export.is_whole_policy and not is_separate
    return files | policy_scripts(
        export.added,
        rules_sha256=hashlib.sha256(xml).hexdigest(),
        is_separate=is_separate,
        states=_accepted_states(export, earlier) if is_known else (),
        # The target is one of the policies that were seen: what it holds was among their rules.
        seen_ids=() if export.is_whole_policy or is_separate else _ids_seen(base_ids, earlier),
        base_ids=base_ids,
        earlier=earlier,
    )


def _ids_seen(base_ids: Mapping[str, Sequence[str]], earlier: Sequence[PlannedRule]) -> list[str]:
    """The ids that a target may have that was seen in force; none if nothing was seen."""
    seen = set().union(*base_ids.values())
    return sorted(seen | {rule.id for rule in earlier}) if seen else []


def _ids_of_base(export: Export, seen_base: Mapping[str, Sequence[str]]) -> dict[str, Sequence[str]]:
    """The ids of the rules that the new ones are added to, by collection; nothing where no base was given."""
    if not export.is_whole_policy:
        return {kind: ids for kind, ids in sorted(seen_base.items()) if ids}
    base = _base_of(export)
    return {one.type: sorted(rule.id for rule in one.rules) for one in base.collections if one.rules}


def _intune_files(export: Export, base_ids: Mapping[str, Sequence[str]]) -> dict[str, bytes]:
    if not export.is_whole_policy:
        raise InvalidError(
            "Intune needs the grouping's complete collections: export with the grouping's policy as base. "
            "A grouping of new rules alone would not be added to the old one, a file must be allowed by both.",
            field="delivery",
        )
    files = {}
    changed = {rule.collection for rule in export.added}
    for collection in export.policy.collections:
        if collection.type not in changed:
            continue
        text = render_collection(collection).encode()
        if len(text) > MAX_INTUNE_BYTES:
            raise InvalidError(
                f"The {collection.type} collection has {len(text)} bytes; Intune takes {MAX_INTUNE_BYTES}.",
                field="delivery",
            )
        files[f"intune/{OMA_NAMES[collection.type]}.xml"] = text
        old = _base_of(export).collection(collection.type)
        if old is not None:
            files[f"intune-before/{OMA_NAMES[collection.type]}.xml"] = render_collection(old).encode()
    files["check-machine.ps1"] = intune_check(export.added, base_ids)
    return files


def _base_of(export: Export) -> Policy:
    """The base policy: what was written, less the rules that were added."""
    new = {rule.id for rule in export.added}
    collections = tuple(
        replace(one, rules=tuple(rule for rule in one.rules if rule.id not in new)) for one in export.policy.collections
    )
    return replace(export.policy, collections=collections)


def _with_mode_of(policy: Policy, collection: Collection) -> Collection:
    found = policy.collection(collection.type)
    return replace(collection, mode=found.mode if found and found.mode else collection.mode)


def _told(export: Export) -> str:
    patterns = sorted({pattern for rule in export.added for pattern in rule.patterns})
    return f"Rules for uv, made by Wayleave for {export.sid}. They open: {', '.join(patterns)}."


def _readme(
    export: Export,
    delivery: Delivery,
    names: frozenset[str],
    earlier: Sequence[PlannedRule],
    *,
    warning: str | None,
) -> str:
    steps = {
        Delivery.SAME_GPO: [
            "1. Read review.html: what every rule admits, and its risk.",
            "2. On a machine with the AppLocker cmdlets: .\\apply.ps1 -GpoGuid <id of the object> -WhatIf",
            "3. The same without -WhatIf. It saves the present policy, merges rules.xml, and checks the result.",
            "4. To take the rules out again: .\\rollback.ps1 -GpoGuid <id of the object>",
            "Do not import rules.xml in the policy editor: Import replaces all other rules.",
        ],
        Delivery.SEPARATE_GPO: [
            "1. Read review.html: what every rule admits, and its risk.",
            "2. Make a Group Policy object, linked only where the object with the other AppLocker rules is linked too.",
            "   On a machine that gets this object alone, everything that these rules do not allow is blocked:",
            "   .\\check-machine.ps1, run there before, refuses a machine without the rules that these are added to.",
            "3. .\\apply.ps1 -GpoGuid <id of the new object> -WhatIf, then without -WhatIf. The object must be empty.",
            "   The computer where it runs needs the other rules; say -OtherComputer if it will not get the object.",
            "4. To undo it: unlink the object, or .\\rollback.ps1 -GpoGuid <id of the object>",
            "Leave its enforcement mode at Not configured: any mode set here could win over the other object's.",
        ],
        Delivery.LOCAL: [
            "1. Read review.html: what every rule admits, and its risk.",
            "2. In an elevated PowerShell: .\\apply.ps1 -Local -WhatIf, then without -WhatIf.",
            "3. To take the rules out again: .\\rollback.ps1 -Local",
            "Group Policy wins over the local policy's enforcement mode.",
        ],
        Delivery.INTUNE: [
            "1. Read review.html: what every rule admits, and its risk.",
            "2. In the custom profile whose policy was the base, replace the value of each of these settings, in the",
            "   SAME grouping (String (XML file), UTF-8):",
            *(
                f"   {_OMA_URI}/<grouping>/{name}/Policy  =  intune/{name}.xml"
                for name in sorted({OMA_NAMES[rule.collection] for rule in export.added})
            ),
            "A new grouping would not add these rules to the old one: a file must be allowed by every grouping.",
            "check-machine.ps1, run as SYSTEM (a remediation's detection script, say), refuses a machine without it.",
            *_WAY_BACK,
        ],
    }
    heading = f"{len(export.added)} AppLocker rules for uv, for {export.sid}. Delivery: {delivery.value}."
    unverified = (
        "The scripts are written for Windows PowerShell 5.1 and were not yet run on a real domain or a managed machine."
    )
    lines = [heading, "", *((*wrap(warning, 110), "") if warning else ())]
    lines += [*(steps[delivery] if export.added else _without_rules_to_add(delivery, names)), ""]
    if export.added_only and delivery is not Delivery.SEPARATE_GPO and "apply.ps1" in names:
        lines += [*_SUM_OF_SEVERAL, ""]
    if earlier and "apply.ps1" in names:
        lines += [*_pilot_may_be_there(export, earlier), ""]
    for name, told in _MORE_FILES.items():
        lines += [*told, ""] if name in names else []
    lines += [export.effect_on_empty_machine, ""] if export.added else []
    if export.added:
        lines.append(unverified)
    lines.append("Check the files with: sha256sum -c SHA256SUMS")
    return "\r\n".join(lines) + "\r\n"


def _pilot_may_be_there(export: Export, earlier: Sequence[PlannedRule]) -> list[str]:
    shared = len({rule.id for rule in earlier} & {rule.id for rule in export.added})
    also = f", {shared} of this package among them" if shared else ""
    return [
        "The target may have the pilot's rules already: apply.ps1 takes the base, and the base with those rules in it.",
        f"They stay where they are. The rollback.ps1 of the pilot's package takes them out{also}.",
    ]


def _without_rules_to_add(delivery: Delivery, names: frozenset[str]) -> list[str]:
    if delivery is Delivery.INTUNE and any(name.startswith("intune/") for name in names):
        return [
            "No rule is added. In the custom profile whose policy was the base, replace the value of each of these",
            "settings, in the SAME grouping (String (XML file), UTF-8): they are without the rules to take out.",
            *(
                f"   {_OMA_URI}/<grouping>/{name.removeprefix('intune/').removesuffix('.xml')}/Policy  =  {name}"
                for name in sorted(names)
                if name.startswith("intune/")
            ),
            *_WAY_BACK,
        ]
    if "remove.ps1" in names:
        return ["No rule is added: remove.ps1 takes rules out."]
    return ["No rule has to be added: the settings do it."]


def _manifest(export: Export, delivery: Delivery, digests: Mapping[str, str], key: Ed25519PrivateKey) -> bytes:
    public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return _json(
        {
            "made_by": "Wayleave",
            "delivery": delivery.value,
            "sid": export.sid,
            "base_sha256": export.base_sha256,
            "public_key_ed25519": public.hex(),
            "files": dict(digests),
        }
    )


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=True) + "\n").encode()


def _zipped(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    # Stored, not compressed: what zlib makes of the same bytes differs between its versions.
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, _ZIP_TIME)
            entry.create_system = 3
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, files[name])
    return buffer.getvalue()
