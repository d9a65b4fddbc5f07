"""Q/DQ: activations quantised by a table's ranges, weights stored in 8 bits, as named passes.

The form every TensorRT takes: symmetric, no zero point, QuantizeLinear and DequantizeLinear per tensor on activations,
weights stored quantised with a DequantizeLinear per output channel, biases as they are, scales in the type around.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import UnsupportedModelError, ValidationError
from ...ops.emitter import Tensor
from ..model import numpy_dtype
from ..onnx_graph import OnnxGraph, OnnxNode
from ..passes import Pass, PassRecord, run_passes
from .keep import check_keep
from .opset import raise_opset
from .quantizable import Site, count_readers, fold_moved_weights, sites
from .scales import ELEMENT, LARGEST, QuantizedForm, activation_scale, quantize_weights
from .smooth import add_initializer, smooth
from .table import CalibrationTable

if TYPE_CHECKING:
    from .target import Target

_OUTPUT_DTYPE_OPSET = 21
"""The first opset whose QuantizeLinear names its type; before it, a zero point of 0 has to."""
_LEAST_OPSET = {"int8": 13, "fp8": 19}
"""The first opset with per-channel scales, and with fp8."""
_NARROW_SCALES_OPSET = 19
_ONNX_NUMBER = {"int8": 3, "fp8": 17}


@dataclass(frozen=True)
class OperandDecision:
    """What became of one operator: ``precision`` is "int8" or "fp8", or "" where it stays as it was; ``reason`` says
    why, or with what scales."""

    node: str
    op_type: str
    origin: str
    precision: str
    reason: str

    def __str__(self) -> str:
        return f"{self.op_type} {self.node}: {self.precision or 'as it was'}: {self.reason}"


@dataclass
class _Work:
    """What the passes share while one graph is quantised."""

    form: QuantizedForm
    table: CalibrationTable
    found: list[Site]
    ranges: dict[str, float]
    notes: dict[int, list[str]] = field(default_factory=dict)
    pairs: dict[str, str] = field(default_factory=dict)
    weights: dict[tuple[str, int | None], str] = field(default_factory=dict)
    before: dict[int, list[OnnxNode]] = field(default_factory=dict)
    after: dict[str, list[OnnxNode]] = field(default_factory=dict)
    done: dict[int, Site] = field(default_factory=dict)

    def note(self, site: Site, text: str) -> None:
        if text:
            self.notes.setdefault(id(site.node), []).append(text)


def insert_qdq(
    graph: OnnxGraph,
    table: CalibrationTable,
    form: QuantizedForm,
    keep: Collection[str] = (),
    *,
    target: Target | None = None,
    per_channel: bool = True,
    whole: bool = True,
) -> list[OperandDecision]:
    """Quantise the products of ``graph``, in place, before any other pass; a decision for each of them.

    ``keep`` names operators that stay (node name, WebNN label or operator type). ``target`` is the library
    it is for, None any. Without ``per_channel`` a weight has one scale, as it has in fp8 for a target that
    ``wants_one_fp8_scale``. ``whole`` is False for a part of a graph, whose values the table does not name.

    Raises ValidationError for a table of another model and for unknown names in ``keep``; UnsupportedModelError where
    the target cannot run the form, the opset cannot be raised to what it needs, the model has activations with Q/DQ or
    is not whole; ModelError for weights with NaN or infinity.
    """
    return quantize(graph, table, form, keep, target=target, per_channel=per_channel, whole=whole)[0]


def quantize(
    graph: OnnxGraph,
    table: CalibrationTable,
    form: QuantizedForm,
    keep: Collection[str] = (),
    *,
    target: Target | None = None,
    per_channel: bool = True,
    whole: bool = True,
) -> tuple[list[OperandDecision], tuple[PassRecord, ...]]:
    """``insert_qdq``, and what each of its passes changed."""
    if form not in LARGEST:
        raise ValidationError(f"form must be 'int8' or 'fp8', got {form!r}")
    if not whole:
        raise UnsupportedModelError(
            f"{form} by a calibration table needs the whole model on one back end: the table names its values, not "
            "those of a part; leave the operators that the library refuses out of the model, or take fp16"
        )
    table.check(graph)
    check_unquantized(graph, "insert_qdq takes the float model")
    check_keep(graph, keep)
    records = run_passes(graph, [Pass(fold_moved_weights.__name__, fold_moved_weights)])
    one_scale = form == "fp8" and target is not None and target.wants_one_fp8_scale
    found = sites(graph, form, keep, per_channel=per_channel and not one_scale)
    if one_scale:
        found = [_without_convolution(site) for site in found]
    check_target(form, target, found)
    if any(not site.reason for site in found):
        raise_opset(graph, _needed_opset(graph, form, found))
    work = _Work(form, table, found, dict(table.amax))
    records += run_passes(graph, _passes(work))
    _drop_replaced(graph, work)
    return [_decision(work, site) for site in work.found], records


def check_unquantized(graph: OnnxGraph, what: str) -> None:
    """Raises UnsupportedModelError when an activation of the model is quantised already. Weights stored in few bits
    behind a DequantizeLinear may stay."""
    for node in graph.nodes:
        if node.op_type in ("QuantizeLinear", "DynamicQuantizeLinear") and node.inputs[0] not in graph.initializers:
            raise UnsupportedModelError(
                f"the model has quantised activations already: {node.op_type} {node.name!r} on {node.inputs[0]!r}; "
                f"{what}: give the model from before it was quantised, or compile this one as it is",
                node=node.name,
                op_type=node.op_type,
            )


def check_target(form: QuantizedForm, target: Target | None, found: Sequence[Site]) -> None:
    """Raises UnsupportedModelError where ``target`` is known not to run the form."""
    if target is not None and target.is_rtx and form == "int8" and any(not site.reason for site in found):
        first = next(site.node for site in found if not site.reason)
        raise UnsupportedModelError(
            "TensorRT for RTX is not given int8 activations: before 1.7 it refuses int8 convolutions, and its int8 "
            "products overflow to infinity in float16 (measured with 1.6.1). It can do fp8 (compute capability 8.9 and "
            "newer), fp16, bf16, and weights alone in int8 or int4; TensorRT 10 and newer run int8",
            node=first.name,
            op_type=first.op_type,
        )


def _without_convolution(site: Site) -> Site:
    if site.reason or site.node.op_type not in ("Conv", "ConvTranspose"):
        return site
    reason = "TensorRT for RTX: float16 convolutions in fp8 gave infinity on a GPU (1.6.1, a scale per channel)"
    return replace(site, reason=reason)


def _needed_opset(graph: OnnxGraph, form: QuantizedForm, found: Sequence[Site]) -> int:
    narrow = any(graph.values[name].data_type != "float32" for site in found for name in site.names)
    return _NARROW_SCALES_OPSET if narrow else _LEAST_OPSET[form]


def _passes(work: _Work) -> list[Pass]:
    def smooth_activations(graph: OnnxGraph) -> None:
        """Channels of activations with outliers cost all the others their resolution: their factor moves into the
        weights."""
        strength = work.table.smooth
        if strength is None:
            return
        ranges, done = smooth(graph, work.found, work.table.channels, strength)
        work.ranges.update(ranges)
        for node, text in done:
            work.notes.setdefault(id(node), []).append(text)

    def quantize_operands(graph: OnnxGraph) -> None:
        """TensorRT computes in 8 bits where both operands come from DequantizeLinear."""
        for site in work.found:
            if not site.reason and site.node.op_type != "Add":
                _quantize_site(graph, work, site)
        _place(graph, work)

    def quantize_residuals(graph: OnnxGraph) -> None:
        """TensorRT adds inside an int8 convolution if the other addend is quantised too."""
        for site in work.found:
            if not site.reason and site.node.op_type == "Add":
                _quantize_site(graph, work, site)
        _place(graph, work)

    return [
        Pass(one.__name__, one)
        for one in (smooth_activations, quantize_operands, *((quantize_residuals,) if work.form == "int8" else ()))
    ]


def _quantize_site(graph: OnnxGraph, work: _Work, site: Site) -> None:
    missing = [name for name in site.names if name not in work.ranges]
    if missing:
        work.note(site, f"the table has no range of {', '.join(map(repr, missing))}")
        return
    for place in site.activations:
        site.node.inputs[place] = _pair(graph, work, site, site.node.inputs[place])
    if site.weight is not None:
        site.node.inputs[site.weight] = _stored(graph, work, site, site.node.inputs[site.weight])
    work.done[id(site.node)] = site


def _pair(graph: OnnxGraph, work: _Work, site: Site, name: str) -> str:
    """The value behind the Q/DQ pair of ``name``, which all its quantised readers share."""
    if name in work.pairs:
        return work.pairs[name]
    x, element = graph.values[name], ELEMENT[work.form]
    scale, why = activation_scale(work.ranges[name], work.form, x.data_type)
    work.note(site, f"{name!r}: {why}" if why else "")
    held = add_initializer(graph, f"{name}/scale", scale)
    inputs, attributes = [name, held], {}
    if graph.opsets.get("", 0) >= _OUTPUT_DTYPE_OPSET:
        attributes["output_dtype"] = _ONNX_NUMBER[work.form]
    else:
        inputs.append(add_initializer(graph, f"{name}/zero", np.zeros((), numpy_dtype(element))))
    emitted = work.after.setdefault(name, [])
    small = _emit(
        graph, emitted, site, Tensor(f"{name}/quantized", element, x.shape), "QuantizeLinear", inputs, attributes
    )
    wide = Tensor(f"{name}/dequantized", x.data_type, x.shape)
    work.pairs[name] = _emit(graph, emitted, site, wide, "DequantizeLinear", [small, held], {})
    if name in graph.unshaped:
        graph.unshaped |= {small, work.pairs[name]}
    return work.pairs[name]


def _stored(graph: OnnxGraph, work: _Work, site: Site, name: str) -> str:
    """The value behind the DequantizeLinear of the weight ``name`` in 8 bits."""
    key = (name, site.axis)
    if key not in work.weights:
        array = graph.initializers[name]
        small, scale = quantize_weights(array, site.axis, work.form, name)
        inputs = [
            add_initializer(graph, f"{name}/{work.form}", small),
            add_initializer(graph, f"{name}/scale", scale),
        ]
        axis = {} if site.axis is None else {"axis": site.axis}
        wide = Tensor(f"{name}/dequantized", graph.values[name].data_type, array.shape)
        emitted = work.before.setdefault(id(site.node), [])
        work.weights[key] = _emit(graph, emitted, site, wide, "DequantizeLinear", inputs, axis)
    return work.weights[key]


def _emit(
    graph: OnnxGraph,
    emitted: list[OnnxNode],
    site: Site,
    result: Tensor,
    op_type: str,
    inputs: list[str],
    attributes: dict[str, Any],
) -> str:
    value = graph.fresh(result.name)
    graph.values[value] = Tensor(value, result.data_type, result.shape)
    emitted.append(OnnxNode(op_type, inputs, [value], attributes, value, site.node.origin))
    return value


def _place(graph: OnnxGraph, work: _Work) -> None:
    """Put pairs behind the node that makes their activation, weights in front of the first node that reads them."""
    made = {name for node in graph.nodes for name in node.outputs}
    nodes = [one for name, pair in work.after.items() if name not in made for one in pair]
    for node in graph.nodes:
        nodes += work.before.get(id(node), ())
        nodes.append(node)
        for name in node.outputs:
            nodes += work.after.get(name, ())
    graph.nodes = nodes
    work.before.clear()
    work.after.clear()


def _drop_replaced(graph: OnnxGraph, work: _Work) -> None:
    """Let go of the float weights that nothing reads any more."""
    readers = count_readers(graph)
    for name, _ in work.weights:
        if name not in readers and name in graph.initializers:
            del graph.initializers[name], graph.values[name]


def _decision(work: _Work, site: Site) -> OperandDecision:
    node = site.node
    notes = "; ".join(work.notes.get(id(node), ()))
    if id(node) not in work.done:
        return OperandDecision(node.name, node.op_type, node.origin, "", site.reason or notes)
    if site.weight is None:
        how = "the other addend quantised, so that the convolution before can add"
    else:
        how = (
            f"activation per tensor, weight {'per tensor' if site.axis is None else f'per channel (axis {site.axis})'}"
        )
    return OperandDecision(node.name, node.op_type, node.origin, work.form, f"{how}; {notes}" if notes else how)
