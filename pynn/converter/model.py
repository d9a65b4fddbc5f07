"""OnnxModel: ONNX bytes, the weights they refer to, and what goes in and out."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ModelError

if TYPE_CHECKING:
    import onnx

    from .passes import PassRecord
    from .precision.report import PrecisionReport

WEIGHTS_LOCATION = "pynn-weights"
"""External-data location of initializers that live in ``OnnxModel.weights``, not in a file."""


def onnx_memory(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """``array`` as ONNX lays it out: contiguous, and 4-bit types two to a byte, the first in the low half."""
    if array.dtype.name not in ("int4", "uint4", "float4_e2m1fn"):
        return np.ascontiguousarray(array)
    nibbles = np.ascontiguousarray(array).reshape(-1).view(np.uint8) & 0xF
    packed: np.ndarray[Any, Any] = nibbles[0::2].copy()
    packed[: nibbles.size // 2] |= nibbles[1::2] << 4
    return packed


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output of a model.

    ``name`` is the user's; ``onnx_name`` what the ONNX graph calls it. ``data_type`` is the user's ONNX element type
    ("float32", "bool", "bfloat16", ...); ``carrier`` is the type inside the ONNX graph where a pass changed it. A
    dimension is a number, a symbol, or None if unknown.
    """

    name: str
    onnx_name: str
    data_type: str
    shape: tuple[int | str | None, ...]
    carrier: str = ""

    @property
    def is_static(self) -> bool:
        return all(isinstance(dim, int) for dim in self.shape)

    @property
    def numpy(self) -> np.dtype[Any]:
        return numpy_dtype(self.data_type)

    def __str__(self) -> str:
        dims = ", ".join("?" if dim is None else str(dim) for dim in self.shape)
        return f"{self.name}: {self.data_type}[{dims}]"


_ML_DTYPES = {
    "float4e2m1": "float4_e2m1fn",
    "float8e4m3fn": "float8_e4m3fn",
    "float8e4m3fnuz": "float8_e4m3fnuz",
    "float8e5m2": "float8_e5m2",
    "float8e5m2fnuz": "float8_e5m2fnuz",
    "float8e8m0": "float8_e8m0fnu",
}
"""Names of ``ml_dtypes`` where they differ from ONNX's."""

_ELEMENT_NAMES = {name: data_type for data_type, name in _ML_DTYPES.items()}


def element_name(dtype: np.dtype[Any]) -> str:
    """ONNX's name of a numpy dtype: "float32", "bfloat16", "float8e4m3fn"; ``numpy_dtype`` turned round."""
    return "string" if dtype.kind == "O" else _ELEMENT_NAMES.get(dtype.name, dtype.name)


def numpy_dtype(data_type: str) -> np.dtype[Any]:
    """numpy's dtype of an ONNX element type; bfloat16, 8-bit floats and 4-bit types come from ``ml_dtypes``.

    Raises ModelError for a type that has none.
    """
    if data_type == "string":
        return np.dtype(object)
    try:
        return np.dtype(data_type)
    except TypeError:
        import ml_dtypes

        found = getattr(ml_dtypes, _ML_DTYPES.get(data_type, data_type), None)
        if found is None:
            raise ModelError(f"element type {data_type} has no numpy dtype here") from None
        dtype: np.dtype[Any] = np.dtype(found)
        return dtype


def is_engine(start: bytes) -> bool:
    """Whether a file that begins so is an engine of pynn's or a plan of TensorRT's, and no model."""
    return start.startswith(b"\x89PYNNE") or start[1:4] == b"trt"


@dataclass(frozen=True, eq=False)
class OnnxModel:
    """An ONNX model ready for a back end.

    ``proto`` is the serialized ModelProto. Large initializers of converted graphs are not inside: they are external
    data with location ``pynn-weights``, found in ``weights`` by name, so that no back end copies them more than once.
    ``path`` is where a model file came from (its own external data is beside it). ``rewrites`` is what passes changed,
    ``notes`` what they had to leave, ``precision`` what the operators compute in where a precision was asked for.
    """

    proto: bytes
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    weights: Mapping[str, np.ndarray[Any, Any]] = field(default_factory=dict)
    path: Path | None = None
    rewrites: tuple[PassRecord, ...] = ()
    precision: PrecisionReport | None = None
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        size = len(self.proto) + sum(w.nbytes for w in self.weights.values())
        sides = " -> ".join("(" + ", ".join(map(str, side)) + ")" for side in (self.inputs, self.outputs))
        return f"<OnnxModel {sides}, {size:,} bytes>"

    @classmethod
    def load(cls, source: str | os.PathLike[str] | bytes | onnx.ModelProto) -> OnnxModel:
        """Read a model file, bytes or a ModelProto. Raises ModelError if it is not ONNX, OSError if unreadable."""
        from .serialize import read_model

        return read_model(source)

    def read(self) -> OnnxModel:
        """The model with its inputs and outputs known. Raises ModelError for one that turns out not to be ONNX."""
        return self

    def with_precision(self, report: PrecisionReport) -> OnnxModel:
        return replace(self, precision=report)

    def to_proto(self) -> onnx.ModelProto:
        """The whole model as a ModelProto with all weights inside (at most 2 GB)."""
        from .serialize import inline_weights

        return inline_weights(self)

    def to_bytes(self) -> bytes:
        """The whole model as one byte string. Raises ModelError above protobuf's 2 GB limit: use ``save``."""
        from .serialize import PROTOBUF_LIMIT

        if len(self.proto) + sum(w.nbytes for w in self.weights.values()) >= PROTOBUF_LIMIT:
            raise ModelError("the model exceeds protobuf's limit of 2 GB; save() writes its weights to a second file")
        return self.proto if not self.weights else self.to_proto().SerializeToString()

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write an ``.onnx`` file; weights go to ``NAME.data`` beside it when they exceed protobuf's limit."""
        from .serialize import write_model

        return write_model(self, Path(path))
