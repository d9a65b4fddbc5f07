"""ONNX files with quantised numbers, as other tools write them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from pynn.converter.model import OnnxModel

Array = np.ndarray[Any, Any]
Dims = Sequence[int | str]
_ELEMENT = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16}


def file_of(
    nodes: Sequence[onnx.NodeProto],
    inputs: dict[str, Dims],
    outputs: dict[str, Dims],
    constants: dict[str, Array],
    opset: int = 21,
    data_type: str = "float32",
) -> OnnxModel:
    infos = [
        [helper.make_tensor_value_info(name, _ELEMENT[data_type], list(dims)) for name, dims in side.items()]
        for side in (inputs, outputs)
    ]
    initializers = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(list(nodes), "file", *infos, initializers)
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    proto = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    onnx.checker.check_model(proto)
    return OnnxModel.load(proto.SerializeToString())


def numbers(data_type: str, shape: Sequence[int], span: int | None = None, seed: int = 0) -> Array:
    """Random numbers over the whole type, or the ``span`` lowest."""
    bits = 4 if data_type.endswith("4") else 8
    low = 0 if data_type.startswith("u") else -(2 ** (bits - 1))
    values = np.random.default_rng(seed).integers(low, low + (span or 2**bits), shape)
    return values.astype(getattr(ml_dtypes, data_type) if bits == 4 else data_type)


def weights_file(
    data_type: str,
    zero: int | None,
    block: int,
    product: str = "right",
    scale_type: str = "float32",
    dims: Dims = (4, 128),
    opset: int = 21,
) -> OnnxModel:
    """x @ W, W @ x ("left") or Gemm with W transposed, W[128, 64] quantised along its rows in blocks of ``block``, or
    (0) with a scale per column."""
    w = numbers(data_type, (128, 64))
    shape = (128 // block, 64) if block else (64,)
    scale = (2.0 ** np.random.default_rng(1).integers(-5, -2, shape)).astype(scale_type)
    attributes: dict[str, int] = {"axis": 0, "block_size": block} if block else {"axis": 1}
    constants: dict[str, Array] = {"q": w, "s": scale}
    inputs = ["q", "s"]
    if zero is not None:
        constants["z"] = np.full(shape, zero).astype(w.dtype)
        inputs.append("z")
    nodes = [helper.make_node("DequantizeLinear", inputs, ["w"], "dequantize", **attributes)]
    rows, result = dims, [dims[0], 64]
    if product == "left":
        nodes.append(helper.make_node("MatMul", ["w", "x"], ["y"], "product"))
        rows, result = [64, dims[0]], [128, dims[0]]
    elif product == "left gemm":
        nodes.append(helper.make_node("Gemm", ["w", "x"], ["y"], "product", transA=1))
        rows, result = [128, dims[0]], [64, dims[0]]
    elif product == "left transposed":
        nodes.append(helper.make_node("Transpose", ["w"], ["t"], "turn", perm=[1, 0]))
        nodes.append(helper.make_node("MatMul", ["t", "x"], ["y"], "product"))
        rows, result = [128, dims[0]], [64, dims[0]]
    elif product == "gemm":
        nodes.append(helper.make_node("Gemm", ["x", "w"], ["y"], "product"))
    else:
        nodes.append(helper.make_node("MatMul", ["x", "w"], ["y"], "product"))
    return file_of(nodes, {"x": rows}, {"y": result}, constants, opset, scale_type)


def activations_file(data_type: str, opset: int = 13, batch: int | str = 2, zero: int | None = 3) -> OnnxModel:
    """x through QuantizeLinear and DequantizeLinear, times a weight of int8."""
    w = numbers("int8", (8, 4))
    constants: dict[str, Array] = {"s": np.array(0.0625, np.float32), "q": w, "t": np.array(0.125, np.float32)}
    pair = ["s"]
    if zero is not None:
        constants["z"] = np.array(zero, data_type)
        pair.append("z")
    nodes = [
        helper.make_node("QuantizeLinear", ["x", *pair], ["small"], "quantize"),
        helper.make_node("DequantizeLinear", ["small", *pair], ["back"], "back"),
        helper.make_node("DequantizeLinear", ["q", "t"], ["w"], "dequantize"),
        helper.make_node("MatMul", ["back", "w"], ["y"], "product"),
    ]
    return file_of(nodes, {"x": [batch, 8]}, {"y": [batch, 4]}, constants, opset)
