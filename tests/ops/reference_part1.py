"""numpy references for the operators of the first half of the spec, written from its definitions.

Floats are computed in float64 and rounded by the caller; integers wrap. Slow and plain on purpose.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def wide(x: Array) -> Array:
    return x.astype(np.float64) if x.dtype.kind == "f" else x


def _quiet(function: Callable[..., Array]) -> Callable[..., Array]:
    def inner(*args: Any, **kwargs: Any) -> Array:
        with np.errstate(all="ignore"):
            return np.asarray(function(*args, **kwargs))

    return inner


# -- element-wise ---------------------------------------------------------------------------


def _truncated_quotient(a: Array, b: Array) -> Array:
    if a.dtype.kind == "f":
        return wide(a) / wide(b)
    a, b = np.broadcast_arrays(a, b)
    pairs = zip(a.ravel().tolist(), b.ravel().tolist(), strict=True)
    quotients = [abs(x) // abs(y) * (1 if (x < 0) == (y < 0) else -1) for x, y in pairs]
    bits = a.dtype.itemsize * 8
    wrapped = np.array([q % 2**bits for q in quotients], dtype=np.uint64).reshape(a.shape)
    return wrapped.astype(a.dtype)


BINARY: dict[str, Callable[[Array, Array], Array]] = {
    "add": _quiet(lambda a, b: wide(a) + wide(b)),
    "sub": _quiet(lambda a, b: wide(a) - wide(b)),
    "mul": _quiet(lambda a, b: wide(a) * wide(b)),
    "div": _quiet(_truncated_quotient),
    "max": _quiet(np.maximum),
    "min": _quiet(np.minimum),
    "pow": _quiet(lambda a, b: wide(a) ** wide(b)),
}

COMPARISON: dict[str, Callable[[Array, Array], Array]] = {
    "equal": lambda a, b: (a == b).astype(np.uint8),
    "not_equal": lambda a, b: (a != b).astype(np.uint8),
    "greater": lambda a, b: (a > b).astype(np.uint8),
    "greater_or_equal": lambda a, b: (a >= b).astype(np.uint8),
    "lesser": lambda a, b: (a < b).astype(np.uint8),
    "lesser_or_equal": lambda a, b: (a <= b).astype(np.uint8),
}

LOGICAL: dict[str, Callable[[Array, Array], Array]] = {
    "logical_and": lambda a, b: ((a != 0) & (b != 0)).astype(np.uint8),
    "logical_or": lambda a, b: ((a != 0) | (b != 0)).astype(np.uint8),
    "logical_xor": lambda a, b: ((a != 0) ^ (b != 0)).astype(np.uint8),
}

erf = np.vectorize(math.erf, otypes=[np.float64])


def sign(x: Array) -> Array:
    return np.where(x > 0, 1, np.where(x < 0, -1, 0))


UNARY: dict[str, Callable[[Array], Array]] = {
    "abs": _quiet(np.abs),
    "ceil": _quiet(np.ceil),
    "cos": _quiet(lambda x: np.cos(wide(x))),
    "erf": _quiet(lambda x: erf(wide(x))),
    "exp": _quiet(lambda x: np.exp(wide(x))),
    "floor": _quiet(np.floor),
    "identity": lambda x: x,
    "log": _quiet(lambda x: np.log(wide(x))),
    "neg": _quiet(np.negative),
    "reciprocal": _quiet(lambda x: 1 / wide(x)),
    "round_even": _quiet(np.rint),
    "sin": _quiet(lambda x: np.sin(wide(x))),
    "sign": _quiet(sign),
    "sqrt": _quiet(lambda x: np.sqrt(wide(x))),
    "tan": _quiet(lambda x: np.tan(wide(x))),
}


# -- activations ----------------------------------------------------------------------------


def prelu(x: Array, slope: Array) -> Array:
    with np.errstate(all="ignore"):
        return np.where(wide(x) < 0, wide(x) * wide(slope), wide(x))


def softmax(x: Array, axis: int) -> Array:
    exps = np.exp(wide(x) - wide(x).max(axis, keepdims=True))
    return np.asarray(exps / exps.sum(axis, keepdims=True))


ACTIVATION: dict[str, Callable[..., Array]] = {
    "elu": _quiet(lambda x, alpha=1.0: np.where(x > 0, wide(x), alpha * np.expm1(np.minimum(wide(x), 0)))),
    "gelu": _quiet(lambda x: wide(x) * (1 + erf(wide(x) / math.sqrt(2))) / 2),
    "hard_sigmoid": _quiet(lambda x, alpha=0.2, beta=0.5: np.clip(alpha * wide(x) + beta, 0, 1)),
    "hard_swish": _quiet(lambda x: wide(x) * np.clip(wide(x) + 3, 0, 6) / 6),
    "leaky_relu": _quiet(lambda x, alpha=0.01: np.maximum(wide(x), 0) + alpha * np.minimum(wide(x), 0)),
    "linear": _quiet(lambda x, alpha=1.0, beta=0.0: alpha * wide(x) + beta),
    "relu": _quiet(lambda x: np.maximum(x, 0)),
    "sigmoid": _quiet(lambda x: 1 / (1 + np.exp(-wide(x)))),
    "softplus": _quiet(lambda x: np.logaddexp(0, wide(x))),
    "softsign": _quiet(lambda x: wide(x) / (1 + np.abs(wide(x)))),
    "tanh": _quiet(lambda x: np.tanh(wide(x))),
}


# -- convolution ----------------------------------------------------------------------------


def as_layout(x: Array, source: str, target: str) -> Array:
    """``x`` with the axes named ``source`` in the order ``target``."""
    return x.transpose([source.index(letter) for letter in target])


def conv2d(
    x: Array,
    w: Array,
    bias: Array | None = None,
    padding: Sequence[int] = (0, 0, 0, 0),
    strides: Sequence[int] = (1, 1),
    dilations: Sequence[int] = (1, 1),
    groups: int = 1,
    input_layout: str = "nchw",
    filter_layout: str = "oihw",
) -> Array:
    x, w = as_layout(wide(x), input_layout, "nchw"), as_layout(wide(w), filter_layout, "oihw")
    (batch, _, height, width), (out_channels, depth, k_h, k_w) = x.shape, w.shape
    top, bottom, left, right = padding
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    out_h = (height + top + bottom - ((k_h - 1) * dilations[0] + 1)) // strides[0] + 1
    out_w = (width + left + right - ((k_w - 1) * dilations[1] + 1)) // strides[1] + 1
    out = np.zeros((batch, out_channels, out_h, out_w))
    per_group = out_channels // groups
    for o, i, j in itertools.product(range(out_channels), range(out_h), range(out_w)):
        group = o // per_group
        rows = i * strides[0] + np.arange(k_h) * dilations[0]
        columns = j * strides[1] + np.arange(k_w) * dilations[1]
        window = padded[:, group * depth : (group + 1) * depth][:, :, rows[:, None], columns]
        out[:, o, i, j] = (window * w[o]).sum((1, 2, 3))
    if bias is not None:
        out += wide(bias)[:, None, None]
    return as_layout(out, "nchw", input_layout)


def conv_transpose2d(
    x: Array,
    w: Array,
    bias: Array | None = None,
    padding: Sequence[int] = (0, 0, 0, 0),
    strides: Sequence[int] = (1, 1),
    dilations: Sequence[int] = (1, 1),
    output_padding: Sequence[int] = (0, 0),
    output_sizes: Sequence[int] | None = None,
    groups: int = 1,
    input_layout: str = "nchw",
    filter_layout: str = "iohw",
) -> Array:
    x, w = as_layout(wide(x), input_layout, "nchw"), as_layout(wide(w), filter_layout, "iohw")
    (batch, channels, height, width), (_, per_group, k_h, k_w) = x.shape, w.shape
    top, bottom, left, right = padding
    size_h = (height - 1) * strides[0] + (k_h - 1) * dilations[0] + 1
    size_w = (width - 1) * strides[1] + (k_w - 1) * dilations[1] + 1
    out_h, out_w = size_h - top - bottom + output_padding[0], size_w - left - right + output_padding[1]
    if output_sizes is not None:
        out_h, out_w = output_sizes
    full = np.zeros((batch, per_group * groups, max(size_h, top + out_h), max(size_w, left + out_w)))
    for c, i, j in itertools.product(range(channels), range(height), range(width)):
        group = c // (channels // groups)
        rows = i * strides[0] + np.arange(k_h) * dilations[0]
        columns = j * strides[1] + np.arange(k_w) * dilations[1]
        for o in range(per_group):
            full[:, group * per_group + o, rows[:, None], columns] += x[:, c, i, j, None, None] * w[c, o]
    out = full[:, :, top : top + out_h, left : left + out_w]
    if bias is not None:
        out = out + wide(bias)[:, None, None]
    return as_layout(out, "nchw", input_layout)


# -- pooling --------------------------------------------------------------------------------


def pool2d(
    x: Array,
    combine: Callable[[Array], Any],
    window_dimensions: Sequence[int] | None = None,
    padding: Sequence[int] = (0, 0, 0, 0),
    strides: Sequence[int] = (1, 1),
    dilations: Sequence[int] = (1, 1),
    layout: str = "nchw",
    output_shape_rounding: str = "floor",
    output_sizes: Sequence[int] | None = None,
) -> Array:
    """``combine`` gets the elements in range of one window of one channel (possibly none)."""
    x = as_layout(wide(x), layout, "nchw")
    size = x.shape[2:]
    window = size if window_dimensions is None else window_dimensions
    rounding = math.ceil if output_shape_rounding == "ceil" else math.floor
    sizes = [
        rounding((size[i] - ((window[i] - 1) * dilations[i] + 1) + sum(padding[2 * i : 2 * i + 2])) / strides[i]) + 1
        for i in (0, 1)
    ]
    if output_sizes is not None:
        sizes = list(output_sizes)
    out = np.zeros((*x.shape[:2], *sizes), dtype=x.dtype)
    for n, c, i, j in np.ndindex(*out.shape):
        places = [
            [p for k in range(window[a]) if 0 <= (p := at * strides[a] - padding[2 * a] + k * dilations[a]) < size[a]]
            for a, at in enumerate((i, j))
        ]
        out[n, c, i, j] = combine(x[n, c][np.ix_(*places)].ravel())
    return as_layout(out, "nchw", layout)


def mean(values: Array) -> Any:
    return values.mean() if values.size else 0


def norm(values: Array) -> Any:
    return np.sqrt((values**2).sum())


def greatest(values: Array) -> Any:
    if values.size:
        return values.max()
    return -np.inf if values.dtype.kind == "f" else np.iinfo(values.dtype).min


# -- normalisation --------------------------------------------------------------------------


def batch_normalization(
    x: Array,
    mean: Array,
    variance: Array,
    scale: Array | None = None,
    bias: Array | None = None,
    axis: int = 1,
    epsilon: float = 1e-5,
) -> Array:
    shape = [d if i == axis else 1 for i, d in enumerate(x.shape)]
    out = (wide(x) - wide(mean).reshape(shape)) / np.sqrt(wide(variance).reshape(shape) + epsilon)
    if scale is not None:
        out = out * wide(scale).reshape(shape)
    return out if bias is None else out + wide(bias).reshape(shape)


def _normalized(x: Array, axes: tuple[int, ...], epsilon: float) -> Array:
    x = wide(x)
    if not axes:
        return x - x
    centred = x - x.mean(axes, keepdims=True)
    return np.asarray(centred / np.sqrt((centred**2).mean(axes, keepdims=True) + epsilon))


def instance_normalization(
    x: Array, scale: Array | None = None, bias: Array | None = None, epsilon: float = 1e-5, layout: str = "nchw"
) -> Array:
    out = as_layout(_normalized(x, (2, 3) if layout == "nchw" else (1, 2), epsilon), layout, "nchw")
    if scale is not None:
        out = out * wide(scale)[:, None, None]
    if bias is not None:
        out = out + wide(bias)[:, None, None]
    return as_layout(out, "nchw", layout)


def layer_normalization(
    x: Array,
    scale: Array | None = None,
    bias: Array | None = None,
    axes: Sequence[int] | None = None,
    epsilon: float = 1e-5,
) -> Array:
    along = tuple(range(1, x.ndim)) if axes is None else tuple(axes)
    out = _normalized(x, along, epsilon)

    def placed(vector: Array) -> Array:
        order = sorted(range(len(along)), key=along.__getitem__)
        return wide(vector).transpose(order).reshape([d if i in along else 1 for i, d in enumerate(x.shape)])

    if scale is not None:
        out = out * placed(scale)
    return out if bias is None else out + placed(bias)


# -- matrices -------------------------------------------------------------------------------


def gemm(
    a: Array,
    b: Array,
    c: Array | None = None,
    alpha: float = 1.0,
    beta: float = 1.0,
    a_transpose: bool = False,
    b_transpose: bool = False,
) -> Array:
    out = alpha * ((wide(a).T if a_transpose else wide(a)) @ (wide(b).T if b_transpose else wide(b)))
    return out if c is None else out + beta * wide(c)
