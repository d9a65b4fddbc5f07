"""The list of passes for ONNX Runtime."""

from __future__ import annotations

from . import Pass
from .ort_accuracy import ort_batch_normalization, ort_sigmoid
from .ort_integers import (
    ort_int64_order,
    ort_integer_division,
    ort_integer_power,
    ort_integer_reductions,
    ort_uint64_order,
)
from .ort_support import Kernels
from .ort_widen import ort_widen


def passes_for(version: str) -> tuple[Pass, ...]:
    """The passes that ONNX Runtime ``version`` needs, in order: exact forms first, then types without a kernel."""
    kernels = Kernels(version)
    return (
        ort_sigmoid,
        ort_batch_normalization,
        ort_integer_power(),
        ort_integer_division(),
        ort_integer_reductions(kernels),
        ort_uint64_order(kernels),
        ort_widen(kernels),
        ort_int64_order(kernels),
    )
