"""The engine says the same as a naive evaluator, whatever the policy, the file, the token and the machine."""

from __future__ import annotations

import random
import uuid
from collections import Counter

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.applocker.evaluate import compile_policy
from app.applocker.model import (
    Action,
    Collection,
    Drive,
    File,
    FileHash,
    HashCondition,
    HashRule,
    Machine,
    Mode,
    PathCondition,
    PathRule,
    Policy,
    PublisherCondition,
    PublisherRule,
    Token,
)
from tests.app.applocker import naive
from tests.app.applocker.strategies import (
    HASHES,
    MACHINES,
    NAMES,
    ODD_PATTERNS,
    PIECES,
    RULE_ROOTS,
    VARIABLES,
    files_like,
    machines,
    policies,
    tokens,
)

SETTINGS = settings(deadline=None, max_examples=50, suppress_health_check=list(HealthCheck))


@SETTINGS
@given(policy=policies(), machine=machines, data=st.data())
def test_engine_and_naive_evaluator_agree(policy: Policy, machine: Machine, data: st.DataObject) -> None:
    compiled = compile_policy(policy, machine)
    present = [collection.type for collection in policy.collections if collection.rules]
    for file in data.draw(st.lists(files_like(policy), min_size=6, max_size=12)):
        token = data.draw(tokens)
        collection = data.draw(st.sampled_from((*present * 5, "Exe", "Appx")))
        decision = compiled.decide(file, token, collection)
        verdict, rule_ids, effect = naive.judge(policy, file, token, machine, collection)
        assert decision.verdict == verdict
        assert sorted(rule.id for rule in decision.rules) == rule_ids
        if collection != "ManagedInstaller":
            assert decision.effect == effect
        assert decision.reason.endswith(".")


# The same with plain chance: many more rules and files in the same time, made so that most files match something.


def test_engine_and_naive_evaluator_agree_on_random_policies() -> None:
    seen: Counter[str] = Counter()
    for seed in range(16):
        seen += compare_on_one_policy(seed)
    assert min(seen[verdict] for verdict in ("Allowed", "Denied", "DeniedByDefault")) > 100


def compare_on_one_policy(seed: int) -> Counter[str]:
    chance = random.Random(seed)
    machine = MACHINES[seed % len(MACHINES)]
    rules = [random_rule(chance) for _ in range(chance.choice((10, 20, 30)))]
    policy = Policy(collections=(Collection(type="Exe", mode=chance.choice(tuple(Mode)), rules=tuple(rules)),))
    paths = [rule.condition.path for rule in rules if isinstance(rule, PathRule)]
    compiled = compile_policy(policy, machine)
    seen: Counter[str] = Counter()
    for _ in range(80):
        file = random_file(chance, paths)
        token = Token(sids=frozenset({"S-1-1-0", chance.choice(("S-1-5-32-545", "S-1-5-32-544"))}))
        decision = compiled.decide(file, token, "Exe")
        verdict, rule_ids, effect = naive.judge(policy, file, token, machine, "Exe")
        found = (decision.verdict.value, sorted(rule.id for rule in decision.rules), decision.effect.value)
        assert found == (verdict, rule_ids, effect), file
        seen[verdict] += 1
    return seen


def random_pattern(chance: random.Random) -> str:
    if chance.random() < 0.2:
        return chance.choice(ODD_PATTERNS)
    parts = [chance.choice(NAMES if chance.random() < 0.6 else PIECES) for _ in range(chance.randint(1, 4))]
    return "\\".join((chance.choice(RULE_ROOTS), *parts))


def random_rule(chance: random.Random) -> PathRule | PublisherRule | HashRule:
    rule_id = str(uuid.UUID(int=chance.getrandbits(128)))
    action = Action.DENY if chance.random() < 0.2 else Action.ALLOW
    sid = chance.choice(("S-1-1-0", "S-1-1-0", "S-1-5-32-544"))
    kind = chance.random()
    exceptions = tuple(PathCondition(path=random_pattern(chance)) for _ in range(chance.choice((0, 0, 1, 12))))
    if kind < 0.7:
        path = PathCondition(path=random_pattern(chance))
        return PathRule(id=rule_id, name="n", sid=sid, action=action, condition=path, exceptions=exceptions)
    if kind < 0.9:
        publisher = PublisherCondition(
            publisher=chance.choice(("*", "O=A, C=US", "O=B, C=US")),
            product=chance.choice(("*", "P1", "P2")),
            binary=chance.choice(("*", "B1.EXE", "B*")),
            low=chance.choice((None, (1, 0, 0, 0))),
        )
        return PublisherRule(id=rule_id, name="n", sid=sid, action=action, condition=publisher, exceptions=exceptions)
    hashes = HashCondition(hashes=(FileHash(data=chance.choice(HASHES)),))
    return HashRule(id=rule_id, name="n", sid=sid, action=action, condition=hashes)


def random_file(chance: random.Random, paths: list[str]) -> File:
    path = chance.choice(paths) if paths and chance.random() < 0.8 else f"C:\\Other\\{chance.randint(0, 99)}.exe"
    for variable, folders in VARIABLES.items():
        if path.upper().startswith(variable):
            path = chance.choice(folders) + path[len(variable) :]
    path = "".join(
        chance.choice(("", "a", "q.exe", "b\\c")) if sign == "*" else "z" if sign in '?<>"' else sign for sign in path
    )
    path = path.replace("%", "").replace("~", "").lstrip("\\/")
    if path[1:2] != ":":
        path = f"C:\\Users\\{path}"
    signed = chance.random() < 0.3
    return File(
        path=path.rstrip("\\.") + chance.choice(("", ".exe")),
        drive=chance.choice((Drive.FIXED, Drive.FIXED, Drive.HOT)),
        publisher=chance.choice(("O=A, C=US", "O=B, C=US", "O=C")) if signed else None,
        product=chance.choice(("p1", "P2", "P3")) if signed else None,
        binary=chance.choice(("b1.exe", "B2.EXE")) if signed else None,
        version=chance.choice(((0, 9, 0, 0), (1, 0, 0, 0), None)) if signed else None,
        authenticode_sha256=chance.choice((None, None, *HASHES)),
    )
