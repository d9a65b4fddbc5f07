"""The passes of float16 and bfloat16."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np

from ...errors import UnsupportedModelError, ValidationError
from ...ops.emitter import Tensor
from ..onnx_graph import OnnxGraph, OnnxNode
from ..passes import Pass, Rewriter, graph_pass, rewrite
from .autocast import choose
from .casts import apply_choices
from .keep import check_keep, is_kept

HALVES = {"fp16": "float16", "bf16": "bfloat16"}
"""ONNX's element type by precision."""


@dataclass
class Ledger:
    """What passes of one conversion decided: reasons by node name, and notes. Made anew for each conversion."""

    reasons: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def check_names(keep: Collection[str]) -> Pass:
    """A pass that changes nothing: it refuses unknown names before others change the operators."""

    def check(graph: OnnxGraph) -> None:
        """A name in ``keep`` that no operator has is a mistake."""
        check_keep(graph, keep)

    return Pass("check_keep", check)


def spread_batch_normalization(keep: Collection[str]) -> Pass:
    """The BatchNormalization of constants as a product and a sum."""

    def spread(graph: OnnxGraph) -> None:
        """A variance is a small number under a root: in float16 it vanishes. BatchNormalization with constant operands
        becomes a product and a sum whose constants are computed here, in float64; libraries merge them into the
        convolution before."""
        if any(node.op_type == "BatchNormalization" for node in graph.nodes):
            rewrite(graph, lambda e, node: None if is_kept(node, keep) else _spread(e, node))

    return Pass("spread_batch_normalization", spread)


def _spread(e: Rewriter, node: OnnxNode) -> Sequence[Tensor | None] | None:
    if node.op_type != "BatchNormalization" or node.domain or node.attributes.get("training_mode", 0):
        return None
    x = e.value(node.inputs[0])
    arrays = [e.array(name) for name in node.inputs[1:5]]
    if x.data_type != "float32" or x.name in e.graph.unshaped or x.rank < 2 or len([n for n in node.outputs if n]) > 1:
        return None
    if any(array is None or array.dtype != np.float32 for array in arrays):
        return None
    scale, bias, mean, variance = (array.astype(np.float64) for array in arrays if array is not None)
    factor = scale / np.sqrt(variance + node.attributes.get("epsilon", 1e-5))
    shape = (-1, *(1,) * (x.rank - 2))
    product = e.op("Mul", x, e.constant(factor.astype(np.float32).reshape(shape)))
    term = e.constant((bias - mean * factor).astype(np.float32).reshape(shape))
    return [e.op("Add", product, term), *(None for _ in node.outputs[1:])]


def autocast(
    precision: str, ledger: Ledger, *, keep: Collection[str] = (), gaps: Collection[str] = (), io: bool = False
) -> Pass:
    """The pass that chooses a type for each operator and puts in the casts. ``precision`` is "fp16" or "bf16"."""
    low = HALVES[precision]

    def run(graph: OnnxGraph) -> None:
        """Libraries with strongly typed networks compute in the types of the model: this chooses them.

        Products run in the narrow type, operators that need range or accumulation in float32, the rest as its
        neighbours; weights are rounded here.
        """
        _note_given(graph, low, ledger)
        choices = choose(graph, low, keep=keep, gaps=gaps, io=io)
        for i, choice in choices.by_node.items():
            ledger.reasons[graph.nodes[i].name] = choice.reason
        apply_choices(graph, choices, io=io)

    return Pass(f"autocast_{low}", run)


def _note_given(graph: OnnxGraph, low: str, ledger: Ledger) -> None:
    """What of the model is not float32 already."""
    halves = [node for node in graph.nodes if _first_type(graph, node) in ("float16", "bfloat16")]
    products = sum(node.op_type in ("Conv", "MatMul", "Gemm", "ConvTranspose") for node in halves)
    if halves:
        kinds = " and ".join(sorted({_first_type(graph, node) for node in halves}))
        whole = ": nothing is left to change" if not _has_float32(graph) else ""
        ledger.notes.append(
            f"{len(halves)} operators of the model ({products} products) compute in {kinds} already and stay{whole}"
        )
    quantized = sum(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in graph.nodes)
    if quantized:
        ledger.notes.append(
            f"the model has {quantized} QuantizeLinear and DequantizeLinear: what they quantise stays so; weights and "
            f"fp8 are dequantised to {low}, int8 activations to float32"
        )


def _first_type(graph: OnnxGraph, node: OnnxNode) -> str:
    return next((graph.values[name].data_type for name in node.outputs if name), "")


def _has_float32(graph: OnnxGraph) -> bool:
    return any(_first_type(graph, node) == "float32" for node in graph.nodes if node.op_type != "Cast")


@graph_pass
def check_bfloat16_casts(graph: OnnxGraph) -> None:
    """Cast knows bfloat16 from opset 13 on; ONNX Runtime refuses it before, TensorRT does not care."""
    opset = graph.opsets.get("", 0)
    if opset < 13:
        raise UnsupportedModelError(
            f"the model is of opset {opset}; bf16 needs 13 or newer: export it anew, or convert it with "
            "onnx.version_converter; fp16 works with any"
        )


@graph_pass
def emulate_bfloat16(graph: OnnxGraph) -> None:
    """ONNX Runtime (1.20 to 1.32) has no bfloat16 kernels for the CPU except Cast.

    Each operator in bfloat16 runs in float32 and its results are rounded to bfloat16: the values of a library that
    keeps sums in float32, at float32's speed.
    """

    def rule(e: Rewriter, node: OnnxNode) -> Sequence[Tensor | None] | None:
        if "bfloat16" in _types(e, node) and node.op_type != "Cast" and (node.captures or node.domain):
            operator = f"{node.op_type} (node {node.name!r})"
            raise ValidationError(f"bf16: ONNX Runtime has no bfloat16 for {operator} on the CPU")
        return _emulate(e, node, "bfloat16")

    rewrite(graph, rule)


@graph_pass
def emulate_float16(graph: OnnxGraph) -> None:
    """ONNX Runtime (1.20 to 1.32) has few float16 kernels for the CPU: it computes in float32 and leaves out the
    rounding between two such operators, so that neither its error nor an overflow is seen.

    Each operator in float16 runs in float32 and its results are rounded to float16, for predictions; operators of other
    domains and with graphs inside stay.
    """
    rewrite(graph, lambda e, node: None if node.captures or node.domain else _emulate(e, node, "float16"))


def _types(e: Rewriter, node: OnnxNode) -> list[str]:
    return [e.value(name).data_type for name in (*node.inputs, *node.outputs) if name]


def _emulate(e: Rewriter, node: OnnxNode, half: str) -> Sequence[Tensor | None] | None:
    if node.op_type == "Cast" or half not in _types(e, node):
        return None
    inputs = [e.cast(x, "float32") if x is not None and x.data_type == half else x for x in e.inputs(node)]
    outputs = [
        ("float32" if e.value(n).data_type == half else e.value(n).data_type, e.value(n).shape) if n else None
        for n in node.outputs
    ]
    made = e.multi(node.op_type, *inputs, outputs=outputs, **node.attributes)
    return [
        e.cast(x, half) if name and e.value(name).data_type == half else x
        for name, x in zip(node.outputs, made, strict=True)
    ]


@graph_pass
def declare_bfloat16(graph: OnnxGraph) -> None:
    """Convolutions, pools and others take bfloat16 from opset 22 on, which changed nothing else against 21."""
    if graph.opsets.get("") == 21 and any(tensor.data_type == "bfloat16" for tensor in graph.values.values()):
        graph.opsets[""] = 22
