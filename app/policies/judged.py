"""What a workstation did not try, judged by the policy in force there: for agents that start nothing.

Where another product watches what is started, an agent tells which patterns there are and leaves the outcome open.
Here AppLocker's engine answers, from what the same subject reported: policy, token, uv's own places. What it cannot
know stays unknown: a policy that could not be read, and real files whose publisher or hash a rule may name. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from agent.catalogue import Catalogue, Machine, expand
from agent.contract.canonical import canonical_json
from app.applocker.evaluate import CompiledPolicy, collection_of, compile_policy
from app.applocker.model import STANDARD_USER, File, HashCondition, Policy, PublisherCondition, Token, Verdict
from app.policies.coverage import example_of
from app.policies.reported_policy import reported_policy
from app.policies.roots import UNKNOWN_PLACE, file_at, machine_at, on_disk, places_of

ADMINISTRATORS = "S-1-5-32-544"


def judge_probes(
    probes: str, policy: str | None, token: str | None, environment: str | None, uv: str | None, catalogue: Catalogue
) -> str:
    """The body of a set of probes, with an outcome for what was left open. All are bodies of a subject's sets."""
    value = json.loads(probes)
    found = reported_policy(policy) if policy is not None else None
    if found is None:
        return probes
    compiled = compile_policy(found)
    user = _token(json.loads(token) if token else {})
    machine = machine_at(places_of(json.loads(environment) if environment else {}))
    uvs = _uv_files(json.loads(uv) if uv else {}, machine)
    not_enforced = bool(json.loads(policy or "{}").get("service_disabled"))
    value["probes"] = [
        _judge(one, compiled, user, machine, uvs, catalogue, not_enforced=not_enforced)
        if one.get("method") == "policy" and one.get("outcome") == "unknown"
        else one
        for one in value["probes"]
    ]
    return canonical_json(value)


def _judge(
    probe: dict[str, Any],
    compiled: CompiledPolicy,
    token: Token,
    machine: Machine,
    uvs: Mapping[str, tuple[File, ...]],
    catalogue: Catalogue,
    *,
    not_enforced: bool,
) -> dict[str, Any]:
    try:
        pattern = catalogue.pattern(probe["pattern"])
    except KeyError:
        return probe
    wanted = probe.get("collection") or "Exe"
    files = uvs.get(pattern.id, ())
    is_known = bool(files) or probe.get("specimen") == "canary"
    if not files:
        forms = [example_of(form) for form in expand(pattern, machine)]
        files = tuple(file_at(path) for path in forms if collection_of(path) == wanted)[:1]
    if not files:
        return probe
    outcomes = [_outcome(compiled, file, token, wanted, not_enforced=not_enforced) for file in files]
    outcome, why, engine = min(outcomes, key=lambda one: ("blocked", "audited", "allowed").index(one[0]))
    if outcome != "allowed" and not is_known and _names_identities(compiled.policy, wanted):
        return probe  # the real file may be what a rule names; its identity was not told
    return {**probe, "outcome": outcome, "why": why, "engine": engine}


def _outcome(
    compiled: CompiledPolicy, file: File, token: Token, collection: str, *, not_enforced: bool
) -> tuple[str, str | None, str | None]:
    verdict = compiled.decide(file, token, collection).verdict
    if verdict is Verdict.ALLOWED_BY_DEFAULT:
        return "allowed", "no_rules", None
    if verdict is Verdict.ALLOWED:
        return "allowed", "administrator" if ADMINISTRATORS in token.sids | token.linked else "rule", None
    if not_enforced:
        return "allowed", "not_enforced", None
    found = compiled.policy.collection(collection)
    if found is not None and found.is_audited:
        return "audited", None, "applocker"
    return "blocked", None, "applocker"


def _names_identities(policy: Policy, collection: str) -> bool:
    found = policy.collection(collection)
    return found is not None and any(
        isinstance(rule.condition, (HashCondition, PublisherCondition)) for rule in found.rules
    )


def _token(value: Mapping[str, Any]) -> Token:
    sids = frozenset(str(sid).upper() for sid in value.get("sids", ()) if isinstance(sid, str))
    is_administrator = bool(value.get("administrator"))
    return Token(
        sids=sids | STANDARD_USER.sids,
        deny_only=frozenset(str(sid).upper() for sid in value.get("deny_only", ()) if isinstance(sid, str)),
        linked=frozenset({ADMINISTRATORS}) if is_administrator else frozenset(),
    )


def _uv_files(value: Mapping[str, Any], machine: Machine) -> dict[str, tuple[File, ...]]:
    """uv's own executables by pattern, with the identity that was told. One that is not trusted counts as unsigned."""
    files: dict[str, list[File]] = {}
    for one in value.get("found", ()):
        if not isinstance(one, dict) or not isinstance(one.get("pattern"), str) or not isinstance(one.get("path"), str):
            continue
        path = on_disk(example_of(one["path"]), machine.env)
        if path != UNKNOWN_PLACE:
            trusted = one.get("trust") in (None, "trusted")
            files.setdefault(one["pattern"], []).append(
                file_at(
                    path,
                    publisher=one.get("publisher") if trusted else None,
                    authenticode_sha256=one.get("authenticode_sha256"),
                )
            )
    return {pattern: tuple(found) for pattern, found in files.items()}
