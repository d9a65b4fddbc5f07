"""Which operators take quantised operands, and which of their inputs: the sites of Q/DQ pairs."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from ...ops.emitter import Tensor
from ..onnx_graph import OnnxGraph, OnnxNode
from .keep import is_kept
from .scales import QuantizedForm

FLOATS = ("float32", "float16", "bfloat16")
PRODUCTS = ("Conv", "ConvTranspose", "MatMul", "Gemm")


@dataclass(frozen=True, eq=False)
class Site:
    """An operator that may be quantised: ``activations`` are the numbers of its run-time inputs that get Q/DQ,
    ``weight`` that of its constant one and ``axis`` the weight's output channels (None: one scale for all).
    ``reason``: why it is left as it is; then the rest says nothing."""

    node: OnnxNode
    activations: tuple[int, ...] = ()
    weight: int | None = None
    axis: int | None = None
    reason: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Values that need a range."""
        return tuple(self.node.inputs[i] for i in self.activations)


def sites(graph: OnnxGraph, form: QuantizedForm, keep: Collection[str] = (), *, per_channel: bool = True) -> list[Site]:
    """The products of ``graph`` in order, then (int8) the residual additions behind convolutions.

    Convolutions and matrix products with a constant operand are quantised. Products of two activations stay: their
    ranges differ from head to head, and attention kernels take them in 16 bits.
    """
    found = []
    for node in graph.nodes:
        if node.op_type not in PRODUCTS or node.domain:
            continue
        if is_kept(node, keep):
            found.append(Site(node, reason="kept as asked"))
        else:
            found.append(_product(graph, node, per_channel))
    if form == "int8":
        found += _residuals(graph, {id(site.node): site for site in found}, keep)
    return found


def fold_moved_weights(graph: OnnxGraph) -> None:
    """Exporters of PyTorch leave weights behind Transpose and Identity nodes: what these make of a constant becomes a
    constant of the same name, without a copy."""
    needed = {*graph.outputs.values(), *graph.captured()}
    kept = []
    for node in graph.nodes:
        array = graph.initializers.get(node.inputs[0]) if node.inputs else None
        moves = node.op_type in ("Transpose", "Identity") and not node.domain and node.outputs[0] not in needed
        if array is None or not moves:
            kept.append(node)
            continue
        name = node.outputs[0]
        moved = array.transpose(node.attributes.get("perm")) if node.op_type == "Transpose" else array
        graph.initializers[name] = moved
        graph.values[name] = Tensor(name, graph.values[node.inputs[0]].data_type, moved.shape)
        graph.unshaped.discard(name)
    graph.nodes = kept


def calibration_points(graph: OnnxGraph) -> list[str]:
    """Names of the activations whose ranges some form needs, in the order of the graph."""
    return list(dict.fromkeys(name for site in sites(graph, "int8") for name in site.names))


def smooth_points(graph: OnnxGraph) -> list[str]:
    """Names of the activations that SmoothQuant can smooth: their last axis meets the rows of constant weights."""
    return list(dict.fromkeys(site.names[0] for site in sites(graph, "int8") if is_linear(site)))


def is_linear(site: Site) -> bool:
    """Whether the site is x @ W with x at run time, channels last."""
    if site.weight != 1 or site.node.op_type not in ("MatMul", "Gemm"):
        return False
    return not site.node.attributes.get("transA", 0)


def _product(graph: OnnxGraph, node: OnnxNode, per_channel: bool) -> Site:
    types = [graph.values[name].data_type if name in graph.values else "" for name in node.inputs[:2]]
    if not all(data_type in FLOATS for data_type in types):
        return Site(node, reason=f"operands of {' and '.join(one or 'unknown type' for one in types)}")
    constant = [name in graph.initializers for name in node.inputs[:2]]
    if all(constant):
        return Site(node, reason="both operands are constant")
    if not any(constant):
        return Site(node, reason="both operands are computed at run time")
    weight = constant.index(True)
    if weight == 0 and node.op_type in ("Conv", "ConvTranspose"):
        return Site(node, reason="its input is constant and its weight is computed at run time")
    if not graph.initializers[node.inputs[weight]].size:
        return Site(node, reason="its weight has no element")
    return Site(node, (1 - weight,), weight, _channel_axis(graph, node, weight) if per_channel else None)


def _channel_axis(graph: OnnxGraph, node: OnnxNode, weight: int) -> int | None:
    """The axis of the weight along which outputs differ; None where TensorRT takes one scale only."""
    rank = graph.initializers[node.inputs[weight]].ndim
    if node.op_type == "Conv":
        return 0
    if node.op_type == "ConvTranspose":
        return 1 if node.attributes.get("group", 1) == 1 else None
    if rank < 2:
        return None
    if node.op_type == "Gemm":
        transposed = bool(node.attributes.get("transA" if weight == 0 else "transB", 0))
        return int(transposed) if weight == 0 else 1 - int(transposed)
    return rank - 1 if weight == 1 else rank - 2


def _residuals(graph: OnnxGraph, products: dict[int, Site], keep: Collection[str]) -> Iterator[Site]:
    """Additions of a quantised convolution's result and another activation: with Q/DQ on the other one, TensorRT adds
    inside the convolution."""
    order = {name: i for i, node in enumerate(graph.nodes) for name in node.outputs}
    readers = count_readers(graph)
    for node in graph.nodes:
        if node.op_type != "Add" or node.domain or is_kept(node, keep):
            continue
        sides = [graph.values.get(name) for name in node.inputs]
        if any(one is None or one.name in graph.initializers or one.data_type not in FLOATS for one in sides):
            continue
        convolved = [
            i
            for i, name in enumerate(node.inputs)
            if readers.get(name) == 1 and _is_quantized_convolution(graph, order.get(name), products)
        ]
        same = sides[0].shape == sides[1].shape  # type: ignore[union-attr]
        if not convolved or not same or node.inputs[0] == node.inputs[1]:
            continue
        last = max(convolved, key=lambda i: order[node.inputs[i]])
        yield Site(node, (1 - last,))


def _is_quantized_convolution(graph: OnnxGraph, place: int | None, products: dict[int, Site]) -> bool:
    if place is None:
        return False
    site = products.get(id(graph.nodes[place]))
    return site is not None and not site.reason and site.node.op_type == "Conv"


def count_readers(graph: OnnxGraph) -> dict[str, int]:
    """By value name, how many inputs of nodes, outputs of the graph and inner graphs read it."""
    counts: dict[str, int] = {}
    outside: Sequence[str] = (*graph.outputs.values(), *(name for node in graph.nodes for name in node.captures))
    for name in (*outside, *(name for node in graph.nodes for name in node.inputs)):
        counts[name] = counts.get(name, 0) + 1
    return counts
