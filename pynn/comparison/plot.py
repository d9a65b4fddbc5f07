"""The worst operators as bars, by the bench's drawing."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ..benchmark.plot import COLORS, Bar, Panel, draw_panels
from .measures import Deviation

if TYPE_CHECKING:
    from .report import Comparison

_SHOWN = 20
_WIDEST = 40
_UNIT = "1e-6"


def draw(comparison: Comparison, path: str | os.PathLike[str]) -> None:
    """Relative errors of the outputs, and of the worst operators: their own, and those gathered in the whole model."""
    what = comparison.report.used or "as given"
    outputs = [Bar(_label(name, one), _parts(one), COLORS[2]) for name, one in comparison.outputs.items()]
    panels = [Panel(f"{comparison.model}, {what}: relative error of outputs", _UNIT, outputs)]
    judged = [one for one in comparison.operators[:_SHOWN] if one.own is not None and one.total is not None]
    own = [Bar(_label(one.name, one.own), _parts(one.own), COLORS[0]) for one in judged if one.own is not None]
    total = [Bar(_label(one.name, one.total), _parts(one.total), COLORS[1]) for one in judged if one.total is not None]
    if judged:
        panels += [Panel("worst operators: own error", _UNIT, own), Panel("the same in the whole model", _UNIT, total)]
    draw_panels(panels, path)


def _parts(one: Deviation) -> float:
    """In units of 1e-6; a million of them, all of it, stands for what is more."""
    return 1e6 * min(one.relative, 1.0)


def _label(name: str, one: Deviation) -> str:
    short = name if len(name) <= _WIDEST else f"...{name[-_WIDEST:]}"
    return f"{short}: {one.nan + one.inf} not finite" if one.nan or one.inf else short
