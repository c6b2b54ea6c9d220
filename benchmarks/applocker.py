"""How fast a compiled AppLocker policy judges files it has never seen, beside a plain loop over compiled expressions.

The policy has a third each of path, publisher and hash rules, with exceptions; a tenth of the path rules begin with
`*`; a quarter of the files match nothing. Every decision at 1,000 rules is checked against the loop, and a share at
10,000; a share of both against the naive evaluator of the tests. Exit code 1: a target is missed or a decision differs.
"""

from __future__ import annotations

import gc
import importlib
import json
import random
import re
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

model = importlib.import_module("app.applocker.model")
evaluate = importlib.import_module("app.applocker.evaluate")
naive = importlib.import_module("tests.app.applocker.naive")

SMALL, LARGE = 1_000, 10_000
FILES = 2_000
NAIVE_FILES = 60
ROUNDS = 9
LIMIT_US = 10.0
GROWTH = 2.0


def main() -> int:
    """Measures, checks and prints. Exit codes: 0 all targets met, 1 not."""
    small_us, loop_us, wrong = measure(SMALL, checked=FILES)
    large_us, _, more_wrong = measure(LARGE, checked=FILES // 10)
    emit(f"decision_{SMALL}_rules", small_us, "us", loop_us, loop_us / small_us)
    emit(f"decision_{LARGE}_rules", large_us, "us", small_us, large_us / small_us)
    emit("decisions_that_differ", wrong + more_wrong, "decisions")
    return 0 if small_us <= LIMIT_US and large_us <= GROWTH * small_us and wrong + more_wrong == 0 else 1


def measure(size: int, checked: int) -> tuple[float, float, int]:
    """Microseconds of a decision, of the loop's decision, and how many of the checked decisions differ."""
    policy, files = make(size)
    token, machine = model.STANDARD_USER, model.Machine()
    started = time.process_time()
    compiled = evaluate.compile_policy(policy, machine)
    emit(f"compile_{size}_rules", (time.process_time() - started) * 1e3, "ms")
    decision_us = best(lambda: [compiled.decide(file, token, "Exe") for file in files]) / len(files) * 1e6
    loop = plain_loop(policy, machine)
    share = files[:: len(files) // 100]
    loop_us = best(lambda: [loop(file) for file in share], rounds=3) / len(share) * 1e6
    decisions = [compiled.decide(file, token, "Exe") for file in files]
    found = [(decision.verdict.value, sorted(rule.id for rule in decision.rules)) for decision in decisions]
    every = len(files) // checked
    wrong = sum(answer != loop(file) for answer, file in zip(found[::every], files[::every], strict=True))
    every = len(files) * size // SMALL // NAIVE_FILES
    wrong += sum(
        answer != naive.judge(policy, file, token, machine, "Exe")[:2]
        for answer, file in zip(found[::every], files[::every], strict=True)
    )
    unmatched = sum(verdict == "DeniedByDefault" for verdict, _ in found)
    emit(f"unmatched_files_{size}_rules", unmatched / len(files) * 100, "%")
    return decision_us, loop_us, wrong


def emit(name: str, value: float, unit: str, baseline: float | None = None, ratio: float | None = None) -> None:
    figure: dict[str, object] = {"name": name, "value": round(value, 3), "unit": unit}
    if baseline is not None and ratio is not None:
        figure |= {"baseline": round(baseline, 3), "ratio": round(ratio, 2)}
    print(json.dumps(figure), flush=True)


def best(run: Callable[[], object], rounds: int = ROUNDS) -> float:
    """The least processor time of several runs: what the work costs when nothing disturbs it."""
    times = []
    for _ in range(rounds):
        gc.collect()
        gc.disable()
        started = time.process_time()
        run()
        times.append(time.process_time() - started)
        gc.enable()
    return min(times)


def make(size: int) -> tuple[object, Sequence[object]]:
    """A policy of that many rules, and files of which no two are alike."""
    chance = random.Random(size)
    third = size // 3
    paths = [path_pattern(number, chance) for number in range(size - 2 * third)]
    publishers = [publisher(number) for number in range(third)]
    hashes = [digest(chance) for _ in range(third)]
    rules = []
    for number, text in enumerate(paths):
        exceptions = ()
        if number % 5 == 0:
            exceptions = tuple(
                model.PathCondition(path=f"{text.rstrip('*')}\\Except{each}\\*") for each in range(1 + number % 3)
            )
        action = model.Action.DENY if number % 20 == 3 else model.Action.ALLOW
        condition = model.PathCondition(path=text)
        rules.append(
            model.PathRule(
                id=new_id(chance), name=f"path {number}", action=action, condition=condition, exceptions=exceptions
            )
        )
    for number, condition in enumerate(publishers):
        exceptions = (model.PathCondition(path="%OSDRIVE%\\Users\\*\\Downloads\\*"),) if number % 10 == 0 else ()
        rules.append(
            model.PublisherRule(id=new_id(chance), name=f"signer {number}", condition=condition, exceptions=exceptions)
        )
    for number, data in enumerate(hashes):
        condition = model.HashCondition(hashes=(model.FileHash(data=data),))
        rules.append(model.HashRule(id=new_id(chance), name=f"hash {number}", condition=condition))
    chance.shuffle(rules)
    collection = model.Collection(type="Exe", mode=model.Mode.ENABLED, rules=tuple(rules))
    files = [file_of(number, chance, paths, publishers, hashes) for number in range(FILES)]
    return model.Policy(collections=(collection,)), files


def path_pattern(number: int, chance: random.Random) -> str:
    """A rule's path; every tenth begins with a star."""
    if number % 10 == 0:
        return chance.choice((f"*\\tool{number}.exe", f"*\\vendor {number}\\bin\\*", f"*\\start{number}*.exe"))
    return chance.choice(
        (
            f"%PROGRAMFILES%\\Vendor {number}\\*",
            f"%OSDRIVE%\\Users\\*\\AppData\\Local\\Programs\\App{number}\\*",
            f"%SYSTEM32%\\tool{number}.exe",
            f"D:\\Apps\\Team{number}\\bin\\*.exe",
            f"%WINDIR%\\Folder{number}\\*",
            f"\\\\server\\share{number}\\*",
        )
    )


def publisher(number: int) -> object:
    low = (1, number % 9, 0, 0) if number % 4 == 0 else None
    binary = f"PROGRAM{number}.EXE" if number % 2 else "*"
    return model.PublisherCondition(
        publisher=f"O=VENDOR {number % 97} INC., L=TOWN, C=US", product=f"PRODUCT {number}", binary=binary, low=low
    )


def file_of(
    number: int, chance: random.Random, paths: list[str], publishers: list[object], hashes: list[str]
) -> object:
    """A quarter each: matched by path, by publisher, by hash, by nothing."""
    user, project = chance.randrange(10**6), chance.randrange(10**6)
    path = f"C:\\Users\\user{user}\\AppData\\Local\\Thing{project}\\.venv\\Scripts\\x{number}.exe"
    identity = {"authenticode_sha256": f"0x{digest(chance)}"}
    if chance.random() < 0.5:
        identity |= {
            "publisher": f"O=STRANGER {number} LTD., C=DE",
            "product": f"THING {number}",
            "binary": "X.EXE",
            "version": (1, 2, 3, number),
        }
    match number % 4:
        case 0:
            path = path_like(chance.choice(paths), number)
        case 1:
            condition = chance.choice(publishers)
            binary = condition.binary if condition.binary != "*" else f"B{number}.EXE"
            identity |= {
                "publisher": condition.publisher,
                "product": condition.product,
                "binary": binary,
                "version": (9, 0, 0, number),
            }
        case 2:
            identity |= {"authenticode_sha256": f"0x{chance.choice(hashes).lower()}"}
    return model.File(path=path, **identity)


def path_like(pattern: str, number: int) -> str:
    for variable, folder in (
        ("%PROGRAMFILES%", "C:\\Program Files (x86)"),
        ("%OSDRIVE%", "C:"),
        ("%SYSTEM32%", "C:\\Windows\\SysWOW64"),
        ("%WINDIR%", "C:\\Windows"),
    ):
        pattern = pattern.replace(variable, folder)
    if pattern.startswith("*"):
        pattern = f"C:\\Data {number}{pattern[1:]}"
    path = pattern.replace("*", f"some{number}")
    return path if path.endswith(".exe") else f"{path}\\run.exe"


def plain_loop(policy: object, machine: object) -> Callable[[object], tuple[str, list[str]]]:
    """What one would write first: every rule, its paths as regular expressions, one after the other."""
    compiled = []
    for rule in policy.collections[0].rules:
        paths = [expression(each.path, machine) for each in rule.exceptions]
        own = expression(rule.condition.path, machine) if isinstance(rule, model.PathRule) else None
        compiled.append((rule, own, paths))

    def judge(file: object) -> tuple[str, list[str]]:
        path = file.path.upper()
        denies, allows = [], []
        for rule, own, exceptions in compiled:
            if own is not None:
                matches = own.fullmatch(path) is not None
            elif isinstance(rule, model.HashRule):
                matches = rule.condition.hashes[0].data == file.authenticode_sha256.upper()[2:]
            else:
                matches = naive.publisher_matches(rule.condition, file)
            if matches and not any(each.fullmatch(path) for each in exceptions):
                (denies if rule.action is model.Action.DENY else allows).append(rule.id)
        return (
            ("Denied", sorted(denies)) if denies else ("Allowed", sorted(allows)) if allows else ("DeniedByDefault", [])
        )

    return judge


def expression(pattern: str, machine: object) -> re.Pattern[str]:
    folders = {
        "%PROGRAMFILES%": machine.program_files,
        "%SYSTEM32%": machine.system32,
        "%OSDRIVE%": (machine.os_drive,),
        "%WINDIR%": (machine.windows,),
    }
    found = next(((name, roots) for name, roots in folders.items() if pattern.startswith(name)), ("", ("",)))
    tail = re.escape(pattern[len(found[0]) :].upper()).replace("\\*", ".*")
    return re.compile("(?:" + "|".join(re.escape(root.upper()) for root in found[1]) + ")" + tail, re.DOTALL)


def new_id(chance: random.Random) -> str:
    return str(uuid.UUID(int=chance.getrandbits(128)))


def digest(chance: random.Random) -> str:
    return f"{chance.getrandbits(256):064X}"


if __name__ == "__main__":
    sys.exit(main())
