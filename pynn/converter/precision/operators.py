"""What each ONNX operator needs of its types, and why: the table behind autocast.

"Half" below is the narrow type: float16 (11 bits, 6e-8 to 65504) or bfloat16 (8 bits, the range of float32).
"""

from __future__ import annotations

from enum import Enum


class Kind(Enum):
    """How autocast treats an operator."""

    PRODUCT = "product"
    """Convolutions and matrix products: the time is here, sums are kept in float32 inside. Half."""
    ARITHMETIC = "arithmetic"
    """Element by element; half, unless an operand comes out of an OPEN operator: then float32, and it is open too."""
    ACTIVATION = "activation"
    """Element by element with a bounded or linear result: half, or float32 behind an OPEN one; closes the chain."""
    MOVE = "move"
    """Moves or selects data: exact in any type, follows its neighbours."""
    OPEN = "open"
    """Needs float32, and so does what is computed with its result until something bounds it."""
    CLOSED = "closed"
    """Needs float32 inside; its result may be narrowed."""
    CHOOSES = "chooses"
    """Turns numbers into decisions or integers: rounding before would change them. float32 inputs."""
    ANY = "any"
    """Reads any type as it is."""
    QUANTIZED = "quantized"
    """QuantizeLinear and DequantizeLinear."""
    UNKNOWN = "unknown"
    """Not in this table, of another domain, or with graphs inside: left alone."""


REASONS = {
    Kind.PRODUCT: "a product: the time is here, and sums are kept in float32 inside",
    Kind.ARITHMETIC: "element by element",
    Kind.ACTIVATION: "element by element, with a bounded result",
    Kind.MOVE: "moves data: follows its neighbours",
    Kind.CHOOSES: "decides by numbers: rounding them first could change the decision",
    Kind.UNKNOWN: "not known to autocast: left alone",
}

_PRODUCTS = "Conv ConvTranspose DeformConv MatMul Gemm Einsum Attention"
_ARITHMETIC = "Add Sub Mul Div Sum Mean Neg Abs Max Min Where Resize Upsample AveragePool GlobalAveragePool GridSample"
_ACTIVATIONS = (
    "Relu LeakyRelu PRelu ThresholdedRelu Clip Elu Selu Sigmoid HardSigmoid Tanh Softsign Erf Gelu HardSwish Mish "
    "Swish Softplus Sign Shrink"
)
_MOVES = (
    "Identity Reshape Transpose Concat Split Slice Gather GatherElements GatherND Expand Squeeze Unsqueeze Flatten Pad "
    "Tile DepthToSpace SpaceToDepth Trilu ScatterElements ScatterND Scatter ReverseSequence Compress CenterCropPad "
    "MaxPool GlobalMaxPool ReduceMax ReduceMin Dropout"
)
_CHOOSES = (
    "Equal Greater GreaterOrEqual Less LessOrEqual ArgMax ArgMin TopK Floor Ceil Round IsNaN IsInf NonZero Unique "
    "NonMaxSuppression Hardmax OneHot Mod Range"
)
_SUM = "adds many numbers: in float16 a sum stops growing once terms fall below half of its last bit, or overflows"
_SQUARE = "squares: in float16 they overflow above 256 and vanish below 2.4e-4"
_OPEN = {
    "ReduceSum": _SUM,
    "ReduceMean": _SUM,
    "ReduceL1": _SUM,
    "ReduceL2": _SQUARE,
    "ReduceSumSquare": _SQUARE,
    "ReduceLogSum": _SUM,
    "ReduceLogSumExp": "adds exponentials: they overflow float16 above 11",
    "ReduceProd": "multiplies many numbers: leaves float16's range quickly",
    "CumSum": _SUM,
    "CumProd": "multiplies many numbers: leaves float16's range quickly",
    "Exp": "grows fast: overflows float16 above 11 and turns an absolute error into a relative one",
    "Log": "a logarithm of what vanishes in float16 is -inf",
    "Pow": _SQUARE,
    "Sqrt": "mostly over a variance plus an epsilon, which vanishes in float16",
    "Reciprocal": "overflows float16 below 1.5e-5",
    "Sinh": "grows fast: overflows float16 above 11",
    "Cosh": "grows fast: overflows float16 above 11",
    "LpPool": _SQUARE,
    "GlobalLpPool": _SQUARE,
    "Det": "multiplies many numbers: leaves float16's range quickly",
}
_NORM = "a mean and a variance over many numbers; float16 squares overflow above 256"
_PHASE = "a phase: float16 has no fraction left above 2048"
_RECURRENT = "its state gathers a rounding error in every step"
_CLOSED = {
    "Softmax": "exponentials and their sum; small chances vanish in float16",
    "LogSoftmax": "exponentials and their sum; a logarithm of what vanishes is -inf",
    "LayerNormalization": _NORM,
    "RMSNormalization": _NORM,
    "InstanceNormalization": _NORM,
    "GroupNormalization": _NORM,
    "MeanVarianceNormalization": _NORM,
    "LpNormalization": _NORM,
    "LRN": _NORM,
    "BatchNormalization": "its variance is not constant, or its rank is unknown; " + _NORM,
    "Sin": _PHASE,
    "Cos": _PHASE,
    "Tan": _PHASE,
    "Asin": "steep at the ends",
    "Acos": "steep at the ends",
    "Atan": "mostly of a ratio",
    "Asinh": "a logarithm",
    "Acosh": "a logarithm",
    "Atanh": "a logarithm, steep at the ends",
    "GRU": _RECURRENT,
    "LSTM": _RECURRENT,
    "RNN": _RECURRENT,
    "DFT": _SUM,
    "STFT": _SUM,
    "RoiAlign": "reads places in pixels",
    "Celu": "ONNX has it in float32 only",
}

_KINDS: dict[str, Kind] = {
    **dict.fromkeys(_PRODUCTS.split(), Kind.PRODUCT),
    **dict.fromkeys(_ARITHMETIC.split(), Kind.ARITHMETIC),
    **dict.fromkeys(_ACTIVATIONS.split(), Kind.ACTIVATION),
    **dict.fromkeys(_MOVES.split(), Kind.MOVE),
    **dict.fromkeys(_CHOOSES.split(), Kind.CHOOSES),
    **dict.fromkeys(_OPEN, Kind.OPEN),
    **dict.fromkeys(_CLOSED, Kind.CLOSED),
    **dict.fromkeys(("Cast", "Shape", "Size"), Kind.ANY),
    **dict.fromkeys(("QuantizeLinear", "DequantizeLinear"), Kind.QUANTIZED),
}

AMPLIFIES = frozenset(("Exp", "Sinh", "Cosh", "Sin", "Cos", "Tan"))
"""The arithmetic just before these stays in float32: its absolute error becomes a relative one."""
PHASES = frozenset(("Sin", "Cos", "Tan"))
"""Products that only lead to these stay in float32 too: positions times frequencies."""
ENDS = frozenset(("Div",))
"""Arithmetic behind an open operator that closes the chain: a ratio is of moderate size."""
FIXED_SLOTS = {"Resize": (1, 2), "Upsample": (1,), "Dropout": (1, 2)}
"""Inputs that stay float32 whatever the operator's type."""
BFLOAT16_GAPS = frozenset(("HardSwish", "Mish", "LpPool", "GRU", "ConvTranspose", "Celu"))
"""Operators that TensorRT for RTX 1.6 does not build in bfloat16 (../shared/tensorrt-ops/README.md, "Types")."""


def kind_of(op_type: str, domain: str = "") -> Kind:
    """How autocast treats an operator; UNKNOWN outside of ONNX's own domain."""
    return Kind.UNKNOWN if domain else _KINDS.get(op_type, Kind.UNKNOWN)


def reason_of(op_type: str, kind: Kind) -> str:
    """Why, in one sentence."""
    return _OPEN.get(op_type) or _CLOSED.get(op_type) or REASONS.get(kind, "")
