"""Histograms whose range grows: equal to one made with the final range, whatever came when."""

from __future__ import annotations

import math
import tracemalloc
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pynn.quantization.histogram import BINS, Histogram

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
PARTS = st.lists(hnp.arrays(np.float32, st.integers(0, 30), elements=FLOATS), min_size=1, max_size=6)


def of(*parts: Any) -> Histogram:
    histogram = Histogram()
    for part in parts:
        assert histogram.observe(part)
    return histogram


def same(a: Histogram, b: Histogram) -> None:
    assert (a.exponent, a.amax, a.total) == (b.exponent, b.amax, b.total)
    np.testing.assert_array_equal(a.counts, b.counts)


def by_numpy(values: Any) -> Any:
    """The counts by numpy.histogram over the range that the largest magnitude asks for."""
    magnitudes = np.abs(values.astype(np.float64))
    largest = magnitudes.max(initial=0.0)
    if not largest:
        return np.bincount([0], [values.size], BINS)
    return np.histogram(magnitudes, BINS, (0, math.ldexp(1.0, math.frexp(largest)[1])))[0]


@settings(deadline=None)
@given(PARTS)
def test_is_numpys_histogram_for_any_division_and_order(parts: list[Any]) -> None:
    whole = np.concatenate(parts)
    expected = of(whole)
    same(of(*parts), expected)
    same(of(*reversed(parts)), expected)
    if np.abs(whole).max(initial=0) > 1e-30:  # numpy's bin edges are rounded below
        np.testing.assert_array_equal(expected.counts, by_numpy(whole))
    assert expected.counts.sum() == whole.size


@settings(deadline=None)
@given(PARTS, PARTS)
def test_merging_is_observing(left: list[Any], right: list[Any]) -> None:
    same(of(*left).merged(of(*right)), of(*left, *right))


@pytest.mark.parametrize("data_type", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_told_and_not_counted(data_type: str, bad: float) -> None:
    dtype = np.dtype(ml_dtypes.bfloat16) if data_type == "bfloat16" else np.dtype(data_type)
    histogram = of(np.ones(4, dtype))
    assert not histogram.observe(np.array([1, bad, 2], np.float32).astype(dtype))
    assert not histogram.observe(np.array([bad, 1], np.float32).astype(dtype))
    same(histogram, of(np.ones(4, dtype)))


def test_powers_of_two_stay_below_the_range() -> None:
    for value in (2.0**-149, 0.5, 1.0, 2.0, 2.0**127):
        histogram = of(np.array([value], np.float32))
        assert histogram.exponent is not None and value < math.ldexp(1.0, histogram.exponent)
        assert histogram.counts[BINS // 2] == 1 and histogram.used == BINS // 2 + 1


def test_channels_are_those_of_the_last_axis() -> None:
    rng = np.random.default_rng(0)
    parts = [rng.standard_normal((2, 3, 5)).astype(np.float32) for _ in range(4)]
    histogram = Histogram()
    for part in parts:
        histogram.observe(part, per_channel=True)
    np.testing.assert_array_equal(histogram.channels, np.abs(np.stack(parts)).max(axis=(0, 1, 2)))


def test_memory_does_not_grow_with_the_data() -> None:
    big = np.random.default_rng(0).standard_normal(1 << 22, np.float32)
    histogram = Histogram()
    tracemalloc.start()
    try:
        for _ in range(3):
            histogram.observe(big)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < big.nbytes, peak
