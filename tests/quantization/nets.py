"""Small nets, data and comparisons that the tests of calibration and Q/DQ share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxruntime as ort

from pynn.builder import GraphBuilder
from pynn.converter import OnnxGraph
from pynn.converter.precision.digest import graph_digest
from pynn.converter.precision.table import CalibrationTable
from pynn.converter.serialize import to_model
from pynn.graph import Graph, Operand

Array = np.ndarray[Any, Any]


class Net:
    """A builder whose weights come from one seed, scaled so that activations stay near 1."""

    def __init__(self, data_type: str = "float32", seed: int = 7) -> None:
        self.b = GraphBuilder()
        self.data_type = data_type
        self.rng = np.random.default_rng(seed)

    def weight(self, *shape: int, gain: float = 1.0) -> Operand:
        fan = np.prod(shape[1:]) if len(shape) == 4 else shape[0]
        return self.b.constant((self.rng.standard_normal(shape) * gain / np.sqrt(fan)).astype(self.data_type))

    def vector(self, size: int) -> Operand:
        return self.b.constant((self.rng.standard_normal(size) * 0.1).astype(self.data_type))


def mobile(data_type: str = "float32", batch: int = 1) -> Graph:
    """image[batch, 3, 32, 32] to y[batch, 10]: inverted residuals as MobileNetV2 has them."""
    n = Net(data_type)
    b = n.b

    def relu6(x: Operand) -> Operand:
        return b.clamp(x, min_value=0, max_value=6)

    x = b.input("image", [batch, 3, 32, 32], data_type)
    y = relu6(b.conv2d(x, n.weight(16, 3, 3, 3), padding=[1, 1, 1, 1], strides=[2, 2], bias=n.vector(16), label="stem"))
    for i in range(2):
        h = relu6(b.conv2d(y, n.weight(64, 16, 1, 1, gain=1.5), bias=n.vector(64), label=f"expand{i}"))
        h = b.conv2d(h, n.weight(64, 1, 3, 3, gain=1.5), padding=[1, 1, 1, 1], groups=64, bias=n.vector(64))
        y = b.add(b.conv2d(relu6(h), n.weight(16, 64, 1, 1), bias=n.vector(16), label=f"project{i}"), y)
    y = b.reshape(b.average_pool2d(y), [batch, 16])
    return b.finish({"y": b.gemm(y, n.weight(16, 10), c=n.vector(10), label="classifier")})


def mlp(data_type: str = "float32", rows: int = 8, width: int = 64, outliers: bool = False) -> Graph:
    """x[rows, width] to y[rows, width]: LayerNormalization, two products with gelu between, residual.

    ``outliers``: two channels of the normalised activation are 30 times the others, as in large language models.
    """
    n = Net(data_type)
    b = n.b
    x = b.input("x", [rows, width], data_type)
    scale = np.ones(width, data_type)
    if outliers:
        scale[[3, width // 2]] = 30
    h = b.layer_normalization(x, scale=b.constant(scale), bias=n.vector(width), axes=[1])
    h = b.gelu(b.matmul(h, n.weight(width, 2 * width), label="up"))
    return b.finish({"y": b.add(x, b.matmul(h, n.weight(2 * width, width), label="down"))})


def data(graph: Graph, count: int, seed: int = 3) -> list[dict[str, Array]]:
    rng = np.random.default_rng(seed)
    return [
        {name: rng.standard_normal(x.shape).astype(x.data_type.value) for name, x in graph.inputs.items()}
        for _ in range(count)
    ]


def flat_table(graph: OnnxGraph, amax: float = 4.0, **more: Any) -> CalibrationTable:
    """A table that gives every value the same range."""
    ranges = {
        name: amax for name, x in graph.values.items() if "float" in x.data_type and name not in graph.initializers
    }
    return CalibrationTable(graph_digest(graph), ranges, **more)


def run(graph: OnnxGraph, sample: Mapping[str, Array]) -> dict[str, Array]:
    """By ONNX Runtime unoptimised: 8-bit pairs as they are written, whatever kernels the CPU has for them."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = ort.InferenceSession(to_model(graph).to_bytes(), options)
    results = session.run(list(graph.outputs.values()), {graph.inputs[name]: a for name, a in sample.items()})
    return dict(zip(graph.outputs, results, strict=True))


def cosine(a: Array, b: Array) -> float:
    x, y = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    return float(x @ y / np.linalg.norm(x) / np.linalg.norm(y))
