"""The list of passes for TensorRT and TensorRT-RTX."""

from __future__ import annotations

from . import Pass
from .tensorrt_carriers import carry_integers, carry_integers_without_int8
from .tensorrt_convolution import spread_dilated_filters
from .tensorrt_early import fold_arg_axes, split_half_gemm, widen_half_gru
from .tensorrt_integer_ops import replace_float_only_operators
from .tensorrt_logic import settle_decided_logic
from .tensorrt_pooling import fix_pool_padding, unroll_pools
from .tensorrt_precision import widen_half_layer_normalization
from .tensorrt_quantization import decompose_asymmetric_quantization, decompose_quantization
from .tensorrt_ranks import raise_ranks
from .tensorrt_recurrent import shield_recurrent_casts

_PASSES = (
    decompose_quantization,
    fix_pool_padding,
    unroll_pools,
    spread_dilated_filters,
    carry_integers,
    replace_float_only_operators,
    settle_decided_logic,
    widen_half_layer_normalization,
    raise_ranks,
    shield_recurrent_casts,
)


def passes_for(version: str) -> tuple[Pass, ...]:
    """The passes that TensorRT ``version`` needs, in order; without a number, those of the newest release.

    Rewrites that emit integers of any type come before the one that carries them, those for int32 and int64 after it.
    """
    release = tuple(int(part) for part in version.split(".")[:2] if part.isdigit()) or (99,)
    if release < (1, 5):
        later = (carry_integers_without_int8 if one is carry_integers else one for one in _PASSES)
        return (split_half_gemm, widen_half_gru, fold_arg_axes, *later)
    if (8,) <= release < (99,):  # TensorRT, not TensorRT for RTX
        return (decompose_asymmetric_quantization, *_PASSES[1:])
    return _PASSES if release >= (1, 6) else (fold_arg_axes, *_PASSES)
