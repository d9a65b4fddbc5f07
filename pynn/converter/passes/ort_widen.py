"""Types for which ONNX Runtime's CPU provider has no kernel, carried in a type that has one."""

from __future__ import annotations

from collections.abc import Sequence

from ...ops.emitter import Tensor
from ..onnx_graph import OnnxGraph, OnnxNode
from . import Pass, Rewriter, graph_pass, rewrite
from .ort_support import Kernels, main_inputs, main_outputs

_EXACT: dict[str, tuple[str, ...]] = {
    "bool": ("uint8", "int32"), "int8": ("int32", "int64", "float32"), "uint8": ("int32", "int64", "float32"),
    "uint32": ("int64",), "int32": ("int64",), "float16": ("float32",),
}  # fmt: skip
"""By type, the types that hold all its values, cheapest first."""

_MODULAR: dict[str, tuple[str, ...]] = _EXACT | {
    "uint32": ("int32", "int64"),
    "uint64": ("int64",),
    "int64": ("uint64",),
}
"""By type, the types at least as wide: enough where the result depends on the operands modulo their range only."""

_MODULAR_OPS = frozenset({
    "Add", "Sub", "Mul", "Neg", "Equal", "CumSum", "ReduceProd", "ReduceSum", "MatMul",
    "Where", "Trilu", "Identity", "Concat", "Expand", "Pad", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Slice",
    "Split", "Tile", "Transpose", "Gather", "GatherElements", "GatherND", "ScatterElements", "ScatterND",
    "DepthToSpace", "SpaceToDepth", "ReverseSequence",
})  # fmt: skip


def ort_widen(kernels: Kernels) -> Pass:
    @graph_pass
    def ort_widen(graph: OnnxGraph) -> None:
        """Operators without a CPU kernel for the type ("NOT_IMPLEMENTED: Could not find an implementation"): which
        ones, by version from 1.20 to 1.32, is the table in ort_kernels.py.

        Cast to the first type that has a kernel and holds every value, compute, Cast back (which wraps modulo the
        range, as the operator itself would). Arithmetic and data movement may use a type that is only as wide. A pair
        that no type fits stays, and ONNX Runtime says so.
        """

        def rule(r: Rewriter, node: OnnxNode) -> Sequence[Tensor | None] | None:
            if node.domain or node.op_type == "Cast":
                return None
            mains = main_inputs(node)
            if not mains:
                return None
            data_type = r.value(node.inputs[mains[0]]).data_type
            if kernels.there(node, data_type):
                return None
            candidates = _MODULAR if node.op_type in _MODULAR_OPS else _EXACT
            carrier = next((t for t in candidates.get(data_type, ()) if kernels.there(node, t)), None)
            if carrier is None:
                return None
            inputs = r.inputs(node)
            for i in mains:
                value = inputs[i]
                assert value is not None
                inputs[i] = r.cast(value, carrier)
            back = set(main_outputs(node))
            outputs = [
                (carrier if i in back else r.value(name).data_type, r.value(name).shape) if name else None
                for i, name in enumerate(node.outputs)
            ]
            results = r.multi(node.op_type, *inputs, outputs=outputs, **node.attributes)
            return [r.cast(t, data_type) if i in back else t if t.name else None for i, t in enumerate(results)]

        rewrite(graph, rule)

    return ort_widen
