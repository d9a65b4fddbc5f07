"""Small ONNX models for tests of the binding and the TensorRT back end."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from pynn.converter.model import WEIGHTS_LOCATION, OnnxModel

Dims = list[int | str | None]


def model_of(nodes: list[onnx.NodeProto], inputs: dict[str, Any], outputs: dict[str, Any], **weights: Any) -> OnnxModel:
    """``inputs`` and ``outputs`` map names to (TensorProto type, dims)."""
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(name, *spec) for name, spec in inputs.items()],
        [helper.make_tensor_value_info(name, *spec) for name, spec in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return OnnxModel.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10))


def weights_of(rows: int = 64, columns: int = 32) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(7).standard_normal((rows, columns), np.float32)


def tiny(batch: int | str | None = 4) -> OnnxModel:
    """y[batch, 32] = Relu(x[batch, 64] @ w)."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"], name="product"),
        helper.make_node("Relu", ["m"], ["y"], name="positive"),
    ]
    sides: list[dict[str, Any]] = [{"x": (TensorProto.FLOAT, [batch, 64])}, {"y": (TensorProto.FLOAT, [batch, 32])}]
    return model_of(nodes, *sides, w=weights_of())


def with_weights_outside(model: OnnxModel) -> OnnxModel:
    """The same model with its initializers in ``weights``."""
    proto = onnx.load_model_from_string(model.proto)
    weights = {}
    for tensor in proto.graph.initializer:
        weights[tensor.name] = numpy_helper.to_array(tensor).copy()
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=WEIGHTS_LOCATION)
    return OnnxModel(proto.SerializeToString(), model.inputs, model.outputs, weights)


def deep(layers: int = 40) -> OnnxModel:
    """A chain of products: long enough to build that a build can be watched and cancelled."""
    nodes, last = [], "x"
    for i in range(layers):
        nodes.append(helper.make_node("MatMul", [last, f"w{i}"], [f"m{i}"], name=f"product{i}"))
        nodes.append(helper.make_node("Tanh", [f"m{i}"], [f"t{i}"], name=f"tanh{i}"))
        last = f"t{i}"
    nodes.append(helper.make_node("Identity", [last], ["y"], name="last"))
    spec = (TensorProto.FLOAT, [4, 64])
    weights = {f"w{i}": weights_of(64, 64) for i in range(layers)}
    return model_of(nodes, {"x": spec}, {"y": spec}, **weights)
