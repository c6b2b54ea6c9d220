"""The fact sets: what many subjects share, stored once under its digest.

Each set is a frozen value with `kind` and `to_json()`; `body()` is its canonical text and `digest()` its name.
Values are templated on the workstation (`%LOCALAPPDATA%\\uv\\cache\\builds-v0\\.tmp*\\...`): no user or project name is
in them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from agent.contract.canonical import Json, canonical_json, digest

KINDS = ("probes", "uv", "environment", "policy", "token", "host")
"""All kinds of fact sets. `host` is stored per host, the others are shared."""


class Outcome(StrEnum):
    """What came of one try at one pattern."""

    ALLOWED = "allowed"
    BLOCKED = "blocked"
    AUDITED = "audited"
    DENIED = "denied"
    ABSENT = "absent"
    UNKNOWN = "unknown"
    ERROR = "error"


class Why(StrEnum):
    """Why a probe was allowed, as far as the workstation can tell; or why its answer would be worth nothing."""

    RULE = "rule"
    NO_RULES = "no_rules"
    AUDIT_MODE = "audit_mode"
    ADMINISTRATOR = "administrator"
    NOT_ENFORCED = "not_enforced"
    CANARY_NAMED = "canary_named"
    UNKNOWN = "unknown"


class Engine(StrEnum):
    """Who blocked. What one engine blocks says nothing about the engines behind it."""

    APPLOCKER = "applocker"
    SRP = "srp"
    WDAC = "wdac"
    ASR = "asr"
    ANTIVIRUS = "antivirus"
    ACL = "acl"
    OTHER = "other"
    UNKNOWN = "unknown"


class Specimen(StrEnum):
    """What was tried: the real file that stands there, a copy of the host's own venv launcher, or the canary."""

    REAL = "real"
    LAUNCHER = "launcher"
    CANARY = "canary"
    NONE = "none"


class Method(StrEnum):
    """How a probe was made."""

    START = "start"
    LOAD = "load"
    SAFER = "safer"
    POLICY = "policy"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Probe:
    """One try at one pattern. `error`: Windows error number (errno on Linux), 0 for success, None if not tried."""

    pattern: str
    specimen: Specimen
    method: Method
    outcome: Outcome
    why: Why | None = None
    engine: Engine | None = None
    error: int | None = None
    collection: str | None = None

    def to_json(self) -> dict[str, Json]:
        return {
            "pattern": self.pattern,
            "specimen": self.specimen,
            "method": self.method,
            "outcome": self.outcome,
            "why": self.why,
            "engine": self.engine,
            "error": self.error,
            "collection": self.collection,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class FactSet:
    """What all fact sets have: a kind, a canonical body and the digest that names it."""

    @property
    def kind(self) -> str:
        raise NotImplementedError

    def to_json(self) -> dict[str, Json]:
        raise NotImplementedError

    def body(self) -> str:
        """The canonical JSON text that is sent and stored."""
        return canonical_json(self.to_json())

    def digest(self) -> str:
        """`sha256:` and the hex digest over kind, newline and body."""
        return digest(self.kind, self.body())


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeSet(FactSet):
    """Every probe of one cycle, sorted, with the etag of the catalogue that named the patterns.

    `refused`: why the agent does not work with the server's catalogue (`signature`, `place` ...); None if it does, or
    if its own is the same.
    """

    catalogue: str
    probes: tuple[Probe, ...]
    refused: str | None = None

    @property
    def kind(self) -> str:
        return "probes"

    def to_json(self) -> dict[str, Json]:
        ordered = sorted(self.probes, key=lambda probe: (probe.pattern, probe.collection or "", probe.specimen))
        value: dict[str, Json] = {"catalogue": self.catalogue, "probes": [probe.to_json() for probe in ordered]}
        if self.refused:
            value["refused"] = self.refused
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundUv:
    """One uv executable: its templated path and what a rule could know of it."""

    path: str
    pattern: str | None
    version: str | None
    target: str | None = None
    authenticode_sha256: str | None = None
    publisher: str | None = None
    trust: str | None = None

    def to_json(self) -> dict[str, Json]:
        return {
            "path": self.path,
            "pattern": self.pattern,
            "version": self.version,
            "target": self.target,
            "authenticode_sha256": self.authenticode_sha256,
            "publisher": self.publisher,
            "trust": self.trust,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class UvSet(FactSet):
    """Every uv found on the workstation, the one on PATH first in `preferred`."""

    found: tuple[FoundUv, ...]
    preferred: str | None = None

    @property
    def kind(self) -> str:
        return "uv"

    def to_json(self) -> dict[str, Json]:
        ordered = sorted(self.found, key=lambda found: (found.path, found.version or ""))
        return {"found": [found.to_json() for found in ordered], "preferred": self.preferred}


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentSet(FactSet):
    """What moves uv's directories: allow-listed variables, uv.toml keys, uv's own answers, and where roots really are.

    `answers` maps `cache_dir`, `python_dir`, `python_bin_dir`, `tool_dir`, `tool_bin_dir` to templated paths; `roots`
    maps a root's name to the AppLocker form that it resolves to (`%OSDRIVE%\\USERS\\*\\...`). `event_logs` maps
    `applocker-exe`, `applocker-script`, `code-integrity` and `srp` to how the log stands: `read`, `behind`,
    `overwritten`, `cleared`, `denied` or `error N`; a log that the machine does not have is not in it.
    `controls`: other products that watch what is started, because of which the server judges and nothing is started.
    `language_mode`: that of the user's PowerShell (`FullLanguage`, `ConstrainedLanguage` ...); empty if it did not say.
    """

    variables: Mapping[str, str] = field(default_factory=dict)
    uv_toml: Mapping[str, str] = field(default_factory=dict)
    answers: Mapping[str, str] = field(default_factory=dict)
    roots: Mapping[str, str] = field(default_factory=dict)
    event_logs: Mapping[str, str] = field(default_factory=dict)
    language_mode: str = ""
    controls: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        return "environment"

    def to_json(self) -> dict[str, Json]:
        value: dict[str, Json] = {
            "variables": dict(self.variables),
            "uv_toml": dict(self.uv_toml),
            "answers": dict(self.answers),
            "roots": dict(self.roots),
        }
        if self.event_logs:
            value["event_logs"] = dict(self.event_logs)
        if self.language_mode:
            value["language_mode"] = self.language_mode
        if self.controls:
            value["controls"] = sorted(set(self.controls))
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionInForce:
    """One rule collection of the policy in force: its mode as the registry has it, and its rules' XML, sorted by id."""

    mode: str
    rules: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Json]:
        return {"mode": self.mode, "rules": list(self.rules)}


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySet(FactSet):
    """Policies in force: GPO's SrpV2 by collection (None = could not be read), whether a CSP policy is there, SRP.

    `csp_sets`: where `csp` is `read`, device management's groupings, kept apart: a file must be allowed by each of them
    and by GPO's. `service_disabled`: the Application Identity service cannot start.
    """

    collections: Mapping[str, CollectionInForce] | None
    csp: str = "none"
    srp: bool = False
    csp_sets: tuple[Mapping[str, CollectionInForce], ...] = ()
    service_disabled: bool = False

    @property
    def kind(self) -> str:
        return "policy"

    def to_json(self) -> dict[str, Json]:
        gpo: Json = None
        if self.collections is not None:
            gpo = {name: collection.to_json() for name, collection in self.collections.items()}
        value: dict[str, Json] = {"gpo": gpo, "csp": self.csp, "srp": self.srp}
        if self.csp_sets:
            value["csp_sets"] = [{name: one.to_json() for name, one in found.items()} for found in self.csp_sets]
        if self.service_disabled:
            value["service_disabled"] = True
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSet(FactSet):
    """What a rule can know of a user: well-known SIDs and those that a policy names; never the own or a local SID."""

    sids: tuple[str, ...]
    deny_only: tuple[str, ...] = ()
    elevated: bool = False
    administrator: bool = False

    @property
    def kind(self) -> str:
        return "token"

    def to_json(self) -> dict[str, Json]:
        return {
            "sids": sorted(set(self.sids)),
            "deny_only": sorted(set(self.deny_only)),
            "elevated": self.elevated,
            "administrator": self.administrator,
        }


SERVICE_STATES = ("running", "starting", "stopped", "stopping", "paused")
SERVICE_WORDS = frozenset(
    {
        *SERVICE_STATES,
        *(f"{state}-{start}" for state in SERVICE_STATES for start in ("automatic", "manual", "disabled")),
        "absent",
        "denied",
        "unknown",
    }
)
"""How a service may stand: its state, and how it starts where that was told; or why its state was not told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFacts(FactSet):
    """What is stored per host and not shared. `platform` is `windows` or `linux`.

    `appid_service`: one of SERVICE_WORDS, how the Application Identity service stands; empty where there is none.
    """

    name: str
    platform: str
    os: str
    os_build: str = ""
    domain: str | None = None
    unit: str | None = None
    agent_version: str = ""
    attested: bool = False
    appid_service: str = ""

    @property
    def kind(self) -> str:
        return "host"

    def to_json(self) -> dict[str, Json]:
        value: dict[str, Json] = {
            "name": self.name,
            "platform": self.platform,
            "os": self.os,
            "os_build": self.os_build,
            "domain": self.domain,
            "unit": self.unit,
            "agent_version": self.agent_version,
            "attested": self.attested,
        }
        if self.appid_service:
            value["appid_service"] = self.appid_service
        return value
