"""What made workstations change between reports: to sets that the server knows, or to ones that nobody else has."""

from __future__ import annotations

import json

from agent.contract.facts import ProbeSet
from app.fleet.made_sets import policy_set, probe_set, stored
from app.ingest.generator import Station


def other_policy(station: Station) -> bool:
    """The policy in force changes to the other of two; the server knows both."""
    known = station.sets["policy"].digest == policy_set("defaults").digest
    take_policy(station, "engineers" if known else "defaults")
    return False


def take_policy(station: Station, policy: str) -> None:
    station.sets["policy"] = policy_set(policy)
    station.sets["probes"] = probe_set(policy, False, station.number % 3 > 0)
    station.say()


BASE_PROBES = json.loads(probe_set("defaults", False, True).body)


def text_of(value: object) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


CHOICES = [
    [
        text_of({**one, "outcome": "blocked", "engine": "applocker", "error": 1260}),
        text_of({**one, "outcome": "allowed", "engine": None, "error": 0, "why": "rule"}),
    ]
    for one in BASE_PROBES["probes"][:40]
]
"""What may come of each of forty probes."""


def new_probes(station: Station, number: int) -> bool:
    """Forty probes whose outcomes nobody else has: the number's bits say which are blocked."""
    scattered = number * 0x9E3779B97F % 2**40
    probes = ",".join(choice[scattered >> at & 1] for at, choice in enumerate(CHOICES))
    station.sets["probes"] = stored(_Made(f'{{"catalogue":"{BASE_PROBES["catalogue"]}","probes":[{probes}]}}'))
    station.say()
    return True


class _Made(ProbeSet):
    """A probe set from its text."""

    def __init__(self, body: str) -> None:
        object.__setattr__(self, "catalogue", body)
        object.__setattr__(self, "probes", ())

    def body(self) -> str:
        return self.catalogue
