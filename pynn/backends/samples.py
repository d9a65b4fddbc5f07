"""Made-up inputs for a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..converter.model import TensorSpec
from .base import Array
from .shapes import ShapeSizes, resolve_shapes


def random_inputs(
    specs: Sequence[TensorSpec], shapes: ShapeSizes | Sequence[ShapeSizes], seed: int
) -> dict[str, Array]:
    """Standard normal floats, integers 0 or 1, random truth values; sizes by ``shapes`` (best of a range, of the first
    profile), else 1. Names in ``shapes`` that have become numbers in ``specs`` are left out."""
    rng = np.random.default_rng(seed)
    known = {spec.name for spec in specs} | {dim for spec in specs for dim in spec.shape}
    sizes = shapes if isinstance(shapes, Mapping) else shapes[0]
    ranges = resolve_shapes(specs, {name: size for name, size in sizes.items() if name in known})
    return {
        spec.name: _random(rng, spec, tuple(one[1] if one is not None else 1 for one in ranges[spec.name]))
        for spec in specs
    }


def _random(rng: np.random.Generator, spec: TensorSpec, shape: tuple[int, ...]) -> Array:
    if spec.data_type == "string":
        return np.full(shape, "text", dtype=object)
    dtype = spec.numpy
    if "float" in dtype.name:
        return np.asarray(rng.standard_normal(shape)).astype(dtype)
    return np.asarray(rng.integers(0, 2, shape)).astype(dtype)
