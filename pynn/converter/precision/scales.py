"""Symmetric scales and weights in 8 bits: int8 of -127 to 127, fp8 (e4m3) of -448 to 448."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from ...errors import ModelError
from ..model import numpy_dtype

Array = np.ndarray[Any, Any]
QuantizedForm = Literal["int8", "fp8"]

ELEMENT = {"int8": "int8", "fp8": "float8e4m3fn"}
"""ONNX element type by form."""
LARGEST = {"int8": 127.0, "fp8": 448.0}
"""The largest magnitude by form. int8 leaves -128 out, so that it is symmetric."""


def activation_scale(amax: float, form: QuantizedForm, data_type: str) -> tuple[Array, str]:
    """The scale of a range, in the activation's type, and what had to be decided ("" if nothing).

    A range of zero gets the scale 1/largest. A scale that the type holds only as a denormal number is raised to the
    smallest normal one.
    """
    dtype = numpy_dtype(data_type)
    if amax == 0:
        return np.asarray(1 / LARGEST[form]).astype(dtype), "it was all zero in calibration: scaled as if up to 1"
    least, most = _normal(dtype)
    exact = amax / LARGEST[form]
    held = min(max(exact, least), most)
    why = "" if held == exact else f"its scale {exact:.3g} is outside of {data_type}: {held:.3g} taken"
    return np.asarray(held).astype(dtype), why


def quantize_weights(array: Array, axis: int | None, form: QuantizedForm, name: str) -> tuple[Array, Array]:
    """``array`` in 8 bits and its scale, one for each index of ``axis`` or (None) one for all, in its own type.

    Rounded to nearest, ties to even. Channels that are all zero have the scale 1/largest. Raises ModelError for NaN and
    infinity.
    """
    data_type = array.dtype
    wide = array.astype(np.float32)
    others = None if axis is None else tuple(i for i in range(array.ndim) if i != axis)
    amax = np.abs(wide).max(axis=others, initial=0.0)
    if not np.isfinite(amax).all():
        where = "" if axis is None else f" (channel {int(np.argmin(np.isfinite(amax)))} of axis {axis})"
        raise ModelError(f"weight {name!r} has NaN or infinity{where}; it cannot be quantised: keep its operator")
    least, _ = _normal(data_type)
    exact = np.where(amax > 0, amax.astype(np.float64), 1.0) / LARGEST[form]
    scale = np.asarray(np.maximum(exact, least)).astype(data_type)
    shape = () if axis is None else tuple(-1 if i == axis else 1 for i in range(array.ndim))
    steps = wide / scale.astype(np.float32).reshape(shape)
    if form == "int8":
        return np.ascontiguousarray(np.clip(np.rint(steps), -127, 127).astype(np.int8)), scale
    return np.ascontiguousarray(np.clip(steps, -448, 448).astype(numpy_dtype(ELEMENT["fp8"]))), scale


def _normal(dtype: np.dtype[Any]) -> tuple[float, float]:
    """The smallest normal and the largest number of a floating-point type."""
    if dtype.kind == "f":
        info = np.finfo(dtype)
        return float(info.tiny), float(info.max)
    import ml_dtypes

    other: Any = ml_dtypes.finfo(dtype)  # type: ignore[no-untyped-call]
    return float(other.tiny), float(other.max)
