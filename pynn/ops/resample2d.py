"""resample2d. Spec: https://www.w3.org/TR/webnn/#api-mlgraphbuilder-resample2d-method."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from ..graph import Node, Operand
from ..sizes import Size
from ..types import DataType, OperandDescriptor
from .call import Call
from .emitter import Emitter, Tensor
from .manipulation import SECTION
from .methods import OperatorMethods
from .registry import Param, define


def _infer_resample2d(c: Call) -> OperandDescriptor:
    x = c.operand("input")
    c.enum("mode", "nearest-neighbor", "linear")
    scales = _scales(c)
    c.uints("axes", length=2)
    axes = c.axes(4)
    if c.attributes["sizes"] is not None:
        sizes = c.uints("sizes", length=2, minimum=1)
    else:
        sizes = tuple(_scaled(x.shape[a], s) for a, s in zip(axes, scales, strict=True))
    shape = list(x.shape)
    for a, size in zip(axes, sizes, strict=True):
        shape[a] = size
    return c.descriptor(x.data_type, tuple(shape))


def _scaled(size: int, scale: float) -> int:
    if isinstance(size, Size):
        numerator, denominator = scale.as_integer_ratio()
        exact: int = size * numerator // denominator
        return exact
    return math.floor(size * scale)


def _scales(c: Call) -> tuple[float, ...]:
    """``scales`` as float32 numbers, checked even where ``sizes`` wins."""
    values = c.attributes["scales"]
    if values is None:
        values = (1.0, 1.0)
    if isinstance(values, (str, bytes)) or not isinstance(values, (Sequence, np.ndarray)) or len(values) != 2:
        c.fail(f"scales must be a sequence of 2 numbers, got {values!r}")
    scales = []
    for value in values:
        number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
        with np.errstate(over="ignore"):
            scale = float(np.float32(value)) if number else math.nan
        if not 0 < scale < math.inf:
            c.fail(f"scales {list(values)}: {value!r} is not a finite number above 0")
        scales.append(scale)
    c.attributes["scales"] = tuple(scales)
    return tuple(scales)


def _lower_resample2d(e: Emitter, n: Node) -> Tensor:
    x, shape = e.input(n, "input"), n.outputs[0].shape
    axes = [a for a in range(4) if x.shape[a] != shape[a]]
    if not axes:
        return x
    return _nearest(e, x, shape, axes) if n.attributes["mode"] == "nearest-neighbor" else _linear(e, x, shape)


def _nearest(e: Emitter, x: Tensor, shape: tuple[int, ...], axes: list[int]) -> Tensor:
    """ONNX's half_pixel with round_prefer_floor is WebNN's rule. Runtimes compute coordinates in float32, where an
    exact half may end on either side: an axis that has such halves is gathered by indices computed in integers
    instead."""
    inexact = [a for a in axes if _has_halves(x.shape[a], shape[a])]
    for a in inexact:
        old, new = x.shape[a], shape[a]
        centers = (2 * np.arange(new, dtype=np.int64) + 1) * old
        indices = np.clip(-(-(centers - 2 * new) // (2 * new)), 0, old - 1)
        x = e.op("Gather", x, e.constant(indices), shape=(*x.shape[:a], new, *x.shape[a + 1 :]), axis=a)
    return x if inexact == axes else _resize(e, x, shape, mode="nearest", nearest_mode="round_prefer_floor")


def _has_halves(old: int, new: int) -> bool:
    """Whether ``(o + 0.5) * old / new`` is an integer for some o: ``old / new`` in lowest terms is even / odd."""
    common = math.gcd(old, new)
    return (old // common) % 2 == 0 and (new // common) % 2 == 1


def _linear(e: Emitter, x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Runtimes interpolate the last two axes only: others are transposed there and back. Integers round half to even.

    They also divide by the ratio of sizes in float32, whose rounding alone can cost float32 values more than the spec's
    tolerance: an axis with an inexact ratio is blended by weights computed on the host.
    """
    original = x.data_type
    if not x.is_float:
        x = e.cast(x, DataType.FLOAT32)
    if original == "float32":
        for a in range(4):
            if Fraction(float(np.float32(shape[a] / x.shape[a]))) != Fraction(shape[a], x.shape[a]):
                x = _blend(e, x, a, shape[a])
    changed = [a for a in range(4) if x.shape[a] != shape[a]]
    if changed:
        order = list(range(4)) if min(changed) >= 2 else [a for a in range(4) if a not in changed] + changed
        x = e.transpose(x, order)
        x = _resize(e, x, tuple(shape[a] for a in order), mode="linear")
        x = e.transpose(x, [order.index(a) for a in range(4)])
    return x if x.data_type == original else e.cast(e.op("Round", x), original)


def _blend(e: Emitter, x: Tensor, axis: int, new: int) -> Tensor:
    old = x.shape[axis]
    shape = (*x.shape[:axis], new, *x.shape[axis + 1 :])
    centers = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    low = np.floor(centers)
    column = (new, *(1 for _ in range(axis + 1, 4)))
    parts = []
    for indices, weights in ((low, 1 - (centers - low)), (np.ceil(centers), centers - low)):
        taken = e.op("Gather", x, e.constant(indices.astype(np.int64)), shape=shape, axis=axis)
        parts.append(e.op("Mul", taken, e.constant(weights.astype(np.float32).reshape(column))))
    return e.op("Add", *parts)


def _resize(e: Emitter, x: Tensor, shape: tuple[int, ...], **attributes: str) -> Tensor:
    attributes["coordinate_transformation_mode"] = "half_pixel"
    return e.op("Resize", x, None, None, e.ints(shape), shape=shape, **attributes)


RESAMPLE2D = define(
    "resample2d",
    SECTION,
    Param("input", frozenset({DataType.FLOAT32, DataType.FLOAT16, DataType.UINT8, DataType.INT8}), rank=4),
    infer=_infer_resample2d,
    lower=_lower_resample2d,
)


class Resample2d(OperatorMethods):
    def resample2d(
        self,
        input: Operand,
        *,
        mode: str = "nearest-neighbor",
        scales: Sequence[float] = (1.0, 1.0),
        sizes: Sequence[int] | None = None,
        axes: Sequence[int] = (2, 3),
        label: str = "",
    ) -> Operand:
        """Resize two dimensions of a rank-4 tensor of float32, float16, uint8 or int8.

        The new sizes are ``sizes``, else ``floor(dimension * scale)``, in the order of ``axes`` (any two). Centres
        are at half pixels and coordinates are clamped; the ratio is new size / old size. ``mode`` "nearest-neighbor"
        takes exact halves down, "linear" blends two neighbours along each axis without antialiasing (integers:
        rounded half to even). Raises ValidationError for another rank or data type, lists that do not hold 2 entries,
        a scale that is not above 0, a size of 0, or equal axes. Spec:
        https://www.w3.org/TR/webnn/#api-mlgraphbuilder-resample2d-method.
        """
        return self._add(RESAMPLE2D, label, {"input": input}, mode=mode, scales=scales, sizes=sizes, axes=axes)
