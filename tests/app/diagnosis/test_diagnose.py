"""Diagnosis of real outputs, of every wording since uv 0.3, in any wrapping and language, and of what is no block."""

# ruff: noqa: E501 - outputs are quoted as they are printed

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.catalogue import load
from app.diagnosis import Diagnosis, Finding, diagnose, without_advice

OUTPUTS = Path(__file__).parent / "outputs"
BLOCKED = "This program is blocked by group policy. For more information, contact your system administrator."
VENV = r"C:\src\app\.venv\Scripts\python.exe"
BUILD = r"C:\Users\jdoe\AppData\Local\uv\cache\builds-v0\.tmpSJh3Vi\Scripts\python.exe"


def only(answer: Diagnosis) -> Finding:
    assert len(answer.findings) == 1, answer.findings
    return answer.findings[0]


@pytest.mark.parametrize(
    ("name", "path", "pattern", "certainty", "workflow"),
    [
        (
            "add-query-interpreter",
            r"\\?\C:\Users\jdoe\Desktop\quick_runs\uv_prj\.venv\Scripts\python.exe",
            "venv-python",
            "certain",
            "sync-wheels",
        ),
        ("run-hello-spawn", r".venv\Scripts\python.exe", "venv-python", "likely", "run-python"),
        (
            "sync-uv-build-verbose",
            r"C:\Users\jdoe\AppData\Local\uv\cache\builds-v0\.tmpSJh3Vi\Scripts\uv-build.exe",
            "cache-builds-venv-entrypoint-exe",
            "likely",
            "sync-build",
        ),
        (
            "lock-quoted-reply",
            r"C:\Users\jdoe\AppData\Local\uv\cache\builds-v0\.tmp5MMY9t\Scripts\python.exe",
            "cache-builds-venv-python",
            "certain",
            "sync-build",
        ),
    ],
)
def test_outputs_that_people_reported(name: str, path: str, pattern: str, certainty: str, workflow: str) -> None:
    answer = diagnose((OUTPUTS / f"{name}.txt").read_text("utf-8"))
    assert (answer.blocked, answer.engine, answer.error_code) == (True, "applocker-or-srp", 1260)
    found = only(answer)
    assert (found.path, found.pattern, found.certainty, found.workflow) == (path, pattern, certainty, workflow)
    assert found.advice[0].kind == "rule"
    assert found.advice[0].audience == "administrator"


MANAGED = r"C:\users\alice\AppData\Roaming\uv\python\cpython-3.13.2-windows-x86_64-none\python.exe"
CACHE = r"C:\users\alice\AppData\Local\uv\cache"


@pytest.mark.parametrize(
    ("name", "path", "pattern", "workflow"),
    [
        ("venv-newest", MANAGED, "managed-python-exe", "venv"),
        ("venv-0.7.12", MANAGED, "managed-python-exe", "venv"),
        (
            "tool-run-0.7.12",
            rf"{CACHE}\archive-v0\HR1XxLYn6N1L0vvtJPJ0q\Scripts\python.exe",
            "cache-archive-env-python",
            "uvx",
        ),
        (
            "pip-install-newest",
            rf"{CACHE}\builds-v0\.tmp6hKXcS\Scripts\python.exe",
            "cache-builds-venv-python",
            "sync-build",
        ),
        (
            "pip-install-0.7.12",
            rf"{CACHE}\builds-v0\.tmpxEr0Rg\Scripts\python.exe",
            "cache-builds-venv-python",
            "sync-build",
        ),
    ],
)
def test_outputs_recorded_on_the_windows_bench(name: str, path: str, pattern: str, workflow: str) -> None:
    answer = diagnose((OUTPUTS / f"bench-{name}.txt").read_text("utf-8"))
    assert (answer.blocked, answer.engine, answer.error_code) == (True, "applocker-or-srp", 1260)
    found = only(answer)
    assert (found.path, found.pattern, found.certainty, found.workflow) == (path, pattern, "certain", workflow)


def test_a_launcher_that_ran_but_whose_python_did_not() -> None:
    answer = diagnose((OUTPUTS / "bench-run-launcher-newest.txt").read_text("utf-8"))
    assert (answer.blocked, answer.engine, answer.error_code) == (True, "unknown", None)
    found = only(answer)
    assert (found.path, found.certainty) == (None, "possible")
    assert "pyvenv.cfg" in found.explanation


def test_a_reported_output_about_permissions() -> None:
    answer = diagnose((OUTPUTS / "run-hello-remove-directory.txt").read_text("utf-8"))
    assert (answer.blocked, answer.engine, answer.error_code, answer.findings) == (False, None, 5, ())
    assert "not the start of a program" in answer.reason


CASES: list[tuple[str, str, str | None, str | None, str]] = [
    # text, engine, path, pattern, certainty
    (
        f"error: Failed to inspect Python interpreter from active virtual environment at `.venv\\Scripts\\python.exe`\n"
        f"  cause: Failed to query Python interpreter at `{VENV}`\n  cause: x (os error 1260)",
        "applocker-or-srp", VENV, "venv-python", "certain",
    ),
    (
        f"error: Querying Python at `{VENV}` failed with exit status exit code: 101\n\n[stderr]\n"
        f"Unable to create process using '\"{VENV}\" -I -B -c \"import sys\"': {BLOCKED}\n",
        "applocker-or-srp", None, None, "likely",
    ),
    (
        "DEBUG Using base executable for virtual environment: C:\\Appl\\Python\\python.exe\n"
        f"error: Querying Python at `{VENV}` failed with exit status exit code: 101\n\n[stderr]\n"
        f"Unable to create process using '\"{VENV}\" -I': xyz\n",
        "unknown", r"C:\Appl\Python\python.exe", "discovered-interpreter", "possible",
    ),
    (
        f"error: Querying Python at `{VENV}` failed with exit status exit code: 1\n\n[stderr]\n"
        "error: uv trampoline failed to spawn Python child process\n  Caused by: uncategorized error (os error 1260)\n",
        "applocker-or-srp", None, "managed-python-exe", "likely",
    ),
    (
        "error: uv trampoline failed to spawn Python child process\n  Caused by: uncategorized error (os error 4551)",
        "wdac", None, "venv-python", "possible",
    ),
    (
        "(uv internal error) Failed to spawn the python child process: uncategorized error. (os error 1260)",
        "applocker-or-srp", None, "venv-python", "possible",
    ),
    (
        f"PS C:\\src\\app> uv run pytest\nerror: Failed to spawn: `pytest`\n  Caused by: {BLOCKED} (os error 1260)",
        "applocker-or-srp", r".venv\Scripts\pytest.exe", "venv-entrypoint-exe", "likely",
    ),
    (
        "> uv run pytest\nerror: Failed to spawn: pytest\n  cause: Ce programme est bloqué (os error 1260)",
        "applocker-or-srp", r".venv\Scripts\pytest.exe", "venv-entrypoint-exe", "likely",
    ),
    (
        "> uvx ruff check\nInstalled 1 package in 3ms\nerror: Failed to spawn: ruff\n  cause: x (os error 1260)",
        "applocker-or-srp", None, "cache-archive-env-entrypoint-exe", "likely",
    ),
    (
        "> uv tool run --from black black\nerror: Failed to spawn: `black`\n  Caused by: x (os error 786)",
        "applocker-or-srp", None, "cache-archive-env-entrypoint-exe", "likely",
    ),
    (
        "> uv run task.ps1\nerror: Failed to spawn: `task.ps1`\n  Caused by: x (os error 1260)",
        "applocker-or-srp", None, "external-helper-exe", "possible",
    ),
    (
        "error: Failed to spawn `ruff format`\n  cause: x (os error 1260)",
        "applocker-or-srp", None, "cache-binaries-tool", "likely",
    ),
    (
        f"  × Failed to build `demo==1.0`\n  ├─▶ The build backend returned an error\n  ╰─▶ Failed to run `{BUILD}`\n"
        "  ╰─▶ Dieses Programm wurde durch eine Gruppenrichtlinie geblockt. (os error 1260)",
        "applocker-or-srp", BUILD, "cache-builds-venv-python", "certain",
    ),
    (
        "error: Failed to build: `demo`\n  Caused by: Build backend failed to build wheel through `build_wheel` (exit status: 1)\n"
        "--- stdout:\n--- stderr:\nTraceback (most recent call last):\n"
        '  File "C:\\Users\\jdoe\\AppData\\Local\\uv\\cache\\builds-v0\\.tmpAb12Cd\\Lib\\site-packages\\maturin\\__init__.py", line 33\n'
        f"OSError: [WinError 1260] {BLOCKED}\n---",
        "applocker-or-srp", r"C:\Users\jdoe\AppData\Local\uv\cache\builds-v0\.tmpAb12Cd\Scripts\maturin.exe",
        "cache-builds-venv-entrypoint-exe", "likely",
    ),
    (
        "  × Failed to build `demo`\n  ╰─▶ Call to `hatchling.build.build_wheel` failed (exit code: 1)\n\n      [stderr]\n"
        "      Traceback (most recent call last):\n"
        '        File "C:\\c\\builds-v0\\.tmpAb12Cd\\Lib\\site-packages\\hatch_odd\\__init__.py", line 3, in run\n'
        '        File "C:\\Python313\\Lib\\subprocess.py", line 1538, in _execute_child\n'
        "      OSError: [WinError 1260] x",
        "applocker-or-srp", None, "cache-builds-venv-entrypoint-exe", "possible",
    ),
    (
        "error: could not execute process `C:\\u\\uv\\cache\\sdists-v10\\pypi\\a\\1\\x\\src\\target\\release\\build\\b-1\\build-script-build` "
        "(never executed)\n\nCaused by:\n  x (os error 1260)",
        "applocker-or-srp", r"C:\u\uv\cache\sdists-v10\pypi\a\1\x\src\target\release\build\b-1\build-script-build", None, "certain",
    ),
    (
        "  Call to `setuptools.build_meta.build_wheel` failed (exit code: 0xc0000361)",
        "applocker-or-srp", None, "cache-builds-venv-native-lib", "possible",
    ),
    (
        f"error: Querying Python at `{VENV}` failed with exit status exit code: 0xc0000364",
        "applocker-or-srp", VENV, "venv-python", "possible",
    ),
    (
        f"error: Failed to query Python interpreter at `{VENV}`\n  Caused by: x (os error 225)",
        "antivirus", VENV, "venv-python", "certain",
    ),
    (
        f"error: Failed to query Python interpreter at `{VENV}`\n  Caused by: Zugriff verweigert (os error 5)",
        "unknown", VENV, "venv-python", "likely",
    ),
    (
        "error: The installation failed. Output from the installer: New-Object : Cannot create type. Only core types are supported "
        "in this language mode.\n    + FullyQualifiedErrorId : CannotCreateTypeConstrainedLanguage,Microsoft.PowerShell",
        "applocker-or-wdac", None, "self-update-installer-ps1", "likely",
    ),
    (
        f"PS C:\\> uv --version\nProgram 'uv.exe' failed to run: {BLOCKED}At line:1 char:1\n+ uv --version\n+ ~~~~",
        "applocker-or-srp", None, "uv-exe-standalone", "possible",
    ),
    (f"C:\\src>ruff\n{BLOCKED}", "applocker-or-srp", None, None, "possible"),
    (
        "PermissionError: [WinError 1260] x: 'C:\\\\Users\\\\jdoe\\\\AppData\\\\Roaming\\\\uv\\\\tools\\\\a\\\\Scripts\\\\a.exe'",
        "applocker-or-srp", r"C:\Users\jdoe\AppData\Roaming\uv\tools\a\Scripts\a.exe", "tool-env-entrypoint-exe", "certain",
    ),
    (
        r"start C:\Users\jdoe\AppData\Local\Temp\.uv.qhzkwmfbnaxrtyclpvdguejsoiqwtrbz.__selfdelete__.exe: x (os error 1260)",
        "applocker-or-srp", r"C:\Users\jdoe\AppData\Local\Temp\.uv.qhzkwmfbnaxrtyclpvdguejsoiqwtrbz.__selfdelete__.exe",
        "self-replace-selfdelete-exe", "likely",
    ),
    ("CreateProcess failed: 0x800704EC", "applocker-or-srp", None, None, "possible"),
    ("error: Git operation failed\n  Caused by: x (os error 1260)", "applocker-or-srp", None, "external-helper-exe", "likely"),
    (
        "error: Failed to bytecode-compile Python file in: C:\\x\n  Caused by: Failed to start Python interpreter to run compile script\n"
        "  Caused by: x (os error 1260)",
        "applocker-or-srp", None, "venv-python", "likely",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("text", "engine", "path", "pattern", "certainty"), CASES)
def test_wordings(text: str, engine: str, path: str | None, pattern: str | None, certainty: str) -> None:
    answer = diagnose(text)
    assert answer.blocked
    assert answer.engine == engine
    found = only(answer)
    assert (found.path, found.pattern, found.certainty) == (path, pattern, certainty)
    assert found.explanation.endswith(".")
    assert found.advice


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "nothing to read"),
        ("   \n", "nothing to read"),
        ("Resolved 6 packages in 569ms\nInstalled 6 packages in 1s", "neither an error number"),
        (
            "error: Request failed after 3 retries\n  Caused by: Failed to fetch: `https://packages.example/simple/a/`\n"
            "  Caused by: invalid peer certificate: UnknownIssuer",
            "a certificate was not trusted",
        ),
        (
            "  × Failed to build `a==1`\n  ╰─▶ Call to `setuptools.build_meta.build_wheel` failed (exit code: 1)\n\n      [stderr]\n"
            "      error: Microsoft Visual C++ 14.0 or greater is required. Get it with Build Tools",
            "a compiler that is not installed",
        ),
        ("  × No solution found when resolving dependencies:\n  ╰─▶ Because a needs b", "contradict"),
        ("error: Failed to fetch: x\n  Caused by: HTTP status client error (401 Unauthorized) for url", "refused the login"),
        ("error: Failed to spawn: `pytest`\n  Caused by: program not found", "neither an error number"),
        ("error: Failed to spawn: `pytest`\n  Caused by: x (os error 2)", "error 2 means that the file is not there"),
        (f"error: Failed to query Python interpreter at `{VENV}`\n  Caused by: x (os error 193)", "error 193"),
        ("error: Failed to persist temporary file to `C:\\x`: Zugriff verweigert (os error 5)", "reading or changing a file"),
        ("error: failed to copy `C:\\a` to `C:\\b`: x (os error 32)", "another program is using the file"),
        ("error: Failed to update Windows PE resources: C:\\Windows\\TEMP\\.tmpl8V8OB\\uv-trampoline-15492.exe\n"
         "  Caused by: x (os error 110)", "virus scanner holds it"),
        ("error: Broken Python trampoline at `C:\\x\\python.exe`, was the underlying Python interpreter removed?", "was removed"),
        (
            f"error: Querying Python at `{VENV}` failed with exit status exit code: 101\n[stderr]\n"
            "Unable to create process using 'x': The system cannot find the file specified.",
            "neither an error number",
        ),
        ("ImportError: DLL load failed while importing _x: Das angegebene Modul wurde nicht gefunden.", "load a library"),
        ("this is an audit notice (os error 785)", "neither an error number"),
        ("exit code: 1260\nPackage 1260 was not found", "neither an error number"),
        ("Traceback (most recent call last):\n  File \"a.py\", line 1\nModuleNotFoundError: No module named 'x'", "not installed"),
    ],
)  # fmt: skip
def test_what_is_no_policy_block(text: str, said: str) -> None:
    answer = diagnose(text)
    assert not answer.blocked
    assert answer.engine is None
    assert answer.findings == ()
    assert said in answer.reason


LONG = r"C:\Users\jdoe\Documents\Projects With Spaces\quick_runs\uv_project_with_a_long_name\.venv\Scripts\python.exe"
QUERY = f"error: Failed to query Python interpreter at `{LONG}`\n  Caused by: {BLOCKED} (os error 1260)"


@pytest.mark.parametrize("width", [*range(24, 130, 7), 80, 120])
def test_a_console_that_cut_the_lines_at_its_edge(width: int) -> None:
    cut = "\n".join(line[at : at + width] for line in QUERY.split("\n") for at in range(0, len(line), width))
    answer = diagnose(cut)
    assert (answer.blocked, answer.error_code) == (True, 1260)
    found = only(answer)
    assert found.pattern == "venv-python"
    assert found.path is not None
    # A space at the edge is gone: the path is right but for that.
    assert found.path.replace(" ", "") == LONG.replace(" ", "")


def _boxed(items: list[str], width: int) -> str:
    """As uv's error reports were drawn: a glyph per cause, wrapped at the console's width."""
    lines = []
    for number, item in enumerate(items):
        first = "  × " if number == 0 else "  ╰─▶ " if number == len(items) - 1 else "  ├─▶ "
        more = "  │   " if number < len(items) - 1 else "      "
        lines += textwrap.wrap(item, width, initial_indent=first, subsequent_indent=more, break_on_hyphens=False)
    return "\n".join(lines)


@pytest.mark.parametrize("width", [40, 50, 61, 72, 80, 100])
@pytest.mark.parametrize("colour", [False, True])
def test_wrapped_boxes(width: int, colour: bool) -> None:
    text = _boxed(
        ["Failed to build `demo @ file:///C:/src/demo`", f"Failed to run `{BUILD}`", f"{BLOCKED} (os error 1260)"],
        width,
    )
    if colour:
        text = re.sub("×|├─▶|╰─▶", lambda found: f"\x1b[31m{found[0]}\x1b[0m", text)
        text = "\x1b]8;;https://packages.example\x1b\\" + text
    found = only(diagnose(text))
    assert (found.path, found.pattern, found.certainty) == (BUILD, "cache-builds-venv-python", "certain")


def test_boxes_drawn_without_unicode_and_spoilt_ones() -> None:
    plain = _boxed(["Failed to build `a`", f"Failed to run `{BUILD}`", "x (os error 1260)"], 60)
    ascii_box = plain.replace("├─▶", "|->").replace("╰─▶", "`->").replace("│", "|").replace("×", "x")
    spoilt = plain.encode().decode("cp1252", "replace")
    for text in (ascii_box, spoilt):
        assert only(diagnose(text)).path == BUILD


@pytest.mark.parametrize(
    "text",
    [
        QUERY.replace("\n", "\r\n"),
        "\n".join("> " + line for line in QUERY.split("\n")),
        "\n".join(f"\x1b[1m\x1b[31m{line}\x1b[0m" for line in QUERY.split("\n")),
        "uv.exe : " + QUERY.replace("\n", "\nAt line:1 char:1\n+ uv sync\n+ ~~~~~~~\n    + CategoryInfo          : NotSpecified\n"
            "    + FullyQualifiedErrorId : NativeCommandError\n \n"),
        "\x00".join(QUERY) + "\x00",
        "Downloading...\rDownloading... done\r" + QUERY,
        "x\n" * 5000 + QUERY + "\ny" * 5000,
        QUERY.replace(BLOCKED, "このプログラムはグループ ポリシーによってブロックされています。"),
        QUERY.replace(BLOCKED, "Bu program grup ilkesi tarafından engellendi."),
        QUERY.replace("  Caused by: ", "  cause: "),
    ],
    ids=["crlf", "quoted", "coloured", "powershell", "utf-16", "progress", "long", "japanese", "turkish", "new-wording"],
)  # fmt: skip
def test_ways_of_pasting(text: str) -> None:
    answer = diagnose(text)
    assert (answer.blocked, answer.engine, answer.error_code) == (True, "applocker-or-srp", 1260)
    assert only(answer).path == LONG


def test_two_blocked_files_are_two_findings() -> None:
    text = f"{QUERY}\n\nerror: Failed to run `{BUILD}`\n  Caused by: x (os error 1260)"
    assert [found.pattern for found in diagnose(text).findings] == ["venv-python", "cache-builds-venv-python"]


def test_a_number_of_a_policy_outweighs_words_and_denials() -> None:
    text = f"error: Failed to spawn: `a`\n  Caused by: x (os error 5)\n{BLOCKED}\n{QUERY}"
    answer = diagnose(text)
    assert answer.error_code == 1260
    assert only(answer).path == LONG


def test_the_environment_and_the_command_that_the_output_names() -> None:
    text = (
        "C:\\src> uv run --with rich flask run\nCreating virtual environment at: D:\\envs\\app\\.venv\n"
        "error: Failed to spawn: `flask`\n  Caused by: x (os error 1260)"
    )
    found = only(diagnose(text))
    assert (found.path, found.workflow) == (r"D:\envs\app\.venv\Scripts\flask.exe", "run-with")
    assert any("uv run python -m flask" in advice.text for advice in found.advice)


def test_advice_fits_what_was_refused() -> None:
    def kinds(text: str) -> list[str]:
        return [advice.kind for advice in only(diagnose(text)).advice]

    build = (OUTPUTS / "sync-uv-build-verbose.txt").read_text("utf-8")
    assert kinds(build) == ["rule", "relocate", "in-process", "no-build", "ask"]
    assert "other-python" in kinds(QUERY)
    no_cache = QUERY.replace(
        LONG, r"C:\Users\jdoe\AppData\Local\Temp\.tmpYMN4hp\builds-v0\.tmphDL0Xa\Scripts\python.exe"
    )
    assert kinds(no_cache)[:2] == ["configure", "relocate"]
    assert any("--no-cache" in advice.text for advice in only(diagnose(no_cache)).advice)
    assert kinds(QUERY.replace("1260", "225")) == ["configure", "ask"]
    for audience in ("developer", "administrator"):
        assert any(advice.audience == audience for advice in only(diagnose(QUERY)).advice)


def test_every_pattern_can_be_advised_on() -> None:
    for pattern in load().patterns:
        if not pattern.match or not pattern.is_executed:
            continue
        path = pattern.default_path.replace("XXXXXX", "Ab12Cd")
        answer = diagnose(f"error: Failed to query Python interpreter at `{path}`\n  Caused by: x (os error 1260)")
        assert only(answer).advice[0].audience == "administrator"
        assert all(advice.text.endswith(".") for advice in only(answer).advice), pattern.id


def test_what_is_kept_of_a_request_has_no_advice() -> None:
    kept = without_advice(diagnose(QUERY))
    assert kept.blocked
    assert only(kept).advice == ()
    assert only(kept).path == LONG


PIECES = st.sampled_from(
    [
        "error: ", "Failed to spawn: `", "`", "(os error 1260)", "(os error 5)", "[WinError 1260]", "\n", "  Caused by: ", "×", "│ ",
        "Traceback (most recent call last)", 'File "C:\\a\\builds-v0\\.tmpAb12Cd\\x.py", line 3', "Querying Python at `", " failed with exit status",
        "0xc0000361", "exit code: ", "uv run ", "uvx ", "\x1b[31m", "\x1b]", "Program 'a", "' failed to run", "C:\\", ".exe", "'", '"', BLOCKED, "\ud800", "(",
        "Unable to create process using '", "could not execute process `", "Failed to run ", " ",
    ]
)  # fmt: skip


@settings(deadline=None, max_examples=300)
@given(st.one_of(st.lists(PIECES, max_size=30).map("".join), st.text()))
def test_never_raises(text: str) -> None:
    answer = diagnose(text)
    assert answer.blocked == bool(answer.engine)
    assert bool(answer.findings) == answer.blocked
    assert answer.reason


@pytest.mark.parametrize(
    "piece",
    [
        "`",
        "(",
        "> ",
        "│ ",
        "Failed to run ",
        "\x1b[",
        "\x1b]",
        'File "',
        "C:\\a ",
        "exit code: ",
        "uv a ",
        "× a\n    ",
        "(os error ",
    ],
)
def test_long_hostile_texts_end(piece: str) -> None:
    for separator in ("", "\n"):
        diagnose((piece + separator) * (300_000 // len(piece + separator)))
