"""The naive way to simulate: one user after another, everything read and judged from the start, nothing shared.

Slow and plain on purpose: tests and the benchmark hold the quick way to it.
"""

from __future__ import annotations

import json
from dataclasses import replace

from sqlalchemy.orm import Session

from agent.catalogue import Machine, Pattern, canary_paths, expand
from agent.catalogue import load as load_catalogue
from app.applocker.evaluate import collection_of, compile_policy
from app.applocker.model import (
    STANDARD_USER,
    Collection,
    Drive,
    File,
    HashCondition,
    PathCondition,
    Policy,
    Token,
    Verdict,
)
from app.fleet.facts import read_set
from app.fleet.tables import FactSet, Subject
from app.policies.coverage import TYPICAL_ENVIRONMENT, example_of
from app.policies.drafts import Draft
from app.policies.plan import also_stands_at
from app.policies.queries_rule_sets import RuleSet
from app.policies.reported_policy import reported_policy

ANSWERS = {
    "UV_CACHE_DIR": "cache_dir",
    "UV_PYTHON_INSTALL_DIR": "python_dir",
    "UV_PYTHON_BIN_DIR": "python_bin_dir",
    "UV_TOOL_DIR": "tool_dir",
    "UV_TOOL_BIN_DIR": "tool_bin_dir",
}
OPEN = (Verdict.ALLOWED, Verdict.ALLOWED_BY_DEFAULT)


def judge_naively(session: Session, subject: Subject, rule_set: RuleSet, draft: Draft) -> dict[str, str]:
    """The category of each pattern that the user's probes tell of; empty if the policy can't be judged."""
    policy = reported_policy(_body(session, subject.policy_id))
    if policy is None:
        return {}
    groups = {group.sid for group in rule_set.groups}
    told = json.loads(_body(session, subject.token_id) or "{}")
    sids = set(told.get("sids", ())) | STANDARD_USER.sids
    sids |= groups - {rule.sid.upper() for _, rule in policy.rules()}
    token = Token(sids=frozenset(sids), deny_only=frozenset(told.get("deny_only", ())))
    environment = json.loads(_body(session, subject.environment_id) or "{}")
    machine = machine_of(
        environment,
        tuple(
            root.replace("%OSDRIVE%", "C:").replace("\\Users\\*", "\\Users\\anyone") for root in rule_set.project_roots
        )
        or ("C:\\projects",),
    )
    before, after = compile_policy(policy), compile_policy(_added(policy, draft))
    catalogue = load_catalogue()
    folders = {one.name: one.value.replace("%PROGRAMFILES%", "C:\\Program Files") for one in draft.settings}
    answers_after = {ANSWERS[name]: folder for name, folder in folders.items() if name in ANSWERS}
    uv_itself = {
        name: folders["UV_INSTALL_DIR"]
        for one in draft.settings
        if one.name == "UV_INSTALL_DIR"
        for name in one.patterns
    }
    found: dict[str, str] = {}
    for fact in read_set("probes", _body(session, subject.probes_id) or "{}").patterns:
        if fact.outcome not in ("allowed", "blocked", "audited", "denied"):
            continue
        if fact.outcome == "denied" or (fact.outcome == "blocked" and fact.engine not in ("", "applocker", "unknown")):
            found[fact.pattern] = "others"
            continue
        pattern = catalogue.pattern(fact.pattern)
        source = catalogue.pattern(pattern.covered_by) if pattern.covered_by else pattern
        files = _files(pattern, source, machine)
        moved = _files(pattern, source, replace(machine, answers={**machine.answers, **answers_after}))
        was = will = builds = bool(files)
        for collection, path in files.items():
            path_after = moved.get(collection, path)
            if fact.pattern in uv_itself:
                path_after = uv_itself[fact.pattern] + "\\" + path.rpartition("\\")[2]
            was = was and before.decide(on_drive(File(path=path)), token, collection).verdict in OPEN
            opens = after.decide(on_drive(File(path=path_after)), token, collection).verdict in OPEN
            will = will and opens
            for rule in draft.added:
                stands_here = fact.pattern in {*rule.patterns, *also_stands_at(rule, catalogue)}
                if opens or rule.collection != collection or not stands_here:
                    continue
                named = on_drive(_named(rule.rule.condition, path_after))
                opens = after.decide(named, token, collection).verdict in OPEN
            builds = builds and opens
        refused = fact.outcome == "blocked"
        if refused:
            if was:
                found[fact.pattern] = "unexplained"
            elif will:
                found[fact.pattern] = "newly"
            else:
                found[fact.pattern] = "newly_builds" if builds else "still"
        else:
            found[fact.pattern] = "newly_blocked" if was and not will else "open"
    return found


def _files(pattern: Pattern, source: Pattern, machine: Machine) -> dict[str, str]:
    """Where a probe tries a pattern on a machine: a path for each collection."""
    files: dict[str, str] = {}
    forms = [example_of(form) for form in expand(source, machine)]
    for path in (*canary_paths(source, machine, "wlv000"), *forms):
        collection = collection_of(path)
        if collection in pattern.collections and collection not in files:
            files[collection] = path
    if not files and forms and pattern.collections:
        files[pattern.collections[0]] = forms[0]
    return files


NO_LETTER = "\\\\?\\Volume{*}"
SHARES = {"%HOT%": r"\\a.example\stick\s", "%REMOVABLE%": r"\\a.example\disc\s", NO_LETTER: r"\\a.example\mount\s"}


def machine_of(environment: dict[str, dict[str, str]], project_roots: tuple[str, ...]) -> Machine:
    """The workstation whose roots lie where the report says that they really do, one root after another."""
    roots, answers = environment.get("roots", {}), dict(environment.get("answers", {}))
    env = dict(TYPICAL_ENVIRONMENT)
    if "home" in roots:
        home = env["USERPROFILE"] = _written(roots["home"], env)
        env |= {"LOCALAPPDATA": home + "\\AppData\\Local", "APPDATA": home + "\\AppData\\Roaming"}
    local = "\\AppData\\Local\\uv\\cache"
    if roots.get("cache", "").endswith(local) and answers.get("cache_dir", "%LOCALAPPDATA%\\uv\\cache")[:1] == "%":
        env["LOCALAPPDATA"] = _written(roots["cache"].removesuffix("\\uv\\cache"), env)
    if roots.get("data", "").endswith("\\uv"):
        above = _written(roots["data"].removesuffix("\\uv"), env)
        env["APPDATA"] = env["APPDATA"] if above.startswith(env["APPDATA"] + "\\") else above
    env["TEMP"] = env["TMP"] = _written(roots["temp"], env) if "temp" in roots else env["LOCALAPPDATA"] + "\\Temp"
    places = {name: _written(text, env) for name, text in answers.items()}
    named = {"cache": "cache", "python": "python", "python_bin": "python_bin", "tools": "tool", "tool_bin": "tool_bin"}
    places |= {named[root] + "_dir": _written(text, env) for root, text in roots.items() if root in named}
    return Machine(env=env, project_roots=project_roots, answers=places)


def on_drive(file: File) -> File:
    """The file as AppLocker has it, where it lies on what no path of a plain machine can name."""
    for word, share in SHARES.items():
        if file.path.startswith(share):
            rest = file.path[len(share) :]
            drive = {"%HOT%": Drive.HOT, "%REMOVABLE%": Drive.REMOVABLE}.get(word, Drive.FIXED)
            return replace(file, path=("E:" if word != NO_LETTER else NO_LETTER.replace("*", "7")) + rest, drive=drive)
    return file


def _written(text: str, env: dict[str, str]) -> str:
    for word, place in {**SHARES, "%OSDRIVE%\\Users\\*": "C:\\Users\\anyone", "%OSDRIVE%": "C:"}.items():
        text = place + text[len(word) :] if text.startswith(word) else text
    for name, place in {**env, "PROGRAMFILES": "C:\\Program Files"}.items():
        text = text.replace(f"%{name}%", place)
    return text.replace("*", "x") if text[1:2] == ":" or text.startswith("\\\\") else SHARES[NO_LETTER] + "\\x"


def _added(policy: Policy, draft: Draft) -> Policy:
    for planned in draft.added:
        collections = list(policy.collections)
        at = next((n for n, one in enumerate(collections) if one.type == planned.collection), None)
        if at is None:
            collections.append(Collection(type=planned.collection, rules=(planned.rule,)))
        else:
            collections[at] = replace(collections[at], rules=(*collections[at].rules, planned.rule))
        policy = replace(policy, collections=tuple(collections))
    return policy


def _named(condition: object, path: str) -> File:
    if isinstance(condition, PathCondition):
        return File(path=path)
    if isinstance(condition, HashCondition):
        return File(path=path, authenticode_sha256=condition.hashes[0].data, flat_sha256=condition.hashes[0].data)
    any_of = condition.product, condition.binary
    product, binary = (None if text == "*" else text for text in any_of)
    publisher, version = condition.publisher, condition.low
    return File(path=path, publisher=publisher, product=product, binary=binary, version=version)


def _body(session: Session, set_id: int | None) -> str | None:
    row = None if set_id is None else session.get(FactSet, set_id)
    return row.body if row else None
