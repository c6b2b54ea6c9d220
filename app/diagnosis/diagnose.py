"""Reads what a developer pastes: was it a policy, which file was really refused, and what helps."""

from __future__ import annotations

import ntpath
import re
from dataclasses import dataclass, replace

from agent.catalogue import classify
from agent.catalogue.errors import load_errors
from app.diagnosis.advise import advise
from app.diagnosis.codes import APPLOCKER_OR_SRP, APPLOCKER_OR_WDAC, DENIED, ENGINES, MEANINGS
from app.diagnosis.lines import JOINT, read_lines
from app.diagnosis.model import Diagnosis, Finding
from app.diagnosis.places import Surroundings, build_folder, mend, program_of_backend, read_surroundings
from app.diagnosis.refusals import Refusal, find_refusals, said_blocked, said_missing
from app.diagnosis.unrelated import unrelated_cause
from app.diagnosis.workflows import workflow_of

_PATH = re.compile(
    r"(?:[A-Za-z]:|\\\\[^\\/\s]{1,64})[\\/][^`'\"<>|*?\n]{1,1000}?\.(?:exe|com|dll|pyd|node|ps1|bat|cmd|vbs|js|msi)\b",
    re.IGNORECASE,
)
_REPR_PATH = re.compile(r": '(?P<path>(?:[A-Za-z]:|\\\\)[^']{2,1000})'\s*$")
_PYTHON_NAME = re.compile(r"^(?:python|pypy|graalpy)[\w.]{0,8}$", re.IGNORECASE)
_STARTS = ("program", "behind", "command")
_CERTAINTIES = ("certain", "likely", "possible")
_NEAR = 3
_FAR = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """What was refused, before advice is added."""

    path: str | None
    pattern: str | None
    certainty: str
    explanation: str
    program: str | None = None


def diagnose(text: str) -> Diagnosis:
    """Whether a program's output shows a policy block, and of what. Never raises; hostile text is read as any other.

    >>> diagnose("error: Failed to spawn: `ruff`\\n  Caused by: blockiert (os error 1260)").findings[0].pattern
    'venv-entrypoint-exe'
    """
    if not text.strip():
        return _not_blocked(None, "There is nothing to read: paste all that the command printed.")
    lines = read_lines(text)
    around = read_surroundings(lines)
    refusals = find_refusals(lines)
    engines = {id(refusal): _engine(refusal) for refusal in refusals}
    for tier in (_by_number, _by_words, _by_denial):
        blocks = [refusal for refusal in refusals if engines[id(refusal)] and tier(refusal)]
        if blocks:
            return _blocked(blocks, engines[id(blocks[0])], lines, around)
    return _not_blocked(*_why_not(refusals, around.text))


def _by_number(refusal: Refusal) -> bool:
    return refusal.code is not None and refusal.code != DENIED


def _by_words(refusal: Refusal) -> bool:
    return refusal.code is None


def _by_denial(refusal: Refusal) -> bool:
    return refusal.code == DENIED


def _engine(refusal: Refusal) -> str | None:
    """Who blocked; None if this is no block."""
    inner = refusal.inner
    if refusal.code == DENIED:
        started = inner is not None and inner.tells in _STARTS
        return "unknown" if started or (refusal.kind == "win" and _starts_a_process(refusal)) else None
    if refusal.code is not None:
        return ENGINES.get(refusal.code)
    if inner is not None and inner.id == "constrained-language":
        return APPLOCKER_OR_WDAC
    if said_blocked(refusal.text):
        return APPLOCKER_OR_SRP
    launcher = inner is not None and inner.id == "venvlauncher-create-process"
    return "unknown" if launcher and not said_missing(refusal.text) else None


def _starts_a_process(refusal: Refusal) -> bool:
    return any(ntpath.basename(frame).lower() == "subprocess.py" for frame in refusal.frames)


def _blocked(blocks: list[Refusal], engine: str | None, lines: list[str], around: Surroundings) -> Diagnosis:
    findings: dict[tuple[str, str | None], Finding] = {}
    uses_uv_build = re.search(r"uv[_-]build", around.text) is not None
    for refusal in blocks:
        place = _locate(refusal, lines, around)
        finding = Finding(
            path=place.path,
            pattern=place.pattern,
            certainty=place.certainty,
            workflow=workflow_of(place.pattern, around.commands),
            explanation=place.explanation,
            advice=advise(
                place.pattern,
                engine=_engine(refusal),
                program=place.program,
                uses_uv_build=uses_uv_build,
            ),
        )
        key = ((place.path or "").lower(), place.pattern)
        known = findings.get(key)
        if known is None or _CERTAINTIES.index(finding.certainty) < _CERTAINTIES.index(known.certainty):
            findings[key] = finding
    named = [finding for finding in findings.values() if finding.path or finding.pattern]
    code = blocks[0].code
    return Diagnosis(
        blocked=True,
        engine=engine,
        error_code=code,
        reason=_why(code, engine),
        findings=tuple(named or findings.values()),
    )


def _why(code: int | None, engine: str | None) -> str:
    if engine == APPLOCKER_OR_SRP and code:
        return (
            f"Windows refused to start a program because of a policy: error {code} comes from AppLocker or Software "
            "Restriction Policies. The number alone does not tell which."
        )
    if engine == APPLOCKER_OR_SRP:
        return (
            "Windows says that a policy refused a program. No error number was printed, so this is told by its words."
        )
    if engine == APPLOCKER_OR_WDAC:
        return "A script ran in Constrained Language Mode: AppLocker's Script rules or App Control do not allow it."
    if engine == "wdac":
        return f"App Control (WDAC, or Smart App Control) refused a program: error {code}."
    if engine == "antivirus":
        return f"A virus scanner refused a program: error {code}. This is no AppLocker rule."
    if engine == "unknown" and code == DENIED:
        return "A program could not be started (error 5, access denied): a policy, permissions or a virus scanner."
    if engine == "unknown":
        return (
            "Python's launcher could not start the Python behind it. It prints no number, so the cause is not certain."
        )
    return f"Windows refused to start a program: error {code}."


def _locate(refusal: Refusal, lines: list[str], around: Surroundings) -> _Place:
    inner = refusal.inner
    if refusal.kind == "win":
        return _in_python(refusal)
    if refusal.kind in ("hex", "exit"):
        return _ended_by_status(refusal)
    if inner is None:
        return _nearby(refusal, lines)
    if inner.tells == "behind":
        return _behind(refusal, around)
    if inner.tells == "command":
        return _of_command(refusal, around)
    path = refusal.names.get("path")
    if path:
        place = _first_program(mend(path))
        return _Place(
            path=place,
            pattern=classify(place) or inner.pattern,
            certainty="certain" if refusal.code and refusal.code != DENIED else "likely",
            explanation="The message names the file that was refused.",
        )
    if inner.pattern:
        return _Place(
            path=None,
            pattern=inner.pattern,
            certainty="likely",
            explanation="The message tells what was to be started, but not where it lies.",
        )
    return _nearby(refusal, lines)


def _behind(refusal: Refusal, around: Surroundings) -> _Place:
    """A launcher ran; what it started was refused."""
    by_uv = refusal.inner is not None and refusal.inner.id.startswith("trampoline")
    launcher = mend(refusal.outer_names.get("path", ""))
    sure = "likely" if refusal.code or said_blocked(refusal.text) else "possible"
    if by_uv and not launcher:
        place = ntpath.join(around.environment, "Scripts", "python.exe") if around.environment else None
        return _Place(
            path=place,
            pattern="venv-python",
            certainty=sure if place else "possible",
            explanation="A launcher made by uv ran; the python.exe of its environment was refused.",
        )
    if around.base and around.base.lower() != launcher.lower():
        return _Place(
            path=around.base,
            pattern=classify(around.base) or "discovered-interpreter",
            certainty=sure,
            explanation="The environment's python.exe ran; the Python that it stands for was refused.",
        )
    return _Place(
        path=None,
        pattern="managed-python-exe" if by_uv else None,
        certainty=sure,
        explanation=(
            (f"{launcher} ran; " if launcher else "The environment's python.exe ran; ")
            + "the Python that it stands for was refused: see `home` in the environment's pyvenv.cfg."
        ),
    )


def _of_command(refusal: Refusal, around: Surroundings) -> _Place:
    """A bare command name was refused: where it lies follows from what was typed."""
    command = refusal.names["command"].replace(JOINT, "").strip().strip('"')
    if refusal.inner is not None and refusal.inner.id == "query-tool-version":
        return _Place(
            path=None,
            pattern=None,
            certainty="likely",
            explanation=f"The program that {command.upper()} names was refused.",
        )
    if re.search(r"[\\/]", command):
        path = _first_program(command)
        return _Place(
            path=path, pattern=classify(path), certainty="certain" if refusal.code else "likely",
            explanation="The message names the file that was refused.",
        )  # fmt: skip
    name = command.split()[0] if command.split() else command
    stem, ending = ntpath.splitext(name)
    if ending.lower() in (".ps1", ".cmd", ".bat"):
        host = "powershell.exe" if ending.lower() == ".ps1" else "cmd.exe"
        return _Place(
            path=None, pattern="external-helper-exe", certainty="possible",
            explanation=f"uv starts {name} through {host}: one of the two was refused.",
        )  # fmt: skip
    program = name if ending.lower() == ".exe" else name + ".exe"
    if refusal.inner is not None and refusal.inner.id == "powershell-failed-to-run":
        return _typed_in_powershell(program)
    is_python = _PYTHON_NAME.match(stem if ending.lower() == ".exe" else name) is not None
    last = around.commands[-1] if around.commands else ""
    if last.startswith("uvx") or " tool run" in last:
        return _Place(
            path=None,
            pattern="cache-archive-env-python" if is_python else "cache-archive-env-entrypoint-exe",
            certainty="likely",
            explanation=f"uvx starts {program} from uv's cache, or from the tool's own environment if it is installed.",
            program=name,
        )  # fmt: skip
    environment = around.environment or ".venv"
    path = ntpath.join(environment, "Scripts", program)
    return _Place(
        path=path,
        pattern=classify(path) or ("venv-python" if is_python else "venv-entrypoint-exe"),
        certainty="likely",
        explanation=f"The message names only {name}: `uv run` looks for it in the project's environment first.",
        program=None if is_python else name,
    )


def _typed_in_powershell(program: str) -> _Place:
    is_uv = program.lower() in ("uv.exe", "uvx.exe", "uvw.exe")
    return _Place(
        path=None,
        pattern="uv-exe-standalone" if is_uv else None,
        certainty="possible",
        explanation=f"PowerShell names only {program}; `Get-Command {program}` shows where it lies.",
    )


def _in_python(refusal: Refusal) -> _Place:
    """Python code could not start a program: its traceback tells whose code it was."""
    named = _REPR_PATH.search(refusal.text.replace(JOINT, ""))
    if named:
        path = named["path"].replace("\\\\", "\\")
        return _Place(
            path=path, pattern=classify(path), certainty="certain",
            explanation="Python names the file that was refused.",
        )  # fmt: skip
    frames = list(refusal.frames)
    backend = program_of_backend(frames)
    if backend:
        path, package = backend
        return _Place(
            path=path,
            pattern=classify(path),
            certainty="likely",
            explanation=f"The build backend {package} was about to start its own program; python.exe itself ran.",
        )
    if build_folder(frames):
        return _Place(
            path=None,
            pattern="cache-builds-venv-entrypoint-exe",
            certainty="possible",
            explanation="A build backend was about to start a program, from the build environment or from PATH.",
        )
    return _Place(
        path=None,
        pattern=None,
        certainty="possible",
        explanation="A Python program was about to start another one; the message does not name it.",
    )


def _ended_by_status(refusal: Refusal) -> _Place:
    """A process was ended by Windows while it started or loaded a library."""
    if "query-status" in refusal.outer and "path" in refusal.outer_names:
        path = mend(refusal.outer_names["path"])
        return _Place(
            path=path,
            pattern=classify(path),
            certainty="possible",
            explanation="Windows ended this python.exe, or a library that it loads was refused.",
        )
    building = any(name.startswith("build-hook") for name in refusal.outer)
    return _Place(
        path=None,
        pattern="cache-builds-venv-native-lib" if building else None,
        certainty="possible",
        explanation="Windows ended the process: a program or a library that it loads was refused.",
    )


def _nearby(refusal: Refusal, lines: list[str]) -> _Place:
    """No known text: one that a narrow console cut in two, or a path in the same line or just above it."""
    cut = "".join(lines[max(0, refusal.line - _FAR) : refusal.line + 1]).replace(JOINT, "")
    for error in load_errors():
        found_text = error.match.search(cut) if error.tells == "program" else None
        if found_text and found_text.groupdict().get("path"):
            path = _first_program(found_text["path"])
            return _Place(
                path=path,
                pattern=classify(path),
                certainty="likely",
                explanation="The message, which was cut into many lines, names the file.",
            )
    for at in range(refusal.line, max(-1, refusal.line - _NEAR - 1), -1):
        found = list(_PATH.finditer(lines[at].replace(JOINT, "")))
        if found:
            path = found[-1][0]
            return _Place(
                path=path,
                pattern=classify(path),
                certainty="likely",
                explanation="This path stands beside the error.",
            )
    if said_blocked(refusal.text) and refusal.code is None:
        return _Place(path=None, pattern=None, certainty="possible", explanation="The message names no file.")
    return _Place(path=None, pattern=None, certainty="likely", explanation="The output names no file beside the error.")


def _first_program(command: str) -> str:
    """The program of a command line, without its arguments."""
    quoted = re.match(r'\s*"([^"]+)"', command)
    if quoted:
        return quoted[1]
    found = _PATH.match(command.strip())
    return found[0] if found and command.strip()[found.end() :].startswith(" ") else command.strip()


def _why_not(refusals: list[Refusal], text: str) -> tuple[int | None, str]:
    cause = unrelated_cause(text)
    numbered = [refusal for refusal in refusals if refusal.code is not None and refusal.kind in ("os", "win")]
    if numbered:
        last = numbered[-1]
        if last.code == DENIED:
            return DENIED, (
                "Not a policy block: reading or changing a file was refused (error 5), not the start of a program. "
                "Permissions, another program or a virus scanner do that."
            )
        if cause:
            return last.code, f"Not a policy block: {cause}."
        meaning = MEANINGS.get(last.code or 0, "not a block: no policy uses this number")
        return last.code, f"Not a policy block: error {last.code} means that {meaning}."
    if cause:
        return None, f"Not a policy block: {cause}."
    return None, (
        "Not a policy block, as far as this text tells: it has neither an error number of a policy nor a start that "
        "failed. Paste all that the command printed, with --verbose if it can be repeated."
    )


def _not_blocked(code: int | None, reason: str) -> Diagnosis:
    return Diagnosis(blocked=False, engine=None, error_code=code, reason=reason)


def without_advice(diagnosis: Diagnosis) -> Diagnosis:
    """The same without advice: what is kept of a request, for grouping."""
    return replace(diagnosis, findings=tuple(replace(finding, advice=()) for finding in diagnosis.findings))
