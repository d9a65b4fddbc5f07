"""Measures against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from pynn.comparison.measures import Array, Deviation, deviation, worst

INF, NAN = float("inf"), float("nan")


def test_by_hand() -> None:
    one = deviation(np.array([3, 4, 0], "f"), np.array([3, 4.5, 0.25], "f"))
    assert one.relative == pytest.approx(np.hypot(0.5, 0.25) / 5)
    assert one.max_absolute == 0.5 and one.max_relative == 0.125
    assert one.cosine == pytest.approx((9 + 18) / (5 * np.sqrt(9 + 4.5**2 + 0.0625)))
    assert (one.nan, one.inf) == (0, 0)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_ulp_counts_numbers_of_the_found_type(dtype: type) -> None:
    exact = np.array([1.0, -1.0, 0.0], dtype)
    off = np.nextafter(np.nextafter(exact, np.array(2, dtype)), np.array(2, dtype))
    assert deviation(exact, off).ulp == 2
    tiny = np.nextafter(np.zeros(1, dtype), np.array(1, dtype))
    assert deviation(-tiny, tiny).ulp == 2, "-0 and 0 are one number"


def test_ulp_of_float16_and_bfloat16() -> None:
    import ml_dtypes

    one = deviation(np.ones(1, "f"), np.array([1 + 3 * 2.0**-10], "f"))
    assert (one.ulp, one.ulp_fp16) == (3 * 2**13, 3)
    assert deviation(np.ones(1, "f"), np.array([1 + 2.0**-6], ml_dtypes.bfloat16)).ulp == 2


def test_what_is_not_finite() -> None:
    one = deviation(np.array([1, 2, 3, NAN, INF], "f"), np.array([NAN, INF, 3, NAN, INF], "f"))
    assert (one.nan, one.inf, one.relative, one.cosine) == (1, 1, INF, 0)
    same = deviation(np.array([NAN, -INF, 1], "f"), np.array([NAN, -INF, 1], "f"))
    assert same == Deviation(top_1=1.0, rows=1)
    assert deviation(np.array([INF, 1], "f"), np.array([5, 1], "f")).relative == INF
    near = deviation(np.array([[INF, 2]], "f"), np.array([[INF, 2.5]], "f"))
    assert near.relative == 0.25 and near.top_1 == 1


def test_zeros_and_shapes() -> None:
    assert deviation(np.zeros(3, "f"), np.zeros(3, "f")).relative == 0
    off = deviation(np.zeros(3, "f"), np.ones(3, "f"))
    assert (off.relative, off.cosine, off.max_absolute) == (INF, 0, 1)
    assert deviation(np.ones(3, "f"), np.ones((1, 3), "f")).relative == INF
    assert deviation(np.ones((0, 3), "f"), np.ones((0, 3), "f")).relative == 0
    assert deviation(np.array([1, 2, 3]), np.array([1, 2, 5])).ulp == 2


def test_agreement_of_the_best() -> None:
    exact = np.arange(20, dtype="f").reshape(2, 10)
    found = exact.copy()
    found[0, [8, 9]] = found[0, [9, 8]]
    found[1, 4] = 100
    one = deviation(exact, found)
    assert one.top_1 == 0 and one.top_k == pytest.approx((1 + 0.8) / 2) and one.rows == 2
    assert deviation(exact[:, :5], found[:, :5]).top_k is None, "all five are among the best five"
    assert deviation(exact, found, scores=False).top_1 is None
    image = np.ones((1, 1, 4, 4), "f")
    assert deviation(image, image * 2).top_1 is None
    both = worst([deviation(exact[:1], exact[:1]), one])
    assert both.rows == 3 and both.top_1 == pytest.approx(1 / 3) and both.relative == one.relative


@given(arrays.arrays(np.float32, arrays.array_shapes(max_dims=4), elements=st.floats(width=32)))
def test_an_array_is_at_no_distance_from_itself(array: Array) -> None:
    one = deviation(array, array.copy())
    assert (one.relative, one.ulp, one.ulp_fp16, one.max_relative, one.cosine) == (0, 0, 0, 0, 1)
    assert one.top_1 in (None, 1) and one.top_k in (None, 1)
