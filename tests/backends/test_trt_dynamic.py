"""Shapes that a real TensorRT calculates for graphs with named dimensions, asked without a GPU.

Each output is added to another input whose shape is the expected one at the least, best and greatest size. The library
evaluates the shapes of a profile when it builds, and refuses operands that do not fit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import pynn
from pynn.backends.base import CompileOptions
from pynn.backends.trt_build import build_plan
from pynn.converter import OnnxModel, backend_passes, to_onnx
from pynn.errors import EngineBuildError
from pynn.graph import Graph
from pynn.native import Library
from pynn.ops.dimensions import bind_dimensions

from ..converter.test_dynamic import example

pytestmark = pytest.mark.trt

CALCULATING = (
    "dequantize_linear", "expand", "gather", "gather_elements", "gather_nd", "lstm", "quantize_linear", "resample2d",
    "reshape", "reverse", "scatter_elements", "slice", "split", "where",
)  # fmt: skip


def build_with_expected(
    graph: Graph, sizes: Mapping[str, tuple[int, int, int]], library: Library, off: int = 0
) -> None:
    """Raises EngineBuildError unless every output has the shape of the static graphs, ``off`` added to those that
    vary."""
    ends = [{name: three[i] for name, three in sizes.items()} for i in range(3)]
    bound = [bind_dimensions(graph, end) for end in ends]
    shapes = {name: [one.outputs[name].shape for one in bound] for name in graph.outputs}
    proto = to_onnx(graph, backend_passes("tensorrt", library.info.version)).to_proto()
    ranges = dict(sizes)
    for k, (name, three) in enumerate(shapes.items()):
        output = proto.graph.output[0]
        dims: list[int | str] = []
        for axis, dim in enumerate(zip(*three, strict=True)):
            low, best, high = (size + off if len(set(dim)) > 1 else size for size in dim)
            dims.append(low if low == high else f"d{k}_{axis}")
            if low != high:
                ranges[f"d{k}_{axis}"] = (low, best, high)
        proto.graph.input.append(helper.make_tensor_value_info(f"expected{k}", TensorProto.FLOAT, dims))
        add_sum(proto.graph, output.name, f"expected{k}", f"{name} sum", len(dims))
        proto.graph.output.remove(output)
    build_plan(OnnxModel.load(proto.SerializeToString()), library, CompileOptions(shapes=ranges), (86,))


def add_sum(graph: onnx.GraphProto, a: str, b: str, name: str, rank: int) -> None:
    graph.node.append(helper.make_node("Cast", [a], [f"{name} float"], to=TensorProto.FLOAT, name=f"{name} cast"))
    graph.node.append(helper.make_node("Add", [f"{name} float", b], [name], name=name))
    graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * rank))


@pytest.mark.parametrize("method", CALCULATING)
def test_operator(method: str, newest_library: Library) -> None:
    build_with_expected(example(method, "n"), {"n": (2, 4, 8)}, newest_library)


def test_a_shape_that_differs_is_noticed(newest_library: Library) -> None:
    with pytest.raises(EngineBuildError, match="shape constraints"):
        build_with_expected(example("reverse", "n"), {"n": (2, 4, 8)}, newest_library, off=1)


def test_images_and_sequences(newest_library: Library) -> None:
    b = pynn.GraphBuilder()
    x, tokens = (
        b.input("x", ["batch", 3, "height", "width"], "float32"),
        b.input("tokens", ["batch", "seq", 8], "float32"),
    )
    y = b.conv2d(x, b.constant(np.ones((8, 3, 3, 3), np.float32)), padding=[1, 1, 1, 1], strides=[2, 2])
    batch, _, rows, columns = y.shape
    patches = b.transpose(
        b.reshape(b.resample2d(y, scales=[2, 2]), [batch, 8, 4 * rows * columns]), permutation=[0, 2, 1]
    )
    both = b.concat([patches, tokens], axis=1)
    first, rest = b.split(both, [4 * rows * columns, tokens.shape[1]], axis=1)
    last = b.slice(both, [0, both.shape[1] - 1, 0], [batch, 1, 8])
    scores = b.matmul(rest, b.transpose(first, permutation=[0, 2, 1]))
    graph = b.finish({"scores": scores, "spread": b.expand(last, [batch, 5, 8]), "back": b.reverse(both, axes=[1])})
    sizes = {"batch": (1, 2, 4), "height": (4, 9, 16), "width": (3, 8, 8), "seq": (1, 7, 9)}
    build_with_expected(graph, sizes, newest_library)


@pytest.mark.parametrize(
    "make",
    [
        lambda n, m: n % 4 + 2,
        lambda n, m: (n * 6) // m + 1,
        lambda n, m: pynn.min_size(n, m),
        lambda n, m: pynn.max_size(2 * n, m),
        lambda n, m: n * m - m // 3 + (n - 1) // 2,
    ],
    ids=["remainder", "quotient", "least", "greatest", "polynomial"],
)
def test_arithmetic(make: Callable[[int, int], int], newest_library: Library) -> None:
    b = pynn.GraphBuilder()
    x, y = b.input("x", ["n", 2], "float32"), b.input("y", ["m", 2], "float32")
    spread = b.expand(b.constant(np.ones((1, 2), np.float32)), [make(x.shape[0], y.shape[0]), 2])
    graph = b.finish({"spread": spread, "sum": b.add(b.reduce_sum(x), b.reduce_sum(y))})
    build_with_expected(graph, {"n": (5, 6, 7), "m": (3, 3, 3)}, newest_library)
    with pynn.compile(graph, backend="onnxruntime") as model:
        for n, m in ((2, 3), (5, 4), (9, 8), (8, 3)):
            got = model.run({"x": np.ones((n, 2), np.float32), "y": np.ones((m, 2), np.float32)})
            assert got["spread"].shape == (make(n, m), 2)
