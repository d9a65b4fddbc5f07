"""Rounding of weights to a grid: to nearest, by half-quadratic search (HQQ), and with regard to inputs (GPTQ).

HQQ: H. Badri, A. Shaji, "Half-Quadratic Quantization of Large Machine Learning Models", 2023; here for symmetric grids,
so the scale is what is optimised. GPTQ: E. Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative
Pre-trained Transformers", ICLR 2023.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .weights_grid import Grid, Layout, ScaleGrid

Array = np.ndarray[Any, Any]

_STARTS = (1.0, 0.9375, 0.875, 0.8, 0.7)
"""Where the half-quadratic search begins: parts of the scale at which the largest weight is not clipped."""
_STEPS = 3
_BETA = 10.0
"""The search's penalty, for errors measured in steps of the grid: an error below 1/beta**(2/3) counts as none."""
_GPTQ_COLUMNS = 128
_DAMPING, _DAMPING_OF_FEW, _MOST_DAMPING = 0.01, 0.3, 0.3
"""What is added to the moments' diagonal, as a part of its mean: where many inputs are known; where there are as many
as channels, in proportion to channels over inputs; and at most."""


@dataclass(frozen=True, slots=True)
class Rounded:
    """A quantised weight: ``values`` in the grid's type and the weight's shape, ``scale`` in ONNX's shape. ``error`` is
    the relative root mean square error of the weights."""

    values: Array
    scale: Array
    error: float


def round_weight(weight: Array, grid: Grid, scales: ScaleGrid, layout: Layout, *, search: bool) -> Rounded:
    """To nearest; with ``search`` the scale of each block is the best one found, never worse than without."""
    view = weight.reshape(layout.view)
    outer, groups, _, inner = layout.view
    values = np.empty(layout.view, grid.dtype)
    scale = np.empty((outer, groups, 1, inner), np.float32)
    lost = total = 0.0
    wide = _working_type(weight)
    for chunk in layout.chunks():
        piece = view[chunk].astype(wide)
        flat = piece.reshape(piece.shape[:2]) if piece.shape[2] == 1 else piece
        best_scale, rounded, error = (_searched if search else _nearest)(flat, grid, scales)
        values[chunk] = grid.store(rounded).reshape(piece.shape)
        scale[chunk] = best_scale.reshape(piece.shape[0], 1, piece.shape[2])
        lost += float(error.sum(dtype=np.float64))
        total += float(np.vdot(flat, flat))
    stored = scales.store(scale).reshape(layout.scale_shape)
    return Rounded(values.reshape(weight.shape), stored, (lost / total) ** 0.5 if total else 0.0)


def _working_type(weight: Array) -> type[np.floating[Any]]:
    """A type in which squares of weights are finite and not lost."""
    most = max(float(weight.max()), -float(weight.min()))
    return np.float32 if most == 0 or 1e-12 < most < 1e15 else np.float64


def _first_scale(piece: Array, grid: Grid, scales: ScaleGrid) -> Array:
    return scales.round(np.abs(piece).max(axis=1, keepdims=True) / np.float32(grid.largest))


def _fit(piece: Array, scale: Array, grid: Grid, importance: Array | None = None) -> tuple[Array, Array]:
    """Rounded values at a scale, and by block the squared error, each weight's multiplied by its importance."""
    rounded = grid.round(piece / scale)
    rest = piece - rounded * scale
    np.square(rest, out=rest)
    if importance is not None:
        rest *= importance
    return rounded, rest.sum(axis=1, keepdims=True)


def _nearest(piece: Array, grid: Grid, scales: ScaleGrid) -> tuple[Array, Array, Array]:
    scale = _first_scale(piece, grid, scales)
    return scale, *_fit(piece, scale, grid)


def _searched(
    piece: Array, grid: Grid, scales: ScaleGrid, importance: Array | None = None
) -> tuple[Array, Array, Array]:
    """Half-quadratic splitting from several scales; by block the one of least squared error.

    Each step rounds, takes the part of the error that a sparse (p = 1/2) norm explains as outliers, and fits the scale
    to the rest by least squares.
    """
    first = best = _first_scale(piece, grid, scales)
    _, error = _fit(piece, first, grid, importance)
    for start in _STARTS:
        scale = scales.round(first * np.float32(start))
        beta = np.float32(_BETA)
        for _ in range(_STEPS):
            now, lost = _fit(piece, scale, grid, importance)
            better = lost < error
            best, error = np.where(better, scale, best), np.where(better, lost, error)
            scale = scales.round(_refit(piece, now, scale, beta, importance))
            beta *= np.float32(1.5)
        now, lost = _fit(piece, scale, grid, importance)
        better = lost < error
        best, error = np.where(better, scale, best), np.where(better, lost, error)
    rounded, error = _fit(piece, best, grid, importance)
    return best, rounded, error


def _refit(piece: Array, rounded: Array, scale: Array, beta: np.float32, importance: Array | None) -> Array:
    """The scale that fits ``piece`` without its outliers best."""
    steps = piece / scale
    rest = steps - rounded
    size = np.abs(rest)
    shrunk = size - 1 / (beta * np.sqrt(size + np.float32(1e-8)))
    np.maximum(shrunk, 0, out=shrunk)
    steps -= np.copysign(shrunk, rest, out=rest)
    weighted = rounded if importance is None else rounded * importance
    square = (rounded * weighted).sum(axis=1, keepdims=True)
    fitted = (weighted * steps).sum(axis=1, keepdims=True) / np.maximum(square, np.float32(1e-12))
    changed: Array = np.where(square > 0, scale * np.maximum(fitted, np.float32(0.25)), scale)
    return changed


def hessian(inputs: Array) -> Array:
    """``X^T X / rows`` in float64 of inputs ``[..., K]``, summed in pieces."""
    rows = inputs.reshape(-1, inputs.shape[-1])
    total = np.zeros((rows.shape[1], rows.shape[1]))
    for first in range(0, len(rows), 4096):
        piece = rows[first : first + 4096].astype(np.float32)
        total += piece.T @ piece
    return total / max(1, len(rows))


def round_with_inputs(
    matrix: Array, grid: Grid, scales: ScaleGrid, layout: Layout, second: Array, count: int | None = None
) -> Rounded:
    """GPTQ of a matrix ``[K, N]`` whose blocks or channels lie along K: each rounding error is carried over to the rows
    not yet rounded, so that products with inputs of second moments ``second`` ``[K, K]`` change least. Scales come from
    the matrix as it is; rows are rounded in order of what their inputs weigh. ``count`` is how many inputs the moments
    are of (None: many): of few they are not to be trusted as much.

    The result is never worse on these inputs than rounding with the searched scales.
    """
    plain = round_weight(matrix, grid, scales, layout, search=True)
    wide = matrix.astype(_working_type(matrix))
    mean = float(np.mean(np.diag(second)))
    share = 0.0 if count is None else min(_MOST_DAMPING, _DAMPING_OF_FEW * len(wide) / max(1, count))
    damped = second + np.eye(len(second)) * max(max(_DAMPING, share) * mean, 1e-12)
    importance = (np.diag(second) / max(mean, 1e-30)).astype(np.float32)
    order = np.argsort(-importance, kind="stable")
    factor = np.linalg.cholesky(np.linalg.inv(damped[np.ix_(order, order)])).T.astype(np.float32)
    block = layout.block_size or len(wide)
    scale = _weighted_scales(wide, grid, scales, block, importance)
    values = np.empty_like(wide)
    values[order] = _carried(wide[order], grid, scale, order // block, factor)
    lost = values * np.repeat(scale, block, axis=0) - wide
    held = plain.scale.astype(np.float32) * np.float32(scales.unit or 1)
    rounded = plain.values.astype(np.float32) * np.repeat(held.reshape(scale.shape), block, axis=0)
    if _output_error(lost, second) > _output_error(rounded - wide, second):
        return plain
    total = float(np.vdot(wide, wide))
    error = (float(np.vdot(lost, lost)) / total) ** 0.5 if total else 0.0
    return Rounded(grid.store(values), scales.store(scale).reshape(layout.scale_shape), error)


def _weighted_scales(wide: Array, grid: Grid, scales: ScaleGrid, block: int, importance: Array) -> Array:
    """Scales ``[groups, N]``, searched with each row's errors weighed by its ``importance``."""
    found = np.empty((len(wide) // block, wide.shape[1]), np.float32)
    for group in range(len(found)):
        rows = slice(group * block, (group + 1) * block)
        found[group] = _searched(wide[None, rows], grid, scales, importance[None, rows, None])[0][0]
    return found


def _carried(rest: Array, grid: Grid, scale: Array, groups: Array, factor: Array) -> Array:
    """The rounded rows of ``rest``, which is used up. ``groups`` is the row of ``scale`` for each, ``factor`` the upper
    Cholesky factor of the inverse moments."""
    count, columns = rest.shape
    values = np.empty_like(rest)
    for first in range(0, count, _GPTQ_COLUMNS):
        last = min(count, first + _GPTQ_COLUMNS)
        errors = np.empty((last - first, columns), rest.dtype)
        for row in range(first, last):
            held = scale[groups[row]]
            values[row] = grid.round(rest[row] / held)
            errors[row - first] = (rest[row] - values[row] * held) / factor[row, row]
            rest[row + 1 : last] -= np.outer(factor[row, row + 1 : last], errors[row - first])
        rest[last:] -= factor[first:last, last:].T @ errors
    return values


def _output_error(lost: Array, second: Array) -> float:
    return float(np.vdot(lost, second.astype(np.float32) @ lost))
