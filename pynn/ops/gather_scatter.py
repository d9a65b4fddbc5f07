"""Gather and scatter. Spec: https://www.w3.org/TR/webnn/#api-mlgraphbuilder-gather and its neighbours.

Index values count from the end if negative and are clamped into range, so that no value of an index tensor can make a
runtime touch memory outside the indexed one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..graph import Node, Operand
from ..types import DataType, OperandDescriptor
from .call import Call
from .emitter import Emitter, Tensor
from .methods import OperatorMethods
from .registry import ANY_RANK, Param, define

SECTION = "gather_scatter"

_AT_LEAST_1 = (1, ANY_RANK[1])
_INDEX_TYPES = frozenset({DataType.INT32, DataType.UINT32, DataType.INT64})

_INPUT = Param("input", rank=_AT_LEAST_1)
_INDICES = Param("indices", _INDEX_TYPES, rank=_AT_LEAST_1)


def _in_range(e: Emitter, indices: Tensor, dims: Sequence[int], *, int64: bool = False) -> Tensor:
    """``indices`` clamped to ``[-dim, dim - 1]``, which is what ONNX allows; ``dims`` is one size, or one for each
    position of the last dimension. Constants are also made non-negative. ``int64``: the ONNX operator takes no
    int32."""
    sizes = np.array(dims if len(dims) > 1 else dims[0], dtype=np.int64)
    known = e.constant_value(indices)
    if known is not None:
        wide = known.astype(np.int64)
        wide = np.clip(np.where(wide < 0, wide + sizes, wide), 0, sizes - 1)
        return e.constant(wide if int64 or known.dtype == np.int64 else wide.astype(np.int32))
    unsigned = indices.data_type == "uint32"
    if unsigned or int64:
        indices = e.cast(indices, DataType.INT64)
    dtype = np.dtype(indices.data_type)
    if len(set(dims)) == 1:
        low = None if unsigned else e.scalar(-dims[0], dtype.name)
        return e.op("Clip", indices, low, e.scalar(dims[0] - 1, dtype.name))
    if not unsigned:
        indices = e.op("Max", indices, e.constant((-sizes).astype(dtype)))
    return e.op("Min", indices, e.constant((sizes - 1).astype(dtype)))


# -- gather ---------------------------------------------------------------------------------


def _infer_gather(c: Call) -> OperandDescriptor:
    x, indices = c.operand("input"), c.operand("indices")
    axis = c.axis(x.rank)
    return c.descriptor(x.data_type, (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))


def _lower_gather(e: Emitter, n: Node) -> Tensor:
    x, axis = e.input(n, "input"), n.attributes["axis"]
    indices = _in_range(e, e.input(n, "indices"), [x.shape[axis]])
    return e.op("Gather", x, indices, shape=n.outputs[0].shape, axis=axis)


GATHER = define("gather", SECTION, _INPUT, Param("indices", _INDEX_TYPES), infer=_infer_gather, lower=_lower_gather)


# -- gatherElements -------------------------------------------------------------------------


def _check_elements(c: Call) -> tuple[Operand, Operand]:
    x, indices = c.operand("input"), c.operand("indices")
    axis = c.axis(x.rank)
    if indices.rank != x.rank or any(indices.shape[a] != dim for a, dim in enumerate(x.shape) if a != axis):
        c.fail(
            f"indices has shape {list(indices.shape)} but input has {list(x.shape)}; "
            f"ranks must be equal, and dimensions too, except dimension {axis}"
        )
    return x, indices


def _infer_gather_elements(c: Call) -> OperandDescriptor:
    x, indices = _check_elements(c)
    return OperandDescriptor(x.data_type, indices.shape)


def _lower_gather_elements(e: Emitter, n: Node) -> Tensor:
    x, axis = e.input(n, "input"), n.attributes["axis"]
    indices = _in_range(e, e.input(n, "indices"), [x.shape[axis]])
    return e.op("GatherElements", x, indices, shape=indices.shape, axis=axis)


GATHER_ELEMENTS = define(
    "gatherElements", SECTION, _INPUT, _INDICES, infer=_infer_gather_elements, lower=_lower_gather_elements
)


# -- gatherND -------------------------------------------------------------------------------


def _check_nd(c: Call) -> tuple[Operand, tuple[int, ...]]:
    """The input, and the shape of the slices that the coordinates select."""
    x, indices = c.operand("input"), c.operand("indices")
    depth = indices.shape[-1]
    if depth > x.rank:
        c.fail(
            f"the last dimension of indices {list(indices.shape)} is {depth}, "
            f"more than the rank of input (shape {list(x.shape)})"
        )
    return x, (*indices.shape[:-1], *x.shape[depth:])


def _infer_gather_nd(c: Call) -> OperandDescriptor:
    x, shape = _check_nd(c)
    return c.descriptor(x.data_type, shape)


def _coordinates(e: Emitter, n: Node, x: Tensor) -> Tensor:
    indices = e.input(n, "indices")
    return _in_range(e, indices, x.shape[: indices.shape[-1]], int64=True)


def _lower_gather_nd(e: Emitter, n: Node) -> Tensor:
    x = e.input(n, "input")
    return e.op("GatherND", x, _coordinates(e, n, x), shape=n.outputs[0].shape)


GATHER_ND = define("gatherND", SECTION, _INPUT, _INDICES, infer=_infer_gather_nd, lower=_lower_gather_nd)


# -- scatterElements ------------------------------------------------------------------------


def _infer_scatter_elements(c: Call) -> OperandDescriptor:
    x, indices = _check_elements(c)
    updates = c.operand("updates")
    if updates.shape != indices.shape:
        c.fail(f"updates has shape {list(updates.shape)}, indices {list(indices.shape)}; they must be equal")
    return x.descriptor


def _lower_scatter_elements(e: Emitter, n: Node) -> Tensor:
    x, updates, axis = e.input(n, "input"), e.input(n, "updates"), n.attributes["axis"]
    indices = _in_range(e, e.input(n, "indices"), [x.shape[axis]])
    return e.op("ScatterElements", x, indices, updates, axis=axis)


SCATTER_ELEMENTS = define(
    "scatterElements",
    SECTION,
    _INPUT,
    _INDICES,
    Param("updates", like="input", rank=_AT_LEAST_1),
    infer=_infer_scatter_elements,
    lower=_lower_scatter_elements,
)


# -- scatterND ------------------------------------------------------------------------------


def _infer_scatter_nd(c: Call) -> OperandDescriptor:
    x, shape = _check_nd(c)
    updates = c.operand("updates")
    if updates.shape != shape:
        indices = c.operand("indices")
        c.fail(
            f"updates has shape {list(updates.shape)}; input {list(x.shape)} and indices {list(indices.shape)} "
            f"want {list(shape)}"
        )
    return x.descriptor


def _lower_scatter_nd(e: Emitter, n: Node) -> Tensor:
    x = e.input(n, "input")
    return e.op("ScatterND", x, _coordinates(e, n, x), e.input(n, "updates"))


SCATTER_ND = define(
    "scatterND",
    SECTION,
    _INPUT,
    _INDICES,
    Param("updates", like="input"),
    infer=_infer_scatter_nd,
    lower=_lower_scatter_nd,
)


class GatherScatter(OperatorMethods):
    """``input`` is of any data type and rank >= 1, ``indices`` int32, uint32 or int64; results keep the input's data
    type.

    Index values count from the end if negative and are clamped into range; they never raise. Each raises
    ValidationError (a TypeError) for operands of another builder, another index type, a scalar input, and where its
    docstring says so.
    """

    def gather(self, input: Operand, indices: Operand, *, axis: int = 0, label: str = "") -> Operand:
        """Slices of ``input`` along ``axis``: shape ``input[:axis] + indices + input[axis + 1:]``; indices of any rank.

        Raises ValidationError for an axis that is not below the rank.
        Spec: https://www.w3.org/TR/webnn/#api-mlgraphbuilder-gather.
        """
        return self._add(GATHER, label, {"input": input, "indices": indices}, axis=axis)

    def gather_elements(self, input: Operand, indices: Operand, *, axis: int = 0, label: str = "") -> Operand:
        """``out[i, j, ..] = input[indices[i, j, ..], j, ..]`` (axis 0, and likewise others): the shape of ``indices``.

        Raises ValidationError for an axis that is not below the rank, or indices of another rank or of another shape
        outside ``axis``. Spec: https://www.w3.org/TR/webnn/#api-mlgraphbuilder-gatherelements.
        """
        return self._add(GATHER_ELEMENTS, label, {"input": input, "indices": indices}, axis=axis)

    def gather_nd(self, input: Operand, indices: Operand, *, label: str = "") -> Operand:
        """``input[coordinate]`` for each row of ``indices``' last dimension: shape ``indices[:-1] + input[k:]``.

        Raises ValidationError for scalar indices, or coordinates longer than the rank.
        Spec: https://www.w3.org/TR/webnn/#api-mlgraphbuilder-gathernd.
        """
        return self._add(GATHER_ND, label, {"input": input, "indices": indices})

    def scatter_elements(
        self, input: Operand, indices: Operand, updates: Operand, *, axis: int = 0, label: str = ""
    ) -> Operand:
        """A copy of ``input`` with ``out[indices[i, j, ..], j, ..] = updates[i, j, ..]`` (axis 0, and likewise others).

        Where indices repeat, any of the updates may win. Raises ValidationError as ``gather_elements`` does, and for
        updates of another data type than ``input`` or another shape than ``indices``. Spec:
        https://www.w3.org/TR/webnn/#api-mlgraphbuilder-scatterelements.
        """
        operands = {"input": input, "indices": indices, "updates": updates}
        return self._add(SCATTER_ELEMENTS, label, operands, axis=axis)

    def scatter_nd(self, input: Operand, indices: Operand, updates: Operand, *, label: str = "") -> Operand:
        """A copy of ``input`` with ``out[coordinate] = updates[..]`` for each row of ``indices``' last dimension.

        Where coordinates repeat, any of the updates may win. Raises ValidationError as ``gather_nd`` does, and for
        updates of another data type or of a shape other than ``indices[:-1] + input[k:]``. Spec:
        https://www.w3.org/TR/webnn/#api-mlgraphbuilder-scatternd.
        """
        return self._add(SCATTER_ND, label, {"input": input, "indices": indices, "updates": updates})
