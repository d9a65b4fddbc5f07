"""abs ... tan."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from pynn.ops import operators

from . import reference_part1 as ref
from .support import ALL, arrays, assert_close, operand_errors, quick, run, shapes

CASES = [
    (op.method, dtype)
    for op in operators.values()
    if op.section == "elementwise_unary"
    for dtype in ALL
    if dtype in op.params[0].types
]
EXACT = ("abs", "ceil", "floor", "identity", "neg", "round_even", "sign")
ULP = {"sqrt": 1, "reciprocal": 2}
DOMAIN = {"log": (0.01, 8), "sqrt": (0, 8), "tan": (-1.4, 1.4), "exp": (-8, 8)}
SPECIAL = (0.0, -0.0, float("inf"), -float("inf"), 0.5, 1.5, 2.5, -0.5, -2.5)


def tolerance(name: str, dtype: str) -> dict[str, float]:
    if name in EXACT:
        return {"ulp": 0}
    if name == "exp":
        return {"ulp": 32 if dtype == "float32" else 1}
    if name in ULP:
        return {"ulp": ULP[name]}
    return {"atol": 1 / 1024 if dtype == "float32" or name == "log" else 1 / 512, "ulp": 1}


def test_all_are_there():
    assert {name for name, _ in CASES} == set(ref.UNARY)


@pytest.mark.parametrize(("name", "dtype"), CASES)
@given(data=st.data())
@quick
def test_values(name, dtype, data):
    low, high = DOMAIN.get(name, (None, None))
    special = SPECIAL if dtype.startswith("float") and name in EXACT else ()
    x = data.draw(arrays(dtype, data.draw(shapes()), low, high, special=special))
    got = run(lambda g, x: getattr(g, name)(x), {"x": x})
    assert_close(got, ref.UNARY[name](x), **tolerance(name, dtype))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_ieee_corners(dtype):
    x = np.array([0, -0.0, 1, -1, np.inf, -np.inf, np.nan], dtype)
    log, sqrt, reciprocal, exp, erf, sign = run(
        lambda g, x: [g.log(x), g.sqrt(x), g.reciprocal(x), g.exp(x), g.erf(x), g.sign(x)], {"x": x}
    )
    nan, inf = np.nan, np.inf
    assert_close(log, np.array([-inf, -inf, 0, nan, inf, nan, nan]))
    assert_close(sqrt, np.array([0, 0, 1, nan, inf, nan, nan]))
    assert_close(reciprocal, np.array([inf, -inf, 1, -1, 0, 0, nan]))
    assert_close(exp, np.exp(x.astype(np.float64)), ulp=1)
    assert_close(erf[[4, 5]], np.array([1, -1]))
    assert_close(sign, np.array([0, 0, 1, -1, 1, -1, 0]))


@pytest.mark.parametrize("dtype", ["int8", "int32", "int64"])
def test_the_least_integer_wraps(dtype):
    least = np.array([np.iinfo(dtype).min], dtype)
    got = run(lambda g, x: [g.abs(x), g.neg(x)], {"x": least})
    assert all((one == least).all() for one in got)


@pytest.mark.parametrize("name", ref.UNARY)
def test_errors(name):
    operand_errors(name, {"input": [2, 3]})
