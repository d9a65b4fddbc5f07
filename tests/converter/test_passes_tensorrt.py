"""The passes for TensorRT: values as ONNX Runtime computes them unoptimised, and engines of the real library."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pynn.converter.passes import Pass, backend_passes
from pynn.native import Library

from .legal import Array, Legal, edges

NARROW = ("int8", "uint8", "uint32", "uint64")
INTEGERS = (*NARROW, "int32", "int64")
pytestmark = pytest.mark.ort


def exact(legal: Legal, *expected: Array, reference: bool = False) -> None:
    """Bit for bit. ``reference``: by onnx's evaluator, where ONNX Runtime's sums of large integers are not exact."""
    for got, want in zip(legal.run(reference), expected, strict=True):
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got, want)


def wrapped(values: Any, data_type: str) -> Array:
    """Python integers, modulo two to the bits of ``data_type``."""
    bits = np.dtype(data_type).itemsize * 8
    flat = [int(v) % 2**bits for v in np.asarray(values, dtype=object).ravel()]
    return np.array(flat, dtype=np.uint64).astype(f"u{bits // 8}").view(data_type).reshape(np.shape(values))


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


# -- integers: the boundary and what happens to bools


def test_boundary_types_and_carriers() -> None:
    a = np.zeros(3)
    for data_type, bound in {"uint8": "uint8", "int8": "int8", "uint32": "int32", "uint64": "int64"}.items():
        graph = Legal(lambda g, x: g.add(x, x), {"a": a.astype(data_type)}).graph
        assert [graph.values[v].data_type for v in (graph.inputs["a"], graph.outputs["out"])] == [bound, bound]
        assert graph.carriers == ({} if bound == data_type else {"a": data_type, "out": data_type})


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
    assert legal.records == ()


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

    legal = Legal(build, {"a": a})
    exact(
        legal, Legal(lambda g, x: g.cast(build(g, g.cast(x, "float32")), "int32"), {"a": a}).run()[0].astype(data_type)
    ) if mode == "nearest-neighbor" else legal.run()
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


def passes_of(library: Library) -> tuple[Pass, ...]:
    return backend_passes("tensorrt", library.info.version)


@pytest.mark.parametrize("version", ["1.4.0.76", "1.5.0.114", "1.6.1.120", "1.7.1.116", "10.13.0.35"])
def test_the_list_of_passes(version: str) -> None:
    passes = backend_passes("tensorrt", version)
    assert len({one.name for one in passes}) == len(passes)
    assert all("TensorRT" in one.limit.split("\n\n")[0] for one in passes)
