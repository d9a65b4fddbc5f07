"""Number grids of quantised weights, and how weights lie in blocks that share a scale."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ..model import numpy_dtype

Array = np.ndarray[Any, Any]
Form = Literal["int8", "int4", "fp8", "fp4"]
FORMS: tuple[Form, ...] = ("int8", "int4", "fp8", "fp4")

ELEMENT: dict[str, str] = {"int8": "int8", "int4": "int4", "fp8": "float8e4m3fn", "fp4": "float4e2m1"}
"""ONNX element type by form."""
_LARGEST = {"int8": 127.0, "int4": 7.0, "fp8": 448.0, "fp4": 6.0}
_LEAST = {"int8": -127.0, "int4": -8.0, "fp8": -448.0, "fp4": -6.0}

FP4_BLOCK = 16
"""Weights that share a scale in the two-level 4-bit float form: the only size that hardware knows."""
_FP8_LARGEST = 448.0
_FLOAT16_NORMAL, _FLOAT16_STEP = np.float32(2.0**-14), np.float32(2.0**-24)
"""The smallest normal number of float16, and the distance of those below it."""
_CHUNK = 1 << 17
"""Weights worked on at a time: temporaries stay in the processor's cache, and small beside the weights."""


@dataclass(frozen=True, slots=True)
class Grid:
    """The numbers that a form can hold, before scaling. ``largest`` is what a scale is computed for."""

    form: Form

    @property
    def dtype(self) -> np.dtype[Any]:
        return numpy_dtype(ELEMENT[self.form])

    @property
    def largest(self) -> float:
        return _LARGEST[self.form]

    def round(self, steps: Array) -> Array:
        """The nearest number of the grid (ties to even) for each of ``steps``, as float32. Works in place."""
        np.clip(steps, _LEAST[self.form], self.largest, out=steps)
        if self.form in ("int8", "int4"):
            return np.rint(steps, out=steps)
        return steps.astype(self.dtype).astype(np.float32)

    def store(self, rounded: Array) -> Array:
        """What ``round`` gave, in the form's own type."""
        if self.form in ("int8", "int4"):
            return rounded.astype(np.int8).astype(self.dtype)
        return rounded.astype(self.dtype)


@dataclass(frozen=True, slots=True)
class Layout:
    """How a weight is cut: ``view`` is its shape as (outer, groups, block, inner), where the ``block`` weights below
    each other share a scale; ``scale_shape`` that of ONNX's scale; ``axis`` and ``block_size`` DequantizeLinear's
    attributes, ``block_size`` 0 for one scale per index of ``axis``."""

    view: tuple[int, int, int, int]
    scale_shape: tuple[int, ...]
    axis: int
    block_size: int

    def attributes(self) -> dict[str, int]:
        return {"axis": self.axis, "block_size": self.block_size} if self.block_size else {"axis": self.axis}

    def chunks(self) -> Iterator[tuple[Any, ...]]:
        """Indices into ``view`` that cover it in pieces of whole blocks, three-dimensional each."""
        outer, groups, block, inner = self.view
        wide = min(inner, max(1, _CHUNK // block))
        many = max(1, _CHUNK // (block * wide))
        for i in range(outer):
            for first in range(0, groups, many):
                for left in range(0, inner, wide):
                    yield i, slice(first, first + many), slice(None), slice(left, left + wide)


def blocks(shape: tuple[int, ...], axis: int, block: int) -> Layout:
    """Blocks of ``block`` weights along ``axis``, which it divides."""
    groups = shape[axis] // block
    outer, inner = _product(shape[:axis]), _product(shape[axis + 1 :])
    scale_shape = (*shape[:axis], groups, *shape[axis + 1 :])
    return Layout((outer, groups, block, inner), scale_shape, axis, block)


def channels(shape: tuple[int, ...], axis: int) -> Layout:
    """One scale for each index of ``axis``, which is the first or the last."""
    count = shape[axis]
    rest = _product(shape) // count
    view = (1, count, rest, 1) if axis == 0 else (1, 1, rest, count)
    return Layout(view, (count,), axis, 0)


def _product(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape, dtype=np.int64))


def block_that_divides(length: int, block: int) -> int:
    """The largest of ``block``, its half, ... 16 that divides ``length``; 0 if none does."""
    while block >= 16:
        if length % block == 0:
            return block
        block //= 2
    return 0


@dataclass(frozen=True, slots=True)
class ScaleGrid:
    """The numbers that scales can have: those of ``data_type``, or (``unit``) float8e4m3fn times ``unit``."""

    data_type: str
    unit: float = 0.0

    def round(self, scale: Array) -> Array:
        """The nearest number that a scale can have, as float32, the next larger one among float16's denormal numbers,
        where the nearest would clip weights; 1 for a scale that would be zero."""
        if self.unit:
            small = np.clip(scale / np.float32(self.unit), 0, _FP8_LARGEST)
            held = small.astype(numpy_dtype("float8e4m3fn")).astype(np.float32) * np.float32(self.unit)
        else:
            held = scale.astype(numpy_dtype(self.data_type)).astype(np.float32)
        if self.data_type == "float16" and not self.unit:
            clips = (held < scale) & (scale < _FLOAT16_NORMAL)
            held = held + np.where(clips, _FLOAT16_STEP, np.float32(0))
        return np.asarray(np.where(held > 0, held, np.float32(self.unit or 1.0)), np.float32)

    def store(self, scale: Array) -> Array:
        """What ``round`` gave, in its type."""
        if self.unit:
            return np.asarray(scale / np.float32(self.unit)).astype(numpy_dtype("float8e4m3fn"))
        return np.asarray(scale).astype(numpy_dtype(self.data_type))


def scale_grid(form: Form, data_type: str, largest_weight: float) -> ScaleGrid:
    """The grid of a weight's scales. The unit of two-level scales is a power of two, so that products with it are
    exact."""
    if form != "fp4":
        return ScaleGrid(data_type)
    smallest_unit = 2.0**-24 if data_type == "float16" else 2.0**-126
    wanted = largest_weight / (_LARGEST["fp4"] * _FP8_LARGEST)
    unit = 2.0 ** float(np.ceil(np.log2(wanted))) if wanted > 0 else 1.0
    return ScaleGrid(data_type, max(unit, smallest_unit))


def dequantize(quantized: Array, scale: Array, layout: Layout, data_type: str, unit: float = 0.0) -> Array:
    """What ONNX's DequantizeLinear makes of it: the product in float32, rounded to ``data_type`` once."""
    outer, groups, _, inner = layout.view
    held = scale.astype(np.float32)
    if unit:
        held = (held * np.float32(unit)).astype(numpy_dtype(data_type)).astype(np.float32)
    wide = quantized.reshape(layout.view).astype(np.float32) * held.reshape(outer, groups, 1, inner)
    narrow: Array = wide.astype(numpy_dtype(data_type))
    shaped: Array = narrow.reshape(quantized.shape)
    return shaped
