"""The worst operators as bars, by the bench's drawing."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING

from ..benchmark.plot import COLORS, Bar, Panel, draw_panels
from .measures import Deviation

if TYPE_CHECKING:
    from .report import Comparison

_SHOWN = 20


def draw(comparison: Comparison, path: str | os.PathLike[str]) -> None:
    """Relative errors: of outputs, and of the worst operators, their own (bar) and in the whole model (mark)."""
    outputs = [Bar(_label(name, one), _finite(one), COLORS[2]) for name, one in comparison.outputs.items()]
    what = comparison.report.used or "as given"
    panels = [Panel(f"{comparison.model}, {what}: outputs", "relative error in units of 1e-6", outputs)]
    bars = [
        Bar(_label(f"{one.name} ({one.op_type})", one.own), _finite(one.own), COLORS[0], _finite(one.total))
        for one in comparison.operators[:_SHOWN]
        if one.own is not None
    ]
    if bars:
        panels.append(Panel("worst operators: own error (mark: in the whole model)", "units of 1e-6", bars))
    draw_panels(panels, path)


def _finite(one: Deviation | None) -> float:
    """In units of 1e-6; 1e6 (100 %) stands for infinity."""
    return 1e6 * min(one.relative, 1.0) if one is not None and not math.isnan(one.relative) else 0.0


def _label(name: str, one: Deviation) -> str:
    return f"{name}: {one.nan + one.inf} not finite" if one.nan or one.inf else name
