"""Graph to ONNX: ``to_onnx`` lowers every node by its operator's rule, passes rewrite, ``OnnxModel`` has the result."""

from __future__ import annotations

from .convert import lower_graph, to_onnx
from .model import OnnxModel, TensorSpec
from .onnx_graph import OPSET, OnnxGraph, OnnxNode
from .passes import backend_passes

__all__ = ["OPSET", "OnnxGraph", "OnnxModel", "OnnxNode", "TensorSpec", "backend_passes", "lower_graph", "to_onnx"]
