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
    """Prints a figure with its target, if it has one, and notes when it was missed."""
    emit(name, value, unit, **_judged(name, value, most, least), **more)


def emit_ratio(
    name: str,
    value: float,
    unit: str,
    *,
    baseline: float,
    ratio: float,
    most: float | None = None,
    least: float | None = None,
) -> None:
    """The same for a figure whose target is its ratio to a baseline of the same run."""
    judged = _judged(name, ratio, most, least)
    emit(name, value, unit, baseline=round(baseline, 4), ratio=round(ratio, 2), **judged)


def _judged(name: str, value: float, most: float | None, least: float | None) -> dict[str, object]:
    if most is None and least is None:
        return {}
    held = (most is None or value <= most) and (least is None or value >= least)
    if not held:
        MISSED.append(name)
    return {
        "target": most if most is not None else least,
        "bound": "most" if most is not None else "least",
        "held": held,
    }


def quantile(values: list[float], share: float) -> float:
    """The value below which that share of the values is."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(len(ranked) * share))] if ranked else 0.0
