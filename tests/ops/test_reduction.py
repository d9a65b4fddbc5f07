"""argMin argMax reduce* cumulativeSum."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pynn.builder import GraphBuilder
from pynn.ops.registry import snake_case
from pynn.types import MAX_DIMENSION

from . import reference_part2 as reference
from .support import (
    ALL,
    FLOATS,
    INTEGERS,
    array,
    arrays,
    assert_close,
    quick,
    rejected,
    rejected_when_finished,
    run,
    run_full,
    shapes,
)

WIDE = ("float32", "float16", "int32", "uint32", "int64", "uint64")
TYPES = {
    "reduceL1": WIDE,
    "reduceL2": FLOATS,
    "reduceLogSum": FLOATS,
    "reduceLogSumExp": FLOATS,
    "reduceMax": ALL,
    "reduceMean": FLOATS,
    "reduceMin": ALL,
    "reduceProduct": WIDE,
    "reduceSum": WIDE,
    "reduceSumSquare": WIDE,
}
ULP = {
    "reduceL1": lambda n: n,
    "reduceL2": lambda n: 2 * n + 2,
    "reduceLogSum": lambda n: n + 18,
    "reduceLogSumExp": lambda n: 2 * n + 18,
    "reduceMax": lambda n: 0,
    "reduceMean": lambda n: n + 2,
    "reduceMin": lambda n: 0,
    "reduceProduct": lambda n: n,
    "reduceSum": lambda n: n,
    "reduceSumSquare": lambda n: 2 * n,
}
"""WPT's tolerances for n reduced elements; the inputs below keep sums of floats free of cancellation."""


@pytest.mark.parametrize("name", TYPES)
@quick
@given(st.data())
def test_reduce(name: str, data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(TYPES[name]))
    shape = data.draw(shapes(max_rank=4))
    axes = data.draw(st.none() | st.lists(st.integers(0, len(shape) - 1), unique=True) if shape else st.just([]))
    keep = data.draw(st.booleans())
    if dtype in FLOATS:
        low, high = (1.5, 4) if name == "reduceLogSum" else (0.9, 1.1) if name == "reduceProduct" else (0.5, 4)
        x = data.draw(arrays(dtype, shape, low, high))
        if name in ("reduceL1", "reduceL2", "reduceSumSquare", "reduceMax", "reduceMin"):
            x = np.asarray(x * data.draw(arrays("int8", shape, 0, 1)) * 2 - x, dtype)
    elif name == "reduceProduct":  # overflow is unspecified: at most 8 ** 8
        shape = tuple(min(dim, 2) for dim in shape[:3])
        axes = None if axes is None else [a for a in axes if a < len(shape)]
        x = data.draw(arrays(dtype, shape, 0 if dtype.startswith("u") else -8, 8))
    else:
        x = data.draw(arrays(dtype, shape))
    got = run(lambda b, x: getattr(b, snake_case(name))(x, axes=axes, keep_dimensions=keep), {"x": x})
    over = range(len(shape)) if axes is None else axes
    n = int(np.prod([shape[a] for a in over], dtype=int))
    assert_close(got, reference.reduction(name, x, axes, keep), ulp=ULP[name](n) if dtype in FLOATS else 0)


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("shape", [(), (3,)])
def test_no_axes_still_apply_the_function(name: str, shape: tuple[int, ...]) -> None:
    x = array("float32", shape, 1.5, 4)
    expected = {
        "reduceL1": np.abs(x),
        "reduceL2": np.abs(x),
        "reduceLogSum": np.log(x),
        "reduceSumSquare": x * x,
    }.get(name, x)
    assert_close(run(lambda b, x: getattr(b, snake_case(name))(x, axes=[]), {"x": x}), expected, ulp=1)
    if name in ("reduceL1", "reduceL2"):
        assert_close(run(lambda b, x: getattr(b, snake_case(name))(x, axes=[]), {"x": -x}), expected)


def test_the_identity_of_one_element_is_not_skipped_when_reduced() -> None:
    x = np.array([[-3.0]], np.float32)
    for method, expected in {"reduce_l1": 3, "reduce_l2": 3, "reduce_sum_square": 9}.items():
        assert_close(run(lambda b, x, m=method: getattr(b, m)(x), {"x": x}), np.array(expected, np.float32))


def test_float16_is_summed_in_float32() -> None:
    x = np.full(2000, 300, np.float16)
    assert_close(run(lambda b, x: b.reduce_l2(x), {"x": x}), np.sqrt(np.float64(2000)) * 300, ulp=1)
    assert_close(run(lambda b, x: b.reduce_mean(x), {"x": x}), np.array(300, np.float16))
    ones = np.full(4095, 1, np.float16)
    assert_close(run(lambda b, x: b.cumulative_sum(x, 0), {"x": ones}), np.arange(1, 4096), ulp=0)


@pytest.mark.parametrize("op", ["argMin", "argMax"])
@quick
@given(st.data())
def test_arg(op: str, data: st.DataObject) -> None:
    dtype, shape = data.draw(st.sampled_from(ALL)), data.draw(shapes(1, max_rank=4))
    axis, keep = data.draw(st.integers(0, len(shape) - 1)), data.draw(st.booleans())
    out = data.draw(st.sampled_from(["int32", "int64"]))
    x = data.draw(arrays(dtype, shape))
    got = run(lambda b, x: getattr(b, snake_case(op))(x, axis, keep_dimensions=keep, output_data_type=out), {"x": x})
    best = np.min(x, axis, keepdims=True) if op == "argMin" else np.max(x, axis, keepdims=True)
    found = got if keep else np.expand_dims(got, axis)
    assert got.dtype == out and found.shape == best.shape
    np.testing.assert_array_equal(np.take_along_axis(x, found.astype(np.int64), axis), best)


def test_every_dimension_fits_the_index_types() -> None:
    """The spec's error for an axis longer than int32 can count is out of reach: no dimension is."""
    assert np.iinfo(np.int32).max >= MAX_DIMENSION


@quick
@given(st.data())
def test_cumulative_sum(data: st.DataObject) -> None:
    dtype, shape = data.draw(st.sampled_from(WIDE)), data.draw(shapes(1, max_rank=4))
    axis = data.draw(st.integers(0, len(shape) - 1))
    exclusive, backward = data.draw(st.booleans()), data.draw(st.booleans())
    x = data.draw(arrays(dtype, shape, 0.5 if dtype in FLOATS else None))
    got = run(lambda b, x: b.cumulative_sum(x, axis, exclusive=exclusive, reversed=backward), {"x": x})
    ulp = max(shape[axis] - 1, 1) if dtype in FLOATS else 0
    assert_close(got, reference.cumulative_sum(x, axis, exclusive, backward), ulp=ulp)


def test_cumulative_sum_by_hand() -> None:
    x = np.array([1, 2, 3, 4], np.int32)
    for exclusive, backward, expected in [
        (False, False, [1, 3, 6, 10]),
        (True, False, [0, 1, 3, 6]),
        (False, True, [10, 9, 7, 4]),
        (True, True, [9, 7, 4, 0]),
    ]:
        got = run(lambda b, x, e=exclusive, r=backward: b.cumulative_sum(x, 0, exclusive=e, reversed=r), {"x": x})
        assert_close(got, np.array(expected))


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers_keep_every_bit(dtype: str) -> None:
    info = np.iinfo(dtype)
    x = np.array([info.max, info.min, info.max - 1], dtype)
    assert_close(run(lambda b, x: b.reduce_max(x), {"x": x}), np.array(info.max, dtype))
    assert_close(run(lambda b, x: b.reduce_min(x), {"x": x}), np.array(info.min, dtype))
    assert int(run(lambda b, x: b.arg_max(x, 0), {"x": x})) == 0


def test_axes_are_emitted_in_order() -> None:
    made = run_full(lambda b, x: b.reduce_sum(x, axes=[2, 0]), {"x": array("float32", (2, 3, 4))})
    assert made.ops == ["ReduceSum"] and made.outputs["out0"].shape == (3,)


# -- errors ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TYPES)
def test_reduce_errors(name: str) -> None:
    b, method = GraphBuilder(), snake_case(name)
    x = b.input("x", [2, 3], "float32")
    rejected(b, method, x, axes=[1, 1], mentions=["axes", [1, 1]])
    rejected(b, method, x, axes=[2], mentions=["axes", [2]])
    rejected(b, method, x, axes=[-1], mentions=["axes", -1])
    rejected(b, method, b.input("s", [], "float32"), axes=[0], mentions=["axes", [0]])
    rejected(b, method, x, keep_dimensions=1, mentions=["keep_dimensions", 1])
    for dtype in set(ALL) - set(TYPES[name]):
        rejected(b, method, b.input(f"x {dtype}", [2], dtype), mentions=["input", dtype])
    rejected(b, method, GraphBuilder().input("x", [2], "float32"), mentions=["another builder"])
    rejected_when_finished(b, method, x)


@pytest.mark.parametrize("op", ["arg_min", "arg_max"])
def test_arg_errors(op: str) -> None:
    b = GraphBuilder()
    x = b.input("x", [2, 3], "float32")
    rejected(b, op, x, 2, mentions=["axis", 2])
    rejected(b, op, x, -1, mentions=["axis", -1])
    rejected(b, op, b.input("s", [], "float32"), 0, mentions=["rank 0"])
    for bad in ("uint32", "float32", "int65", None, 32):
        rejected(b, op, x, 0, output_data_type=bad, mentions=["output_data_type", bad])
    rejected(b, op, x, 0, keep_dimensions="yes", mentions=["keep_dimensions", "yes"])
    rejected(b, op, GraphBuilder().input("x", [2], "float32"), 0, mentions=["another builder"])
    rejected_when_finished(b, op, x, 0)


def test_cumulative_sum_errors() -> None:
    b = GraphBuilder()
    x = b.input("x", [2, 3], "float32")
    for axis in (2, -1, 2**32, 1.0):
        rejected(b, "cumulative_sum", x, axis, mentions=["axis", axis])
    rejected(b, "cumulative_sum", b.input("s", [], "float32"), 0, mentions=["rank 0"])
    rejected(b, "cumulative_sum", b.input("i", [2], "int8"), 0, mentions=["input", "int8"])
    rejected(b, "cumulative_sum", x, 0, exclusive=0, mentions=["exclusive", 0])
    rejected(b, "cumulative_sum", x, 0, reversed=0, mentions=["reversed", 0])
    rejected(b, "cumulative_sum", GraphBuilder().input("x", [2], "float32"), 0, mentions=["another builder"])
    rejected_when_finished(b, "cumulative_sum", x, 0)
