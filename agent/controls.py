"""Other products that watch what is started: where one is found, nothing is started unless somebody asks for it. Pure.

A probe is an unsigned program that nobody has seen before, which is what such products are made to stop: each start
would be a message on somebody's screen or in a security team's queue. There the agent tells what stands where and
which policy is in force, and the server judges.

What is asked is which services are installed, and a few settings of Windows. The services' names are the vendors' own,
as inventories in the field have them; none was seen on a machine of ours.
source: Microsoft Learn, attack surface reduction rules reference (rule GUIDs, states); Smart App Control testing
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

SERVICES: Mapping[str, str] = {
    "Avecto Defendpoint Service": "BeyondTrust Privilege Management",
    "DefendpointService": "BeyondTrust Privilege Management",
    "vf_agent": "CyberArk EPM",
    "CybKernelTracker": "CyberArk EPM",
    "ArelliaAgent": "Delinea Privilege Manager",
    "Microsoft EPM Agent Service": "Microsoft Endpoint Privilege Management",
    "AEService": "AutoElevate",
    "ThreatLockerService": "ThreatLocker",
    "AirlockEnforcement": "Airlock Digital",
    "airlock": "Airlock Digital",
    "Parity": "Carbon Black App Control",
    "scsrvc": "Trellix Application Control",
    "AppSense Application Manager Agent": "Ivanti Application Control",
}
"""Service names of endpoint privilege management and third-party allow-listing, and the products they belong to."""

ASR_RULES: Mapping[str, str] = {
    "01443614-cd74-433a-b99e-2ecdc07bfc25": "programs that are neither known, old nor trusted",
    "c1db55ab-c21a-4637-bb3f-a12568109d35": "advanced protection against ransomware",
    "b2b3f03d-6a65-4f7b-a9c7-1c7ef74a9ba4": "unsigned programs from removable drives",
}
"""Attack surface reduction rules that stop a program for what it is; the others look at what it does."""

_ASR_ACTS = ("1", "6")  # block, warn; 2 only logs
_DISABLED = 4
_SMART_APP_CONTROL_ON = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlAnswers:
    """What the machine said. `services`: start types of those of SERVICES that are installed; `asr`: states by rule.

    `smart_app`: VerifiedAndReputablePolicyState, None where there is none.
    """

    services: Mapping[str, int] = field(default_factory=dict)
    asr: Mapping[str, str] = field(default_factory=dict)
    smart_app: int | None = None


def find_controls(answers: ControlAnswers) -> tuple[str, ...]:
    """The other products that would act on a probe, each once.

    >>> find_controls(ControlAnswers(services={"ThreatLockerService": 2, "Parity": 4}, smart_app=2))
    ('ThreatLocker',)
    """
    found = {
        product
        for name, product in SERVICES.items()
        if name in answers.services and answers.services[name] != _DISABLED
    }
    states = {rule.strip().strip("{}").lower(): state.strip() for rule, state in answers.asr.items()}
    if any(states.get(rule) in _ASR_ACTS for rule in ASR_RULES):
        found.add("attack surface reduction")
    if answers.smart_app == _SMART_APP_CONTROL_ON:
        found.add("Smart App Control")
    return tuple(sorted(found))


def read_asr_list(text: str) -> dict[str, str]:
    """The rules and states of device management's one value, `guid=1|guid=2`.

    >>> read_asr_list("01443614-CD74-433a-b99e-2ecdc07bfc25=1|x|=2")
    {'01443614-cd74-433a-b99e-2ecdc07bfc25': '1'}
    """
    pairs = (item.partition("=") for item in text.split("|"))
    return {rule.strip().lower(): state.strip() for rule, equals, state in pairs if equals and rule.strip()}


def choose_method(wanted: str, controls: tuple[str, ...]) -> str:
    """`start` or `policy`: what was asked for, and by itself the quiet way where another product watches.

    >>> choose_method("auto", ()), choose_method("auto", ("ThreatLocker",)), choose_method("start", ("ThreatLocker",))
    ('start', 'policy', 'start')
    """
    if wanted == "auto":
        return "policy" if controls else "start"
    return wanted
