"""A bound on what autocast may change: running error analysis, operator by operator, beside the values in float64.

For each value ``v`` of the converted graph there is an ``e`` with |computed - exact| <= e, where "exact" is the float32
model in real arithmetic. An operator first passes on the errors of its operands (by its derivative, taken at its worst
within the operands' intervals), then adds its own rounding:

    e(out) = propagated + u * (|out| + propagated) + eta

u is half the distance of 1 to the next number (2**-11 in float16, 2**-8 in bfloat16, 2**-24 in float32), eta half of
the least subnormal (2**-25 in float16). Products add (K + 2) * 2**-24 * |A| |B| for K terms summed in float32. A
constant in the narrow type counts as rounded once.
Source: Higham, Accuracy and Stability of Numerical Algorithms, 3.1 and 3.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pynn.converter.onnx_graph import OnnxGraph, OnnxNode

Array = np.ndarray[Any, Any]
UNIT = {"float16": 2.0**-11, "bfloat16": 2.0**-8, "float32": 2.0**-24}
ETA = {"float16": 2.0**-25, "bfloat16": 0.0, "float32": 0.0}
LARGEST = {"float16": 65504.0, "bfloat16": 3.3e38, "float32": 3.4e38}
KERNEL = 2.0**-20
"""Relative error allowed to a kernel of ONNX Runtime in float32: exp, tanh and others are no exact functions."""


class OutOfRangeError(Exception):
    """A value may leave the range of its type: there is no bound."""


@dataclass(frozen=True)
class Bounded:
    value: Array
    error: Array


def bounds(low: OnnxGraph, given: OnnxGraph, feeds: dict[str, Array]) -> dict[str, Bounded]:
    """By output, the exact value and the bound of the converted graph ``low`` of ``given``."""
    known: dict[str, Bounded] = {}
    for name, array in feeds.items():
        known[low.inputs[name]] = _exact(array)
    for name, array in low.initializers.items():
        source = name.rpartition("/")[0] if name not in given.initializers else name
        original = given.initializers.get(source)
        if original is None:  # made by a pass, in float32
            known[name] = _exact(array)
            continue
        rounded = _exact(original)
        known[name] = _round(rounded, array.dtype.name) if array.dtype != original.dtype else rounded
    for node in low.nodes:
        inputs = [known[x] for x in node.inputs if x]
        made = _rules[node.op_type](node, *inputs)
        for name, one in zip(node.outputs, made if isinstance(made, list) else [made], strict=False):
            data_type = low.values[name].data_type
            exact = node.op_type in _EXACT
            known[name] = one if exact or data_type not in UNIT else _round(one, data_type)
    return {name: known[value] for name, value in low.outputs.items()}


def _exact(array: Array) -> Bounded:
    value = array.astype(np.float64) if array.dtype.kind == "f" or "float" in array.dtype.name else array
    return Bounded(value, np.zeros(array.shape))


def _round(x: Bounded, data_type: str) -> Bounded:
    most = np.abs(x.value) + x.error
    if most.size and not most.max() < LARGEST[data_type] * 0.999:
        raise OutOfRangeError
    return Bounded(x.value, x.error + UNIT[data_type] * most + ETA[data_type])


def _product(node: OnnxNode, a: Bounded, b: Bounded, c: Bounded | None = None) -> Bounded:
    if node.op_type == "Gemm":
        turn_a, turn_b = node.attributes.get("transA", 0), node.attributes.get("transB", 0)
        a = Bounded(a.value.T, a.error.T) if turn_a else a
        b = Bounded(b.value.T, b.error.T) if turn_b else b
    size = np.abs(a.value) @ np.abs(b.value)
    error = np.abs(a.value) @ b.error + a.error @ np.abs(b.value) + a.error @ b.error
    error = error + (a.value.shape[-1] + 2) * UNIT["float32"] * (size + error)
    value = a.value @ b.value
    if c is None:
        return Bounded(value, error)
    return Bounded(value + c.value, error + c.error + UNIT["float32"] * (np.abs(value) + error))


def _conv(node: OnnxNode, x: Bounded, w: Bounded, b: Bounded | None = None) -> Bounded:
    """Without padding, stride 1, one group: enough for the graphs of these tests."""
    kernel = w.value.shape[2:]
    windows = [np.lib.stride_tricks.sliding_window_view(one, kernel, (2, 3)) for one in (x.value, x.error)]  # type: ignore[call-overload]

    def sums(windowed: Array, weights: Array) -> Array:
        return np.einsum("nchwij,ocij->nohw", windowed, weights)

    value, size = sums(windows[0], w.value), sums(np.abs(windows[0]), np.abs(w.value))
    error = sums(np.abs(windows[0]), w.error) + sums(windows[1], np.abs(w.value) + w.error)
    error = error + (w.value[0].size + 2) * UNIT["float32"] * (size + error)
    if b is None:
        return Bounded(value, error)
    error = error + b.error[:, None, None] + UNIT["float32"] * (np.abs(value) + error)
    return Bounded(value + b.value[:, None, None], error)


def _mul(_: OnnxNode, a: Bounded, b: Bounded) -> Bounded:
    error = np.abs(a.value) * b.error + np.abs(b.value) * a.error + a.error * b.error
    return Bounded(a.value * b.value, error)


def _kernel(value: Array, error: Array) -> Bounded:
    return Bounded(value, error + KERNEL * (np.abs(value) + 1e-3))


def _softmax(node: OnnxNode, x: Bounded) -> Bounded:
    axis = node.attributes.get("axis", -1)
    powers = np.exp(x.value - x.value.max(axis, keepdims=True))
    value = powers / powers.sum(axis, keepdims=True)
    return _kernel(value, value * np.expm1(2 * x.error.max(axis, keepdims=True)))


def _normalize(node: OnnxNode, x: Bounded, scale: Bounded | None = None, bias: Bounded | None = None) -> Bounded:
    """y = (x - mean) / sigma over the last axes. sigma is 1-Lipschitz in the root mean square of the change d, and the
    derivative of y has the norm 1/sigma at most: |dy| <= sqrt(n) * rms(d) / (sigma - rms(d))."""
    axes = tuple(range(node.attributes.get("axis", -1) % x.value.ndim, x.value.ndim))
    count = int(np.prod([x.value.shape[axis] for axis in axes]))
    epsilon = node.attributes.get("epsilon", 1e-5)
    mean = x.value.mean(axes, keepdims=True)
    sigma = np.sqrt(((x.value - mean) ** 2).mean(axes, keepdims=True) + epsilon)
    change = np.sqrt((x.error**2).mean(axes, keepdims=True))
    if not (change < sigma / 2).all():
        raise OutOfRangeError
    value = (x.value - mean) / sigma
    inner = 8 * UNIT["float32"] * np.abs(x.value).max(axes, keepdims=True) / sigma
    made = _kernel(value, np.sqrt(count) * change / (sigma - change) + inner + np.zeros(value.shape))
    if scale is not None:
        made = _mul(node, made, scale)
    if bias is not None:
        made = Bounded(made.value + bias.value, made.error + bias.error + UNIT["float32"] * np.abs(made.value))
    return made


def _mean(node: OnnxNode, x: Bounded, axes: Bounded) -> Bounded:
    over = tuple(int(axis) for axis in axes.value)
    keep = bool(node.attributes.get("keepdims", 1))
    slack = 64 * UNIT["float32"] * np.abs(x.value).max()
    return Bounded(x.value.mean(over, keepdims=keep), x.error.mean(over, keepdims=keep) + slack)


def _move(function: Any) -> Any:
    """A rule for what moves data: values and errors alike."""

    def rule(node: OnnxNode, x: Bounded, *others: Bounded) -> Bounded:
        return Bounded(function(node, x.value, *others), function(node, x.error, *others))

    return rule


def _concat(node: OnnxNode, *parts: Bounded) -> Bounded:
    axis = node.attributes["axis"]
    return Bounded(np.concatenate([p.value for p in parts], axis), np.concatenate([p.error for p in parts], axis))


def _slice(_: OnnxNode, x: Array, starts: Bounded, ends: Bounded, axes: Bounded, *steps: Bounded) -> Array:
    index: list[slice] = [slice(None)] * x.ndim
    for start, end, axis in zip(starts.value, ends.value, axes.value, strict=True):
        index[int(axis)] = slice(int(start), int(end))
    return x[tuple(index)]


def _clip(node: OnnxNode, x: Bounded, low: Bounded, high: Bounded) -> Bounded:
    error = np.maximum(x.error, np.maximum(low.error, high.error))
    return Bounded(np.clip(x.value, low.value, high.value), error)


_rules: dict[str, Any] = {
    "MatMul": _product,
    "Gemm": _product,
    "Conv": _conv,
    "Add": lambda _, a, b: Bounded(a.value + b.value, a.error + b.error),
    "Sub": lambda _, a, b: Bounded(a.value - b.value, a.error + b.error),
    "Mul": _mul,
    "Relu": lambda _, x: Bounded(np.maximum(x.value, 0), x.error),
    "Clip": _clip,
    "Tanh": lambda _, x: _kernel(np.tanh(x.value), x.error),
    "Sigmoid": lambda _, x: _kernel(1 / (1 + np.exp(-x.value)), x.error / 4),
    "Exp": lambda _, x: _kernel(np.exp(x.value), np.exp(x.value) * np.expm1(x.error)),
    "Softmax": _softmax,
    "LayerNormalization": _normalize,
    "ReduceMean": _mean,
    "Cast": lambda _, x: x,
    "Identity": lambda _, x: x,
    "Concat": _concat,
    "Reshape": _move(lambda _, x, shape: x.reshape([int(n) for n in shape.value])),
    "Transpose": _move(lambda node, x: x.transpose(node.attributes["perm"])),
    "Slice": _move(_slice),
    "Gather": _move(lambda node, x, places: np.take(x, places.value.astype(int), node.attributes.get("axis", 0))),
}
_EXACT = frozenset(("Relu", "Identity", "Concat", "Reshape", "Transpose", "Slice", "Gather"))
"""Operators that round nothing."""
