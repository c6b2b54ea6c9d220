"""The fact sets of a made fleet: what agents would report under two policies, with several uv versions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

from agent import catalogue
from agent.catalogue import Pattern
from agent.contract.canonical import canonical_json, digest
from agent.contract.facts import (
    CollectionInForce,
    Engine,
    EnvironmentSet,
    FactSet,
    FoundUv,
    Method,
    Outcome,
    PolicySet,
    Probe,
    ProbeSet,
    Specimen,
    TokenSet,
    UvSet,
    Why,
)
from app.fleet.facts import read_set
from app.fleet.rows import NewSet
from app.fleet.tables import KIND_NUMBERS

SIGNED_SINCE = (0, 11, 7)
OPENAI = "O=OPENAI OPCO, LLC, L=SAN FRANCISCO, S=CALIFORNIA, C=US"
_OPENED_GROUPS = ("cache", "managed-python", "venv", "build")
"""The groups of patterns that the engineers' policy opens."""

_RULE = (
    '<FilePathRule Action="Allow" Description="" Id="{id}" Name="{name}" UserOrGroupSid="{sid}">'
    '<Conditions><FilePathCondition Path="{path}"/></Conditions></FilePathRule>'
)
_DEFAULT_RULES = (
    _RULE.format(
        id="921cc481-6e17-4653-8f75-050b80acca20",
        name="(Default Rule) All files located in the Program Files folder",
        sid="S-1-1-0",
        path="%PROGRAMFILES%\\*",
    ),
    _RULE.format(
        id="a61c8b2c-a319-4cd0-9690-d2177cad7b51",
        name="(Default Rule) All files located in the Windows folder",
        sid="S-1-1-0",
        path="%WINDIR%\\*",
    ),
    _RULE.format(
        id="fd686d83-a829-4351-8ff4-27c7de5755d2",
        name="(Default Rule) All files",
        sid="S-1-5-32-544",
        path="*",
    ),
)
_ENGINEERS_RULE = _RULE.format(
    id="5f1f4c52-7c53-5a0c-9f7e-2f3f6f0f7f11",
    name="uv for engineers",
    sid="S-1-5-21-1004336348-1177238915-682003330-5120",
    path="%OSDRIVE%\\Users\\*\\AppData\\Local\\uv\\cache\\*",
)

_PILOT_RULE = (
    '<FileHashRule Action="Allow" Description="" Id="0d3b6a0e-6f43-5b0c-8d0b-3a1f9f6f2c10" Name="Python 3.13.1 for a'
    ' pilot" UserOrGroupSid="S-1-5-21-1004336348-1177238915-682003330-5120"><Conditions><FileHashCondition><FileHash'
    f' Data="0x{"5D" * 32}" SourceFileLength="104448" SourceFileName="python.exe" Type="SHA256"/></FileHashCondition>'
    "</Conditions></FileHashRule>"
)

_SCRIPT_IDS = {
    "921cc481-6e17-4653-8f75-050b80acca20": "06dce67b-934c-454f-a263-2515c8796a5d",
    "a61c8b2c-a319-4cd0-9690-d2177cad7b51": "9428c672-5fc3-47f4-808a-a0011f36dd2c",
    "fd686d83-a829-4351-8ff4-27c7de5755d2": "ed97d0cb-15ff-430f-b82c-8d7832957725",
    "5f1f4c52-7c53-5a0c-9f7e-2f3f6f0f7f11": "5f1f4c52-7c53-5a0c-9f7e-2f3f6f0f7f12",
    "0d3b6a0e-6f43-5b0c-8d0b-3a1f9f6f2c10": "0d3b6a0e-6f43-5b0c-8d0b-3a1f9f6f2c11",
}
"""The same rules among the scripts: in a policy no two rules have one id, and Windows' own have these."""

POLICIES = ("defaults", "pilot", "engineers", "audit")


def stored(made: FactSet) -> NewSet:
    """A set as the write path takes it."""
    body = made.body()
    facts = read_set(made.kind, body)
    name = digest(made.kind, body)
    return NewSet(KIND_NUMBERS[made.kind], bytes.fromhex(name[7:]), body, int(facts.flags), facts.marks)


def policy_set_with(added: Mapping[str, Sequence[str]]) -> NewSet:
    """The policy in force where rules were added to the default ones. `added`: collection -> their XML."""
    rules = {"Exe": _DEFAULT_RULES, "Script": tuple(_as_script_rule(rule) for rule in _DEFAULT_RULES)}
    return stored(
        PolicySet(
            collections={
                name: CollectionInForce(mode="Enabled", rules=tuple(sorted((*some, *added.get(name, ())))))
                for name, some in rules.items()
            }
        )
    )


@cache
def policy_set(policy: str) -> NewSet:
    """The policy in force: the default rules enforced, with a rule for a pilot or for engineers, or only audited."""
    added = {"engineers": (_ENGINEERS_RULE,), "pilot": (_PILOT_RULE,)}
    rules = (*_DEFAULT_RULES, *added.get(policy, ()))
    mode = "AuditOnly" if policy == "audit" else "Enabled"
    by_collection = {"Exe": rules, "Script": tuple(_as_script_rule(rule) for rule in rules)}
    return stored(
        PolicySet(
            collections={
                name: CollectionInForce(mode=mode, rules=tuple(sorted(some))) for name, some in by_collection.items()
            }
        )
    )


def _as_script_rule(rule: str) -> str:
    for id_of_program, id_of_script in _SCRIPT_IDS.items():
        rule = rule.replace(id_of_program, id_of_script)
    return rule


@cache
def token_set(administrator: bool, extra: tuple[str, ...] = ()) -> NewSet:
    """A user's groups. `extra` makes it one of its own, as where every user is in other groups."""
    sids = ["S-1-1-0", "S-1-5-32-545", "S-1-5-4", "S-1-5-11", *extra]
    if administrator:
        sids.append("S-1-5-32-544")
    return stored(TokenSet(sids=tuple(sids), elevated=administrator, administrator=administrator))


@cache
def environment_set(place: int = 0) -> NewSet:
    """Where uv keeps things. `place` 0: the defaults; others: a drive of their own."""
    local = "%LOCALAPPDATA%\\uv" if place == 0 else f"%OSDRIVE%\\dev{place}\\uv"
    return stored(
        EnvironmentSet(
            variables={} if place == 0 else {"UV_CACHE_DIR": f"{local}\\cache"},
            answers={
                "cache_dir": f"{local}\\cache",
                "python_dir": "%APPDATA%\\uv\\python",
                "python_bin_dir": "%USERPROFILE%\\.local\\bin",
                "tool_dir": "%APPDATA%\\uv\\tools",
                "tool_bin_dir": "%USERPROFILE%\\.local\\bin",
            },
        )
    )


UV_PLACES = (
    ("%ProgramFiles%\\uv\\uv.exe", "uv-exe-custom-dir"),
    ("%USERPROFILE%\\.local\\bin\\uv.exe", "uv-exe-standalone"),
    ("%USERPROFILE%\\.cargo\\bin\\uv.exe", "uv-exe-cargo-bin"),
    (
        "%LOCALAPPDATA%\\Microsoft\\WinGet\\Packages\\astral-sh.uv_Microsoft.Winget.Source_8wekyb3d8bbwe\\uv.exe",
        "uv-exe-winget",
    ),
    ("%USERPROFILE%\\scoop\\apps\\uv\\current\\uv.exe", "uv-exe-scoop"),
    ("%ProgramData%\\chocolatey\\bin\\uv.exe", "uv-exe-chocolatey"),
    ("%USERPROFILE%\\pipx\\venvs\\uv\\Scripts\\uv.exe", "uv-exe-pipx"),
    ("%LOCALAPPDATA%\\Programs\\Python\\Python313\\Scripts\\uv.exe", "uv-exe-python-scripts"),
    ("%OSDRIVE%\\Tools\\uv\\uv.exe", "uv-exe-custom-dir"),
    ("%OSDRIVE%\\dev\\bin\\uv.exe", "uv-exe-custom-dir"),
    ("%ProgramFiles%\\WinGet\\Links\\uv.exe", "uv-exe-winget"),
    ("%ProgramFiles%\\Python313\\Scripts\\uv.exe", "uv-exe-python-scripts"),
)
"""Where uv lies in a diverse fleet, by the ways in which people install it; the last two: for all users."""


@cache
def uv_set(version: str | None, place: int = 0) -> NewSet:
    """The uv on PATH, or none; `place`: one of UV_PLACES. Releases since the signer began to sign are signed."""
    if version is None:
        return stored(UvSet(found=()))
    path, pattern = UV_PLACES[place]
    signed = tuple(int(part) for part in version.split(".")) >= SIGNED_SINCE
    found = FoundUv(
        path=path,
        pattern=pattern,
        version=version,
        target="x86_64-pc-windows-msvc",
        publisher=OPENAI if signed else None,
        trust="trusted" if signed else "unsigned",
    )
    return stored(UvSet(found=(found,), preferred=path))


@cache
def probe_set(
    policy: str,
    administrator: bool,
    has_projects: bool,
    transient: int = 0,
    opened: frozenset[str] = frozenset(),
    uv_at: int | None = None,
) -> NewSet:
    """What probes find. `transient`: which pattern, counted from 1, could not be tried (0: none such).

    `opened`: patterns that rules besides the policy's own open. `uv_at`: at which of UV_PLACES uv itself was tried, -1
    at none; None: the place of the installer script alone, whether or not uv lies there.
    """
    probes = []
    for number, pattern in enumerate(_probed(), 1):
        if pattern.group == "venv" and not has_projects:
            probes.append(_probe(pattern, Outcome.UNKNOWN))
        elif number == transient:
            probes.append(_probe(pattern, Outcome.ERROR, error=32))
        elif pattern.id in opened:
            probes.append(_probe(pattern, Outcome.ALLOWED, why=Why.RULE, error=0))
        elif uv_at is not None and pattern.group == "uv-binary":
            probes.append(_judged_uv(pattern, policy, administrator, uv_at))
        else:
            probes.append(_judged(pattern, policy, administrator))
    return stored(ProbeSet(catalogue=catalogue.load().etag, probes=tuple(probes)))


def varied_probe_set(number: int) -> NewSet:
    """Forty probes whose outcomes no other number has: its bits, scattered, say which are blocked."""
    scattered = number * 0x9E3779B97F % 2**40
    probes = ",".join(choices[scattered >> at & 1] for at, choices in enumerate(_outcomes()))
    body = f'{{"catalogue":"{catalogue.load().etag}","probes":[{probes}]}}'
    facts = read_set("probes", body)
    name = bytes.fromhex(digest("probes", body)[7:])
    return NewSet(KIND_NUMBERS["probes"], name, body, int(facts.flags), facts.marks)


@cache
def _outcomes() -> tuple[tuple[str, str], ...]:
    """The texts of what may come of each of forty probes."""
    return tuple(
        (
            canonical_json(_probe(pattern, Outcome.BLOCKED, engine=Engine.APPLOCKER, error=1260).to_json()),
            canonical_json(_probe(pattern, Outcome.ALLOWED, why=Why.RULE, error=0).to_json()),
        )
        for pattern in sorted(_probed(), key=lambda one: one.id)[:40]
    )


@cache
def _probed() -> tuple[Pattern, ...]:
    """The patterns that an agent tries on a workstation with the defaults."""
    return tuple(p for p in catalogue.load().patterns if p.is_executed and p.collections and p.templates)


def _judged(pattern: Pattern, policy: str, administrator: bool) -> Probe:
    if pattern.collections[0] == "Dll":
        return _probe(pattern, Outcome.ALLOWED, why=Why.NO_RULES, error=0)
    if administrator:
        return _probe(pattern, Outcome.ALLOWED, why=Why.ADMINISTRATOR, error=0)
    if policy == "audit":
        return _probe(pattern, Outcome.ALLOWED, why=Why.AUDIT_MODE, error=0)
    if policy in ("engineers", "pilot") and pattern.group in _OPENED_GROUPS:
        return _probe(pattern, Outcome.ALLOWED, why=Why.RULE, error=0)
    if pattern.group == "uv-binary" and pattern.id != "uv-exe-standalone":
        return _probe(pattern, Outcome.ABSENT)
    return _probe(pattern, Outcome.BLOCKED, engine=Engine.APPLOCKER, error=1260)


def _judged_uv(pattern: Pattern, policy: str, administrator: bool, uv_at: int) -> Probe:
    path, kind = UV_PLACES[uv_at] if uv_at >= 0 else ("", "")
    if kind != pattern.id:
        return _probe(pattern, Outcome.ABSENT)
    if path.startswith("%ProgramFiles%"):
        return _probe(pattern, Outcome.ALLOWED, why=Why.RULE, error=0)
    if administrator or policy == "audit":
        return _probe(pattern, Outcome.ALLOWED, why=Why.ADMINISTRATOR if administrator else Why.AUDIT_MODE, error=0)
    return _probe(pattern, Outcome.BLOCKED, engine=Engine.APPLOCKER, error=1260)


def _probe(
    pattern: Pattern,
    outcome: Outcome,
    *,
    why: Why | None = None,
    engine: Engine | None = None,
    error: int | None = None,
) -> Probe:
    tried = error is not None
    return Probe(
        pattern=pattern.id,
        specimen=Specimen.NONE if not tried else Specimen.REAL if pattern.probe.real_only else Specimen.CANARY,
        method=Method.START if tried else Method.NONE,
        outcome=outcome,
        why=why,
        engine=engine,
        error=error,
        collection=pattern.collections[0],
    )
