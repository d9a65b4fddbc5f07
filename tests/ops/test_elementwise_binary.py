"""add, sub, mul, div, max, min, pow."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from pynn.builder import GraphBuilder

from . import reference_part1 as ref
from .support import ALL, INTEGERS, arrays, assert_close, broadcastable, operand_errors, quick, rejected, run

ULP = {"add": 1, "sub": 1, "mul": 1, "div": 2, "max": 0, "min": 0, "pow": 32}


@pytest.mark.parametrize("dtype", ALL)
@pytest.mark.parametrize("name", ["add", "sub", "mul", "max", "min"])
@given(data=st.data())
@quick
def test_values(name, dtype, data):
    a_shape, b_shape = data.draw(broadcastable())
    a, b = data.draw(arrays(dtype, a_shape)), data.draw(arrays(dtype, b_shape))
    got = run(lambda g, a, b: getattr(g, name)(a, b), {"a": a, "b": b})
    assert_close(got, ref.BINARY[name](a, b), ulp=ULP[name] if dtype.startswith("float") else 0)


@pytest.mark.parametrize("dtype", ALL)
@pytest.mark.parametrize("constant", [True, False])
@given(data=st.data())
@quick
def test_div_truncates(dtype, constant, data):
    a_shape, b_shape = data.draw(broadcastable(max_rank=3))
    a, b = data.draw(arrays(dtype, a_shape)), data.draw(arrays(dtype, b_shape))
    b = np.where(b == 0, np.array(3, b.dtype), b)
    got = run(lambda g, a, b: g.div(a, b), {"a": a, "b": b}, constants={"b"} if constant else ())
    assert_close(got, ref.BINARY["div"](a, b), ulp=2 if dtype.startswith("float") else 0)


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("constant", [True, False])
def test_no_integer_division_kills_the_process(dtype, constant):
    info = np.iinfo(dtype)
    a = np.array([info.min, info.max, info.min, 7, 7], dtype)
    b = np.array([info.max if info.min == 0 else -1, 0, 0, 0, 2], dtype)
    got = run(lambda g, a, b: g.div(a, b), {"a": a, "b": b}, constants={"b"} if constant else (), passes=True)
    assert got[0] == info.min, "the least integer divided by -1 wraps to itself"
    assert got[4] == 3


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@given(data=st.data())
@quick
def test_pow_of_floats(dtype, data):
    a_shape, b_shape = data.draw(broadcastable())
    a, b = data.draw(arrays(dtype, a_shape, 0.1, 4)), data.draw(arrays(dtype, b_shape, -3, 3))
    got = run(lambda g, a, b: g.pow(a, b), {"a": a, "b": b})
    assert_close(got, ref.BINARY["pow"](a, b), ulp=32 if dtype == "float32" else 2)


@pytest.mark.parametrize("dtype", INTEGERS)
@given(data=st.data())
@quick
def test_pow_of_integers(dtype, data):
    a_shape, b_shape = data.draw(broadcastable())
    a = data.draw(arrays(dtype, a_shape, -3 if dtype.startswith("i") else 0, 3))
    b = data.draw(arrays(dtype, b_shape, 0, 4))
    assert_close(run(lambda g, a, b: g.pow(a, b), {"a": a, "b": b}), ref.BINARY["pow"](a, b))


def test_negative_base_with_fractional_exponent_is_nan():
    got = run(lambda g, a, b: g.pow(a, b), {"a": np.float32([-2, -2]), "b": np.float32([0.5, 2])})
    assert np.isnan(got[0])
    assert got[1] == 4


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("name", ["add", "sub", "mul"])
def test_integers_wrap(name, dtype):
    info = np.iinfo(dtype)
    a, b = np.array([info.max, info.min, info.max], dtype), np.array([2, 3, info.max], dtype)
    with np.errstate(over="ignore"):
        assert_close(run(lambda g, a, b: getattr(g, name)(a, b), {"a": a, "b": b}), ref.BINARY[name](a, b))


@pytest.mark.parametrize("name", ref.BINARY)
def test_errors(name):
    operand_errors(name, {"a": [2, 3], "b": [3]})
    g = GraphBuilder()
    a, b = g.input("a", [2, 3], "float32"), g.input("b", [2, 4], "float32")
    rejected(g, name, a, b, mentions=[[2, 3], [2, 4], "broadcast"])
    big = g.input("big", [2**30, 1], "float32")
    rejected(g, name, big, g.input("row", [2], "float32"), mentions=[[2**30, 2]])
