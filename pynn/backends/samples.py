"""Made-up inputs for a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..converter.model import TensorSpec
from .base import Array
from .shapes import resolve_shapes


def random_inputs(specs: Sequence[TensorSpec], shapes: Mapping[str, Any], seed: int) -> dict[str, Array]:
    """Standard normal floats, integers 0 or 1, random truth values; sizes by ``shapes`` (best of a range), else 1."""
    rng = np.random.default_rng(seed)
    ranges = resolve_shapes(specs, shapes)
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
