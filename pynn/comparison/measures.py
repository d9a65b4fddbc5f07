"""How far two arrays are apart, in the measures that people compare by."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

TOP = 5
"""Places that ``top_k`` looks at."""
_INTEGERS = {2: np.int16, 4: np.int32, 8: np.int64}
_HIGHEST_RANK_OF_SCORES = 3


@dataclass(frozen=True, slots=True)
class Deviation:
    """Found values against exact ones, in float64.

    ``cosine`` of the two as vectors; ``relative``: norm of the difference over the norm of the exact values;
    ``max_absolute``; ``max_relative``: the largest difference over the magnitude of its exact value, where that is not
    0; ``ulp`` and ``ulp_fp16``: the largest distance counted in representable numbers of the found type, and of float16
    after rounding both. ``top_1``: share of rows along the last axis whose largest is at the same place, ``top_k``: the
    mean share of the 5 largest that both have; None where rows are no scores. ``nan`` and ``inf``: elements that became
    so.

    Elements that are NaN or the same infinity in both count as equal. Where others are not finite, ``relative`` and the
    maxima are infinity and ``cosine`` is 0.
    """

    cosine: float = 1.0
    relative: float = 0.0
    max_absolute: float = 0.0
    max_relative: float = 0.0
    ulp: float = 0.0
    ulp_fp16: float = 0.0
    top_1: float | None = None
    top_k: float | None = None
    nan: int = 0
    inf: int = 0
    rows: int = 0

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def deviation(exact: Array, found: Array, *, scores: bool = True) -> Deviation:
    """Of two arrays: floats, integers or truth values. Arrays of different shapes have nothing in common. Without
    ``scores``, rows are not looked at."""
    if exact.shape != found.shape:
        return _broken(0, 0)
    with np.errstate(all="ignore"):
        return _deviation(exact, found, scores and found.dtype.kind in "fV")


def _broken(nan: int, inf: int) -> Deviation:
    infinity = float("inf")
    return Deviation(0.0, infinity, infinity, infinity, infinity, infinity, nan=nan, inf=inf)


def _deviation(exact: Array, found: Array, scores: bool) -> Deviation:
    wide, other = _wide(exact), _wide(found)
    same = (wide == other) | (np.isnan(wide) & np.isnan(other))
    broken = ~same & ~(np.isfinite(wide) & np.isfinite(other))
    top_1, top_k, rows = _agreement(wide, other) if scores else (None, None, 0)
    if broken.any():
        nan, inf = int((broken & np.isnan(other)).sum()), int((broken & np.isinf(other)).sum())
        return replace(_broken(nan, inf), top_1=top_1, top_k=top_k, rows=rows)
    if same.all():
        return Deviation(top_1=top_1, top_k=top_k, rows=rows)
    wide, other = np.where(np.isfinite(wide), wide, 0).ravel(), np.where(np.isfinite(other), other, 0).ravel()
    gap, size = np.abs(other - wide), np.abs(wide)
    norms = float(np.linalg.norm(wide)), float(np.linalg.norm(other))
    counted = size > 0
    return Deviation(
        cosine=float(np.clip(wide @ other / (norms[0] * norms[1]), -1, 1)) if all(norms) else 0.0,
        relative=float(np.linalg.norm(gap)) / norms[0] if norms[0] else float("inf"),
        max_absolute=float(gap.max()),
        max_relative=float((gap[counted] / size[counted]).max()) if counted.any() else float("inf"),
        ulp=_steps(wide.astype(found.dtype), other.astype(found.dtype)),
        ulp_fp16=_steps(wide.astype(np.float16), other.astype(np.float16)),
        top_1=top_1,
        top_k=top_k,
        rows=rows,
    )


def worst(several: Iterable[Deviation]) -> Deviation:
    """The worst of each measure; agreement is the mean over rows, NaN and infinities are added up."""
    found = list(several)
    rows = sum(one.rows for one in found)

    def mean(values: Iterable[tuple[float | None, int]]) -> float | None:
        return sum((value or 0.0) * count for value, count in values) / rows if rows else None

    has_top_k = any(one.top_k is not None for one in found)
    return Deviation(
        cosine=min((one.cosine for one in found), default=1.0),
        relative=max((one.relative for one in found), default=0.0),
        max_absolute=max((one.max_absolute for one in found), default=0.0),
        max_relative=max((one.max_relative for one in found), default=0.0),
        ulp=max((one.ulp for one in found), default=0.0),
        ulp_fp16=max((one.ulp_fp16 for one in found), default=0.0),
        top_1=mean((one.top_1, one.rows) for one in found),
        top_k=mean((one.top_k, one.rows) for one in found) if has_top_k else None,
        nan=sum(one.nan for one in found),
        inf=sum(one.inf for one in found),
        rows=rows,
    )


def _wide(array: Array) -> Array:
    return array.astype(np.float64)


def _steps(exact: Array, found: Array) -> float:
    """The largest number of representable numbers between two elements; integers: of the difference."""
    integer = _INTEGERS.get(exact.dtype.itemsize)
    if exact.dtype.kind not in "fV" or integer is None:
        return float(np.abs(found.astype(np.float64) - exact.astype(np.float64)).max(initial=0))
    places = []
    for array in (exact, found):
        bits = np.ascontiguousarray(array).view(integer)
        places.append(np.where(bits < 0, -(bits & np.iinfo(integer).max).astype(np.float64), bits.astype(np.float64)))
    return float(np.abs(places[1] - places[0]).max(initial=0))


def _agreement(exact: Array, found: Array) -> tuple[float | None, float | None, int]:
    """``top_1``, ``top_k`` and the rows that they are of."""
    if not 1 <= exact.ndim <= _HIGHEST_RANK_OF_SCORES or exact.shape[-1] < 2 or not exact.size:
        return None, None, 0
    rows, others = (array.reshape(-1, array.shape[-1]) for array in (exact, found))
    top_1 = float((rows.argmax(1) == others.argmax(1)).mean())
    if rows.shape[1] <= TOP:
        return top_1, None, len(rows)
    best, best_found = (np.argpartition(-array, TOP - 1, axis=1)[:, :TOP] for array in (rows, others))
    shared = (best[:, :, None] == best_found[:, None, :]).any(2)
    return top_1, float(shared.mean()), len(rows)
