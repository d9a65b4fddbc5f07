"""What convolution, pooling and instance normalisation share: layouts, padding and output sizes."""

from __future__ import annotations

from .call import Call
from .emitter import Emitter, Tensor

LAYOUTS = ("nchw", "nhwc")

_TO_NCHW = (0, 3, 1, 2)
_TO_NHWC = (0, 2, 3, 1)


def spatial_axes(layout: str) -> tuple[int, int]:
    return (2, 3) if layout == "nchw" else (1, 2)


def channel_axis(layout: str) -> int:
    return 1 if layout == "nchw" else 3


def shape_4d(layout: str, batch: int, channels: int, height: int, width: int) -> tuple[int, ...]:
    return (batch, channels, height, width) if layout == "nchw" else (batch, height, width, channels)


def to_nchw(e: Emitter, x: Tensor, layout: str) -> Tensor:
    return x if layout == "nchw" else e.transpose(x, _TO_NCHW)


def from_nchw(e: Emitter, x: Tensor, layout: str) -> Tensor:
    return x if layout == "nchw" else e.transpose(x, _TO_NHWC)


def check_window_options(c: Call) -> None:
    """``padding`` [top, bottom, left, right], ``strides`` and ``dilations`` [height, width]."""
    c.uints("padding", length=4)
    c.uints("strides", length=2, minimum=1)
    c.uints("dilations", length=2, minimum=1)


def extent(size: int, dilation: int) -> int:
    """Input elements from a window's first tap to its last."""
    return (size - 1) * dilation + 1


def onnx_pads(padding: tuple[int, ...]) -> list[int]:
    """WebNN's [top, bottom, left, right] as ONNX's [top, left, bottom, right]."""
    top, bottom, left, right = padding
    return [top, left, bottom, right]
