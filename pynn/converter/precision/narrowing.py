"""What a narrow type would make of constants."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..model import numpy_dtype
from ..onnx_graph import OnnxGraph, OnnxNode

Array = np.ndarray[Any, Any]
_RANGES = {"float16": (2.0**-14, 65504.0), "bfloat16": (2.0**-126, 3.3895313892515355e38)}
"""The smallest normal and the largest number."""
_LEAST_SCALE = 2.0**-17
"""float16 rounds a scale above this by less than int8 rounds what it scales."""


def narrowed(array: Array, data_type: str) -> Array:
    """``array`` rounded to nearest, ties to even."""
    with np.errstate(over="ignore"):
        return array.astype(numpy_dtype(data_type))


class Narrowing:
    """What would be lost of a graph's constants, each looked at once."""

    def __init__(self, graph: OnnxGraph, low_type: str) -> None:
        self._graph, self._type = graph, low_type
        self._least, self._most = _RANGES[low_type]
        self._extremes: dict[str, tuple[float, float]] = {}

    def loss(self, node: OnnxNode, places: Sequence[int]) -> str:
        """Why a constant of ``node`` must not be narrowed, in one sentence; "" when all may.

        Whatever overflows counts. Small numbers may vanish as long as larger ones are beside them, but not from a
        divisor.
        """
        for place in places:
            name = node.inputs[place]
            array = self._graph.initializers.get(name)
            if array is None or not array.size:
                continue
            least, most = self._extreme(name, array)
            if most > self._most:
                return f"its constant {name!r} has {most:.3g}: more than {self._type} holds"
            small = least if node.op_type == "Div" and place == 1 else most
            if 0 < small < self._least:
                return f"its constant {name!r} has {small:.3g}: it vanishes in {self._type}"
        return ""

    def scale_loss(self, name: str) -> str:
        """The same for the scale of a quantised tensor; also for one that is not constant."""
        array = self._graph.initializers.get(name)
        if array is None or array.dtype != np.float32:
            return "its scale is not constant" if array is None else ""
        least, most = self._extreme(name, array)
        if most > self._most or (self._least > _LEAST_SCALE / 16 and 0 < least < _LEAST_SCALE):
            return f"its scale {name!r} has {least:.3g} to {most:.3g}: {self._type} rounds that too much"
        return ""

    def _extreme(self, name: str, array: Array) -> tuple[float, float]:
        """The smallest and the largest magnitude that are neither zero nor infinite."""
        if name not in self._extremes:
            self._extremes[name] = _extreme(array)
        return self._extremes[name]


def _extreme(array: Array) -> tuple[float, float]:
    least, most = np.inf, 0.0
    flat = array.reshape(-1)
    for start in range(0, flat.size, 1 << 20):  # in pieces: no copy as large as a weight
        sizes = np.abs(flat[start : start + (1 << 20)])
        sizes = sizes[(sizes > 0) & (sizes < np.inf)]
        if sizes.size:
            least, most = min(least, float(sizes.min())), max(most, float(sizes.max()))
    return (0.0, 0.0) if most == 0 else (least, most)
