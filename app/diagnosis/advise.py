"""What helps with a refused file, best first, in words for the developer and for the administrator."""

from __future__ import annotations

from agent.catalogue import Pattern, load
from app.diagnosis.model import Advice

_RULES = {
    "publisher": "a publisher rule",
    "hash": "a hash rule",
    "path": "a path rule",
}
_RELOCATIONS: dict[str, tuple[str, str]] = {
    # group -> (variable, what lies there)
    "managed-python": ("UV_PYTHON_INSTALL_DIR", "the Pythons that uv installs"),
    "tools": ("UV_TOOL_DIR", "the environments of tools"),
    "bin": ("UV_TOOL_BIN_DIR", "the programs of tools"),
    "venv": ("UV_PROJECT_ENVIRONMENT", "the environment of this project"),
    "cache": ("UV_CACHE_DIR", "the whole cache of uv"),
    "temp": ("TMP", "everything temporary, of all programs"),
    "self-update": ("TMP", "everything temporary, of all programs"),
}
_BUILD_PATTERNS = ("cache-builds-", "cache-sdist-", "cache-git-", "build-")


def advise(
    pattern_id: str | None, *, engine: str | None, program: str | None = None, uses_uv_build: bool = False
) -> tuple[Advice, ...]:
    """Ranked advice for a refused file. `program`: the bare name of what was to be started, if it is an entry point."""
    if engine == "antivirus":
        return _for_antivirus()
    if engine == "unknown":
        return _for_denied()
    pattern = load().pattern(pattern_id) if pattern_id else None
    advice = [_rule(pattern, engine)]
    advice += _relocation(pattern)
    advice += _python_m(pattern_id, program)
    advice += _builds(pattern_id, uses_uv_build)
    advice += _other_python(pattern_id)
    advice.append(
        Advice(
            audience="developer",
            kind="ask",
            text="Ask your administrator for access, with this whole text: "
            + (f"the place is “{pattern.title}” ({pattern.id})." if pattern else "the file is not one of uv's places."),
        )
    )
    return tuple(advice)


def _rule(pattern: Pattern | None, engine: str | None) -> Advice:
    where = "App Control" if engine == "wdac" else "AppLocker"
    if pattern is None:
        return _administrator("rule", f"Find the file in {where}'s event log and allow it by its publisher or hash.")
    if engine == "wdac":
        text = (
            f"Allow “{pattern.title}” in the App Control policy: AppLocker rules do not open what App Control blocks."
        )
        return _administrator("rule", text)
    if "covered-by" in pattern.rule_kinds and pattern.covered_by:
        return _rule(load().pattern(pattern.covered_by), engine)
    if pattern.rule_kinds[0] in ("avoid", "none"):
        return _administrator("configure", f"No rule is advised for “{pattern.title}”. {pattern.rule_advice}")
    kinds = [_RULES[kind] for kind in pattern.rule_kinds if kind in _RULES]
    text = f"Allow “{pattern.title}” with {', else '.join(kinds)}. {pattern.rule_advice}"
    if pattern.applocker_paths and "path" in pattern.rule_kinds:
        text += f" As a path: {', '.join(pattern.applocker_paths[:3])}."
    return _administrator("rule", text)


def _relocation(pattern: Pattern | None) -> list[Advice]:
    if pattern is None or pattern.id == "no-cache-temp-root":
        if pattern is None:
            return []
        text = (
            "Leave out --no-cache (UV_NO_CACHE): it moves the cache to %TEMP%. Set UV_CACHE_DIR to an allowed folder."
        )
        return [Advice(audience="developer", kind="relocate", text=text)]
    if pattern.id in ("project-dot-uv-temp-legacy", "venv-activation-script"):
        return []
    known = _RELOCATIONS.get(pattern.group)
    if known is None:
        return []
    variable, what = known
    if pattern.id == "python-bin-shim":
        variable, what = "UV_PYTHON_BIN_DIR", "the shims of Pythons"
    text = f"Set {variable} to a folder in which programs may run: it moves {what}."
    if pattern.group == "venv":
        text += " Or keep the project in such a folder."
    advice = [Advice(audience="developer", kind="relocate", text=text)]
    if pattern.group in ("managed-python", "tools", "bin"):
        admins = (
            f"Set {variable} for the machine to a folder that only administrators can write, and fill it for the users."
        )
        advice.append(_administrator("relocate", admins))
    return advice


def _python_m(pattern_id: str | None, program: str | None) -> list[Advice]:
    if pattern_id not in (
        "venv-entrypoint-exe",
        "tool-bin-exe",
        "tool-env-entrypoint-exe",
        "cache-archive-env-entrypoint-exe",
    ):
        return []
    module = (program or "MODULE").removesuffix(".exe").replace("-", "_")
    start = (
        f"uv run python -m {module}"
        if pattern_id == "venv-entrypoint-exe"
        else f"uv run --with {module} python -m {module}"
    )
    text = f"If python.exe itself may run, start the program without its launcher, where it allows that: `{start}`."
    return [Advice(audience="developer", kind="python-m", text=text)]


def _builds(pattern_id: str | None, uses_uv_build: bool) -> list[Advice]:
    if not pattern_id or not pattern_id.startswith(_BUILD_PATTERNS):
        return []
    advice = []
    if uses_uv_build:
        text = (
            'Let uv build inside its own process: with `requires = ["uv_build>=…,<…"]` as the only build requirement, '
            "in a range that admits the uv in use, nothing is started (uv 0.5.7 and later)."
        )
        advice.append(Advice(audience="developer", kind="in-process", text=text))
    text = "Install wheels alone: `--no-build` (UV_NO_BUILD=1, or `no-build = true` in uv.toml) starts no build."
    advice.append(Advice(audience="developer", kind="no-build", text=text))
    return advice


def _other_python(pattern_id: str | None) -> list[Advice]:
    if pattern_id is None or not pattern_id.endswith(("-python", "managed-python-exe", "-minor-link", "-shim")):
        return []
    text = (
        "Use a Python that may run, one that is installed for all users, say: `uv venv --python PATH`, or "
        "UV_PYTHON_PREFERENCE=only-system. Its launcher keeps its signature in environments."
    )
    return [Advice(audience="developer", kind="other-python", text=text)]


def _for_antivirus() -> tuple[Advice, ...]:
    return (
        _administrator("configure", "Look for the file in the virus scanner's log; AppLocker rules do not help here."),
        Advice(audience="developer", kind="ask", text="Tell your administrator which file the virus scanner took."),
    )


def _for_denied() -> tuple[Advice, ...]:
    text = (
        "Look at the time of the failure for AppLocker events 8004 and 8007 and Code Integrity events 3077: error 5 "
        "alone does not tell a policy from permissions or a virus scanner."
    )
    return (
        Advice(
            audience="developer",
            kind="configure",
            text="Close what may hold the file, and try again in a folder of your own.",
        ),
        _administrator("configure", text),
    )


def _administrator(kind: str, text: str) -> Advice:
    return Advice(audience="administrator", kind=kind, text=text)
