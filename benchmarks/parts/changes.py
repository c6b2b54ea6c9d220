"""What made workstations change between reports: to sets that the server knows, or to ones that nobody else has."""

from __future__ import annotations

from app.fleet.made_sets import policy_set, probe_set, varied_probe_set
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


def new_probes(station: Station, number: int) -> bool:
    """Forty probes as nobody else has them."""
    station.sets["probes"] = varied_probe_set(number)
    station.say()
    return True
