"""Bars by matplotlib, readable on light and on dark: grey text, no background. matplotlib is the extra ``bench``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import FeatureNotSupportedError, ValidationError

if TYPE_CHECKING:
    from .report import BenchReport

SUFFIXES = (".svg", ".png", ".pdf")
GREY = "#7d8590"
COLORS = ("#2f81f7", "#d29922", "#a371f7", "#3fb950", "#db6d28", "#f778ba")


@dataclass(frozen=True)
class Bar:
    """``mark`` is a second value, drawn as a line across."""

    label: str
    value: float
    color: str = COLORS[0]
    mark: float | None = None


@dataclass(frozen=True)
class Panel:
    """Bars on one axis; ``line`` is a floor, drawn through all of them."""

    title: str
    unit: str
    bars: Sequence[Bar]
    line: float | None = None


def draw(report: BenchReport, path: str | os.PathLike[str]) -> None:
    """A report as one panel."""
    bars = [
        Bar(entry.title, entry.latency.median, COLORS[i % len(COLORS)], entry.latency.p99)
        for i, entry in enumerate(report.entries)
    ]
    floor = report.floor
    title = f"{report.model}: median from numpy to numpy (mark: p99{'; line: floor of the GPU' if floor else ''})"
    draw_panels([Panel(title, "microseconds", bars, floor.median if floor else None)], path)


def draw_panels(panels: Sequence[Panel], path: str | os.PathLike[str]) -> None:
    """Write panels, one below the other. Raises ValidationError, FeatureNotSupportedError, OSError."""
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise ValidationError(f"a plot is written as {', '.join(SUFFIXES)}; got {os.fspath(path)!r}")
    try:
        import matplotlib as mpl
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise FeatureNotSupportedError(
            f"plots need matplotlib, which cannot be imported: {error}; pip install 'pynn[bench]'"
        ) from None
    heights = [0.45 + 0.3 * len(panel.bars) for panel in panels]
    style: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": "pynn", "font.size": 9, "text.color": GREY}
    with mpl.rc_context(style):
        figure = Figure(figsize=(8.5, sum(heights)), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)
        for panel, (ax,) in zip(panels, axes, strict=True):
            _draw(ax, panel)
        metadata: dict[str, Any] = {"Date": None} if suffix == ".svg" else {}
        figure.savefig(os.fspath(path), transparent=True, dpi=150, metadata=metadata)


def number(value: float) -> str:
    """Four digits, and never an exponent for a long time."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _draw(ax: Any, panel: Panel) -> None:
    rows = range(len(panel.bars))
    highest = max([*(max(bar.value, bar.mark or 0) for bar in panel.bars), panel.line or 0], default=1)
    ax.barh(rows, [bar.value for bar in panel.bars], color=[bar.color for bar in panel.bars], height=0.62)
    for row, bar in zip(rows, panel.bars, strict=True):
        end = max(bar.value, bar.mark or 0)
        ax.text(end + highest * 0.01, row, number(bar.value), va="center", color=GREY)
        if bar.mark is not None:
            ax.plot([bar.mark, bar.mark], [row - 0.25, row + 0.25], color=GREY, linewidth=1.5)
    if panel.line is not None:
        ax.axvline(panel.line, color=GREY, linestyle="--", linewidth=1)
    ax.set_yticks(list(rows), [bar.label for bar in panel.bars])
    ax.invert_yaxis()
    ax.set_xlim(0, highest * 1.12)
    ax.set_title(f"{panel.title}, {panel.unit}", loc="left", color=GREY, fontsize=9)
    ax.set_xticks([])
    ax.tick_params(colors=GREY, length=0)
    for side in ax.spines.values():
        side.set_visible(False)
