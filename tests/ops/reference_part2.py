"""What the operators of part 2 mean, in plain numpy, written from the facts table. Floats are computed in float64."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


# -- manipulation ---------------------------------------------------------------------------


def resample2d(x: Array, mode: str, sizes: Sequence[int], axes: Sequence[int]) -> Array:
    """One axis after the other: nearest is ceil(x - 0.5) of the clamped coordinate, linear blends floor and ceil."""
    out = x if mode == "nearest-neighbor" else x.astype(np.float64)
    for axis, new in zip(axes, sizes, strict=True):
        old = x.shape[axis]
        slabs = []
        for o in range(new):
            twice = min(max((2 * o + 1) * old - new, 0), (old - 1) * 2 * new)  # the coordinate times 2 * new
            if mode == "nearest-neighbor":
                slabs.append(np.take(out, -((new - twice) // (2 * new)), axis))
            else:
                low, rest = divmod(twice, 2 * new)
                weight = rest / (2 * new)
                high = min(low + 1, old - 1)
                slabs.append(np.take(out, low, axis) * (1 - weight) + np.take(out, high, axis) * weight)
        out = np.stack(slabs, axis)
    return out


def triangular(x: Array, upper: bool, diagonal: int) -> Array:
    rows, columns = np.indices(x.shape[-2:])
    offset = columns - rows
    return np.where(offset >= diagonal if upper else offset <= diagonal, x, x.dtype.type(0))


# -- reductions -----------------------------------------------------------------------------


def _sum(x: Array, axes: tuple[int, ...], keep: bool) -> Array:
    return np.asarray(np.sum(x, axis=axes, keepdims=keep, dtype=x.dtype))


REDUCTIONS: dict[str, Callable[[Array, tuple[int, ...], bool], Array]] = {
    "reduceL1": lambda x, a, k: _sum(np.abs(x), a, k),
    "reduceL2": lambda x, a, k: np.sqrt(_sum(x * x, a, k)),
    "reduceLogSum": lambda x, a, k: np.log(_sum(x, a, k)),
    "reduceLogSumExp": lambda x, a, k: np.log(_sum(np.exp(x), a, k)),
    "reduceMax": lambda x, a, k: np.max(x, axis=a, keepdims=k),
    "reduceMean": lambda x, a, k: np.mean(x, axis=a, keepdims=k),
    "reduceMin": lambda x, a, k: np.min(x, axis=a, keepdims=k),
    "reduceProduct": lambda x, a, k: np.asarray(np.prod(x, axis=a, keepdims=k, dtype=x.dtype)),
    "reduceSum": _sum,
    "reduceSumSquare": lambda x, a, k: _sum(x * x, a, k),
}


def reduction(name: str, x: Array, axes: Sequence[int] | None, keep: bool) -> Array:
    """Integers stay in their type and wrap; ``axes`` [] applies the function to each element."""
    wide = x.astype(np.float64) if x.dtype.kind == "f" else x
    over = tuple(range(x.ndim)) if axes is None else tuple(axes)
    with np.errstate(all="ignore"):
        if over:
            return np.asarray(REDUCTIONS[name](wide, over, keep))
        return np.asarray(REDUCTIONS[name](wide[None], (0,), False))


def cumulative_sum(x: Array, axis: int, exclusive: bool, backward: bool) -> Array:
    wide = x.astype(np.float64) if x.dtype.kind == "f" else x
    if backward:
        wide = np.flip(wide, axis)
    out = np.cumsum(wide, axis=axis, dtype=wide.dtype)
    if exclusive:
        out = np.concatenate([np.zeros_like(out.take([0], axis)), out.take(range(x.shape[axis] - 1), axis)], axis)
    return np.flip(out, axis) if backward else out


# -- gather and scatter ---------------------------------------------------------------------


def clamped(indices: Array, size: int | Array) -> Array:
    """From the end if negative, then into range; in Python integers, so that no type can overflow."""
    wide = indices.astype(object)
    sizes = np.asarray(size, dtype=object)
    wide = np.where(indices < 0, wide + sizes, wide)
    return np.minimum(np.maximum(wide, 0), sizes - 1).astype(np.int64)


def gather(x: Array, indices: Array, axis: int) -> Array:
    return np.asarray(np.take(x, clamped(indices, x.shape[axis]), axis=axis))


def gather_elements(x: Array, indices: Array, axis: int) -> Array:
    return np.take_along_axis(x, clamped(indices, x.shape[axis]), axis=axis)


def _coordinates(x: Array, indices: Array) -> Array:
    return clamped(indices, np.array(x.shape[: indices.shape[-1]]))


def gather_nd(x: Array, indices: Array) -> Array:
    where = _coordinates(x, indices)
    out = np.empty((*indices.shape[:-1], *x.shape[indices.shape[-1] :]), x.dtype)
    for place in np.ndindex(indices.shape[:-1]):
        out[place] = x[tuple(where[place])]
    return out


def scatter_elements(x: Array, indices: Array, updates: Array, axis: int) -> Array:
    out = x.copy()
    np.put_along_axis(out, clamped(indices, x.shape[axis]), updates, axis=axis)
    return out


def scatter_nd(x: Array, indices: Array, updates: Array) -> Array:
    out = x.copy()
    where = _coordinates(x, indices)
    for place in np.ndindex(indices.shape[:-1]):
        out[tuple(where[place])] = updates[place]
    return out


# -- quantization ---------------------------------------------------------------------------


def blockwise(x: Array, shape: Sequence[int]) -> Array:
    """Each element repeated over its block, as float64 (integers as Python integers)."""
    out = x.astype(np.float64 if x.dtype.kind == "f" else object)
    for axis, size in enumerate(shape):
        out = np.repeat(out, size // x.shape[axis], axis)
    return out


def dequantize(x: Array, scale: Array, zero_point: Array) -> Array:
    centered = x.astype(np.int64).astype(object) - blockwise(zero_point.astype(np.int64), x.shape)
    return np.asarray(centered).astype(np.float64) * blockwise(scale, x.shape)


def quantize(x: Array, scale: Array, zero_point: Array) -> Array:
    """Round half to even, add the zero point, saturate. The quotient is the float32 one, as the rounding of exact
    halves is what matters."""
    quotient = x.astype(np.float32) / blockwise(scale, x.shape).astype(np.float32)
    rounded = np.vectorize(lambda q: int(np.rint(q)), otypes=[object])(quotient)
    info = np.iinfo(zero_point.dtype)
    shifted = rounded + blockwise(zero_point, x.shape)
    return np.asarray(np.minimum(np.maximum(shifted, int(info.min)), int(info.max))).astype(zero_point.dtype)


# -- recurrent networks ---------------------------------------------------------------------

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": lambda x: np.maximum(x, 0),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
}


def _gates(layout: str, size: int, *blocks: Array) -> dict[str, list[Array]]:
    return {gate: [b[k * size : (k + 1) * size] for b in blocks] for k, gate in enumerate(layout)}


def gru_cell(
    x: Array,
    weight: Array,
    recurrent_weight: Array,
    h: Array,
    bias: Array,
    recurrent_bias: Array,
    *,
    reset_after: bool,
    layout: str,
    activations: Sequence[str],
) -> Array:
    f, g = (ACTIVATIONS[a] for a in activations)
    gates = _gates(layout, h.shape[1], weight, recurrent_weight, bias, recurrent_bias)
    z, r = (f(x @ w.T + b + h @ u.T + ub) for w, u, b, ub in (gates["z"], gates["r"]))
    w, u, b, ub = gates["n"]
    n = g(x @ w.T + b + (r * (h @ u.T + ub) if reset_after else (r * h) @ u.T + ub))
    return np.asarray(z * h + (1 - z) * n)


def lstm_cell(
    x: Array,
    weight: Array,
    recurrent_weight: Array,
    h: Array,
    c: Array,
    bias: Array,
    recurrent_bias: Array,
    peephole: Array,
    *,
    layout: str,
    activations: Sequence[str],
) -> tuple[Array, Array]:
    f, g, k = (ACTIVATIONS[a] for a in activations)
    size = h.shape[1]
    pre = {
        gate: x @ w.T + b + h @ u.T + ub
        for gate, (w, u, b, ub) in _gates(layout, size, weight, recurrent_weight, bias, recurrent_bias).items()
    }
    i, o, forget = (f(pre[gate] + c * peephole[n * size : (n + 1) * size]) for n, gate in enumerate("iof"))
    new_c = forget * c + i * g(pre["g"])
    return np.asarray(o * k(new_c)), np.asarray(new_c)


def over_sequence(
    step: Callable[[int, Array, tuple[Array, ...]], tuple[Array, ...]],
    x: Array,
    states: Sequence[Array],
    direction: str,
) -> tuple[list[Array], Array]:
    """Final states [directions, batch, size], and the first state of every step [steps, directions, batch, size].
    ``step(direction index, input, states)`` returns the next states."""
    directions = 2 if direction == "both" else 1
    finals: list[list[Array]] = [[] for _ in states]
    sequence = np.empty((x.shape[0], directions, *states[0].shape[1:]))
    for d in range(directions):
        now = tuple(s[d] for s in states)
        backward = direction == "backward" or d == 1
        times = range(x.shape[0])
        for t in reversed(times) if backward else times:
            now = step(d, x[t], now)
            sequence[t, d] = now[0]
        for final, state in zip(finals, now, strict=True):
            final.append(state)
    return [np.stack(f) for f in finals], sequence


def divisors(number: int) -> list[int]:
    return [d for d in range(1, number + 1) if number % d == 0]


def block_shapes(shape: Sequence[int]) -> list[tuple[int, ...]]:
    """Every shape that a scale may have for an input of ``shape``."""
    return list(itertools.product(*(divisors(d) for d in shape)))
