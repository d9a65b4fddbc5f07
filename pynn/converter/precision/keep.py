"""The ``keep`` list: operators that a user wants as they are, by name, label or type."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Collection

from ...errors import ValidationError
from ..onnx_graph import OnnxGraph, OnnxNode


def names_of(node: OnnxNode) -> tuple[str, ...]:
    """What ``keep`` may call a node: its name, its operator type, its WebNN operator (as "softmax" or "softmax_3"), and
    the label of that."""
    origin = node.origin
    if not origin or origin == node.name:
        return (node.name, node.op_type)
    operator, _, label = origin.partition(" ")
    if label[:1] in "'\"" and label[:1]:
        return (node.name, node.op_type, operator, ast.literal_eval(label))
    return (node.name, node.op_type, origin, operator.rpartition("_")[0])


def is_kept(node: OnnxNode, keep: Collection[str]) -> bool:
    """Whether ``keep`` names the node."""
    return bool(keep) and any(name in keep for name in names_of(node))


def check_keep(graph: OnnxGraph, keep: Collection[str]) -> None:
    """Raises ValidationError for a name in ``keep`` that no operator has, with those that are close to it."""
    if not keep:
        return
    known = {name for node in graph.nodes for name in names_of(node) if name}
    for name in keep:
        if name not in known:
            close = difflib.get_close_matches(name, known, 5, 0.5) or sorted({n.op_type for n in graph.nodes})[:8]
            raise ValidationError(
                f"precision: keep names {name!r}, but no operator has this name, label or type; close to it: "
                f"{', '.join(map(repr, close)) or 'nothing, the model has no operator'}"
            )
