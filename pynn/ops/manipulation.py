"""Operators that move data. Spec: https://www.w3.org/TR/webnn/#api-mlgraphbuilder-concat and its neighbours.

``resample2d`` is in ``resample2d.py``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..graph import Node, Operand
from ..types import ALL_TYPES, DataType, OperandDescriptor
from .call import Call
from .emitter import Emitter, Tensor
from .methods import OperatorMethods
from .registry import ANY_RANK, Param, define

SECTION = "manipulation"

MAX_TENSORS = 8192
"""The spec's valid tensor count: operands of ``concat``, pieces of ``split``."""

_AT_LEAST_1 = (1, ANY_RANK[1])
_AT_LEAST_2 = (2, ANY_RANK[1])


# -- concat ---------------------------------------------------------------------------------


def _infer_concat(c: Call) -> OperandDescriptor:
    inputs = c.operands["inputs"]
    assert isinstance(inputs, tuple)
    if not 1 <= len(inputs) <= MAX_TENSORS:
        c.fail(f"inputs must hold 1 to {MAX_TENSORS} operands, has {len(inputs)}")
    first = inputs[0]
    axis = c.axis(first.rank)
    total = first.shape[axis]
    rest = first.shape[:axis] + first.shape[axis + 1 :]
    for i, x in enumerate(inputs[1:], 1):
        if x.data_type is not first.data_type:
            c.fail(f"inputs[{i}] is {x.data_type} but inputs[0] is {first.data_type}; cast one of them")
        if x.rank != first.rank or x.shape[:axis] + x.shape[axis + 1 :] != rest:
            c.fail(
                f"inputs[{i}] has shape {list(x.shape)} but inputs[0] has {list(first.shape)}; "
                f"only dimension {axis} may differ"
            )
        total += x.shape[axis]
    return c.descriptor(first.data_type, (*first.shape[:axis], total, *first.shape[axis + 1 :]))


def _lower_concat(e: Emitter, n: Node) -> Tensor:
    operands = n.inputs["inputs"]
    assert isinstance(operands, tuple)
    return e.op("Concat", *(e.tensor(o) for o in operands), shape=n.outputs[0].shape, axis=n.attributes["axis"])


CONCAT = define(
    "concat", SECTION, Param("inputs", rank=_AT_LEAST_1, variadic=True), infer=_infer_concat, lower=_lower_concat
)


# -- expand ---------------------------------------------------------------------------------


def _infer_expand(c: Call) -> OperandDescriptor:
    x = c.operand("input")
    shape = c.uints("new_shape", minimum=1)
    kept = shape[len(shape) - x.rank :]
    if len(shape) < x.rank or any(old not in (1, new) for old, new in zip(x.shape, kept, strict=True)):
        c.fail(f"input of shape {list(x.shape)} cannot be expanded to new_shape {list(shape)}")
    return c.descriptor(x.data_type, shape)


def _lower_expand(e: Emitter, n: Node) -> Tensor:
    x, shape = e.input(n, "input"), n.outputs[0].shape
    return x if x.shape == shape else e.op("Expand", x, e.ints(shape), shape=shape)


EXPAND = define("expand", SECTION, Param("input"), infer=_infer_expand, lower=_lower_expand)


# -- pad ------------------------------------------------------------------------------------

_ONNX_PADDING = {"constant": "constant", "edge": "edge", "reflection": "reflect"}


def _infer_pad(c: Call) -> OperandDescriptor:
    x = c.operand("input")
    before = c.uints("beginning_padding", length=x.rank)
    after = c.uints("ending_padding", length=x.rank)
    mode = c.enum("mode", *_ONNX_PADDING)
    c.number("value", x.data_type)
    if mode == "reflection":
        for name, padding in (("beginning_padding", before), ("ending_padding", after)):
            if any(p >= dim for p, dim in zip(padding, x.shape, strict=True)):
                c.fail(f"{name} {list(padding)} must be below shape {list(x.shape)} of input in mode 'reflection'")
    return c.descriptor(x.data_type, tuple(b + d + a for b, d, a in zip(before, x.shape, after, strict=True)))


def _lower_pad(e: Emitter, n: Node) -> Tensor:
    x, mode = e.input(n, "input"), n.attributes["mode"]
    pads = (*n.attributes["beginning_padding"], *n.attributes["ending_padding"])
    if not any(pads):
        return x
    value = n.attributes["value"]
    fill = e.scalar(0 if value is None else value, x.data_type) if mode == "constant" else None
    return e.op("Pad", x, e.ints(pads), fill, shape=n.outputs[0].shape, mode=_ONNX_PADDING[mode])


PAD = define("pad", SECTION, Param("input"), infer=_infer_pad, lower=_lower_pad)


# -- reshape --------------------------------------------------------------------------------


def _infer_reshape(c: Call) -> OperandDescriptor:
    x = c.operand("input")
    shape = c.uints("new_shape", minimum=1)
    if math.prod(shape) != math.prod(x.shape):
        c.fail(
            f"new_shape {list(shape)} has {math.prod(shape)} elements, "
            f"input of shape {list(x.shape)} has {math.prod(x.shape)}"
        )
    return c.descriptor(x.data_type, shape)


def _lower_reshape(e: Emitter, n: Node) -> Tensor:
    return e.reshape(e.input(n, "input"), n.outputs[0].shape)


RESHAPE = define("reshape", SECTION, Param("input"), infer=_infer_reshape, lower=_lower_reshape)


# -- reverse --------------------------------------------------------------------------------


def _infer_reverse(c: Call) -> OperandDescriptor:
    x = c.operand("input")
    if c.attributes["axes"] is None:
        c.attributes["axes"] = tuple(range(x.rank))
    else:
        c.axes(x.rank)
    return x.descriptor


def _lower_reverse(e: Emitter, n: Node) -> Tensor:
    x = e.input(n, "input")
    return reverse(e, x, [a for a in sorted(n.attributes["axes"]) if x.shape[a] > 1])


def reverse(e: Emitter, x: Tensor, axes: Sequence[int]) -> Tensor:
    """Flip ``x`` along ``axes``: a Slice with steps of -1, which ends before the element at -(size + 1)."""
    if not axes:
        return x
    ends = [-(x.shape[a] + 1) for a in axes]
    backward = [-1] * len(axes)
    return e.op("Slice", x, e.ints(backward), e.ints(ends), e.ints(axes), e.ints(backward))


REVERSE = define("reverse", SECTION, Param("input"), infer=_infer_reverse, lower=_lower_reverse)


# -- slice ----------------------------------------------------------------------------------


def _infer_slice(c: Call) -> OperandDescriptor:
    x = c.operand("input")
    starts = c.uints("starts", length=x.rank)
    sizes = c.uints("sizes", length=x.rank, minimum=1)
    if c.attributes["strides"] is None:
        c.attributes["strides"] = (1,) * x.rank
    strides = c.uints("strides", length=x.rank, minimum=1)
    for axis, (start, size, dim) in enumerate(zip(starts, sizes, x.shape, strict=True)):
        if start + size > dim:
            c.fail(
                f"starts {list(starts)} and sizes {list(sizes)} reach beyond shape {list(x.shape)} of input "
                f"in dimension {axis}: {start} + {size} > {dim}"
            )
    return c.descriptor(x.data_type, tuple(-(-size // step) for size, step in zip(sizes, strides, strict=True)))


def _lower_slice(e: Emitter, n: Node) -> Tensor:
    x = e.input(n, "input")
    starts, sizes, strides = (n.attributes[k] for k in ("starts", "sizes", "strides"))
    axes = [a for a, dim in enumerate(x.shape) if sizes[a] != dim or strides[a] != 1]
    if not axes:
        return x
    return e.op(
        "Slice",
        x,
        e.ints([starts[a] for a in axes]),
        e.ints([starts[a] + sizes[a] for a in axes]),
        e.ints(axes),
        e.ints([strides[a] for a in axes]),
        shape=n.outputs[0].shape,
    )


SLICE = define("slice", SECTION, Param("input"), infer=_infer_slice, lower=_lower_slice)


# -- split ----------------------------------------------------------------------------------


def _infer_split(c: Call) -> list[OperandDescriptor]:
    x = c.operand("input")
    axis = c.axis(x.rank)
    dim = x.shape[axis]
    splits = c.attributes["splits"]
    if isinstance(splits, (Sequence, np.ndarray)):
        if not 1 <= len(splits) <= MAX_TENSORS:
            c.fail(f"splits must hold 1 to {MAX_TENSORS} sizes, has {len(splits)}")
        sizes = c.uints("splits", minimum=1)
        if sum(sizes) != dim:
            c.fail(f"splits {list(sizes)} sum to {sum(sizes)}, but dimension {axis} of input is {dim}")
    else:
        count = c.uint("splits", minimum=1, maximum=MAX_TENSORS)
        if dim % count:
            c.fail(f"splits {count} does not divide dimension {axis} of input, which is {dim}")
        sizes = c.attributes["splits"] = (dim // count,) * count
    return [OperandDescriptor(x.data_type, (*x.shape[:axis], size, *x.shape[axis + 1 :])) for size in sizes]


def _lower_split(e: Emitter, n: Node) -> list[Tensor]:
    return split(e, e.input(n, "input"), n.attributes["splits"], n.attributes["axis"])


def split(e: Emitter, x: Tensor, sizes: Sequence[int], axis: int) -> list[Tensor]:
    """Cut ``x`` along ``axis`` into pieces of ``sizes``."""
    if len(sizes) == 1:
        return [x]
    pieces = [(x.data_type, (*x.shape[:axis], size, *x.shape[axis + 1 :])) for size in sizes]
    return e.multi("Split", x, e.ints(sizes), outputs=pieces, axis=axis)


SPLIT = define(
    "split", SECTION, Param("input", rank=_AT_LEAST_1), infer=_infer_split, lower=_lower_split, returns_list=True
)


# -- tile -----------------------------------------------------------------------------------


def _infer_tile(c: Call) -> OperandDescriptor:
    x = c.operand("input")
    repetitions = c.uints("repetitions", length=x.rank, minimum=1)
    return c.descriptor(x.data_type, tuple(d * r for d, r in zip(x.shape, repetitions, strict=True)))


def _lower_tile(e: Emitter, n: Node) -> Tensor:
    x, shape = e.input(n, "input"), n.outputs[0].shape
    return x if x.shape == shape else e.op("Tile", x, e.ints(n.attributes["repetitions"]), shape=shape)


TILE = define("tile", SECTION, Param("input"), infer=_infer_tile, lower=_lower_tile)


# -- transpose ------------------------------------------------------------------------------


def _infer_transpose(c: Call) -> OperandDescriptor:
    x = c.operand("input")
    if c.attributes["permutation"] is None:
        permutation = c.attributes["permutation"] = tuple(reversed(range(x.rank)))
    else:
        c.uints("permutation", length=x.rank)
        permutation = c.axes(x.rank, "permutation")
    return c.descriptor(x.data_type, tuple(x.shape[p] for p in permutation))


def _lower_transpose(e: Emitter, n: Node) -> Tensor:
    return e.transpose(e.input(n, "input"), n.attributes["permutation"])


TRANSPOSE = define("transpose", SECTION, Param("input"), infer=_infer_transpose, lower=_lower_transpose)


# -- triangular -----------------------------------------------------------------------------


def _infer_triangular(c: Call) -> OperandDescriptor:
    x = c.operand("input")
    c.flag("upper")
    diagonal = c.attributes["diagonal"]
    if not isinstance(diagonal, (int, np.integer)) or isinstance(diagonal, bool) or not -(2**31) <= diagonal < 2**31:
        c.fail(f"diagonal must be a signed 32-bit integer, got {diagonal!r}")
    c.attributes["diagonal"] = int(diagonal)
    return x.descriptor


def _lower_triangular(e: Emitter, n: Node) -> Tensor:
    x, upper = e.input(n, "input"), n.attributes["upper"]
    rows, columns = x.shape[-2:]
    diagonal = min(max(n.attributes["diagonal"], -rows), columns)
    return e.op("Trilu", x, e.scalar(diagonal, DataType.INT64), upper=int(upper))


TRIANGULAR = define(
    "triangular", SECTION, Param("input", rank=_AT_LEAST_2), infer=_infer_triangular, lower=_lower_triangular
)


# -- where ----------------------------------------------------------------------------------


def _infer_where(c: Call) -> OperandDescriptor:
    condition, a, b = c.operand("condition"), c.operand("true_value"), c.operand("false_value")
    values = c.broadcast(a.shape, b.shape, "true_value and false_value")
    return c.descriptor(a.data_type, c.broadcast(condition.shape, values, "condition and the values"))


def _lower_where(e: Emitter, n: Node) -> Tensor:
    condition = e.cast(e.input(n, "condition"), "bool")
    a, b = e.input(n, "true_value"), e.input(n, "false_value")
    return e.op("Where", condition, a, b, data_type=a.data_type, shape=n.outputs[0].shape)


WHERE = define(
    "where",
    SECTION,
    Param("condition", types=frozenset({DataType.UINT8})),
    Param("true_value"),
    Param("false_value", like="true_value"),
    infer=_infer_where,
    lower=_lower_where,
    output_types=ALL_TYPES,
)


class Manipulation(OperatorMethods):
    """Operands are of any data type and, unless said otherwise, any rank; results keep the data type.

    Each raises ValidationError (a TypeError) for operands of another builder and where its docstring says so.
    """

    def concat(self, inputs: Sequence[Operand], axis: int, *, label: str = "") -> Operand:
        """Join 1 to 8192 tensors of one data type and rank >= 1 along ``axis``; their other dimensions must be equal.

        Raises ValidationError for an empty list, an axis that is not below the rank, or unequal types, ranks or
        dimensions. Spec: https://www.w3.org/TR/webnn/#api-mlgraphbuilder-concat.
        """
        return self._add(CONCAT, label, {"inputs": inputs}, axis=axis)

    def expand(self, input: Operand, new_shape: Sequence[int], *, label: str = "") -> Operand:
        """Repeat dimensions of size 1, and add leading ones, until the shape is ``new_shape``.

        Raises ValidationError when ``new_shape`` has a 0, a lower rank, or a dimension unlike one of ``input`` that
        is not 1. Spec: https://www.w3.org/TR/webnn/#api-mlgraphbuilder-expand.
        """
        return self._add(EXPAND, label, {"input": input}, new_shape=new_shape)

    def pad(
        self,
        input: Operand,
        beginning_padding: Sequence[int],
        ending_padding: Sequence[int],
        *,
        mode: str = "constant",
        value: float = 0,
        label: str = "",
    ) -> Operand:
        """Grow every dimension on both sides.

        ``mode``: "constant" fills with ``value`` (converted to the data type: rounding half to even, saturating),
        "edge" repeats the border element, "reflection" mirrors without repeating the border. Raises ValidationError
        for lists whose length is not the rank, negative entries, an unknown mode, or a reflection as long as its
        dimension. Spec: https://www.w3.org/TR/webnn/#api-mlgraphbuilder-pad.
        """
        return self._add(
            PAD,
            label,
            {"input": input},
            beginning_padding=beginning_padding,
            ending_padding=ending_padding,
            mode=mode,
            value=value,
        )

    def reshape(self, input: Operand, new_shape: Sequence[int], *, label: str = "") -> Operand:
        """The same elements in row-major order as ``new_shape``; ``[]`` makes a scalar. There are no wildcards.

        Raises ValidationError for an entry below 1 or another number of elements.
        Spec: https://www.w3.org/TR/webnn/#api-mlgraphbuilder-reshape-method.
        """
        return self._add(RESHAPE, label, {"input": input}, new_shape=new_shape)

    def reverse(self, input: Operand, *, axes: Sequence[int] | None = None, label: str = "") -> Operand:
        """Flip the order of elements along ``axes``: None is all dimensions, ``[]`` none.

        Raises ValidationError for repeated axes or one that is not below the rank.
        Spec: https://www.w3.org/TR/webnn/#api-mlgraphbuilder-reverse-method.
        """
        return self._add(REVERSE, label, {"input": input}, axes=axes)

    def slice(
        self,
        input: Operand,
        starts: Sequence[int],
        sizes: Sequence[int],
        *,
        strides: Sequence[int] | None = None,
        label: str = "",
    ) -> Operand:
        """The window at ``starts`` that spans ``sizes`` input elements, of which every ``strides``-th is kept.

        The result's dimensions are ``ceil(sizes[i] / strides[i])``. Raises ValidationError for lists whose length is
        not the rank, a size or stride below 1, or a window that leaves the input. Spec:
        https://www.w3.org/TR/webnn/#api-mlgraphbuilder-slice.
        """
        return self._add(SLICE, label, {"input": input}, starts=starts, sizes=sizes, strides=strides)

    def split(self, input: Operand, splits: int | Sequence[int], *, axis: int = 0, label: str = "") -> list[Operand]:
        """Cut along ``axis`` into ``splits`` equal pieces, or into pieces of the sizes in the list ``splits``.

        Raises ValidationError for a scalar input, more than 8192 pieces, a count that does not divide the dimension, or
        sizes that hold a 0 or do not sum to it. Spec: https://www.w3.org/TR/webnn/#api-mlgraphbuilder-split.
        """
        return self._add_all(SPLIT, label, {"input": input}, splits=splits, axis=axis)

    def tile(self, input: Operand, repetitions: Sequence[int], *, label: str = "") -> Operand:
        """Repeat the whole tensor ``repetitions[i]`` times along dimension i.

        Raises ValidationError when the list's length is not the rank or an entry is below 1.
        Spec: https://www.w3.org/TR/webnn/#api-mlgraphbuilder-tile.
        """
        return self._add(TILE, label, {"input": input}, repetitions=repetitions)

    def transpose(self, input: Operand, *, permutation: Sequence[int] | None = None, label: str = "") -> Operand:
        """Permute the dimensions; None reverses all of them.

        Raises ValidationError when ``permutation`` is no permutation of 0..rank-1.
        Spec: https://www.w3.org/TR/webnn/#api-mlgraphbuilder-transpose.
        """
        return self._add(TRANSPOSE, label, {"input": input}, permutation=permutation)

    def triangular(self, input: Operand, *, upper: bool = True, diagonal: int = 0, label: str = "") -> Operand:
        """Keep element (i, j) of the last two dimensions if ``j - i >= diagonal`` (lower: ``<=``); zero elsewhere.

        Raises ValidationError for a rank below 2. Spec: https://www.w3.org/TR/webnn/#api-mlgraphbuilder-triangular.
        """
        return self._add(TRIANGULAR, label, {"input": input}, upper=upper, diagonal=diagonal)

    def where(self, condition: Operand, true_value: Operand, false_value: Operand, *, label: str = "") -> Operand:
        """``true_value`` where the uint8 ``condition`` is not 0, else ``false_value``; all three broadcast together.

        Raises ValidationError for a condition that is not uint8, values of unequal data types, or shapes that do not
        broadcast. Spec: https://www.w3.org/TR/webnn/#api-mlgraphbuilder-where.
        """
        operands = {"condition": condition, "true_value": true_value, "false_value": false_value}
        return self._add(WHERE, label, operands)
