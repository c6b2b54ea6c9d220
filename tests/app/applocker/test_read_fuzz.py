"""The reader answers every input with a policy or with AppLockerError, never with anything else."""

from __future__ import annotations

import random
import time

import pytest

from app.applocker.model import AppLockerError
from app.applocker.read import parse_policy
from app.applocker.registry import parse_registry_pol, render_registry_pol
from app.applocker.write import render_policy
from tests.app.applocker.fuzz import GOOD, broken


def read_all(seed: int, count: int) -> tuple[int, int]:
    """How many inputs were policies, and how many were refused."""
    chance = random.Random(seed)
    good = bad = 0
    for _ in range(count):
        data = broken(chance)
        try:
            policy = parse_policy(data)
        except AppLockerError as error:
            bad += all(problem.message for problem in error.problems) and len(error.problems) > 0
        else:
            assert parse_policy(render_policy(policy)) == policy
            good += 1
    return good, bad


def test_two_thousand_broken_policies() -> None:
    good, bad = read_all(1, 2_000)
    assert good > 50  # else the inputs are so broken that they show nothing
    assert good + bad == 2_000


@pytest.mark.slow
def test_a_hundred_thousand_broken_policies_within_a_minute() -> None:
    started = time.process_time()
    good, bad = read_all(2, 100_000)
    assert good + bad == 100_000
    assert time.process_time() - started < 60


def test_broken_registry_files() -> None:
    chance = random.Random(3)
    whole = render_registry_pol(parse_policy(GOOD))
    refused = 0
    for _ in range(500):
        data = bytearray(whole)
        for _ in range(chance.choice((1, 2, 8))):
            data[chance.randrange(len(data))] = chance.randrange(256)
        try:
            parse_registry_pol(bytes(data[: chance.choice((len(data), chance.randrange(len(data))))]))
        except AppLockerError:
            refused += 1
    assert refused > 300
