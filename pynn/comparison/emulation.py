"""What ONNX Runtime's CPU lacks, in a form that it has and that gives the same numbers."""

from __future__ import annotations

from ..converter.model import element_name, numpy_dtype
from ..converter.onnx_graph import OnnxGraph
from ..converter.passes import graph_pass
from ..ops.emitter import Tensor

_HOLDS = "float8e4m3fn"
"""Has every number of float4e2m1."""


@graph_pass
def emulate_float4(graph: OnnxGraph) -> None:
    """ONNX Runtime (to 1.32) has no CPU kernel that dequantises float4e2m1: such constants become float8e4m3fn, which
    holds the same numbers."""
    for name, array in graph.initializers.items():
        if element_name(array.dtype) == "float4e2m1":
            graph.initializers[name] = array.astype(numpy_dtype(_HOLDS))
            graph.values[name] = Tensor(name, _HOLDS, array.shape)
