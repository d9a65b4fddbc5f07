"""cast quantizeLinear dequantizeLinear."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pynn.builder import GraphBuilder

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

QUANTIZED = ("uint8", "int8", "uint32", "int32")
Array = np.ndarray[Any, Any]


# -- cast -----------------------------------------------------------------------------------


@quick
@given(st.data())
def test_cast(data: st.DataObject) -> None:
    """Floats that become integers stay in range: beyond it the spec leaves the result open."""
    source, target = data.draw(st.sampled_from(ALL)), data.draw(st.sampled_from(ALL))
    shape = data.draw(shapes())
    if source in FLOATS and target in INTEGERS:
        low, high = (0, 100) if target.startswith("u") else (-100, 100)
        x = data.draw(arrays(source, shape, low, high))
        expected = np.trunc(x.astype(np.float64))
    else:
        x = data.draw(arrays(source, shape, special=_extremes(source)))
        with np.errstate(over="ignore"):
            expected = x.astype(target)
    assert_close(run(lambda b, x: b.cast(x, target), {"x": x}), expected)


def _extremes(dtype: str) -> list[float]:
    if dtype in FLOATS:
        return [float("inf"), float("-inf"), 65504.0, 1e-7]
    info = np.iinfo(dtype)
    return [int(info.min), int(info.max), int(info.max) // 2]


@pytest.mark.parametrize(
    ("source", "value", "target", "expected"),
    [
        ("int8", -1, "uint8", 255),
        ("int32", 300, "uint8", 44),
        ("uint64", 2**63 + 5, "int32", 5),
        ("int64", -1, "uint64", 2**64 - 1),
        ("uint32", 2**32 - 1, "int32", -1),
        ("float32", -1.9, "int8", -1),
        ("float32", 1e6, "float16", float("inf")),
        ("int64", 2**62, "float16", float("inf")),
        ("uint64", 2**64 - 1, "float32", 2.0**64),
        ("int32", 2**24 + 1, "float32", 2.0**24),
    ],
)
def test_cast_by_hand(source: str, value: float, target: str, expected: float) -> None:
    got = run(lambda b, x: b.cast(x, target), {"x": np.array([value], source)})
    assert_close(got, np.array([expected], target))


# -- quantizeLinear, dequantizeLinear -------------------------------------------------------


@st.composite
def parameters(draw: st.DrawFn, dtype: str, zero_dtype: str) -> tuple[tuple[int, ...], Array, Array]:
    """A shape, and scale and zero point that fit it. Scales are powers of two, so that quotients are exact."""
    shape = draw(shapes(max_rank=4, max_dim=4))
    blocks = draw(st.sampled_from(reference.block_shapes(shape)))
    exponents = draw(arrays("int8", blocks, -3, 3))
    scale = np.asarray(np.exp2(exponents.astype(np.float32)), dtype)
    if draw(st.booleans()):
        return shape, scale, np.zeros(blocks, zero_dtype)
    low, high = (0, 255) if zero_dtype == "uint8" else (-128, 127) if zero_dtype == "int8" else (None, None)
    return shape, scale, draw(arrays(zero_dtype, blocks, low, high))


def constants(data: st.DataObject) -> list[str]:
    return data.draw(st.sampled_from([[], ["scale", "zero_point"], ["scale"]]))


@quick
@given(st.data())
def test_quantize_linear(data: st.DataObject) -> None:
    dtype, out = data.draw(st.sampled_from(FLOATS)), data.draw(st.sampled_from(QUANTIZED))
    shape, scale, zero_point = data.draw(parameters(dtype, out))
    halves = data.draw(arrays("int32", shape, -600, 600)) / 2
    x = np.asarray(halves * reference.blockwise(scale, shape), dtype)
    inputs = {"x": x, "scale": scale, "zero_point": zero_point}
    got = run(lambda b, *operands: b.quantize_linear(*operands), inputs, constants=constants(data))
    assert_close(got, reference.quantize(x, scale, zero_point))


@quick
@given(st.data())
def test_quantize_linear_any_scale(data: st.DataObject) -> None:
    """With quotients that are not exact, a value beside a half may go either way."""
    out = data.draw(st.sampled_from(QUANTIZED))
    shape, scale, zero_point = data.draw(parameters("float32", out))
    scale = np.asarray(scale * 1.37, np.float32)
    x = data.draw(arrays("float32", shape, -200, 200))
    inputs = {"x": x, "scale": scale, "zero_point": zero_point}
    got = run(lambda b, *operands: b.quantize_linear(*operands), inputs, constants=constants(data))
    assert_close(got, reference.quantize(x, scale, zero_point), ulp=1)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("out", QUANTIZED)
def test_quantize_rounds_then_shifts_then_saturates(dtype: str, out: str) -> None:
    info = np.iinfo(out)
    inf = float("inf")
    x = np.array([0.5, 1.5, 2.5, -0.5, -1.5, 3.5, inf, -inf], dtype)
    for zero in (0, 1, int(info.max) - 2, int(info.min)):
        inputs = {"x": x, "scale": np.ones(1, dtype), "zero_point": np.array([zero], out)}
        got = run(lambda b, *operands: b.quantize_linear(*operands), inputs)
        rounded = [0, 2, 2, 0, -2, 4, 2**60, -(2**60)]
        expected = [min(max(r + zero, int(info.min)), int(info.max)) for r in rounded]
        assert_close(got, np.array(expected, out))


@quick
@given(st.data())
def test_dequantize_linear(data: st.DataObject) -> None:
    dtype, source = data.draw(st.sampled_from(FLOATS)), data.draw(st.sampled_from(QUANTIZED))
    shape, scale, zero_point = data.draw(parameters(dtype, source))
    scale = np.asarray(scale * 1.37, dtype)
    x = data.draw(arrays(source, shape))
    inputs = {"x": x, "scale": scale, "zero_point": zero_point}
    chosen = constants(data)
    got = run(lambda b, *operands: b.dequantize_linear(*operands), inputs, constants=chosen)
    assert_close(got, reference.dequantize(x, scale, zero_point), ulp=1)


def test_dequantize_subtracts_before_it_converts() -> None:
    x = np.array([2**31 - 1, -(2**31), 2**24 + 3], np.int32)
    zero_point = np.array([2**31 - 2, 2**31 - 1, 2**24], np.int32)
    inputs = {"x": x, "scale": np.ones(3, np.float32), "zero_point": zero_point}
    got = run(lambda b, *operands: b.dequantize_linear(*operands), inputs)
    assert_close(got, np.array([1, -(2.0**32), 3]), ulp=1)


@quick
@given(st.data())
def test_dequantize_4_bit_constants(data: st.DataObject) -> None:
    """The extension: constants of int4 and uint4."""
    name = data.draw(st.sampled_from(["int4", "uint4"]))
    dtype = np.dtype(getattr(ml_dtypes, name))
    low, high = (-8, 7) if name == "int4" else (0, 15)
    shape = data.draw(shapes(max_rank=3, max_dim=8))
    blocks = data.draw(st.sampled_from(reference.block_shapes(shape)))
    x = data.draw(arrays("int8", shape, low, high)).astype(dtype)
    zero_point = data.draw(arrays("int8", blocks, low, high)).astype(dtype)
    scale = data.draw(arrays("float32", blocks, 0.1, 2))
    check_4_bit(x, scale, zero_point)


def check_4_bit(x: Array, scale: Array, zero_point: Array) -> None:
    def build(b: GraphBuilder, s: Any) -> Any:
        return b.dequantize_linear(b.constant(x), s, b.constant(zero_point))

    assert_close(run(build, {"scale": scale}), reference.dequantize(x, scale, zero_point), ulp=1)


@pytest.mark.parametrize("name", ["int4", "uint4"])
def test_large_4_bit_constants(name: str) -> None:
    """Large enough to stay outside the proto."""
    dtype = np.dtype(getattr(ml_dtypes, name))
    low = -8 if name == "int4" else 0
    x = array("int8", (67, 65), low, low + 15).astype(dtype)
    check_4_bit(x, array("float32", (1, 65), 0.1, 2), array("int8", (1, 65), low, low + 15).astype(dtype))


@pytest.mark.parametrize(
    ("shape", "blocks", "attributes"),
    [
        ((4, 6), (1, 1), {}),
        ((4, 6), (1, 6), {"axis": 1}),
        ((4, 6), (4, 2), {"axis": 1, "block_size": 3}),
        ((4, 6), (2, 3), {"axis": 0, "block_size": 2}),
        ((1, 6), (1, 6), {"axis": 1}),
    ],
)
def test_onnx_quantization_operators_are_used(
    shape: tuple[int, ...], blocks: tuple[int, ...], attributes: dict[str, int]
) -> None:
    names = ["scale", "zero_point"]
    inputs = {"x": array("int8", shape), "scale": np.ones(blocks, np.float32), "zero_point": np.zeros(blocks, np.int8)}
    made = run_full(lambda b, *o: b.dequantize_linear(*o), inputs, constants=names)
    assert made.ops == ["DequantizeLinear"] and made.graph.nodes[0].attributes == attributes
    inputs["x"] = array("float32", shape)
    made = run_full(lambda b, *o: b.quantize_linear(*o), inputs, constants=names)
    assert made.ops == ["QuantizeLinear"] and made.graph.nodes[0].attributes == attributes


# -- errors ---------------------------------------------------------------------------------


def test_cast_errors() -> None:
    b = GraphBuilder()
    x = b.input("x", [2], "float32")
    for bad in ("bool", "float64", "int4", "Float32", None, 3):
        rejected(b, "cast", x, bad, mentions=["data type" if bad != "int4" else "data_type", bad])
    nibbles = b.constant(np.array([1], ml_dtypes.int4))
    rejected(b, "cast", nibbles, "float32", mentions=["input", "int4"])
    rejected(b, "cast", GraphBuilder().input("x", [2], "float32"), "int8", mentions=["another builder"])
    rejected_when_finished(b, "cast", x, "int8")


@pytest.mark.parametrize("method", ["quantize_linear", "dequantize_linear"])
def test_parameter_errors(method: str) -> None:
    b = GraphBuilder()
    x_type, zero_type = ("float32", "uint8") if method == "quantize_linear" else ("uint8", "uint8")
    x = b.input("x", [2, 6], x_type)
    scale, zero_point = b.input("s", [1, 3], "float32"), b.input("z", [1, 3], zero_type)
    assert getattr(b, method)(x, scale, zero_point).shape == (2, 6)
    low = b.input("low", [3], "float32")
    rejected(b, method, x, low, zero_point, mentions=["scale", "rank 1", [3], "rank 2", [2, 6]])
    rejected(b, method, x, scale, b.input("zl", [3], zero_type), mentions=["zero_point", "rank 1", [3]])
    rejected(b, method, x, scale, b.input("zs", [1, 6], zero_type), mentions=["scale", [1, 3], "zero_point", [1, 6]])
    fours = b.input("s4", [1, 4], "float32"), b.input("z4", [1, 4], zero_type)
    rejected(b, method, x, *fours, mentions=["scale", [1, 4], [2, 6]])
    rejected(
        b, method, x, b.input("long", [2, 12], "float32"), b.input("zlong", [2, 12], zero_type), mentions=[[2, 12]]
    )
    other = GraphBuilder()
    foreign = other.input("x", [1, 3], "float32"), other.input("z", [1, 3], zero_type)
    rejected(b, method, other.input("o", [2, 6], x_type), scale, zero_point, mentions=["input", "another builder"])
    rejected(b, method, x, foreign[0], zero_point, mentions=["scale", "another builder"])
    rejected(b, method, x, scale, foreign[1], mentions=["zero_point", "another builder"])
    rejected_when_finished(b, method, x, scale, zero_point)


def test_dequantize_types() -> None:
    b = GraphBuilder()
    x, scale, zero_point = b.input("x", [2], "int8"), b.input("s", [1], "float32"), b.input("z", [1], "int8")
    for dtype in set(ALL) - set(QUANTIZED):
        bad = b.input(f"x {dtype}", [2], dtype)
        rejected(b, "dequantize_linear", bad, scale, zero_point, mentions=["input", dtype])
    for dtype in INTEGERS:
        bad = b.input(f"s {dtype}", [1], dtype)
        rejected(b, "dequantize_linear", x, bad, zero_point, mentions=["scale", dtype])
    unlike = b.input("u", [1], "uint8")
    rejected(b, "dequantize_linear", x, scale, unlike, mentions=["zero_point", "uint8", "int8"])


def test_quantize_types() -> None:
    b = GraphBuilder()
    x, scale, zero_point = b.input("x", [2], "float32"), b.input("s", [1], "float32"), b.input("z", [1], "int8")
    for dtype in INTEGERS:
        bad = b.input(f"x {dtype}", [2], dtype)
        rejected(b, "quantize_linear", bad, scale, zero_point, mentions=["input", dtype])
    rejected(
        b, "quantize_linear", x, b.input("h", [1], "float16"), zero_point, mentions=["scale", "float16", "float32"]
    )
    for dtype in set(ALL) - set(QUANTIZED):
        bad = b.input(f"z {dtype}", [1], dtype)
        rejected(b, "quantize_linear", x, scale, bad, mentions=["zero_point", dtype])
