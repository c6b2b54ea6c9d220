"""One JSON line a figure; whether any missed its target."""

from __future__ import annotations

import json

MISSED: list[str] = []
"""Names of the figures that missed their targets."""


def emit(name: str, value: float, unit: str, **more: object) -> None:
    """Prints a figure."""
    print(json.dumps({"name": name, "value": round(value, 4), "unit": unit, **more}), flush=True)


def emit_held(
    name: str, value: float, unit: str, *, most: float | None = None, least: float | None = None, **more: object
) -> None:
    """Prints a figure with its target, and notes when it was missed."""
    held = (most is None or value <= most) and (least is None or value >= least)
    if not held:
        MISSED.append(name)
    emit(name, value, unit, target=most if most is not None else least, held=held, **more)


def quantile(values: list[float], share: float) -> float:
    """The value below which that share of the values is."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(len(ranked) * share))] if ranked else 0.0
