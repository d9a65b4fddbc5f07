"""Comparisons and logical operators."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from pynn.builder import GraphBuilder

from . import reference_part1 as ref
from .support import ALL, FLOATS, arrays, assert_close, broadcastable, operand_errors, quick, rejected, run, shapes

SPECIAL = (float("nan"), float("inf"), -float("inf"), 0.0, -0.0)


@pytest.mark.parametrize("dtype", ALL)
@pytest.mark.parametrize("name", ref.COMPARISON)
@given(data=st.data())
@quick
def test_comparisons(name, dtype, data):
    special = SPECIAL if dtype.startswith("float") else ()
    low = 0 if dtype.startswith("u") else -2
    a, b = (data.draw(arrays(dtype, s, low, 2, special=special)) for s in data.draw(broadcastable()))
    if dtype.startswith("float"):
        a, b = (np.where(np.isfinite(x), np.round(x), x).astype(dtype) for x in (a, b))
    got = run(lambda g, a, b: getattr(g, name)(a, b), {"a": a, "b": b})
    assert got.dtype == np.uint8
    assert_close(got, ref.COMPARISON[name](a, b))


@pytest.mark.parametrize("dtype", ["int64", "uint64", "int32", "uint32"])
@pytest.mark.parametrize("name", ref.COMPARISON)
def test_comparisons_of_wide_integers_are_exact(name, dtype):
    info = np.iinfo(dtype)
    values = np.array([info.min, info.min + 1, info.max - 1, info.max, info.max // 2, info.max // 2 + 1], dtype)
    a, b = values[:, None], values[None, :]
    assert_close(run(lambda g, a, b: getattr(g, name)(a, b), {"a": a, "b": b}), ref.COMPARISON[name](a, b))


@pytest.mark.parametrize("name", ref.LOGICAL)
@given(data=st.data())
@quick
def test_logical(name, data):
    a, b = (data.draw(arrays("uint8", s, special=(0, 1, 2, 255))) for s in data.draw(broadcastable()))
    assert_close(run(lambda g, a, b: getattr(g, name)(a, b), {"a": a, "b": b}), ref.LOGICAL[name](a, b))


@given(data=st.data())
@quick
def test_logical_not(data):
    a = data.draw(arrays("uint8", data.draw(shapes()), special=(0, 204)))
    assert_close(run(lambda g, a: g.logical_not(a), {"a": a}), (a == 0).astype(np.uint8))


@pytest.mark.parametrize("dtype", FLOATS)
@given(data=st.data())
@quick
def test_classification(dtype, data):
    a = data.draw(arrays(dtype, data.draw(shapes()), special=SPECIAL))
    nan, infinite = run(lambda g, a: [g.is_nan(a), g.is_infinite(a)], {"a": a})
    assert_close(nan, np.isnan(a).astype(np.uint8))
    assert_close(infinite, np.isinf(a).astype(np.uint8))


@pytest.mark.parametrize("name", [*ref.COMPARISON, *ref.LOGICAL])
def test_binary_errors(name):
    dtype = "uint8" if name in ref.LOGICAL else "float32"
    operand_errors(name, {"a": [2, 3], "b": [3]}, dtype=dtype)
    g = GraphBuilder()
    a, b = g.input("a", [2, 3], dtype), g.input("b", [2, 4], dtype)
    rejected(g, name, a, b, mentions=[[2, 3], [2, 4], "broadcast"])


@pytest.mark.parametrize(
    ("name", "dtype"), [("logical_not", "uint8"), ("is_nan", "float32"), ("is_infinite", "float16")]
)
def test_unary_errors(name, dtype):
    operand_errors(name, {"a": [2, 3]}, dtype=dtype)
