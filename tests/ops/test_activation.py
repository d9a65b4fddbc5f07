"""clamp ... tanh."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from pynn.builder import GraphBuilder

from . import reference_part1 as ref
from .support import (
    ALL,
    FLOATS,
    INTEGERS,
    SIGNED,
    arrays,
    assert_close,
    broadcastable,
    operand_errors,
    quick,
    rejected,
    run,
    run_full,
    shapes,
)

OPTIONS = {
    "elu": ("alpha",),
    "gelu": (),
    "hard_sigmoid": ("alpha", "beta"),
    "hard_swish": (),
    "leaky_relu": ("alpha",),
    "linear": ("alpha", "beta"),
    "relu": (),
    "sigmoid": (),
    "softplus": (),
    "softsign": (),
    "tanh": (),
}
ULP = {"elu": 18, "gelu": 18, "hard_sigmoid": 2, "hard_swish": 4, "leaky_relu": 2, "linear": 2, "relu": 0}
ULP |= {"sigmoid": 34, "softplus": 18, "softsign": 3, "tanh": 16}
# Two roundings of a difference, a product of two roundings: absolute, in units of the terms' own last place.
CANCELLING = ("hard_sigmoid", "linear")
# 1 + erf(x) and exp(x) - 1 cancel.
CANCELLING_TERMS = {"gelu": 3e-7, "elu": 5e-7}


# -- clamp ----------------------------------------------------------------------------------


def clamped(x, low, high):
    out = x
    if low is not None:
        out = np.maximum(out, low)
    return out if high is None else np.minimum(out, high)


@pytest.mark.parametrize("dtype", ALL)
@given(data=st.data())
@quick
def test_clamp(dtype, data):
    is_float = dtype.startswith("float")
    low, high = (-4.0, 4.0) if is_float else (0 if dtype.startswith("u") else -50, 100)
    special = (float("inf"), -float("inf"), 0.0) if is_float else ()
    x = data.draw(arrays(dtype, data.draw(shapes()), low, high, special=special))
    bound = st.none() | (st.floats(-3, 3, width=16) if is_float else st.integers(low, high))
    least, most = data.draw(bound), data.draw(bound)
    if least is not None and most is not None and least > most:
        least, most = most, least
    got = run(lambda g, x: g.clamp(x, min_value=least, max_value=most), {"x": x})
    cast = np.dtype(dtype).type
    want = clamped(x, None if least is None else cast(least), None if most is None else cast(most))
    assert_close(got, want, ulp=0)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    ("low", "high", "want"),
    [
        (np.nan, 1, [-np.inf, -2, 0, 1, 1]),
        (-1, np.nan, [-1, -1, 0, 2, np.inf]),
        (np.nan, np.nan, [-np.inf, -2, 0, 2, np.inf]),
        (np.inf, None, [np.inf] * 5),
        (None, -np.inf, [-np.inf] * 5),
        (-np.inf, np.inf, [-np.inf, -2, 0, 2, np.inf]),
        (0, 0, [0] * 5),
        (None, None, [-np.inf, -2, 0, 2, np.inf]),
        pytest.param(10**400, None, [np.inf] * 5, id="beyond float64"),
    ],
)
def test_clamp_of_floats_with_special_bounds(dtype, low, high, want):
    x = np.array([-np.inf, -2, 0, 2, np.inf], dtype)
    assert_close(run(lambda g, x: g.clamp(x, min_value=low, max_value=high), {"x": x}), np.array(want, dtype))


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integer_bounds_saturate_and_round_to_even(dtype):
    info = np.iinfo(dtype)
    x = np.array([info.min, 0, 1, 2, 3, 4, info.max], dtype)

    def clamp(low, high):
        return run(lambda g, x: g.clamp(x, min_value=low, max_value=high), {"x": x}).tolist()

    assert clamp(-np.inf, np.inf) == x.tolist()
    assert clamp(-(10**30), 10**30) == x.tolist()
    assert clamp(1.5, 2.5) == [2, 2, 2, 2, 2, 2, 2]
    assert clamp(np.nan, 3) == [0, 0, 1, 2, 3, 3, 3]
    assert clamp(10**30, None) == [info.max] * 7


@pytest.mark.parametrize("dtype", ["int64", "uint64"])
def test_bounds_of_64_bit_integers_are_exact(dtype):
    top = int(np.iinfo(dtype).max)
    x = np.array([0, top - 5, top - 3, top], dtype)
    got = run(lambda g, x: g.clamp(x, min_value=top - 4, max_value=top - 2), {"x": x})
    assert got.tolist() == [top - 4, top - 4, top - 3, top - 2]


def test_clamp_errors():
    operand_errors("clamp", {"input": [2, 3]}, min_value=0)
    g = GraphBuilder()
    x, i = g.input("x", [2], "float32"), g.input("i", [2], "uint8")
    rejected(g, "clamp", x, min_value=2, max_value=1, mentions=["2", "1", "min_value", "max_value"])
    rejected(g, "clamp", x, min_value="0", mentions=["'0'", "min_value"])
    rejected(g, "clamp", x, max_value=True, mentions=["True", "max_value"])
    rejected(g, "clamp", i, min_value=3, max_value=-1, mentions=["-1", "uint8"])
    assert g.clamp(i, min_value=300, max_value=400).shape == (2,), "equal after conversion"


# -- the others -----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", OPTIONS)
@given(data=st.data())
@quick
def test_values(name, dtype, data):
    special = (0.0, 20.0, -20.0, -3.0, 3.0) if name != "elu" else (0.0, 20.0)
    x = data.draw(arrays(dtype, data.draw(shapes()), -4, 4, special=special))
    options = {o: data.draw(st.floats(-2, 2, width=16)) for o in OPTIONS[name] if data.draw(st.booleans())}
    got = run(lambda g, x: getattr(g, name)(x, **options), {"x": x}, passes=name == "sigmoid")
    rounded = {"leaky_relu": {"alpha": 0.01}, "hard_sigmoid": {"alpha": 0.2, "beta": 0.5}}.get(name, {}) | options
    cast = np.dtype(dtype).type
    want = ref.ACTIVATION[name](x, **{k: float(cast(v)) for k, v in rounded.items()})
    atol = CANCELLING_TERMS.get(name)
    if name in CANCELLING:
        atol = 3 * float(np.finfo(dtype).eps) * (2 * 20 if special else 8)
    assert_close(got, want, ulp=ULP[name], atol=atol)


@pytest.mark.parametrize("dtype", ["int8", "int32", "int64"])
@given(data=st.data())
@quick
def test_relu_of_integers(dtype, data):
    x = data.draw(arrays(dtype, data.draw(shapes())))
    assert_close(run(lambda g, x: g.relu(x), {"x": x}), np.maximum(x, 0))


@pytest.mark.parametrize("dtype", FLOATS)
def test_no_overflow_far_from_zero(dtype):
    x = np.array([-60000, -100, 100, 60000], dtype)
    sigmoid, softplus, tanh, softsign, gelu = run(
        lambda g, x: [g.sigmoid(x), g.softplus(x), g.tanh(x), g.softsign(x), g.gelu(x)], {"x": x}
    )
    assert_close(sigmoid, np.array([0, 0, 1, 1]), atol=1e-7)
    assert_close(softplus, np.array([0, 0, 100, 60000]), atol=1e-7)
    assert_close(tanh, np.array([-1, -1, 1, 1]), ulp=1)
    assert_close(softsign, ref.ACTIVATION["softsign"](x), ulp=3)
    assert_close(gelu, np.array([0, 0, 100, 60000]), ulp=1)


def test_hard_swish_keeps_precision_near_minus_three():
    x = np.linspace(-3.001, -2.99, 50, dtype=np.float32)
    assert_close(run(lambda g, x: g.hard_swish(x), {"x": x}), ref.ACTIVATION["hard_swish"](x), ulp=4)


def test_linear_without_effect_copies():
    result = run_full(lambda g, x: g.linear(x), {"x": np.float32([1, 2])})
    assert result.ops == ["Identity"]


@pytest.mark.parametrize("dtype", SIGNED)
@pytest.mark.parametrize("constant", [True, False])
@given(data=st.data())
@quick
def test_prelu(dtype, constant, data):
    low, high = (-4, 4) if dtype.startswith("float") else (-10, 10)
    x, slope = (data.draw(arrays(dtype, s, low, high)) for s in data.draw(broadcastable()))
    got = run(lambda g, x, s: g.prelu(x, s), {"x": x, "slope": slope}, constants={"slope"} if constant else ())
    assert_close(got, ref.prelu(x, slope), ulp=1 if dtype.startswith("float") else 0)


@pytest.mark.parametrize("dtype", FLOATS)
@given(data=st.data())
@quick
def test_softmax(dtype, data):
    x = data.draw(arrays(dtype, data.draw(shapes(min_rank=1)), -2, 2))
    axis = data.draw(st.integers(0, x.ndim - 1))
    got = run(lambda g, x: g.softmax(x, axis), {"x": x})
    assert_close(got, ref.softmax(x, axis), ulp=3 * x.shape[axis] + 3)


def test_softmax_of_large_numbers():
    x = np.float32([[1000, 1001, -1000]])
    assert_close(run(lambda g, x: g.softmax(x, axis=1), {"x": x}), ref.softmax(x, 1), ulp=12)


# -- errors ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OPTIONS)
def test_operand_errors(name):
    operand_errors(name, {"input": [2, 3]})


@pytest.mark.parametrize(("name", "option"), [(n, o) for n, options in OPTIONS.items() for o in options])
@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), -float("inf"), "1", None, True, 1j, 10**400], ids=lambda v: repr(v)[:8]
)
def test_options_must_be_finite_numbers(name, option, value):
    g = GraphBuilder()
    rejected(g, name, g.input("x", [2], "float32"), mentions=[option, value], **{option: value})


def test_prelu_errors():
    operand_errors("prelu", {"input": [2, 3], "slope": [3]})
    g = GraphBuilder()
    x, slope = g.input("x", [2, 3], "int8"), g.input("slope", [2], "int8")
    rejected(g, "prelu", x, slope, mentions=[[2, 3], [2], "broadcast"])


def test_softmax_errors():
    operand_errors("softmax", {"input": [2, 3]}, axis=1)
    g = GraphBuilder()
    x, scalar = g.input("x", [2, 3], "float32"), g.input("s", [], "float32")
    for axis in (2, -1, 1.0, "1", None, True):
        rejected(g, "softmax", x, axis, mentions=["axis", axis])
    rejected(g, "softmax", scalar, 0, mentions=["rank 0"])
