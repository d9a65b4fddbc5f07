"""SmoothQuant: ranges moved from the channels of activations into the rows of weights, without a change of the result.

Method: https://arxiv.org/abs/2211.10438, equations 3 and 4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...ops.emitter import Tensor
from ..model import element_name
from ..onnx_graph import OnnxGraph, OnnxNode
from .quantizable import Site, count_readers, is_linear

Array = np.ndarray[Any, Any]

_LEAST, _MOST = 1e-3, 1e3
"""Limits of a channel's factor: beyond them a channel that was nearly silent in calibration would ruin the weights."""


def smooth(
    graph: OnnxGraph, found: Sequence[Site], channels: Mapping[str, Sequence[float]], strength: float
) -> tuple[dict[str, float], list[tuple[OnnxNode, str]]]:
    """Divide each activation by its channels' factors and multiply the rows of the weights that meet it.

    The division is folded into the scale of a LayerNormalization or a constant Mul before, where nothing else reads the
    activation; else it is a Mul. Returns the new ranges by value name, and by reading node what was done.
    """
    groups: dict[str, list[Site]] = {}
    for site in found:
        if not site.reason and is_linear(site) and site.names[0] in channels:
            groups.setdefault(site.names[0], []).append(site)
    ranges: dict[str, float] = {}
    done: list[tuple[OnnxNode, str]] = []
    readers = count_readers(graph)
    makers = {name: node for node in graph.nodes for name in node.outputs}
    multiplied: dict[int, OnnxNode] = {}
    for name, group in groups.items():
        amax = np.asarray(channels[name], np.float64)
        factors = _factors(graph, group, amax, strength)
        if factors is None:
            done += [(site.node, f"not smoothed: {name!r} and the weight's rows differ in number") for site in group]
            continue
        folded = readers[name] == len(group) and _fold(graph, makers.get(name), name, factors)
        smoothed = name
        if not folded:
            multiplied[id(group[0].node)] = _multiply(graph, name, group, factors)
            smoothed = group[0].node.inputs[0]
        for site in group:
            _scale_rows(graph, site, factors)
            done.append(
                (site.node, f"smoothed by {strength:g}, {'folded into' if folded else 'by a Mul after'} {name!r}")
            )
        ranges[smoothed] = float((amax / factors).max(initial=0.0))
    graph.nodes = [one for node in graph.nodes for one in (multiplied.get(id(node)), node) if one is not None]
    return ranges, done


def _factors(graph: OnnxGraph, group: Sequence[Site], amax: Array, strength: float) -> Array | None:
    rows = []
    for site in group:
        weight = graph.initializers[site.node.inputs[1]]
        axis = _row_axis(site, weight)
        if weight.ndim < 2 or weight.shape[axis] != amax.size:
            return None
        others = tuple(i for i in range(weight.ndim) if i != axis)
        rows.append(np.abs(weight.astype(np.float64)).max(axis=others))
    widest = np.max(rows, axis=0)
    with np.errstate(all="ignore"):
        factors = amax**strength / widest ** (1 - strength)
    plain = (amax == 0) | (widest == 0) | ~np.isfinite(factors)
    return np.where(plain, 1.0, np.clip(factors, _LEAST, _MOST))


def _row_axis(site: Site, weight: Array) -> int:
    transposed = site.node.op_type == "Gemm" and site.node.attributes.get("transB", 0)
    return weight.ndim - 1 if transposed else weight.ndim - 2


def _scale_rows(graph: OnnxGraph, site: Site, factors: Array) -> None:
    weight = graph.initializers[site.node.inputs[1]]
    axis = _row_axis(site, weight)
    shape = [-1 if i == axis else 1 for i in range(weight.ndim)]
    scaled = (weight.astype(np.float32) * factors.reshape(shape).astype(np.float32)).astype(weight.dtype)
    site.node.inputs[1] = add_initializer(graph, f"{site.node.inputs[1]}/smoothed", scaled)


def _fold(graph: OnnxGraph, maker: OnnxNode | None, name: str, factors: Array) -> bool:
    """Whether the node that makes ``name`` could take the division into its own constants."""
    if maker is None or maker.domain or name != maker.outputs[0]:
        return False
    if maker.op_type == "LayerNormalization":
        places = [i for i in (1, 2) if i < len(maker.inputs) and maker.inputs[i]]
    elif maker.op_type == "Mul":
        places = [i for i in (0, 1) if maker.inputs[i] in graph.initializers][:1]
    else:
        return False
    constants = [graph.initializers.get(maker.inputs[i]) for i in places]
    if not places or any(one is None or one.shape[-1:] != factors.shape for one in constants):
        return False
    for i, constant in zip(places, constants, strict=True):
        assert constant is not None
        divided = (constant.astype(np.float64) / factors).astype(constant.dtype)
        maker.inputs[i] = add_initializer(graph, f"{maker.inputs[i]}/smoothed", divided)
    return True


def _multiply(graph: OnnxGraph, name: str, group: Sequence[Site], factors: Array) -> OnnxNode:
    """The node that divides, for the place in front of the first of ``group``, which reads it now."""
    old = graph.values[name]
    inverse = (1 / factors).astype(np.float32).astype(graph.initializers[group[0].node.inputs[1]].dtype)
    value = graph.fresh(f"{name}/smoothed")
    graph.values[value] = Tensor(value, old.data_type, old.shape)
    constant = add_initializer(graph, f"{name}/factors", inverse)
    for site in group:
        site.node.inputs[0] = value
    return OnnxNode("Mul", [name, constant], [value], {}, value, group[0].node.origin)


def add_initializer(graph: OnnxGraph, stem: str, array: Array) -> str:
    """Add ``array`` under a name that begins with ``stem``."""
    name = graph.fresh(stem)
    graph.initializers[name] = array
    graph.values[name] = Tensor(name, element_name(array.dtype), array.shape)
    return name
