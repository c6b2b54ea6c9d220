"""Cases as JSON: a policy, a file, a token and what is expected, so that a run on a real PC can settle open questions.

One file of cases serves three ends: it checks this engine, it is judged with Windows' own Test-AppLockerPolicy or by
starting real files, and decisions that carry a doubt are written as new cases (`case_of`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from app.applocker.evaluate import NOT_CONTROLLED, CompiledPolicy, compile_policy
from app.applocker.model import (
    COLLECTION_TYPES,
    AppLockerError,
    Decision,
    Drive,
    Effect,
    File,
    Machine,
    Policy,
    Problem,
    Token,
    Verdict,
    format_version,
    parse_version,
)
from app.applocker.read import parse_policy
from app.applocker.write import render_policy

Json = Mapping[str, object]
E = TypeVar("E", bound=StrEnum)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One question and the answer expected. `runs`, `event_id` None: not said."""

    id: str
    file: File
    token: Token
    collection: str | None
    verdict: Verdict | None
    rule_id: str | None
    runs: bool | None
    event_id: int | None
    says_event: bool
    confidence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A case, the engine's decision, and in sentences where they differ."""

    case: Case
    decision: Decision
    differences: tuple[str, ...]


def judge_cases(text: bytes | str, policy: Policy | None = None) -> list[Answer]:
    """Judges every case of a JSON file. Cases without `policy_xml` are judged under `policy`.

    raises: AppLockerError for what is not such a file, naming the case.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _error(None, f"the cases are not JSON: {error}") from error
    cases = content.get("cases") if isinstance(content, dict) else content
    if not isinstance(cases, list):
        raise _error(None, 'a file of cases is a list of cases, or an object with such a list under "cases"')
    environment = content.get("environment") if isinstance(content, dict) else None
    compiled: dict[tuple[str | None, Machine], CompiledPolicy] = {}
    answers = []
    for place, item in enumerate(cases):
        if not isinstance(item, dict):
            raise _error(None, f"case {place + 1} is not an object")
        name = str(item.get("id", place + 1))
        machine = _machine(name, item.get("environment", environment))
        xml = item.get("policy_xml")
        if xml is not None and not isinstance(xml, str):
            raise _error(name, "policy_xml must be a text")
        if (xml, machine) not in compiled:
            compiled[xml, machine] = compile_policy(_policy(name, xml, policy), machine)
        case = _case(name, item)
        decision = compiled[xml, machine].decide(case.file, case.token, case.collection)
        for other in _also(name, item):
            # Policies beside each other (device management's, group policy's): a file must be allowed by every one.
            if decision.verdict not in (Verdict.ALLOWED, Verdict.ALLOWED_BY_DEFAULT):
                break
            decision = compile_policy(_policy(name, other, None), machine).decide(
                case.file, case.token, case.collection
            )
        answers.append(Answer(case=case, decision=decision, differences=tuple(_differences(case, decision))))
    return answers


def case_of(
    name: str, policy: Policy, file: File, token: Token, collection: str | None, decision: Decision
) -> dict[str, object]:
    """A decision as a case, with the questions it hangs on."""
    return {
        "id": name,
        "policy_xml": render_policy(policy),
        "collection": decision.collection if collection is None else collection,
        "file": {
            "path": file.path,
            "publisher": file.publisher,
            "product": file.product,
            "binary": file.binary,
            "version": None if file.version is None else format_version(file.version),
            "authenticode_sha256": file.authenticode_sha256,
            "flat_sha256": file.flat_sha256,
            "full_path_resolves_to": file.resolves_to,
            "drive_type": file.drive.value,
        },
        "user_sids": sorted(token.sids),
        "deny_only_sids": sorted(token.deny_only),
        "linked_token_sids": sorted(token.linked),
        "expected": {
            "decision": decision.verdict.value,
            "rule_id": decision.rule_id,
            "runtime": {"runs": decision.effect is not Effect.BLOCKED, "event": decision.event_id},
        },
        "why": decision.reason,
        "confidence": decision.confidence.value,
        "doubts": [
            {
                "code": doubt.code,
                "confidence": doubt.confidence.value,
                "question": doubt.question,
                "source": doubt.origin,
            }
            for doubt in decision.doubts
        ],
    }


def _differences(case: Case, decision: Decision) -> Iterator[str]:
    if case.verdict is not None and decision.verdict is not case.verdict:
        yield f"the decision is {decision.verdict}, expected {case.verdict}"
    elif case.rule_id is not None and case.rule_id not in [rule.id for rule in decision.rules]:
        yield f"the rule is {decision.rule_id}, expected {case.rule_id}"
    runs = decision.effect is not Effect.BLOCKED
    if case.runs is not None and case.runs is not runs:
        yield f"the file {'runs' if runs else 'is blocked'}, expected the opposite"
    if case.says_event and case.event_id != decision.event_id:
        yield f"the event is {decision.event_id}, expected {case.event_id}"


def _case(name: str, item: Json) -> Case:
    values = item.get("file")
    if not isinstance(values, dict) or not isinstance(values.get("path"), str):
        raise _error(name, "file must be an object with a path")
    expected = item.get("expected", {})
    if not isinstance(expected, dict):
        raise _error(name, "expected must be an object")
    runtime = expected.get("runtime") or {}
    if not isinstance(runtime, dict):
        raise _error(name, "expected.runtime must be an object")
    collection = item.get("collection", "")
    if collection is None:
        collection = NOT_CONTROLLED
    elif collection not in (*COLLECTION_TYPES, NOT_CONTROLLED, ""):
        raise _error(name, f"there is no collection {collection!r}")
    runs, event = runtime.get("runs"), runtime.get("event")
    return Case(
        id=name,
        file=_file(name, {**item, **values}),
        token=Token(
            sids=_sids(name, item, "user_sids"),
            deny_only=_sids(name, item, "deny_only_sids") | _sids(name, item, "deny_only"),
            linked=_sids(name, item, "linked_token_sids") | _sids(name, item, "linked_sids"),
        ),
        collection=str(collection) or None,
        verdict=_verdict(name, expected.get("decision"), collection),
        rule_id=_text(name, "rule_id", expected.get("rule_id")),
        runs=runs if isinstance(runs, bool) else None,
        event_id=event if isinstance(event, int) else None,
        says_event="event" in runtime,
        confidence=_text(name, "confidence", item.get("confidence")) or "high",
    )


def _verdict(name: str, value: object, collection: object) -> Verdict | None:
    # For what no collection judges there is no decision; other tools have words of their own for that.
    if collection == NOT_CONTROLLED and value not in [*Verdict]:
        return None
    return _choice(name, "decision", Verdict, value)


def _file(name: str, values: Json) -> File:
    def text(key: str) -> str | None:
        return _text(name, key, values.get(key))

    version = text("version")
    size = next((values[key] for key in ("size_bytes", "size", "length") if values.get(key) is not None), None)
    try:
        return File(
            path=text("path") or "",
            resolves_to=text("full_path_resolves_to") or text("resolves_to"),
            drive=_choice(name, "drive_type", Drive, values.get("drive_type") or values.get("drive")) or Drive.FIXED,
            publisher=text("publisher"),
            product=text("product"),
            binary=text("binary"),
            version=parse_version(version) if version else None,
            authenticode_sha256=text("authenticode_sha256"),
            flat_sha256=text("flat_sha256"),
            sha1=text("sha1"),
            size_bytes=size if isinstance(size, int) else None,
        )
    except ValueError as error:
        raise error if isinstance(error, AppLockerError) else _error(name, str(error)) from error


def _policy(name: str, xml: str | None, default: Policy | None) -> Policy:
    if xml is None:
        if default is None:
            raise _error(name, "the case has no policy_xml, and no policy was given")
        return default
    try:
        return parse_policy(xml)
    except AppLockerError as error:
        raise _error(name, f"policy_xml: {error}") from error


def _also(name: str, item: Json) -> list[str]:
    value = item.get("also_policies_xml") or []
    if not isinstance(value, list) or len(value) > 20 or not all(isinstance(xml, str) for xml in value):
        raise _error(name, "also_policies_xml must be a list of at most 20 texts")
    return value


def _machine(name: str, values: object) -> Machine:
    if values is None:
        return Machine()
    if not isinstance(values, dict):
        raise _error(name, "environment must be an object")
    default = Machine()

    def folders(key: str, otherwise: tuple[str, ...]) -> tuple[str, ...]:
        value = values.get(key)
        found = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) and value else otherwise
        if not all(isinstance(folder, str) for folder in found):
            raise _error(name, f"environment.{key} must be a path or a list of paths")
        return found

    return Machine(
        os_drive=folders("OSDRIVE", (default.os_drive,))[0],
        windows=folders("WINDIR", (default.windows,))[0],
        system32=folders("SYSTEM32", default.system32),
        program_files=folders("PROGRAMFILES", default.program_files),
    )


def _sids(name: str, item: Json, key: str) -> frozenset[str]:
    value = item.get(key) or []
    if not isinstance(value, list) or not all(isinstance(sid, str) for sid in value):
        raise _error(name, f"{key} must be a list of SIDs")
    return frozenset(sid.upper() for sid in value)


def _choice(name: str, key: str, choices: type[E], value: object) -> E | None:
    if value is None:
        return None
    found = next((choice for choice in choices if choice == value), None)
    if found is None:
        raise _error(name, f"{key} must be one of {', '.join(choices)}, not {value!r}")
    return found


def _text(name: str, key: str, value: object) -> str | None:
    if value is not None and not isinstance(value, str):
        raise _error(name, f"{key} must be a text")
    return value.lower() if key == "rule_id" and value else value


def _error(case: str | None, message: str) -> AppLockerError:
    return AppLockerError((Problem(line=None, rule=None, message=f"case {case}: {message}" if case else message),))
