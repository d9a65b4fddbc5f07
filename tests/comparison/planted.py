"""Models with an operator that a narrow type ruins, and only that one."""

from __future__ import annotations

from typing import Any

import numpy as np

import pynn

Array = np.ndarray[Any, Any]
BAD = "overflows"
"""The label of the operator."""


def planted(rows: int = 4, width: int = 16, *, bad: bool = True) -> pynn.Graph:
    """scores[rows, width]: products around one whose result is beyond float16's range; a normalisation, which is in
    float32 anyway, brings it back."""
    random = np.random.default_rng(5)
    b = pynn.GraphBuilder()

    def weight(gain: float) -> pynn.Operand:
        return b.constant((random.standard_normal((width, width)) * gain / np.sqrt(width)).astype("f"))

    x = b.input("x", [rows, width], "float32")
    h = b.relu(b.matmul(x, weight(30.0), label="first"))
    h = b.matmul(h, weight(2e4 if bad else 1.0), label=BAD)
    h = b.layer_normalization(h, axes=[1])
    return b.finish({"scores": b.matmul(h, weight(1.0), label="last")})


def cancelling() -> pynn.Graph:
    """y[4, 8]: a sum that cancels to a thousandth of its terms, then a product that does not."""
    rows = np.concatenate([np.full((128, 8), 1.001, "f"), np.full((128, 8), -1.0, "f")])
    b = pynn.GraphBuilder()
    x = b.input("x", [4, 256], "float32")
    small = b.matmul(x, b.constant(rows), label="cancels")
    spread = np.random.default_rng(1).standard_normal((8, 8)).astype("f")
    return b.finish({"y": b.matmul(b.relu(small), b.constant(spread), label="dense")})
