"""The comparison rule of the vectors."""

from __future__ import annotations

import numpy as np
import pytest

from .compare import absolute_distance, compare, ulp_distance

INF, NAN = np.inf, np.nan


@pytest.mark.parametrize(
    ("a", "b", "distance"),
    [
        (1.0, np.nextafter(np.float32(1), np.float32(2)), 1),
        (0.0, -0.0, 0),
        (np.float32(1e-45), np.float32(-1e-45), 2),
        (-1.0, -1.0, 0),
        (INF, INF, 0),
        (-INF, -INF, 0),
        (NAN, NAN, 0),
        (NAN, 1.0, INF),
        (INF, NAN, INF),
        (np.finfo(np.float32).max, INF, 1),
        (-1.0, 1.0, 2 * 0x3F800000),
    ],
)
def test_ulp_of_float32(a: float, b: float, distance: float) -> None:
    x, y = np.array([a], np.float32), np.array([b], np.float32)
    assert ulp_distance(x, y).tolist() == ulp_distance(y, x).tolist() == [distance]


def test_ulp_of_float16_and_scalars() -> None:
    assert ulp_distance(np.array(1, np.float16), np.array(1.0009766, np.float16)) == 1
    assert ulp_distance(np.array(-1, np.float16), np.array(1, np.float16)) == 2 * 0x3C00


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "uint32", "int64", "uint64"])
def test_integers_are_subtracted_exactly(dtype: str) -> None:
    info = np.iinfo(dtype)
    low, high = np.array([info.min, 1], dtype), np.array([info.max, 2], dtype)
    assert ulp_distance(low, high).tolist() == absolute_distance(high, low).tolist() == [2**info.bits - 1, 1]


def test_absolute_distance() -> None:
    a, b = np.array([1.5, INF, -INF, NAN, INF], np.float32), np.array([1.25, INF, INF, NAN, 0], np.float32)
    assert absolute_distance(a, b).tolist() == [0.25, 0, INF, 0, INF]


def test_verdicts() -> None:
    want = np.array([1, 2], np.float32)
    ulp, atol = {"type": "ULP", "value": 1}, {"type": "ATOL", "value": 0.5}
    assert compare("y", want, want, ulp).reason == ""
    assert compare("y", np.array([1.5, 2], np.float32), want, atol).worst == 0.5
    assert compare("y", np.array([1.75, 2], np.float32), want, atol).reason
    assert "dtype float64, expected float32" in compare("y", want.astype(np.float64), want, ulp).reason
    assert "shape [1, 2], expected [2]" in compare("y", want[None], want, ulp).reason
    assert "expected an array" in compare("y", None, want, ulp).reason
    wrong = compare("y", np.array([1, NAN], np.float32), want, ulp)
    assert wrong.worst == INF and wrong.reason.startswith("y[1]: nan, expected 2.0: inf ULP > 1 (1 of 2 wrong)")
