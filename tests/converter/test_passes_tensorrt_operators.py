"""The passes for TensorRT that concern one family of operators: values unoptimised, and engines of the real library."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pynn.native import Library

from .legal import INTEGERS, Array, Legal, edges, exact, passes_of, wrapped

pytestmark = pytest.mark.ort


# -- pooling


@pytest.mark.parametrize("data_type", [*INTEGERS, "float32", "float16"])
@pytest.mark.parametrize(
    "options",
    [
        {"window_dimensions": [3, 2], "strides": [2, 1], "dilations": [2, 3], "padding": [1, 2, 0, 1]},
        {"window_dimensions": [3, 3], "strides": [2, 2], "padding": [1, 1, 1, 1], "output_shape_rounding": "ceil"},
        {},
    ],
)
def test_max_pool(data_type: str, options: dict[str, Any], newest_library: Library) -> None:
    rng = np.random.default_rng(1)
    if data_type.startswith("float"):
        a = rng.standard_normal((2, 3, 8, 9)).astype(data_type)
    else:
        info = np.iinfo(data_type)
        a = rng.integers(info.min, info.max, (2, 3, 8, 9), data_type, endpoint=True)
    legal = Legal(lambda g, x: g.max_pool2d(x, **options), {"a": a})
    exact(legal, pooled(a, options, np.max))
    legal.build(newest_library)


@pytest.mark.parametrize("data_type", ["float32", "float16"])
@pytest.mark.parametrize("operator", ["average_pool2d", "l2_pool2d"])
def test_dilated_sums(operator: str, data_type: str, newest_library: Library) -> None:
    options = {"window_dimensions": [3, 2], "strides": [2, 1], "dilations": [2, 3], "padding": [1, 2, 0, 1]}
    a = np.random.default_rng(1).standard_normal((2, 3, 8, 9)).astype(data_type)
    legal = Legal(lambda g, x: getattr(g, operator)(x, **options), {"a": a})
    fold = np.mean if operator == "average_pool2d" else lambda v: np.sqrt(np.sum(np.square(v)))
    want = pooled(a.astype(np.float64), options, fold)
    np.testing.assert_allclose(legal.run()[0], want, rtol=2e-3 if data_type == "float16" else 2e-6, atol=1e-3)
    legal.build(newest_library)


def pooled(a: Array, options: dict[str, Any], fold: Callable[[Array], Any]) -> Array:
    """A pool over the elements in range, as WebNN defines it."""
    window = options.get("window_dimensions", a.shape[2:])
    strides, dilations = options.get("strides", [1, 1]), options.get("dilations", [1, 1])
    before, after = options.get("padding", [0] * 4)[0::2], options.get("padding", [0] * 4)[1::2]
    up = options.get("output_shape_rounding") == "ceil"
    sizes = []
    for i in range(2):
        room = a.shape[2 + i] + before[i] + after[i] - (window[i] - 1) * dilations[i] - 1
        sizes.append(-(-room // strides[i]) + 1 if up else room // strides[i] + 1)
    out = np.empty((*a.shape[:2], *sizes), a.dtype)
    for at in np.ndindex(*out.shape):
        places = [[at[2 + i] * strides[i] - before[i] + k * dilations[i] for k in range(window[i])] for i in range(2)]
        inside = [[p for p in places[i] if 0 <= p < a.shape[2 + i]] for i in range(2)]
        out[at] = fold(a[at[0], at[1]][np.ix_(*inside)])
    return out


# -- transposed convolution


@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize(("strides", "dilations"), [([2, 2], [2, 2]), ([1, 3], [2, 1]), ([2, 1], [3, 2])])
def test_conv_transpose_with_stride_and_dilation(
    constant: bool, strides: list[int], dilations: list[int], newest_library: Library
) -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(-4, 5, (1, 4, 5, 4)).astype(np.float32)
    w = rng.integers(-4, 5, (4, 3, 3, 2)).astype(np.float32)

    def build(g: Any, x: Any, w: Any) -> Any:
        return g.conv_transpose2d(x, w, strides=strides, dilations=dilations, groups=2, padding=[1, 0, 0, 1])

    legal = Legal(build, {"x": x, "w": w}, ["w"] if constant else [])
    exact(legal, *Legal(build, {"x": x, "w": w}, passes=()).run())
    node = next(node for node in legal.graph.nodes if node.op_type == "ConvTranspose")
    assert list(node.attributes["dilations"]) == [1, 1]
    legal.build(newest_library)


# -- quantisation


def weights(legal: Legal) -> list[str]:
    """The types of the constants that DequantizeLinear keeps."""
    nodes = [node for node in legal.graph.nodes if node.op_type == "DequantizeLinear"]
    assert all(len(node.inputs) == 2 for node in nodes)
    return [legal.graph.values[node.inputs[0]].data_type for node in nodes]


WEIGHT_CASES = [
    ("int8", 0, (1, 1), "int8"),
    ("int8", 0, (1, 6), "int8"),
    ("int8", 0, (2, 6), "int8"),
    ("int8", 3, (1, 6), None),
    ("uint8", 128, (8, 1), "int8"),
    ("uint8", 0, (1, 6), None),
    ("uint8", 128, (4, 3), "int8"),
    ("int4", 0, (2, 6), "int4"),
    ("uint4", 8, (4, 6), "int4"),
    ("uint4", 3, (4, 6), "int8"),
    ("int4", -5, (1, 1), "int8"),
]


@pytest.mark.parametrize(("data_type", "zero", "blocks", "kept"), WEIGHT_CASES)
@pytest.mark.parametrize("scale_type", ["float32", "float16"])
def test_constant_weights_stay_small(
    data_type: str, zero: int, blocks: tuple[int, int], kept: str | None, scale_type: str, newest_library: Library
) -> None:
    import ml_dtypes

    bits = 4 if data_type.endswith("4") else 8
    low = 0 if data_type.startswith("u") else -(2 ** (bits - 1))
    w = np.arange(48).reshape(8, 6) * 11 % 2**bits + low
    w.flat[:2] = low, low + 2**bits - 1
    numpy_type = np.dtype(getattr(ml_dtypes, data_type)) if bits == 4 else np.dtype(data_type)
    scale = (np.arange(1, 1 + np.prod(blocks)).reshape(blocks) / 16).astype(scale_type)
    x = np.eye(8, dtype=scale_type)

    def build(g: Any, x: Any) -> Any:
        zero_point = g.constant(np.full(blocks, zero).astype(numpy_type))
        return g.matmul(x, g.dequantize_linear(g.constant(w.astype(numpy_type)), g.constant(scale), zero_point))

    legal = Legal(build, {"x": x})
    assert weights(legal) == ([kept] if kept else [])
    repeats = [size // count for size, count in zip(w.shape, blocks, strict=True)]
    full = np.repeat(np.repeat(scale.astype(np.float64), repeats[0], 0), repeats[1], 1)
    want = ((w - zero) * full).astype(scale_type)
    np.testing.assert_array_equal(legal.run()[0], want)
    legal.build(newest_library)


QUANTIZED_SHAPES = [((), ()), ((6,), (1,)), ((6,), (3,)), ((4, 6), (1, 6)), ((4, 6), (2, 3)), ((2, 3, 4), (1, 3, 2))]


@pytest.mark.parametrize("data_type", ["uint8", "int8", "int32", "uint32"])
@pytest.mark.parametrize(("shape", "blocks"), QUANTIZED_SHAPES)
@pytest.mark.parametrize("constant", [True, False])
def test_quantization_is_exact(
    data_type: str, shape: tuple[int, ...], blocks: tuple[int, ...], constant: bool, newest_library: Library
) -> None:
    rng = np.random.default_rng(2)
    info = np.iinfo(data_type)
    scale = (2.0 ** rng.integers(-3, 3, blocks)).astype(np.float32)
    zero = rng.integers(max(info.min, -100), 101, blocks).astype(data_type)
    x = (rng.integers(-600, 600, shape) / 16).astype(np.float32)
    x = np.asarray(x)
    if x.size > 3:
        x.flat[:3] = 3e38, -3e38, 0.5
    inputs = {"x": x, "s": np.asarray(scale), "z": np.asarray(zero)}

    def build(g: Any, x: Any, s: Any, z: Any) -> list[Any]:
        q = g.quantize_linear(x, s, z)
        return [q, g.dequantize_linear(q, s, z)]

    legal = Legal(build, inputs, ["s", "z"] if constant else [])
    repeats = [n // b for n, b in zip(shape, blocks, strict=True)]
    wide_scale, wide_zero = scale.astype(np.float64), zero.astype(np.int64)
    for axis, times in enumerate(repeats):
        wide_scale, wide_zero = np.repeat(wide_scale, times, axis), np.repeat(wide_zero, times, axis)
    q = np.clip(np.clip(np.rint(x / wide_scale), -(2.0**40), 2.0**40) + wide_zero, info.min, info.max)
    q = np.asarray(q.astype(np.int64).astype(data_type))
    exact(legal, q, np.asarray(((q.astype(np.int64) - wide_zero) * wide_scale).astype(np.float32)))
    legal.build(newest_library)


# -- ranks, logic, float-only operators, recurrent networks


def test_one_dimension_and_scalars(newest_library: Library) -> None:
    v = np.array([1.0, 3.0, 2.0], np.float32)
    s = np.array(-3.0, np.float32)

    def build(g: Any, v: Any, s: Any) -> list[Any]:
        reductions = [getattr(g, f"reduce_{name}")(s) for name in ("sum", "l1", "l2", "sum_square", "mean", "max")]
        return [
            g.softmax(v, 0),
            g.arg_max(v, 0),
            g.arg_min(v, 0, keep_dimensions=True, output_data_type="int64"),
            g.layer_normalization(s, axes=[]),
            *reductions,
        ]

    legal = Legal(build, {"v": v, "s": s})
    soft = np.exp(v - 3) / np.exp(v - 3).sum()
    want = [soft, 1, [0], 0, -3, 3, 3, 9, -3, -3]
    for got, expected in zip(legal.run(), want, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-6)
    legal.build(newest_library)


@pytest.mark.parametrize("operator", ["logical_and", "logical_or", "logical_xor"])
@pytest.mark.parametrize("value", [0, 1])
def test_logic_with_a_constant(operator: str, value: int, newest_library: Library) -> None:
    a = np.array([[0, 1], [2, 255]], np.uint8)
    b = np.array([value], np.uint8)
    legal = Legal(lambda g, x, y: getattr(g, operator)(x, y), {"a": a, "b": b}, ["b"])
    exact(legal, getattr(np, operator)(a, b).astype(np.uint8))
    legal.build(newest_library)


def test_where_between_equal_constants(newest_library: Library) -> None:
    c = np.array([[0, 1], [2, 0]], np.uint8)
    k = np.arange(4).reshape(2, 2)

    def build(g: Any, c: Any, k: Any) -> list[Any]:
        return [g.where(c, k, k), g.where(c, k, g.constant(np.arange(4).reshape(2, 2)))]

    legal = Legal(build, {"c": c, "k": k}, ["k"])
    exact(legal, k, k)
    legal.build(newest_library)


@pytest.mark.parametrize("data_type", ["int32", "int64", "int8"])
def test_relu_prelu_sign_on_integers(data_type: str, newest_library: Library) -> None:
    a, b = edges(data_type, count=0)

    def build(g: Any, x: Any, y: Any) -> list[Any]:
        return [g.relu(x), g.prelu(x, y), g.sign(x), g.abs(x), g.neg(x)]

    legal = Legal(build, {"a": a, "b": b})
    product = wrapped(a.astype(object) * b.astype(object), data_type)
    want = [np.maximum(a, 0), np.where(a < 0, product, a), np.sign(a)]
    exact(legal, *want, wrapped(abs(a.astype(object)), data_type), wrapped(-a.astype(object), data_type))
    legal.build(newest_library)


@pytest.mark.parametrize("mode", ["nearest-neighbor", "linear"])
@pytest.mark.parametrize("data_type", ["uint8", "int8"])
def test_resample_of_bytes(mode: str, data_type: str, newest_library: Library) -> None:
    a = np.arange(36).astype(data_type).reshape(1, 1, 6, 6) * np.array(7, data_type)

    def build(g: Any, x: Any) -> Any:
        return g.resample2d(x, mode=mode, sizes=[9, 4])

    wide = Legal(lambda g, x: g.round_even(build(g, g.cast(x, "float32"))), {"a": a}, passes=())
    legal = Legal(build, {"a": a})
    exact(legal, wide.run()[0].astype(data_type))
    legal.build(newest_library)


@pytest.mark.parametrize("operator", ["gru", "lstm"])
def test_a_half_cast_in_front_of_a_recurrent_network(operator: str, newest_library: Library) -> None:
    gates = 3 if operator == "gru" else 4
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 6), np.float32).astype(np.float16)
    w = rng.standard_normal((1, gates * 4, 3), np.float32).astype(np.float16)
    r = rng.standard_normal((1, gates * 4, 4), np.float32)

    def build(g: Any, x: Any, w: Any, r: Any) -> Any:
        steps = g.reshape(g.transpose(g.cast(x, "float32")), [3, 2, 3])
        return getattr(g, operator)(steps, g.cast(w, "float32"), r, 3, 4, layout="zrn" if gates == 3 else "iofg")

    inputs = {"x": x, "w": w, "r": r}
    legal = Legal(build, inputs)
    assert legal.ops.count("Neg") == 4
    for got, want in zip(legal.run(), Legal(build, inputs, passes=()).run(), strict=True):
        np.testing.assert_array_equal(got, want)
    legal.build(newest_library)


# -- early releases


@pytest.mark.trt
def test_limits_of_early_releases(trt_library: Library) -> None:
    rng = np.random.default_rng(0)
    a, b, c = (rng.integers(-3, 4, shape).astype(np.float16) for shape in ((2, 3), (3, 4), (1, 4)))
    x = rng.permutation(240).reshape(2, 3, 5, 4, 2).astype(np.float32)
    steps, w, r = (rng.standard_normal(shape).astype(np.float16) for shape in ((3, 2, 3), (1, 12, 3), (1, 12, 4)))

    def build(g: Any, a: Any, b: Any, c: Any, x: Any, steps: Any, w: Any, r: Any) -> list[Any]:
        return [
            g.gemm(a, b, c=c, alpha=2.0, beta=0.5),
            g.gemm(a, b, alpha=-1.0),
            g.arg_max(x, 0, keep_dimensions=True),
            g.arg_min(x, 0),
            *g.gru(steps, w, r, 3, 4, return_sequence=True),
        ]

    inputs = {"a": a, "b": b, "c": c, "x": x, "steps": steps, "w": w, "r": r}
    legal = Legal(build, inputs, ["w"], passes=passes_of(trt_library))
    wide = a.astype(np.float32) @ b
    want: list[Any] = [wide * 2 + c * 0.5, -wide, x.argmax(0, keepdims=True), x.argmin(0)]
    got = legal.run(reference=True)
    for one, other in zip(got, want, strict=False):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(got[4:], Legal(build, inputs, ["w"], passes=()).run(reference=True)[4:], strict=True):
        np.testing.assert_allclose(one, other, atol=4e-3)
    legal.build(trt_library)
