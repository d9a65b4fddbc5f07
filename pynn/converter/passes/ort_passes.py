"""The list of passes for ONNX Runtime."""

from __future__ import annotations

from . import Pass
from .ort_accuracy import (
    ort_batch_normalization,
    ort_dilated_max_pool,
    ort_float16_quantization,
    ort_layer_normalization,
    ort_sigmoid,
    ort_sqrt,
)
from .ort_fusions import ort_pad_fusion
from .ort_integers import (
    ort_int64_order,
    ort_integer_division,
    ort_integer_power,
    ort_integer_reductions,
    ort_uint64_order,
)
from .ort_support import Kernels, release
from .ort_widen import ort_widen


def passes_for(version: str) -> tuple[Pass, ...]:
    """The passes that ONNX Runtime ``version`` needs, in order: exact forms first, then types without a kernel."""
    kernels, number = Kernels(version), release(version)
    passes = (
        (ort_sigmoid, True),
        (ort_batch_normalization, True),
        (ort_sqrt, number <= (1, 20)),
        (ort_float16_quantization, number <= (1, 29)),
        (ort_dilated_max_pool, number <= (1, 28)),
        (ort_layer_normalization, (1, 21) <= number <= (1, 23)),
        (ort_pad_fusion, (1, 25) <= number <= (1, 31)),
        (ort_integer_power(), True),
        (ort_integer_division(), True),
        (ort_integer_reductions(kernels), True),
        (ort_uint64_order(kernels), True),
        (ort_widen(kernels), True),
        (ort_int64_order(kernels), True),
    )
    return tuple(one for one, needed in passes if needed)
