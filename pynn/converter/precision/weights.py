"""Weight-only quantisation: constants of products and embedding tables become small integers or floats and a scale.

Run it after the pass that chooses the type to compute in (``fp16``, ``bf16``): scales and dequantised weights have the
type that the weight has then. TensorRT for RTX fuses int4 in this form (one DequantizeLinear without zero point between
constant and product); see ``docs/weights.md`` for what it does with the others.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...errors import FeatureNotSupportedError, ValidationError
from ...ops.emitter import Tensor
from ..model import element_name, numpy_dtype
from ..onnx_graph import OnnxGraph, OnnxNode
from ..passes import Pass
from .choice import METHODS
from .keep import check_keep, is_kept, names_of
from .opset import raise_opset
from .quantizable import FLOATS
from .weights_flatten import flatten_products
from .weights_grid import (
    ELEMENT,
    FORMS,
    FP4_BLOCK,
    Form,
    Grid,
    Layout,
    block_that_divides,
    blocks,
    channels,
    scale_grid,
)
from .weights_round import Rounded, hessian, round_weight, round_with_inputs

Array = np.ndarray[Any, Any]

BLOCKS = (32, 64, 128)
MIN_ELEMENTS = 4096
"""Smaller weights stay: their scales and kernels would cost more than they save."""

_LEAST_CAPABILITY = {"int8": 75, "int4": 80, "fp8": 89, "fp4": 100}
_OPSET = {"int8": 13, "int4": 21, "fp8": 19, "fp4": 23}
_OPSET_OF_NARROW_SCALES = 19
_BLOCKED = ("int4", "fp4")


@dataclass(frozen=True, slots=True)
class WeightDecision:
    """What became of one weight. ``form`` is empty where it stays, and ``reason`` says why; it also says where a form
    is not the one asked for. ``operators`` read it. ``error`` is the relative root mean square error of the weights;
    ``bytes_before`` and ``bytes_after`` count weights and scales."""

    weight: str
    operators: tuple[str, ...]
    form: str
    method: str
    reason: str
    bytes_before: int
    bytes_after: int
    error: float = 0.0

    def __str__(self) -> str:
        readers = ", ".join(self.operators)
        if not self.form:
            return f"{self.weight} of {readers}: stays, {self.reason}"
        why = f" ({self.reason})" if self.reason else ""
        sizes = f"{self.bytes_before:,} -> {self.bytes_after:,} bytes"
        return f"{self.weight} of {readers}: {self.form} by {self.method}{why}, {sizes}, error {self.error:.2%}"


@dataclass(frozen=True, slots=True)
class _Use:
    """How a node reads a weight: ``along`` is the axis that its sums run along, -1 where that is not one axis;
    ``channel`` that of its results."""

    node: OnnxNode
    along: int
    channel: int


@dataclass(frozen=True, slots=True)
class _Settings:
    form: Form
    block: int
    method: str
    keep: Collection[str]
    activations: Mapping[str, Array]
    min_elements: int


@dataclass(slots=True)
class _Made:
    """Nodes and initializers that replace weights."""

    nodes: list[OnnxNode] = field(default_factory=list)


def quantize_weights(
    graph: OnnxGraph,
    form: Form,
    *,
    block: int = 128,
    method: str = "rtn",
    keep: Collection[str] = (),
    activations: Mapping[str, Array] | None = None,
    min_elements: int = MIN_ELEMENTS,
    target: Sequence[int] = (),
) -> tuple[WeightDecision, ...]:
    """Quantise, in place, the constant operands of MatMul, Gemm and Conv and the tables of Gather.

    int8 and fp8 (e4m3) have a scale for each output channel (each row of a table); int4 has blocks of ``block`` (32, 64
    or 128) weights along the axis that is summed over (the last one of a table), halved to 16 until they divide it;
    fp4 (e2m1) blocks of 16 with e4m3 scales and one power of two for all. Scales are symmetric, without zero points.

    ``method``: "rtn" rounds to nearest, "hqq" searches the scale of least error, "gptq" carries rounding errors over,
    weighted by ``activations``: inputs ``[..., K]`` of the products, by name or label of the product or by value name;
    weights without them get "hqq".
    ``keep`` names operators that stay as they are. ``target``: compute capabilities (89 is 8.9) that must have the
    form. One weight is worked on at a time.

    Raises ValidationError for wrong arguments, FeatureNotSupportedError for a form that a target lacks,
    UnsupportedModelError for a model whose opset is too old and cannot be raised.
    """
    check_keep(graph, keep)
    return _quantize(graph, _settings(form, block, method, keep, activations, min_elements, target))


def _quantize(graph: OnnxGraph, settings: _Settings) -> tuple[WeightDecision, ...]:
    made = _Made()
    decisions = [
        _decide(graph, name, uses, settings, made) for name, uses in _weights(graph, settings.min_elements).items()
    ]
    if made.nodes:
        narrow = any(graph.values[node.outputs[0]].data_type != "float32" for node in made.nodes)
        raise_opset(graph, max(_OPSET[settings.form], _OPSET_OF_NARROW_SCALES if narrow else 0))
        graph.nodes[:0] = made.nodes
        flatten_products(graph)
    return tuple(decisions)


def weight_pass(
    form: Form,
    decisions: list[WeightDecision],
    *,
    block: int = 128,
    method: str = "rtn",
    keep: Collection[str] = (),
    activations: Mapping[str, Array] | None = None,
    min_elements: int = MIN_ELEMENTS,
    target: Sequence[int] = (),
) -> Pass:
    """``quantize_weights`` as a named pass, which appends to ``decisions``. ``keep`` may name operators that the graph
    lacks: a part of a model has not all of them."""
    settings = _settings(form, block, method, keep, activations, min_elements, target)

    def run(graph: OnnxGraph) -> None:
        """Weights as small numbers and scales, as precision asks for."""
        decisions.extend(_quantize(graph, settings))

    return Pass(f"{form}_weights", run)


def check_form(form: str, capabilities: Sequence[int]) -> None:
    """Raises FeatureNotSupportedError where one of the compute capabilities lacks the form; 0 (this GPU) is not
    judged."""
    for capability in capabilities:
        if capability and capability < _LEAST_CAPABILITY[form]:
            able = [one for one in FORMS if capability >= _LEAST_CAPABILITY[one]]
            least = _LEAST_CAPABILITY[form]
            raise FeatureNotSupportedError(
                f"{form} weights need compute capability {least // 10}.{least % 10}; {capability // 10}."
                f"{capability % 10} takes {', '.join(able) or 'none'}: choose one of these, or another target"
            )


def _settings(
    form: Form,
    block: int,
    method: str,
    keep: Collection[str],
    activations: Mapping[str, Array] | None,
    min_elements: int,
    target: Sequence[int],
) -> _Settings:
    """The arguments, checked."""
    _check(form, block, method, activations)
    check_form(form, target)
    return _Settings(form, FP4_BLOCK if form == "fp4" else block, method, keep, activations or {}, min_elements)


def _check(form: str, block: int, method: str, activations: Mapping[str, Array] | None) -> None:
    if form not in FORMS:
        raise ValidationError(f"weights can be {', '.join(FORMS)}; got {form!r}")
    if form == "int4" and block not in BLOCKS:
        raise ValidationError(f"block must be one of {', '.join(map(str, BLOCKS))}; got {block!r}")
    if method not in METHODS:
        raise ValidationError(f"method must be one of {', '.join(METHODS)}; got {method!r}")
    if method == "gptq" and not activations:
        raise ValidationError("method='gptq' needs activations: inputs of the products, by name; 'hqq' needs none")
    for name, array in (activations or {}).items():
        finite = array.size and array.dtype.kind == "f" and bool(np.isfinite(array).all())
        if array.ndim < 2 or not finite:
            raise ValidationError(
                f"activations of {name!r} must be finite floating-point numbers [..., K], got {array.dtype} "
                f"{list(array.shape)}" + ("" if finite or not array.size else " with NaN or infinity, or integers")
            )


# -- what is a weight


def _weights(graph: OnnxGraph, min_elements: int) -> dict[str, list[_Use | None]]:
    """By initializer, its readers; None for one that is no product or table, or that is outside of the nodes."""
    found: dict[str, list[_Use | None]] = {}
    for name, array in graph.initializers.items():
        if element_name(array.dtype) in FLOATS and array.ndim >= 2 and array.size >= min_elements:
            found[name] = []
    for node in graph.nodes:
        for index, name in enumerate(node.inputs):
            if name in found:
                found[name].append(_use(node, index, graph.initializers[name].ndim))
        for name in node.captures:
            if name in found:
                found[name].append(None)
    for name in graph.outputs.values():
        if name in found:
            found[name].append(None)
    return {name: uses for name, uses in found.items() if any(uses)}


def _use(node: OnnxNode, index: int, rank: int) -> _Use | None:
    if node.domain:
        return None
    match node.op_type, index:
        case "MatMul", 1:
            return _Use(node, rank - 2, rank - 1)
        case "Gemm", 1:
            transposed = int(bool(node.attributes.get("transB", 0)))
            return _Use(node, transposed, 1 - transposed)
        case "Conv", 1:
            return _Use(node, -1, 0)
        case "Gather", 0 if rank == 2 and node.attributes.get("axis", 0) in (0, -2):
            return _Use(node, 1, 0)
    return None


# -- one weight


def _decide(
    graph: OnnxGraph, name: str, uses: Sequence[_Use | None], settings: _Settings, made: _Made
) -> WeightDecision:
    array = graph.initializers[name]
    readers = tuple(dict.fromkeys(use.node.origin or use.node.name for use in uses if use is not None))
    reason, layout = _layout(array, uses, settings)
    if layout is None:
        return WeightDecision(name, readers, "", "", reason, array.nbytes, array.nbytes)
    known = [use for use in uses if use is not None]
    rounded, method, why = _round(array, layout, known, settings)
    unit = _unit(array, settings.form)
    after = _replace(graph, name, rounded, layout, unit, settings.form, made)
    text = f"{settings.form}, blocks of {layout.block_size}" if layout.block_size else f"{settings.form} per channel"
    reasons = "; ".join(part for part in (reason, why) if part)
    return WeightDecision(name, readers, text, method, reasons, array.nbytes, after, rounded.error)


def _layout(array: Array, uses: Sequence[_Use | None], settings: _Settings) -> tuple[str, Layout | None]:
    """How to cut a weight and what is unusual about it, or why it stays."""
    first = uses[0]
    if any(use is None for use in uses) or first is None:
        return "something else than a product or a table reads it, too", None
    if any(use is not None and is_kept(use.node, settings.keep) for use in uses):
        return "kept as asked", None
    if any((use.along, use.channel) != (first.along, first.channel) for use in uses if use is not None):
        return "its readers sum along different axes", None
    if not np.isfinite(_largest(array)):
        return "it has NaN or infinity", None
    if settings.form not in _BLOCKED:
        return "", channels(array.shape, first.channel)
    if first.along < 0:
        return f"filters of {first.node.op_type} take no {settings.form}: their sums run along several axes", None
    length = array.shape[first.along]
    block = block_that_divides(length, settings.block)
    if not block or (settings.form == "fp4" and block != FP4_BLOCK):
        return f"no block of {settings.block} or fewer, down to 16, divides its {length} rows", None
    reason = "" if block == settings.block else f"{settings.block} does not divide {length}"
    return reason, blocks(array.shape, first.along, block)


def _largest(array: Array) -> float:
    """The largest magnitude, or NaN, without a copy of the array."""
    return max(float(array.max()), -float(array.min())) if array.size else 0.0


def _unit(array: Array, form: Form) -> float:
    return scale_grid(form, element_name(array.dtype), _largest(array)).unit


def _round(array: Array, layout: Layout, uses: Sequence[_Use], settings: _Settings) -> tuple[Rounded, str, str]:
    """The rounded weight, the method and why it is another one than asked for."""
    grid, scales = Grid(settings.form), scale_grid(settings.form, element_name(array.dtype), _largest(array))
    if settings.method != "gptq":
        return round_weight(array, grid, scales, layout, search=settings.method == "hqq"), settings.method, ""
    moments, count, why = _moments(array, uses, settings.activations)
    if moments is None:
        return round_weight(array, grid, scales, layout, search=True), "hqq", why
    if uses[0].along == 0:
        return round_with_inputs(array, grid, scales, layout, moments, count), "gptq", ""
    turned = array.shape[::-1]
    across = blocks(turned, 0, layout.block_size) if layout.block_size else channels(turned, 1)
    found = round_with_inputs(np.ascontiguousarray(array.T), grid, scales, across, moments, count)
    scale = found.scale.T if layout.block_size else found.scale
    return Rounded(np.ascontiguousarray(found.values.T), np.ascontiguousarray(scale), found.error), "gptq", ""


def _moments(array: Array, uses: Sequence[_Use], activations: Mapping[str, Array]) -> tuple[Array | None, int, str]:
    """The second moments of the inputs that meet a weight and how many these are, or why there are none."""
    total, count = None, 0
    for use in uses:
        if use.node.op_type not in ("MatMul", "Gemm") or array.ndim != 2 or use.node.attributes.get("transA", 0):
            return None, 0, f"gptq is not for {use.node.op_type} of this form"
        name, length = use.node.inputs[0], array.shape[use.along]
        inputs = next((activations[key] for key in (name, *names_of(use.node)) if key in activations), None)
        if inputs is None:
            return None, 0, f"no activations of {name!r} were given"
        if inputs.shape[-1] != length:
            raise ValidationError(
                f"activations of {name!r} have {inputs.shape[-1]} channels, its product {use.node.name!r} sums {length}"
            )
        found = hessian(inputs)
        count += inputs.size // length
        total = found if total is None else total + found
    if total is None or not np.any(np.diag(total)):
        return None, 0, "its activations are all zero"
    return total, count, ""


def _replace(
    graph: OnnxGraph, name: str, rounded: Rounded, layout: Layout, unit: float, form: Form, made: _Made
) -> int:
    """Put DequantizeLinear in the place of an initializer, under its name; returns the bytes of what replaces it."""
    weight = graph.values[name]
    origin = f"weight {name!r}"

    def initializer(stem: str, array: Array, data_type: str) -> str:
        added = graph.fresh(f"{name}/{stem}")
        graph.initializers[added] = array
        graph.values[added] = Tensor(added, data_type, array.shape)
        return added

    del graph.initializers[name]
    values = initializer("quantized", rounded.values, ELEMENT[form])
    scale = initializer("scale", rounded.scale, element_name(rounded.scale.dtype))
    packed = rounded.values.size // 2 if form in _BLOCKED else rounded.values.size
    if unit:
        held = initializer("unit", np.array(unit, numpy_dtype(weight.data_type)), weight.data_type)
        spread = graph.fresh(f"{name}/scales")
        graph.values[spread] = Tensor(spread, weight.data_type, rounded.scale.shape)
        made.nodes.append(OnnxNode("DequantizeLinear", [scale, held], [spread], {}, f"{name}/DequantizeScale", origin))
        scale = spread
    attributes: dict[str, Any] = dict(layout.attributes())
    made.nodes.append(
        OnnxNode("DequantizeLinear", [values, scale], [name], attributes, f"{name}/DequantizeLinear", origin)
    )
    return packed + rounded.scale.nbytes
