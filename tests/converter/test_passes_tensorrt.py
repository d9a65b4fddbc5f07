"""The passes for TensorRT: values as ONNX Runtime computes them unoptimised, and engines of the real library."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pynn.builder import GraphBuilder
from pynn.converter.passes import backend_passes
from pynn.converter.serialize import to_model
from pynn.graph import Operand
from pynn.native import Library

from .legal import INTEGERS, NARROW, Array, Legal, edges, exact, passes_of, wrapped

pytestmark = pytest.mark.ort


def truncated(a: int, b: int) -> int:
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


# -- integers: arithmetic, order, conversion, on every pair of edge values

ARITHMETIC: dict[str, Callable[[int, int], int]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "max": max,
    "min": min,
    "div": truncated,
    "pow": pow,
}


@pytest.mark.parametrize("data_type", INTEGERS)
@pytest.mark.parametrize("operator", ARITHMETIC)
def test_arithmetic_wraps_as_the_type_does(operator: str, data_type: str) -> None:
    a, b = edges(data_type)
    if operator == "div":
        b[b == 0] = 5
    if operator == "pow":
        b = (np.abs(b.astype(object)) % 64).astype(data_type)
    want = [ARITHMETIC[operator](int(x), int(y)) for x, y in zip(a, b, strict=True)]
    exact(Legal(lambda g, x, y: getattr(g, operator)(x, y), {"a": a, "b": b}), wrapped(want, data_type))


@pytest.mark.parametrize("data_type", INTEGERS)
@pytest.mark.parametrize("exponent", [0, 1, 2, 3, 5, 64])
def test_constant_power_is_exact(exponent: int, data_type: str) -> None:
    a = edges(data_type)[0].reshape(-1, 4)
    power = np.array(exponent, data_type)
    legal = Legal(lambda g, x, p: g.pow(x, p), {"a": a, "p": power}, ["p"])
    exact(legal, wrapped([[int(v) ** exponent for v in row] for row in a], data_type))


ORDER: dict[str, Any] = {
    "equal": np.equal,
    "not_equal": np.not_equal,
    "greater": np.greater,
    "greater_or_equal": np.greater_equal,
    "lesser": np.less,
    "lesser_or_equal": np.less_equal,
}


@pytest.mark.parametrize("data_type", INTEGERS)
@pytest.mark.parametrize("operator", ORDER)
def test_order_is_unsigned_above_the_sign_bit(operator: str, data_type: str) -> None:
    a, b = edges(data_type)
    legal = Legal(lambda g, x, y: getattr(g, operator)(x, y), {"a": a, "b": b})
    exact(legal, ORDER[operator](a, b).astype(np.uint8))


@pytest.mark.parametrize("data_type", INTEGERS)
def test_clamp_and_where(data_type: str) -> None:
    a, b = edges(data_type)
    info = np.iinfo(data_type)
    low, high = int(info.max // 4), int(info.max - info.max // 4)
    exact(Legal(lambda g, x, y: g.clamp(x, min_value=low, max_value=high), {"a": a, "b": b}), a.clip(low, high))
    legal = Legal(lambda g, x, y: g.where(g.greater(x, y), x, y), {"a": a, "b": b})
    exact(legal, np.maximum(a, b))


@pytest.mark.parametrize("source", INTEGERS)
@pytest.mark.parametrize("target", [*INTEGERS, "float32", "float16"])
def test_cast_keeps_low_bits_and_rounds_once(source: str, target: str) -> None:
    a = edges(source)[0]
    with np.errstate(over="ignore"):
        exact(Legal(lambda g, x: g.cast(x, target), {"a": a}), a.astype(target))


@pytest.mark.parametrize("source", INTEGERS)
@pytest.mark.parametrize("middle", INTEGERS)
def test_casts_in_a_row(source: str, middle: str) -> None:
    """Between two casts a value stays in the range of the type between them."""
    a = edges(source)[0]
    targets = ["int64", "uint64", "float32", "uint8"]
    legal = Legal(lambda g, x: [g.cast(g.cast(x, middle), target) for target in targets], {"a": a})
    exact(legal, *(a.astype(middle).astype(target) for target in targets))


@pytest.mark.parametrize("target", INTEGERS)
@pytest.mark.parametrize("source", ["float32", "float16"])
def test_cast_of_floats_truncates(source: str, target: str) -> None:
    info = np.iinfo(target)
    numbers = np.array([info.min, info.min / 2, -2.5, -1.0, -0.5, 0, 0.5, 1.99, 100.7, info.max / 2, info.max * 0.9])
    numbers = numbers[(numbers >= info.min) & (np.abs(numbers) < np.finfo(source).max)].astype(source)
    want = np.array([int(v) for v in numbers.astype(np.float64)], dtype=object).astype(target)
    exact(Legal(lambda g, x: g.cast(x, target), {"a": numbers}), want)


def test_uint64_to_float_rounds_to_nearest_even() -> None:
    near = [2**63 + 2**39, 2**63 + 2**39 + 1, 2**63 + 3 * 2**39, 2**64 - 1, 2**64 - 2**39, 2**64 - 2**39 - 1]
    a = np.array([*near, *np.random.default_rng(0).integers(0, 2**64 - 1, 500, np.uint64)], dtype=np.uint64)
    exact(Legal(lambda g, x: g.cast(x, "float32"), {"a": a}), a.astype(np.float32))


# -- integers: reductions, data movement

REDUCTIONS: dict[str, Callable[..., Any]] = {
    "reduce_sum": np.sum,
    "reduce_product": np.prod,
    "reduce_max": np.max,
    "reduce_min": np.min,
    "reduce_l1": lambda a, axis, keepdims: np.sum(abs(a), axis=axis, keepdims=keepdims),
    "reduce_sum_square": lambda a, axis, keepdims: np.sum(a * a, axis=axis, keepdims=keepdims),
}
SMALL_ONLY = {"reduce_sum", "reduce_product", "reduce_l1", "reduce_sum_square"}


@pytest.mark.parametrize("data_type", [*NARROW, "int64"])
@pytest.mark.parametrize("operator", REDUCTIONS)
@pytest.mark.parametrize(("axes", "keep"), [((1,), False), ((0, 2), True), (None, False), ((), False)])
def test_reductions(operator: str, data_type: str, axes: tuple[int, ...] | None, keep: bool) -> None:
    if operator in SMALL_ONLY and data_type in ("int8", "uint8"):
        pytest.skip("not a data type of this WebNN operator")
    a = edges(data_type, count=0)[0][:96].reshape(4, 4, 6)
    legal = Legal(lambda g, x: getattr(g, operator)(x, axes=axes, keep_dimensions=keep), {"a": a})
    want = REDUCTIONS[operator](a.astype(object), axis=axes, keepdims=keep)
    exact(legal, wrapped(want, data_type), reference=True)


@pytest.mark.parametrize("data_type", INTEGERS)
@pytest.mark.parametrize("operator", ["arg_max", "arg_min"])
@pytest.mark.parametrize("shape", [(156,), (12, 13), (4, 3, 13)])
def test_arg_extremes(operator: str, data_type: str, shape: tuple[int, ...]) -> None:
    info = np.iinfo(data_type)
    rng = np.random.default_rng(3)
    pool = np.unique(rng.integers(info.min, info.max, 1000, data_type, endpoint=True))
    a = rng.choice(pool, 156, replace=False).reshape(shape)
    axis = len(shape) - 1
    legal = Legal(lambda g, x: getattr(g, operator)(x, axis, output_data_type="int64"), {"a": a})
    exact(legal, np.asarray(getattr(np, operator.replace("_", ""))(a, axis=axis), np.int64))


@pytest.mark.parametrize("data_type", ["uint32", "uint64"])
@pytest.mark.parametrize("exclusive", [False, True])
def test_cumulative_sum_wraps(data_type: str, exclusive: bool) -> None:
    a = edges(data_type, count=0)[0].reshape(10, -1)
    legal = Legal(lambda g, x: g.cumulative_sum(x, 1, exclusive=exclusive), {"a": a})
    total = np.cumsum(a.astype(object), axis=1) - (a.astype(object) if exclusive else 0)
    exact(legal, wrapped(total, data_type), reference=True)


@pytest.mark.parametrize("data_type", NARROW)
def test_data_movement_keeps_every_bit(data_type: str, newest_library: Library) -> None:
    a = edges(data_type, count=0)[0][:96].reshape(2, 3, 4, 4)
    fill = np.iinfo(data_type).max

    def build(g: Any, x: Any) -> list[Any]:
        indices = g.constant(np.array([1, 0, 2], np.uint32))
        moved = g.concat([g.transpose(x), g.reverse(g.transpose(x))], 0)
        return [
            g.pad(moved, [0, 1, 0, 0], [2, 0, 0, 1], value=fill),
            g.gather(moved, indices, axis=2),
            g.tile(g.slice(moved, [1, 0, 0, 0], [4, 2, 1, 2]), [1, 2, 1, 1]),
            *g.split(moved, 2, axis=1),
            g.triangular(x, upper=False, diagonal=1),
        ]

    legal = Legal(build, {"a": a})
    t = a.transpose()
    moved = np.concatenate([t, t[::-1, ::-1, ::-1, ::-1]])
    exact(
        legal,
        np.pad(moved, [(0, 2), (1, 0), (0, 0), (0, 1)], constant_values=fill),
        moved[:, :, [1, 0, 2]],
        np.tile(moved[1:5, :2, :1, :2], [1, 2, 1, 1]),
        moved[:, :2],
        moved[:, 2:],
        np.tril(a, 1),
    )
    legal.build(newest_library)


@pytest.mark.parametrize("data_type", ["int8", "uint8"])
@pytest.mark.parametrize("index_type", ["int32", "uint32"])
def test_a_large_table_of_bytes_stays_one(data_type: str, index_type: str, newest_library: Library) -> None:
    table = np.arange(2**20).astype(data_type).reshape(2**14, 64)
    rows = np.array([[0, 5], [2**14 - 1, 77]], index_type)
    legal = Legal(lambda g, t, i: g.gather(t, i), {"t": table, "i": rows}, ["t"])
    kept = [
        legal.graph.initializers[node.inputs[0]] for node in legal.graph.nodes if node.op_type == "DequantizeLinear"
    ]
    assert [array.dtype for array in kept] == [np.int8]
    exact(legal, table[rows])
    legal.build(newest_library)


# -- integers: the boundary and what happens to bools


def test_boundary_types_and_carriers() -> None:
    a = np.zeros(3)
    for data_type, bound in {"uint8": "uint8", "int8": "int8", "uint32": "int32", "uint64": "int64"}.items():
        graph = Legal(lambda g, x: g.add(x, x), {"a": a.astype(data_type)}).graph
        assert [graph.values[v].data_type for v in (graph.inputs["a"], graph.outputs["out"])] == [bound, bound]
        assert graph.carriers == ({} if bound == data_type else {"a": data_type, "out": data_type})


def test_an_output_with_the_name_of_an_input_has_its_own_carrier() -> None:
    def build(g: GraphBuilder, x: Operand, k: Operand) -> dict[str, Operand]:
        return {"x": g.add(k, k), "k": g.sin(x)}

    legal = Legal(build, {"x": np.zeros(3, np.float32), "k": np.ones(3, np.uint32)})
    model = to_model(legal.graph)
    assert [(s.name, s.data_type, s.carrier) for s in (*model.inputs, *model.outputs)] == [
        ("x", "float32", ""),
        ("k", "uint32", "int32"),
        ("x", "uint32", "int32"),
        ("k", "float32", ""),
    ]


def test_a_bool_stays_a_bool() -> None:
    a, b = edges("int32")
    legal = Legal(lambda g, x, y: g.where(g.logical_and(g.greater(x, y), g.lesser(x, y)), x, y), {"a": a, "b": b})
    assert "Cast" not in legal.ops
    legal = Legal(lambda g, x, y: g.greater(x, y), {"a": a, "b": b})
    assert legal.ops == ["Greater", "Cast"]


def test_a_clipped_number_is_not_wrapped_again() -> None:
    x = np.linspace(-9, 9, 12, dtype=np.float32)
    scale, zero = np.full(1, 0.05, np.float32), np.full(1, 7, np.uint8)
    legal = Legal(lambda g, v, s, z: g.quantize_linear(v, s, z), {"x": x, "s": scale, "z": zero}, ["s", "z"])
    assert "Mod" not in legal.ops
    exact(legal, np.clip(np.rint(x / scale) + 7, 0, 255).astype(np.uint8))


def test_two_names_for_one_result() -> None:
    a = edges("uint32")[0]

    def build(g: Any, x: Any) -> list[Any]:
        y = g.mul(x, x)
        return [y, y, g.add(y, x)]

    want = wrapped([int(v) ** 2 for v in a], "uint32")
    exact(Legal(build, {"a": a}), want, want, wrapped(want.astype(object) + a, "uint32"))


# -- float models are left alone


@pytest.mark.parametrize("data_type", ["float32", "float16"])
def test_float_models_stay_as_they_are(data_type: str) -> None:
    rng = np.random.default_rng(0)

    def weight(*shape: int) -> Array:
        return rng.standard_normal(shape).astype(data_type)

    def build(g: Any, image: Any, tokens: Any) -> list[Any]:
        x = g.conv2d(image, g.constant(weight(8, 3, 3, 3)), strides=[2, 2], padding=[1, 1, 1, 1])
        x = g.clamp(g.conv2d(x, g.constant(weight(8, 1, 3, 3)), groups=8), min_value=0, max_value=6)
        x = g.add(x, g.conv2d(x, g.constant(weight(8, 8, 1, 1))))
        x = g.max_pool2d(x, window_dimensions=[2, 2], strides=[2, 2])
        pooled = g.reshape(g.average_pool2d(x), [1, 8])
        y = g.layer_normalization(tokens, scale=g.constant(weight(16)), bias=g.constant(weight(16)), axes=[2])
        q, k = (g.matmul(y, g.constant(weight(16, 16))) for _ in range(2))
        attention = g.softmax(g.matmul(q, g.transpose(k, permutation=[0, 2, 1])), 2)
        y = g.gelu(g.add(tokens, g.matmul(attention, y)))
        return [g.softmax(g.gemm(pooled, g.constant(weight(8, 5))), 1), y, g.reduce_mean(y, axes=[1])]

    legal = Legal(build, {"image": weight(1, 3, 16, 16), "tokens": weight(1, 5, 16)})
    names = [record.name for record in legal.records]
    assert names == (["widen_half_layer_normalization"] if data_type == "float16" else [])


def test_half_layer_normalization_rounds_once() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4, 16)).astype(np.float16)
    scale, bias = (rng.uniform(1, 8, 16).astype(np.float16) for _ in range(2))

    def build(g: Any, x: Any) -> list[Any]:
        return [g.layer_normalization(x, scale=g.constant(scale), bias=g.constant(bias), axes=[1])]

    wide = x.astype(np.float64)
    centred = wide - wide.mean(1, keepdims=True)
    want = centred / np.sqrt((centred**2).mean(1, keepdims=True) + np.float16(1e-5)) * scale + bias
    got = Legal(build, {"x": x}).run()[0]
    assert got.dtype == np.float16
    ulps = np.abs(got.view(np.int16).astype(int) - want.astype(np.float16).view(np.int16))
    assert ulps.max() <= 1 and (ulps > 0).mean() < 0.05  # float32 sums may tip a tie


# -- the real libraries


@pytest.mark.trt
@pytest.mark.parametrize("data_type", INTEGERS)
def test_every_integer_rewrite_builds(data_type: str, trt_library: Library) -> None:
    """One engine with all of them, on each version."""
    a, b = (x.reshape(2, -1) for x in edges(data_type))

    def build(g: Any, x: Any, y: Any) -> list[Any]:
        results = [getattr(g, name)(x, y) for name in (*ARITHMETIC, *ORDER)]
        results += [g.cast(x, target) for target in (*INTEGERS, "float32", "float16") if target != data_type]
        results += [g.cast(g.cast(x, source), data_type) for source in ("float32", "float16")]
        results += [g.clamp(x, min_value=1, max_value=9), g.arg_max(x, 1), g.reduce_max(x, axes=[0]), g.reduce_min(y)]
        if data_type not in ("int8", "uint8"):
            results += [getattr(g, name)(x, axes=[1]) for name in SMALL_ONLY]
            results.append(g.cumulative_sum(x, 0))
        return results

    Legal(build, {"a": a, "b": b}, passes=passes_of(trt_library)).build(trt_library)


@pytest.mark.parametrize("version", ["1.4.0.76", "1.5.0.114", "1.6.1.120", "1.7.1.116", "10.13.0.35"])
def test_the_list_of_passes(version: str) -> None:
    passes = backend_passes("tensorrt", version)
    assert len({one.name for one in passes}) == len(passes)
    assert all("TensorRT" in one.limit.split("\n\n")[0] for one in passes)
