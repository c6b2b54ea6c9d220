"""How a function of a Windows library comes by its types."""

from __future__ import annotations

import ctypes
from typing import Any


def declare(library: ctypes.CDLL, name: str, result: Any, *arguments: Any) -> Any:
    """A function of a library with its types."""
    function = getattr(library, name)
    function.restype, function.argtypes = result, arguments
    return function
