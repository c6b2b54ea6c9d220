"""What a host's page says of a report: findings in words, sets kept apart, nothing taken for what it is not."""

from __future__ import annotations

from typing import Any

import pytest

from agent.catalogue import Machine, roots
from agent.contract.canonical import ContractError, canonical_json
from agent.contract.facts import CollectionInForce, PolicySet, ProbeSet
from agent.report import applocker_form
from app.fleet.facts import Flag, read_set
from app.fleet.reported import USUAL_ROOTS, find_elsewhere, read_reported

RULES = CollectionInForce(mode="Enabled", rules=("<FilePathRule/>",))


def probe(specimen: str, outcome: str, pattern: str = "venv-python", collection: str = "Exe") -> dict[str, Any]:
    return {"pattern": pattern, "specimen": specimen, "outcome": outcome, "collection": collection}


def reported(*probes: dict[str, Any], **more: Any) -> Any:
    return read_reported({"probes": {"probes": list(probes), **more}})


def test_a_canary_that_fares_otherwise_is_a_fact() -> None:
    (found,) = reported(probe("launcher", "allowed"), probe("canary", "blocked")).mismatches
    assert (found.pattern, found.specimen, found.outcome, found.canary) == (
        "venv-python",
        "launcher",
        "allowed",
        "blocked",
    )


@pytest.mark.parametrize(
    "probes",
    [
        (probe("real", "blocked"), probe("canary", "blocked")),
        (probe("real", "allowed"), probe("canary", "unknown")),
        (probe("real", "error"), probe("canary", "allowed")),
        (probe("real", "allowed"), probe("canary", "blocked", pattern="tool-bin-exe")),
        (probe("real", "allowed", collection="Dll"), probe("canary", "blocked")),
        (probe("real", "allowed"),),
        (probe("canary", "blocked"),),
    ],
)
def test_nothing_else_is(probes: tuple[dict[str, Any], ...]) -> None:
    assert reported(*probes).mismatches == ()


def test_why_a_catalogue_was_refused_is_told_in_our_words() -> None:
    assert "signature" in reported(refused="signature").catalogue_refused
    assert reported(refused="<b>evil</b>").catalogue_refused == "of a reason that this server does not know"
    assert reported().catalogue_refused is None
    body = ProbeSet(catalogue="x", probes=(), refused="place").body()
    assert read_set("probes", body).patterns == ()
    with pytest.raises(ContractError):
        read_set("probes", canonical_json({"probes": [], "refused": 5}))


def test_policies_of_device_management_are_kept_apart() -> None:
    facts = PolicySet(collections={"Exe": RULES}, csp="read", csp_sets=({"Exe": RULES}, {"Dll": RULES}))
    policy = read_reported({"policy": facts.to_json()}).policy
    assert policy is not None
    assert policy.collections == {"Exe": ("Enabled", 1)}
    assert policy.csp_sets == ({"Exe": ("Enabled", 1)}, {"Dll": ("Enabled", 1)})


@pytest.mark.parametrize(
    ("facts", "enforcing"),
    [
        (PolicySet(collections={}), False),
        (PolicySet(collections={}, csp="present-unreadable"), True),
        (PolicySet(collections={}, csp="read", csp_sets=({"Exe": RULES},)), True),
        (PolicySet(collections={}, csp="read", csp_sets=({"Exe": CollectionInForce(mode="AuditOnly")},)), False),
    ],
)
def test_what_could_not_be_read_is_never_taken_for_no_policy(facts: PolicySet, enforcing: bool) -> None:
    assert read_set("policy", facts.body()).flags == (Flag.ENFORCING if enforcing else 0)


@pytest.mark.parametrize(
    ("trust", "distrust"),
    [
        ("trusted", None),
        (None, None),
        ("0x800b0109", "0x800b0109"),
        ("0x800b0100", "0x800b0100"),
        ("<b>", "for a reason that is not understood"),
        (5, None),
    ],
)
def test_a_signature_that_windows_does_not_trust_is_no_signature(trust: object, distrust: str | None) -> None:
    body = {"found": [{"path": "uv.exe", "version": "0.13.8", "publisher": "O=X", "trust": trust}]}
    (found,) = read_reported({"uv": body}).found
    assert found.distrust == distrust


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        ("\\\\*\\*\\*\\uv\\cache", "a share"),
        ("\\\\?\\Volume{*}\\AppData\\Local\\uv\\cache", "a volume without a drive letter, such as a profile disk"),
        ("D:\\*\\uv", "another drive"),
        ("%HOT%\\uv", "a removable drive"),
        ("%REMOVABLE%\\uv", "a disc"),
        (r"%OSDRIVE%\Users\*\AppData\Local\*\*\*\Local\uv\cache", "a package’s private copy of AppData"),
        (r"%OSDRIVE%\Users\*\uv", "another folder of the profile"),
        (r"%PROGRAMFILES%\uv", "another folder of the system drive"),
        ("<b>", "a place that is not understood"),
    ],
)
def test_roots_that_usual_rules_do_not_reach_are_named(place: str, kind: str) -> None:
    (found,) = read_reported({"environment": {"roots": {**USUAL_ROOTS, "cache": place}}}).elsewhere
    assert (found.root, found.place, found.kind) == ("cache", place, kind)


def test_of_a_whole_profile_elsewhere_one_word_is_said() -> None:
    told = {name: place.replace(USUAL_ROOTS["home"], "\\\\*\\*\\*") for name, place in USUAL_ROOTS.items()}
    assert [one.root for one in find_elsewhere(told)] == ["home"]
    assert [one.root for one in find_elsewhere({**told, "cache": "D:\\uv"})] == ["cache", "home"]
    # Who says that the profile is elsewhere and its cache is not, has a cache that lies apart from it.
    assert [one.root for one in find_elsewhere({**told, "temp": USUAL_ROOTS["temp"]})] == ["home"]


def test_usual_roots_are_not() -> None:
    """The usual places are those of the catalogue, as agents write them."""
    env = {
        "USERPROFILE": r"C:\Users\jane",
        "LOCALAPPDATA": r"C:\Users\jane\AppData\Local",
        "APPDATA": r"C:\Users\jane\AppData\Roaming",
        "TEMP": r"C:\Users\jane\AppData\Local\Temp",
    }
    machine = Machine(env=env)
    assert {name: applocker_form(place, "C:") for name, place in roots(machine).items()} == USUAL_ROOTS
    assert find_elsewhere(USUAL_ROOTS) == find_elsewhere({}) == ()
    assert find_elsewhere({name: place.upper() for name, place in USUAL_ROOTS.items()}) == ()
    assert find_elsewhere({"home": "/home/*", "cache": "%HOME%/.cache/uv"}) == find_elsewhere([1]) == ()


def test_hostile_shapes_are_refused_by_name() -> None:
    for value in ({"csp_sets": [5]}, {"csp_sets": "x"}, {"service_disabled": "yes"}):
        with pytest.raises(ContractError):
            read_set("policy", canonical_json(value))
    with pytest.raises(ContractError):
        read_set("environment", canonical_json({"language_mode": "x" * 100}))
