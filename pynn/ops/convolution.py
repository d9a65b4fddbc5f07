"""Convolution. Spec: https://www.w3.org/TR/webnn/#api-mlgraphbuilder-conv2d and -convtranspose2d."""

from __future__ import annotations

from collections.abc import Sequence

from ..graph import Node, Operand
from ..types import FLOAT_TYPES, OperandDescriptor
from .call import Call
from .emitter import Emitter, Tensor
from .methods import OperatorMethods
from .registry import Param, define
from .spatial import (
    LAYOUTS,
    channel_axis,
    check_window_options,
    extent,
    from_nchw,
    onnx_pads,
    shape_4d,
    spatial_axes,
    to_nchw,
)

SECTION = "convolution"

_PARAMS = (
    Param("input", FLOAT_TYPES, rank=4),
    Param("filter", FLOAT_TYPES, rank=4, like="input"),
    Param("bias", FLOAT_TYPES, rank=1, like="input", optional=True),
)

_CONV_FILTERS = {"oihw": (0, 1, 2, 3), "hwio": (3, 2, 0, 1), "ohwi": (0, 3, 1, 2), "ihwo": (3, 0, 1, 2)}
_TRANSPOSED_FILTERS = {"iohw": (0, 1, 2, 3), "hwoi": (3, 2, 0, 1), "ohwi": (3, 0, 1, 2)}
"""Filter layout to the permutation that gives ONNX's: [O, I/groups, H, W] and [I, O/groups, H, W]."""


def _check_options(c: Call) -> None:
    check_window_options(c)
    c.uint("groups", minimum=1)
    c.enum("input_layout", *LAYOUTS)


def _check_bias(c: Call, channels: int) -> None:
    bias = c.optional("bias")
    if bias is not None and bias.shape != (channels,):
        c.fail(f"bias has shape {list(bias.shape)}, expected [{channels}]: one number for each output channel")


def _infer_conv(c: Call) -> OperandDescriptor:
    x, w = c.operand("input"), c.operand("filter")
    a = c.attributes
    _check_options(c)
    order = _CONV_FILTERS[c.enum("filter_layout", *_CONV_FILTERS)]
    layout, groups, padding = a["input_layout"], a["groups"], a["padding"]
    out_channels, depth = w.shape[order[0]], w.shape[order[1]]
    channels = x.shape[channel_axis(layout)]
    if channels % groups:
        c.fail(f"input has {channels} channels ({layout} {list(x.shape)}), which groups {groups} does not divide")
    if channels // groups != depth:
        c.fail(
            f"filter takes {depth} input channels ({a['filter_layout']} {list(w.shape)}), but input has {channels} "
            f"({layout} {list(x.shape)}) in {groups} groups"
        )
    if out_channels % groups:
        c.fail(f"filter has {out_channels} output channels, which groups {groups} does not divide")
    _check_bias(c, out_channels)
    height, width = (
        (x.shape[axis] - extent(w.shape[order[2 + i]], a["dilations"][i]) + padding[2 * i] + padding[2 * i + 1])
        // a["strides"][i]
        + 1
        for i, axis in enumerate(spatial_axes(layout))
    )
    return c.descriptor(x.data_type, shape_4d(layout, x.shape[0], out_channels, height, width))


def _lower_conv(e: Emitter, n: Node) -> Tensor:
    a = n.attributes
    w = e.transpose(e.input(n, "filter"), _CONV_FILTERS[a["filter_layout"]])
    return _lower(e, n, "Conv", w)


def _infer_conv_transpose(c: Call) -> OperandDescriptor:
    x, w = c.operand("input"), c.operand("filter")
    a = c.attributes
    _check_options(c)
    order = _TRANSPOSED_FILTERS[c.enum("filter_layout", *_TRANSPOSED_FILTERS)]
    extra = c.uints("output_padding", length=2)
    sizes = c.uints("output_sizes", length=2) if a["output_sizes"] is not None else None
    layout, groups, padding, strides = a["input_layout"], a["groups"], a["padding"], a["strides"]
    if sizes is None and any(more >= stride for more, stride in zip(extra, strides, strict=True)):
        c.fail(f"output_padding {list(extra)} must be less than strides {list(strides)}")
    depth, channels = w.shape[order[0]], x.shape[channel_axis(layout)]
    out_channels = w.shape[order[1]] * groups
    if channels != depth:
        c.fail(
            f"filter takes {depth} input channels ({a['filter_layout']} {list(w.shape)}), but input has {channels} "
            f"({layout} {list(x.shape)})"
        )
    if channels % groups:
        c.fail(f"input has {channels} channels ({layout} {list(x.shape)}), which groups {groups} does not divide")
    _check_bias(c, out_channels)
    least = [
        (x.shape[axis] - 1) * strides[i]
        + extent(w.shape[order[2 + i]], a["dilations"][i])
        - padding[2 * i]
        - padding[2 * i + 1]
        for i, axis in enumerate(spatial_axes(layout))
    ]
    if sizes is not None:
        if not all(low <= size < low + stride for size, low, stride in zip(sizes, least, strides, strict=True)):
            most = [low + stride - 1 for low, stride in zip(least, strides, strict=True)]
            c.fail(f"output_sizes {list(sizes)} must be at least {least} and at most {most}")
        extra = tuple(size - low for size, low in zip(sizes, least, strict=True))
    a["output_padding"] = extra
    height, width = (low + more for low, more in zip(least, extra, strict=True))
    return c.descriptor(x.data_type, shape_4d(layout, x.shape[0], out_channels, height, width))


def _lower_conv_transpose(e: Emitter, n: Node) -> Tensor:
    a = n.attributes
    w = e.transpose(e.input(n, "filter"), _TRANSPOSED_FILTERS[a["filter_layout"]])
    extra = list(a["output_padding"])
    return _lower(e, n, "ConvTranspose", w, output_padding=extra if any(extra) else None)


def _lower(e: Emitter, n: Node, op_type: str, w: Tensor, output_padding: list[int] | None = None) -> Tensor:
    a, out = n.attributes, n.outputs[0].shape
    layout = a["input_layout"]
    height, width = (out[axis] for axis in spatial_axes(layout))
    result = e.op(
        op_type,
        to_nchw(e, e.input(n, "input"), layout),
        w,
        e.optional(n, "bias"),
        shape=(out[0], out[channel_axis(layout)], height, width),
        kernel_shape=list(w.shape[2:]),
        pads=onnx_pads(a["padding"]),
        strides=list(a["strides"]),
        dilations=list(a["dilations"]),
        group=a["groups"],
        output_padding=output_padding,
    )
    return from_nchw(e, result, layout)


CONV2D = define("conv2d", SECTION, *_PARAMS, infer=_infer_conv, lower=_lower_conv)
CONV_TRANSPOSE2D = define(
    "convTranspose2d", SECTION, *_PARAMS, infer=_infer_conv_transpose, lower=_lower_conv_transpose
)


class Convolution(OperatorMethods):
    """float32 or float16; ``input`` and ``filter`` have rank 4, ``bias`` is one number for each output channel.

    ``padding`` is [top, bottom, left, right]; ``strides`` and ``dilations`` are [height, width], at least 1. ``groups``
    divides the channels on both sides. ``input_layout`` is "nchw" or "nhwc", for input and result; ``filter_layout`` is
    independent of it. Each raises ValidationError (a TypeError) for another data type, rank or length, channel counts
    that do not match, and a result with no element.
    """

    def conv2d(
        self,
        input: Operand,
        filter: Operand,
        *,
        padding: Sequence[int] = (0, 0, 0, 0),
        strides: Sequence[int] = (1, 1),
        dilations: Sequence[int] = (1, 1),
        groups: int = 1,
        input_layout: str = "nchw",
        filter_layout: str = "oihw",
        bias: Operand | None = None,
        label: str = "",
    ) -> Operand:
        """2-D convolution (the filter is not flipped).

        ``filter`` is output channels, input channels / groups, height, width in the order of ``filter_layout``: "oihw",
        "hwio", "ohwi" or "ihwo". Depthwise: ``groups`` = channels, and 1 input channel in the filter.
        Height of the result: ``(height + top + bottom - ((kernel - 1) * dilation + 1)) // stride + 1``.
        """
        return self._add(
            CONV2D,
            label,
            {"input": input, "filter": filter, "bias": bias},
            padding=padding,
            strides=strides,
            dilations=dilations,
            groups=groups,
            input_layout=input_layout,
            filter_layout=filter_layout,
        )

    def conv_transpose2d(
        self,
        input: Operand,
        filter: Operand,
        *,
        padding: Sequence[int] = (0, 0, 0, 0),
        strides: Sequence[int] = (1, 1),
        dilations: Sequence[int] = (1, 1),
        output_padding: Sequence[int] = (0, 0),
        output_sizes: Sequence[int] | None = None,
        groups: int = 1,
        input_layout: str = "nchw",
        filter_layout: str = "iohw",
        bias: Operand | None = None,
        label: str = "",
    ) -> Operand:
        """2-D transposed convolution, the gradient of ``conv2d`` with respect to its input.

        ``filter`` is input channels, output channels / groups, height, width in the order of ``filter_layout``: "iohw",
        "hwoi" or "ohwi". Height of the result: ``(height - 1) * stride + (kernel - 1) * dilation + 1 - top - bottom``,
        plus ``output_padding`` (less than the stride); or say ``output_sizes`` outright, which overrides
        ``output_padding`` and must be what some ``output_padding`` would give.
        """
        return self._add(
            CONV_TRANSPOSE2D,
            label,
            {"input": input, "filter": filter, "bias": bias},
            padding=padding,
            strides=strides,
            dilations=dilations,
            output_padding=output_padding,
            output_sizes=output_sizes,
            groups=groups,
            input_layout=input_layout,
            filter_layout=filter_layout,
        )
