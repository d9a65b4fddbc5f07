"""Comparison by the vectors' rule: shape and dtype exactly, then each element by ULP or ATOL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Verdict:
    """``worst`` is the largest distance (infinite where a NaN meets a number); ``reason`` is empty when it passed."""

    worst: float
    reason: str = ""


def compare(name: str, actual: object, expected: Array, tolerance: Mapping[str, Any]) -> Verdict:
    """Judge one output. The reason of a failure names the worst element and how many others fail."""
    if not isinstance(actual, np.ndarray):
        return Verdict(np.inf, f"{name}: expected an array, got {type(actual).__name__}")
    if actual.dtype != expected.dtype:
        return Verdict(np.inf, f"{name}: dtype {actual.dtype}, expected {expected.dtype}")
    if actual.shape != expected.shape:
        return Verdict(np.inf, f"{name}: shape {list(actual.shape)}, expected {list(expected.shape)}")
    kind, limit = tolerance["type"], tolerance["value"]
    distance = np.asarray(ulp_distance(actual, expected) if kind == "ULP" else absolute_distance(actual, expected))
    worst = float(distance.max(initial=0))
    wrong = distance > limit
    if not wrong.any():
        return Verdict(worst)
    at = np.unravel_index(int(distance.argmax()), distance.shape)
    where = f"{name}{list(map(int, at))}"
    values = f"{actual[at]!s}, expected {expected[at]!s}"
    return Verdict(worst, f"{where}: {values}: {worst:g} {kind} > {limit:g} ({int(wrong.sum())} of {wrong.size} wrong)")


def ulp_distance(a: Array, b: Array) -> Array:
    """Floats: steps between the ordered bit patterns (-0 is 0; NaN is near NaN only). Integers: absolute difference."""
    if a.dtype.kind != "f":
        return _integer_distance(a, b)
    distance = _integer_distance(_ordered(a), _ordered(b)).astype(np.float64)
    return _settle_nan(a, b, distance)


def absolute_distance(a: Array, b: Array) -> Array:
    """|a - b| in float64; equal infinities are 0 apart."""
    if a.dtype.kind != "f":
        return _integer_distance(a, b)
    with np.errstate(invalid="ignore"):
        distance = np.abs(a.astype(np.float64) - b.astype(np.float64))
    return _settle_nan(a, b, np.where(a == b, 0.0, distance))


def _settle_nan(a: Array, b: Array, distance: Array) -> Array:
    distance = np.where(np.isnan(a) != np.isnan(b), np.inf, distance)
    return np.where(np.isnan(a) & np.isnan(b), 0.0, distance)


def _ordered(values: Array) -> Array:
    """Integers in the order of the floats, with both zeros at 0."""
    bits = values.dtype.itemsize * 8
    raw = values.view(f"i{bits // 8}").astype(np.int64)
    return np.where(raw < 0, -(raw + (1 << (bits - 1))), raw)


def _integer_distance(a: Array, b: Array) -> Array:
    """|a - b| as uint64, exact for every integer type."""
    high, low = np.atleast_1d(np.maximum(a, b)), np.atleast_1d(np.minimum(a, b))
    return (high.astype(np.uint64) - low.astype(np.uint64)).reshape(np.shape(a))
