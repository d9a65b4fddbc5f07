"""The distribution of one activation, in memory that does not grow with the data."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

BINS = 4096
"""Between 2049 and 4096 of them are in use: the range is the next power of two above the largest magnitude."""
_CHUNK = 1 << 18


@dataclass(eq=False)
class Histogram:
    """Counts of magnitudes in ``BINS`` bins from 0 to 2**``exponent``, which is above every value seen.

    The range grows by powers of two, when two bins become one exactly: the result is the same for any order of the
    data and any division into parts. ``channels`` has the largest magnitude of each index of the last axis, if wanted.
    """

    exponent: int | None = None
    amax: float = 0.0
    total: int = 0
    counts: Array = field(default_factory=lambda: np.zeros(BINS, np.int64))
    channels: Array | None = None

    @property
    def width(self) -> float:
        """The width of a bin."""
        return 0.0 if self.exponent is None else math.ldexp(1.0, self.exponent) / BINS

    @property
    def used(self) -> int:
        """The number of bins up to the largest magnitude; 0 if all values were 0."""
        return 0 if self.exponent is None else min(BINS, int(self.amax / self.width) + 1)

    def observe(self, array: Array, *, per_channel: bool = False) -> bool:
        """Add the values of ``array``. False, with nothing added, if one of them is NaN or infinite."""
        if not array.size:
            return True
        with np.errstate(invalid="ignore"):  # ml_dtypes' NaN
            largest = max(float(array.max()), -float(array.min()))
        if not math.isfinite(largest):
            return False
        if per_channel and array.ndim:
            found = np.abs(array.reshape(-1, array.shape[-1])).max(axis=0).astype(np.float64)
            self.channels = _widest(self.channels, found)
        self.total += array.size
        if largest:
            self._grow(math.frexp(largest)[1])
            self.amax = max(self.amax, largest)
        if self.exponent is None:
            self.counts[0] += array.size
            return True
        for part in _chunks(array):
            places = np.ldexp(np.abs(part.astype(np.float64)), int(math.log2(BINS)) - self.exponent).astype(np.int64)
            self.counts += np.bincount(places, minlength=BINS)
        return True

    def merged(self, other: Histogram) -> Histogram:
        """A histogram of both's values."""
        both = Histogram(self.exponent, self.amax, self.total + other.total, self.counts.copy(), self.channels)
        right = Histogram(other.exponent, other.amax, 0, other.counts.copy())
        exponents = [one.exponent for one in (self, other) if one.exponent is not None]
        if exponents:
            both._grow(max(exponents))
            right._grow(max(exponents))
        both.counts += right.counts
        both.amax = max(self.amax, other.amax)
        if other.channels is not None:
            both.channels = _widest(self.channels, other.channels)
        return both

    def _grow(self, exponent: int) -> None:
        """Widen the range to 2**``exponent``, if it is narrower."""
        if self.exponent is None:
            self.exponent = exponent
            return
        while self.exponent < exponent:
            if not self.counts[1:].any():
                self.exponent = exponent
                return
            self.counts[: BINS // 2] = self.counts[0::2] + self.counts[1::2]
            self.counts[BINS // 2 :] = 0
            self.exponent += 1


def _widest(known: Array | None, found: Array) -> Array:
    """The larger of each channel; channels that change in number have no meaning together, and the last stay."""
    return found if known is None or known.shape != found.shape else np.maximum(known, found)


def _chunks(array: Array) -> Iterator[Array]:
    flat = array.reshape(-1)
    for start in range(0, flat.size, _CHUNK):
        yield flat[start : start + _CHUNK]
