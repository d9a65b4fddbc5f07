"""Passes for ONNX Runtime: exact integers, kernels for every type in every version, floats in WebNN's tolerances."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from typing import Any

import numpy as np
import pytest

from pynn.backends.base import CompileOptions
from pynn.backends.ort import OrtBackend
from pynn.builder import GraphBuilder
from pynn.converter import OnnxGraph, OnnxNode, backend_passes, lower_graph, to_onnx
from pynn.converter.passes import run_passes
from pynn.converter.passes.ort_kernels import LACKS
from pynn.converter.passes.ort_support import Kernels, main_inputs, release
from pynn.graph import Graph, Operand
from pynn.ops.registry import operators

from ..conformance.compare import ulp_distance
from ..ops.reference_part1 import greatest, pool2d
from ..ops.support import check_lowering

Array = np.ndarray[Any, Any]
TYPES = ("int8", "uint8", "int32", "uint32", "int64", "uint64")
RELEASES = [f"{major}.{minor}.0" for major, minor in sorted(LACKS)]
pytestmark = pytest.mark.ort


def version_here() -> str:
    import onnxruntime

    return str(onnxruntime.__version__)


def run(graph: Graph, feeds: dict[str, Array], version: str = "") -> dict[str, Array]:
    """With the passes of a version, on the ONNX Runtime that is here."""
    model = to_onnx(graph, backend_passes("onnxruntime", version or version_here()))
    with OrtBackend(use_gpu=False).compile(model, CompileOptions()) as executable:
        return executable.run(feeds)


def lower_and_pass(graph: Graph, version: str) -> OnnxGraph:
    lowered = lower_graph(graph)
    run_passes(lowered, backend_passes("onnxruntime", version))
    return lowered


def values(dtype: str, shape: tuple[int, ...], seed: int) -> Array:
    """Any value of the type, every third near 2^32 and some at the ends of the range."""
    rng = np.random.default_rng(seed)
    info = np.iinfo(dtype)
    found = rng.integers(info.min, info.max, shape, dtype, endpoint=True)
    near = rng.integers(max(info.min, -(2**33)), min(info.max, 2**33), shape, dtype, endpoint=True)
    ends = rng.choice(np.array([info.min, info.max, 0, 1, info.max - 1], dtype), shape)
    pick = rng.integers(0, 6, shape)
    return np.asarray(np.where(pick < 2, near, np.where(pick == 2, ends, found)))


def wrap(numbers: list[int], dtype: str) -> Array:
    bits = np.iinfo(dtype).bits
    return np.array([n & ((1 << bits) - 1) for n in numbers], np.uint64).astype(dtype)


def truncated(a: Array, b: Array) -> Array:
    pairs = zip(a.ravel().tolist(), b.ravel().tolist(), strict=True)
    quotients = wrap([abs(x) // abs(y) * (1 if (x < 0) == (y < 0) else -1) for x, y in pairs], str(a.dtype))
    return np.reshape(quotients, a.shape)


BINARY: dict[str, Callable[[Array, Array], Array]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "max": np.maximum,
    "min": np.minimum,
    "equal": lambda a, b: np.equal(a, b).astype(np.uint8),
    "greater": lambda a, b: np.greater(a, b).astype(np.uint8),
    "greater_or_equal": lambda a, b: np.greater_equal(a, b).astype(np.uint8),
    "lesser": lambda a, b: np.less(a, b).astype(np.uint8),
    "lesser_or_equal": lambda a, b: np.less_equal(a, b).astype(np.uint8),
}


@pytest.mark.parametrize("dtype", TYPES)
def test_binary_operators_are_exact(dtype: str) -> None:
    a, c = values(dtype, (7, 40), 1), values(dtype, (7, 40), 2)
    c[0] = a[0]
    b = GraphBuilder()
    x, y = b.input("x", a.shape, dtype), b.input("y", a.shape, dtype)
    graph = b.finish({name: getattr(b, name)(x, y) for name in BINARY})
    found = run(graph, {"x": a, "y": c})
    for name, reference in BINARY.items():
        np.testing.assert_array_equal(found[name], reference(a, c), err_msg=name)


@pytest.mark.parametrize("dtype", TYPES)
def test_division_truncates_and_survives_what_kills_the_kernel(dtype: str) -> None:
    a, c = values(dtype, (300,), 3), values(dtype, (300,), 4)
    c[c == 0] = 3
    info = np.iinfo(dtype)
    a[:2], c[:2] = info.min, np.array([info.max if info.min == 0 else -1, 1], dtype)
    b = GraphBuilder()
    graph = b.finish({"q": b.div(b.input("x", a.shape, dtype), b.input("y", a.shape, dtype))})
    np.testing.assert_array_equal(run(graph, {"x": a, "y": c})["q"], truncated(a, c))
    c[5] = 0
    assert run(graph, {"x": a, "y": c})["q"][6:].tolist() == truncated(a[6:], c[6:]).tolist()


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("exponent", [0, 1, 2, 5, 13, 63])
def test_power_of_one_exponent_wraps(dtype: str, exponent: int) -> None:
    a = values(dtype, (60,), 5)
    b = GraphBuilder()
    graph = b.finish({"p": b.pow(b.input("x", a.shape, dtype), b.constant(dtype, exponent))})
    np.testing.assert_array_equal(run(graph, {"x": a})["p"], wrap([n**exponent for n in a.tolist()], dtype))


@pytest.mark.parametrize("dtype", TYPES)
def test_power_element_by_element(dtype: str) -> None:
    a = np.array([2, 3, 7, 0, 0, 1, 1, 5, 15, 4], dtype)
    c = np.array([6, 39, 22, 0, 100, 127, 64, 1, 31, 63], dtype)
    if np.iinfo(dtype).min < 0:
        a[5:7] = -1
    b = GraphBuilder()
    graph = b.finish({"p": b.pow(b.input("x", a.shape, dtype), b.input("y", a.shape, dtype))})
    wanted = wrap([x**y for x, y in zip(a.tolist(), c.tolist(), strict=True)], dtype)
    np.testing.assert_array_equal(run(graph, {"x": a, "y": c})["p"], wanted)


REDUCTIONS: dict[str, Callable[[Array, tuple[int, ...]], Array]] = {
    "reduce_sum": lambda x, axes: np.sum(x, axes, dtype=x.dtype),
    "reduce_product": lambda x, axes: np.prod(x, axes, dtype=x.dtype),
    "reduce_sum_square": lambda x, axes: np.sum(x * x, axes, dtype=x.dtype),
    "reduce_l1": lambda x, axes: np.sum(np.abs(x), axes, dtype=x.dtype),
    "reduce_max": lambda x, axes: np.max(x, axes),
    "reduce_min": lambda x, axes: np.min(x, axes),
}


@pytest.mark.parametrize("axes", [(0,), (1,), (2,), (0, 2), (0, 1, 2)])
@pytest.mark.parametrize("dtype", TYPES)
def test_reductions_are_exact(dtype: str, axes: tuple[int, ...]) -> None:
    a = values(dtype, (3, 5, 11), 6)
    b = GraphBuilder()
    x = b.input("x", a.shape, dtype)
    names = [name for name in REDUCTIONS if dtype in _types_of(name)]
    graph = b.finish({name: getattr(b, name)(x, axes=axes, keep_dimensions=axes == (1,)) for name in names})
    found = run(graph, {"x": a})
    for name in names:
        wanted = REDUCTIONS[name](a, axes)
        np.testing.assert_array_equal(found[name].reshape(wanted.shape), wanted, err_msg=name)


def _types_of(method: str) -> set[str]:
    (operator,) = (op for op in operators.values() if op.method == method)
    return {data_type.value for data_type in operator.params[0].types}


@pytest.mark.parametrize("dtype", TYPES)
def test_order_and_movement_are_exact(dtype: str) -> None:
    a = values(dtype, (6, 9), 7)
    a[:, 0] = np.arange(6)
    b = GraphBuilder()
    x = b.input("x", a.shape, dtype)
    condition = b.constant((np.arange(54).reshape(6, 9) % 3 == 0).astype(np.uint8))
    low, high = int(np.iinfo(dtype).max // 3), int(np.iinfo(dtype).max // 3 * 2)
    outputs = {
        "triangular": b.triangular(x, upper=True, diagonal=1),
        "where": b.where(condition, x, b.constant(a[::-1].copy())),
        "clamp": b.clamp(x, min_value=low, max_value=high),
        "cumulative_sum": b.cumulative_sum(x, 1) if dtype in _types_of("cumulative_sum") else x,
        "arg_max": b.arg_max(x, 1, output_data_type="int64"),
        "arg_min": b.arg_min(x, 0, output_data_type="int64"),
    }
    outputs = {name: operand for name, operand in outputs.items() if operand is not x}
    found = run(b.finish(outputs), {"x": a})
    wanted = {
        "triangular": np.triu(a, 1),
        "where": np.where(np.arange(54).reshape(6, 9) % 3 == 0, a, a[::-1]),
        "clamp": np.clip(a, np.array(low, dtype), np.array(high, dtype)),
        "cumulative_sum": np.cumsum(a, 1, dtype=dtype),
        "arg_max": np.argmax(a, 1),
        "arg_min": np.argmin(a, 0),
    }
    for name in outputs:
        np.testing.assert_array_equal(found[name], wanted[name], err_msg=name)


def everything(dtype: str, names: Collection[str] = ()) -> Graph:
    """One graph with (these of) the operators of integers that some version lacks, or computes wrongly."""
    b = GraphBuilder()
    x, y = b.input("x", [4, 6], dtype), b.input("y", [4, 6], dtype)
    calls: dict[str, Callable[[], Operand]] = {
        **{name: partial(getattr(b, name), x, y) for name in (*BINARY, "div", "pow", "prelu")},
        **{name: partial(getattr(b, name), x, axes=[1]) for name in REDUCTIONS},
        **{name: partial(getattr(b, name), x, 1) for name in ("arg_max", "arg_min", "cumulative_sum")},
        **{name: partial(getattr(b, name), x) for name in ("abs", "neg", "sign", "relu", "triangular")},
        "where": lambda: b.where(b.equal(x, y), x, y),
        "clamp": partial(b.clamp, x, min_value=2),
    }
    allowed = {name for name in calls if name == "where" or dtype in _types_of(name)}
    return b.finish({name: call() for name, call in calls.items() if name in allowed and (not names or name in names)})


def wrong_nodes(graph: Graph, passes_of: str, kernels_of: str) -> list[OnnxNode]:
    """After the passes of one version, the nodes that have no right kernel in another."""
    lowered = lower_graph(graph)
    run_passes(lowered, backend_passes("onnxruntime", passes_of))
    kernels = Kernels(kernels_of)
    firsts = ((node, lowered.values[node.inputs[i]]) for node in lowered.nodes for i in main_inputs(node)[:1])
    return [node for node, value in firsts if not kernels.right(node, value.data_type)]


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("dtype", TYPES)
def test_no_node_is_left_without_a_right_kernel(dtype: str, release: str) -> None:
    assert wrong_nodes(everything(dtype), release, release) == []


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("dtype", TYPES)
def test_the_passes_of_all_versions_agree_where_the_kernels_here_are_right(dtype: str, release: str) -> None:
    here = version_here()
    every = everything(dtype).outputs
    names = [name for name in every if not wrong_nodes(everything(dtype, [name]), release, here)]
    feeds = {"x": values(dtype, (4, 6), 8), "y": values(dtype, (4, 6), 9)}
    feeds["y"][feeds["y"] == 0] = 1
    graph = everything(dtype, names)
    wanted, found = run(graph, feeds), run(graph, feeds, release)
    assert names
    for name in names:
        np.testing.assert_array_equal(found[name], wanted[name], err_msg=name)


@pytest.mark.parametrize("version", RELEASES)
@pytest.mark.parametrize("dtype", TYPES)
def test_declared_types_and_shapes_are_those_of_shape_inference(dtype: str, version: str) -> None:
    check_lowering(lower_and_pass(everything(dtype), version))
    b = GraphBuilder()
    small, large = b.input("x", [], dtype), b.input("y", [2, 1], dtype)
    calls = {name: partial(getattr(b, name), small, large) for name in (*BINARY, "div", "pow")}
    allowed = {name: call() for name, call in calls.items() if dtype in _types_of(name)}
    check_lowering(lower_and_pass(b.finish(allowed), version))


def test_versions_between_and_beyond_the_probed_ones() -> None:
    assert [one.name for one in backend_passes("onnxruntime", "1.22.3")] == [
        one.name for one in backend_passes("onnxruntime", "1.21.0")
    ]
    for version in ("1.40.1", "2.0.0", "1.19.2", "1.32.0.dev20260101"):
        assert backend_passes("onnxruntime", version)


def test_sigmoid_keeps_its_tolerance_down_to_the_smallest_results() -> None:
    x = np.concatenate([np.linspace(-87, 87, 20001), [-np.inf, np.inf, np.nan]]).astype(np.float32)
    b = GraphBuilder()
    found = run(b.finish({"y": b.sigmoid(b.input("x", x.shape, "float32"))}), {"x": x})["y"]
    wide = x.astype(np.float64)
    with np.errstate(over="ignore"):
        wanted = (1 / (1 + np.exp(-wide))).astype(np.float32)
    assert ulp_distance(found, wanted).max() <= 4


@pytest.mark.parametrize("constant", [False, True])
def test_batch_normalization_keeps_its_tolerance_near_the_mean(constant: bool) -> None:
    rng = np.random.default_rng(11)
    mean, variance = rng.uniform(50, 90, 5), rng.uniform(1, 4, 5)
    x = (mean[None, :, None] + rng.uniform(-1, 1, (3, 5, 40))).astype(np.float32)
    parameters = {"mean": mean.astype(np.float32), "variance": variance.astype(np.float32)}
    b = GraphBuilder()
    given = {k: b.constant(v) if constant else b.input(k, [5], "float32") for k, v in parameters.items()}
    y = b.batch_normalization(b.input("x", x.shape, "float32"), given["mean"], given["variance"])
    found = run(b.finish({"y": y}), {"x": x} | ({} if constant else parameters))["y"]
    wide = {k: v.astype(np.float64)[None, :, None] for k, v in parameters.items()}
    wanted = ((x - wide["mean"]) / np.sqrt(wide["variance"] + 1e-5)).astype(np.float32)
    assert ulp_distance(found, wanted).max() <= 6


def test_batch_normalization_behind_a_convolution_is_left_for_fusion() -> None:
    b = GraphBuilder()
    x = b.input("x", [1, 3, 8, 8], "float32")
    weight = b.constant(np.ones((4, 3, 3, 3), np.float32))
    four = b.constant(np.ones(4, np.float32))
    graph = b.finish({"y": b.batch_normalization(b.conv2d(x, weight), four, four)})
    assert "BatchNormalization" in [node.op_type for node in lower_and_pass(graph, "1.32.0").nodes]


@pytest.mark.parametrize("version", ["", "1.20.1", "1.28.0"])
@pytest.mark.parametrize("padding", [[0, 0, 0, 0], [1, 2, 0, 3]])
@pytest.mark.parametrize("strides", [[1, 1], [3, 2]])
@pytest.mark.parametrize("window", [[2, 2], [1, 3]])
def test_dilated_max_pool_keeps_infinity(
    version: str, padding: list[int], strides: list[int], window: list[int]
) -> None:
    x = np.random.default_rng(5).standard_normal((2, 3, 9, 11), np.float32)
    x[:, 1] = -np.inf
    options: dict[str, Any] = {"padding": padding, "strides": strides, "dilations": [2, 3], "window_dimensions": window}
    b = GraphBuilder()
    graph = b.finish({"y": b.max_pool2d(b.input("x", x.shape, "float32"), **options)})
    np.testing.assert_array_equal(run(graph, {"x": x}, version)["y"], pool2d(x, greatest, **options))
    left = [node.op_type for node in lower_and_pass(graph, version or version_here()).nodes]
    assert ("MaxPool" in left) == (release(version or version_here()) > (1, 28))


@pytest.mark.parametrize("version", ["", "1.22.0"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("epsilon", [1e-5, 0.25])
def test_layer_normalization_of_one_element(version: str, dtype: str, epsilon: float) -> None:
    x = np.array([3, -5, np.inf, np.nan], dtype).reshape(2, 2, 1)
    scale, bias = np.array([2], dtype), np.array([7], dtype)
    b = GraphBuilder()
    operands = b.input("x", x.shape, dtype), b.constant(scale), b.constant(bias)
    y = b.layer_normalization(operands[0], scale=operands[1], bias=operands[2], axes=[2], epsilon=epsilon)
    graph = b.finish({"y": y, "z": b.layer_normalization(operands[0], axes=[2])})
    found = run(graph, {"x": x}, version)
    np.testing.assert_array_equal(found["y"].ravel(), np.array([7, 7, np.nan, np.nan], dtype))
    np.testing.assert_array_equal(found["z"].ravel(), np.array([0, 0, np.nan, np.nan], dtype))
    left = [node.op_type for node in lower_and_pass(graph, "1.22.0").nodes]
    assert "LayerNormalization" not in left


def test_a_network_of_floats_is_not_touched() -> None:
    b = GraphBuilder()
    x = b.input("x", [1, 3, 8, 8], "float32")
    y = b.max_pool2d(b.relu(b.conv2d(x, b.constant(np.ones((4, 3, 3, 3), np.float32)))), window_dimensions=[2, 2])
    y = b.softmax(b.reshape(b.div(y, b.constant("float32", 2.0)), [1, 100]), 1)
    assert to_onnx(b.finish({"y": y}), backend_passes("onnxruntime", "1.32.0")).rewrites == ()
