"""Causes of failure that have nothing to do with a policy, told by words that programs do not translate."""

from __future__ import annotations

import re

_CAUSES: tuple[tuple[str, str], ...] = (
    (
        r"invalid peer certificate|UnknownIssuer|CERTIFICATE_VERIFY_FAILED|certificate verify failed"
        r"|self.signed certificate",
        "a certificate was not trusted (try --native-tls, or SSL_CERT_FILE with your organisation's certificate)",
    ),
    (
        r"Microsoft Visual C\+\+ [\d.]+ or greater is required|linker `link\.exe` not found|No CMAKE_C(?:XX)?_COMPILER"
        r"|Unknown compiler|error: can't find Rust compiler|\bcl\.exe['\"]? (?:was )?not found",
        "a build needs a compiler that is not installed",
    ),
    (r"No solution found when resolving", "the requirements contradict each other"),
    (r"\b40[13] (?:Unauthorized|Forbidden)\b|status code: 40[13]\b", "a package index refused the login"),
    (r"\b404 Not Found\b", "something was not found on a server"),
    (
        r"dns error|error sending request|Could not connect|connection refused|operation timed out|tcp connect error",
        "the network or a server did not answer",
    ),
    (r"Broken Python trampoline at", "the Python that a launcher stands for was removed"),
    (r"No interpreter found for|No virtual environment found", "uv found no fitting Python"),
    (r"ModuleNotFoundError: No module named", "a Python module is not installed"),
    (r"SyntaxError: ", "Python code has a syntax error"),
    (r"ImportError: DLL load failed while importing", "a Python module could not load a library, mostly a missing one"),
    (r"TOML parse error|Failed to parse: `pyproject\.toml`", "pyproject.toml can't be read"),
)  # fmt: skip
_COMPILED = tuple((re.compile(expression, re.IGNORECASE), cause) for expression, cause in _CAUSES)


def unrelated_cause(text: str) -> str | None:
    """What a text says went wrong, if it is one of the usual things that are no policy's doing."""
    return next((cause for expression, cause in _COMPILED if expression.search(text)), None)
