"""How much of an activation's range to keep: the four methods, on its histogram.

Entropy: Migacz, "8-bit Inference with TensorRT", GTC 2017, S7310.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from ..converter.model import numpy_dtype
from ..converter.precision.scales import ELEMENT, LARGEST, QuantizedForm
from .histogram import Histogram

Array = np.ndarray[Any, Any]
Method = Literal["minmax", "entropy", "percentile", "mse"]
METHODS = ("minmax", "entropy", "percentile", "mse")

_LEVELS = 128
_CANDIDATES = 256
"""Ranges that are tried, evenly from the smallest sensible one to the largest magnitude."""


def threshold(histogram: Histogram, method: Method, percentile: float, form: QuantizedForm) -> float:
    """The symmetric range of the activation: all magnitudes (minmax), ``percentile`` per cent of them, or what changes
    its distribution (entropy) or its values (mse) least."""
    if method == "minmax" or histogram.amax == 0:
        return histogram.amax
    if method == "percentile":
        return _percentile(histogram, percentile)
    bins = _entropy(histogram) if method == "entropy" else _mse(histogram, form)
    return min(histogram.amax, bins * histogram.width)


def _percentile(histogram: Histogram, percentile: float) -> float:
    """The smallest upper edge of a bin with at least so many values below it."""
    wanted = histogram.total * (percentile / 100)
    bins = int(np.searchsorted(np.cumsum(histogram.counts), wanted)) + 1
    return min(histogram.amax, bins * histogram.width)


def _candidates(used: int, least: int) -> list[int]:
    if used <= least:
        return [used]
    return sorted({round(bins) for bins in np.linspace(least, used, _CANDIDATES).tolist()})


def _entropy(histogram: Histogram) -> int:
    """The number of bins whose truncated distribution loses least (Kullback-Leibler) by 128 levels."""
    counts = histogram.counts[: histogram.used].astype(np.float64)
    counts[0] = counts[1] if len(counts) > 1 else counts[0]  # zeros are exact at any scale; there may be very many
    if not counts.any():
        return histogram.used
    best, least = histogram.used, np.inf
    for bins in _candidates(histogram.used, _LEVELS):
        divergence = _divergence(counts, bins)
        if divergence < least:
            best, least = bins, divergence
    return best


def _divergence(counts: Array, bins: int) -> float:
    """KL divergence of the clipped distribution from the same in 128 levels, each spread over its filled bins."""
    inside = counts[:bins]
    clipped = inside.copy()
    clipped[-1] += counts[bins:].sum()
    starts = np.arange(min(_LEVELS, bins)) * bins // min(_LEVELS, bins)
    filled = inside > 0
    sums = np.add.reduceat(inside, starts)
    numbers = np.add.reduceat(filled.astype(np.float64), starts)
    level = np.searchsorted(starts, np.arange(bins), side="right") - 1
    spread = np.where(filled, (sums / np.maximum(numbers, 1))[level], 0.0)
    present = clipped > 0
    if not spread.any() or (present & (spread == 0)).any():
        return float(np.inf)
    p = clipped[present] / clipped.sum()
    q = spread[present] / spread.sum()
    return float((p * np.log(p / q)).sum())


def _mse(histogram: Histogram, form: QuantizedForm) -> int:
    """The number of bins whose range has the least mean square error of values rounded and clipped to it."""
    counts = histogram.counts[: histogram.used].astype(np.float64)
    centres = (np.arange(histogram.used) + 0.5) * histogram.width
    best, least = histogram.used, np.inf
    for bins in _candidates(histogram.used, max(1, histogram.used // 64)):
        scale = min(histogram.amax, bins * histogram.width) / LARGEST[form]
        error = float((counts * (_rounded(centres, scale, form) - centres) ** 2).sum())
        if error < least:
            best, least = bins, error
    return best


def _rounded(values: Array, scale: float, form: QuantizedForm) -> Array:
    """Non-negative ``values`` quantised and dequantised."""
    steps = np.minimum(values / scale, LARGEST[form])
    whole = np.rint(steps) if form == "int8" else steps.astype(numpy_dtype(ELEMENT[form])).astype(np.float64)
    return np.asarray(whole * scale)
