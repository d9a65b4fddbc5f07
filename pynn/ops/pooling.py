"""Pooling. Spec: https://www.w3.org/TR/webnn/#api-mlgraphbuilder-pool2d.

The spec's steps would drop ``padding`` when ``output_sizes`` is given, and compare ``output_sizes`` with the strides;
both contradict its reference implementation and are taken for slips.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..graph import Node, Operand
from ..types import ALL_TYPES, FLOAT_TYPES, DataType, OperandDescriptor
from .call import Call
from .emitter import Emitter, Tensor
from .methods import OperatorMethods
from .registry import LowerRule, Operator, Param, define
from .spatial import LAYOUTS, check_window_options, extent, from_nchw, onnx_pads, spatial_axes, to_nchw

SECTION = "pooling"

_ROUNDINGS = ("floor", "ceil")
_MAX_POOL_TYPES = ("float32", "float16", "int8", "uint8")


# -- validation -----------------------------------------------------------------------------


def _infer(c: Call) -> OperandDescriptor:
    x, a = c.operand("input"), c.attributes
    axes = spatial_axes(c.enum("layout", *LAYOUTS))
    if a["window_dimensions"] is None:
        a["window_dimensions"] = tuple(x.shape[axis] for axis in axes)
    window = c.uints("window_dimensions", length=2, minimum=1)
    check_window_options(c)
    rounding = c.enum("output_shape_rounding", *_ROUNDINGS)
    floors, ceils = [], []
    for i, axis in enumerate(axes):
        before, after = a["padding"][2 * i : 2 * i + 2]
        room = x.shape[axis] + before + after - extent(window[i], a["dilations"][i])
        floors.append(room // a["strides"][i] + 1)
        ceils.append(-(-room // a["strides"][i]) + 1)
    sizes = ceils if rounding == "ceil" else floors
    if a["output_sizes"] is not None:
        wanted = list(c.uints("output_sizes", length=2))
        if wanted not in (floors, ceils):
            c.fail(f"output_sizes {wanted} must be {floors} (rounded down) or {ceils} (rounded up)")
        sizes = wanted
    a["output_sizes"] = tuple(sizes)
    shape = list(x.shape)
    for axis, size in zip(axes, sizes, strict=True):
        shape[axis] = size
    return c.descriptor(x.data_type, tuple(shape))


# -- lowering -------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Window:
    """The window along one axis: ``size`` taps ``dilation`` apart, every ``stride`` elements, ``out`` times."""

    size: int
    dilation: int
    stride: int
    length: int
    before: int
    after: int
    out: int

    @classmethod
    def of(cls, n: Node, i: int) -> _Window:
        a = n.attributes
        (x,) = n.operands()
        length = x.shape[spatial_axes(a["layout"])[i]]
        size, dilation, stride, out = (
            a[name][i] for name in ("window_dimensions", "dilations", "strides", "output_sizes")
        )
        before, after = a["padding"][2 * i : 2 * i + 2]
        # Rounding up lets the last window overhang; end padding to match leaves nothing for the runtime to round.
        after = max(after, (out - 1) * stride + extent(size, dilation) - length - before)
        return cls(size, dilation, stride, length, before, after, out)

    @property
    def covers_all(self) -> bool:
        """One window that is the whole axis."""
        return self.out == 1 and self.size == self.length and self.dilation == 1 and not self.before and not self.after

    @property
    def counts(self) -> list[int]:
        """For each output, how many taps lie in the input."""
        starts = (i * self.stride - self.before for i in range(self.out))
        return [sum(0 <= s + k * self.dilation < self.length for k in range(self.size)) for s in starts]

    @property
    def is_plain(self) -> bool:
        """Whether runtimes agree on it: padding shorter than the window, no window all in the padding."""
        if not self.before and not self.after:
            return True
        return max(self.before, self.after) < self.size and (self.dilation == 1 or min(self.counts) > 0)


def _lower_with(op_type: str, reduce: str) -> LowerRule:
    def lower(e: Emitter, n: Node) -> Tensor:
        x, layout = e.input(n, "input"), n.attributes["layout"]
        windows = _Window.of(n, 0), _Window.of(n, 1)
        if all(w.covers_all for w in windows):
            return e.op(reduce, x, e.ints(spatial_axes(layout)), shape=n.outputs[0].shape, keepdims=1)
        x = to_nchw(e, x, layout)
        if op_type == "MaxPool" and x.data_type not in _MAX_POOL_TYPES:
            result = _sliding_maximum(e, x, windows)
        elif all(w.is_plain for w in windows):
            result = _pool(e, op_type, x, windows)
        else:
            result = _pool_of_padded(e, op_type, x, windows)
        return from_nchw(e, result, layout)

    return lower


def _pool(e: Emitter, op_type: str, x: Tensor, windows: Sequence[_Window], padded: bool = False) -> Tensor:
    dilations = [w.dilation for w in windows]
    return e.op(
        op_type,
        x,
        shape=(*x.shape[:2], *(w.out for w in windows)),
        kernel_shape=[w.size for w in windows],
        strides=[w.stride for w in windows],
        dilations=dilations if dilations != [1, 1] else None,
        pads=None if padded else onnx_pads(tuple(p for w in windows for p in (w.before, w.after))),
        p=2 if op_type == "LpPool" else None,
    )


def _pool_of_padded(e: Emitter, op_type: str, x: Tensor, windows: Sequence[_Window]) -> Tensor:
    """Padding by an operator of its own. A mean over padded zeros is scaled to one over the elements in range (0 if
    none)."""
    padded = _pad(e, x, windows, _lowest(x.data_type) if op_type == "MaxPool" else 0)
    result = _pool(e, op_type, padded, windows, padded=True)
    if op_type != "AveragePool":
        return result
    rows, columns = (np.array(w.counts, dtype=np.float64) for w in windows)
    counts = np.outer(rows, columns)
    scale = np.where(counts > 0, windows[0].size * windows[1].size / np.maximum(counts, 1), 0)
    return e.op("Mul", result, e.constant(scale.astype(x.data_type)[np.newaxis, np.newaxis]))


def _sliding_maximum(e: Emitter, x: Tensor, windows: Sequence[_Window]) -> Tensor:
    """Maximum over strided slices, one axis after the other: ONNX MaxPool has no wide integers."""
    x = _pad(e, x, windows, _lowest(x.data_type))
    for axis, w in zip((2, 3), windows, strict=True):
        shape = (*x.shape[:axis], w.out, *x.shape[axis + 1 :])
        span = (w.out - 1) * w.stride + 1
        parts = [
            e.op("Slice", x, *(e.ints([v]) for v in (start, start + span, axis, w.stride)), shape=shape)
            for start in range(0, w.size * w.dilation, w.dilation)
        ]
        x = e.op("Max", *parts) if len(parts) > 1 else parts[0]
    return x


def _pad(e: Emitter, x: Tensor, windows: Sequence[_Window], value: float | np.generic) -> Tensor:
    rows, columns = windows
    pads = [0, 0, rows.before, columns.before, 0, 0, rows.after, columns.after]
    if not any(pads):
        return x
    shape = (*x.shape[:2], *(w.before + w.length + w.after for w in windows))
    return e.op("Pad", x, e.ints(pads), e.scalar(value, x.data_type), shape=shape)


def _lowest(data_type: str) -> float:
    dtype = DataType.parse(data_type)
    return -np.inf if dtype.is_float else int(np.iinfo(dtype.numpy).min)


def _pooling(name: str, op_type: str, reduce: str, types: frozenset[DataType]) -> Operator:
    lower = _lower_with(op_type, reduce)
    return define(name, SECTION, Param("input", types, rank=4), infer=_infer, lower=lower)


AVERAGE_POOL2D = _pooling("averagePool2d", "AveragePool", "ReduceMean", FLOAT_TYPES)
L2_POOL2D = _pooling("l2Pool2d", "LpPool", "ReduceL2", FLOAT_TYPES)
MAX_POOL2D = _pooling("maxPool2d", "MaxPool", "ReduceMax", ALL_TYPES)


class Pooling(OperatorMethods):
    """``input`` has rank 4; the result has its data type, batch and channels.

    ``window_dimensions``, ``strides`` and ``dilations`` are [height, width], at least 1; the default window is the
    whole height and width. ``padding`` is [top, bottom, left, right] and holds no elements: it counts in no mean and is
    no maximum. ``layout`` is "nchw" or "nhwc". The height ``(height + top + bottom - ((window - 1) * dilation + 1)) /
    stride + 1`` is rounded as ``output_shape_rounding`` says ("floor", or "ceil": the last window may overhang), unless
    ``output_sizes`` [height, width] picks one of the two. A window wholly in the padding gives 0, as a maximum the
    lowest number. Each raises ValidationError (a TypeError) for another data
    type, rank or length, output sizes that are neither, and a result with no element.
    """

    def average_pool2d(
        self,
        input: Operand,
        *,
        window_dimensions: Sequence[int] | None = None,
        padding: Sequence[int] = (0, 0, 0, 0),
        strides: Sequence[int] = (1, 1),
        dilations: Sequence[int] = (1, 1),
        layout: str = "nchw",
        output_shape_rounding: str = "floor",
        output_sizes: Sequence[int] | None = None,
        label: str = "",
    ) -> Operand:
        """Mean of the elements in each window; float32 or float16."""
        return self._add(
            AVERAGE_POOL2D,
            label,
            {"input": input},
            window_dimensions=window_dimensions,
            padding=padding,
            strides=strides,
            dilations=dilations,
            layout=layout,
            output_shape_rounding=output_shape_rounding,
            output_sizes=output_sizes,
        )

    def l2_pool2d(
        self,
        input: Operand,
        *,
        window_dimensions: Sequence[int] | None = None,
        padding: Sequence[int] = (0, 0, 0, 0),
        strides: Sequence[int] = (1, 1),
        dilations: Sequence[int] = (1, 1),
        layout: str = "nchw",
        output_shape_rounding: str = "floor",
        output_sizes: Sequence[int] | None = None,
        label: str = "",
    ) -> Operand:
        """Square root of the sum of squares in each window; float32 or float16."""
        return self._add(
            L2_POOL2D,
            label,
            {"input": input},
            window_dimensions=window_dimensions,
            padding=padding,
            strides=strides,
            dilations=dilations,
            layout=layout,
            output_shape_rounding=output_shape_rounding,
            output_sizes=output_sizes,
        )

    def max_pool2d(
        self,
        input: Operand,
        *,
        window_dimensions: Sequence[int] | None = None,
        padding: Sequence[int] = (0, 0, 0, 0),
        strides: Sequence[int] = (1, 1),
        dilations: Sequence[int] = (1, 1),
        layout: str = "nchw",
        output_shape_rounding: str = "floor",
        output_sizes: Sequence[int] | None = None,
        label: str = "",
    ) -> Operand:
        """Greatest element in each window; any data type."""
        return self._add(
            MAX_POOL2D,
            label,
            {"input": input},
            window_dimensions=window_dimensions,
            padding=padding,
            strides=strides,
            dilations=dilations,
            layout=layout,
            output_shape_rounding=output_shape_rounding,
            output_sizes=output_sizes,
        )
