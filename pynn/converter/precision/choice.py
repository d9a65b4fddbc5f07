"""Precision: what a user asked for, checked. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from ...errors import ValidationError

if TYPE_CHECKING:
    from .table import CalibrationTable

PrecisionName = Literal["fp32", "tf32", "fp16", "bf16", "fp8", "int8", "int4", "fp4", "auto"]
PRECISIONS = ("fp32", "tf32", "fp16", "bf16", "fp8", "int8", "int4", "fp4", "auto")
METHODS = ("rtn", "hqq", "gptq")


@dataclass(frozen=True)
class Precision:
    """In what types a model computes. ``name`` None: in those that the model has.

    ``keep`` names operators that stay as they are: an ONNX node's name, a WebNN label, or an operator type. ``io`` also
    changes the types of inputs and outputs. ``block`` is the number of weights that share a scale (int4, fp4).
    ``method`` is how weights are rounded: "rtn" to nearest, "hqq" with the scale of least error, "gptq" with regard to
    ``activations``: inputs ``[..., K]`` of the products, by the product's name or label or by the input's ONNX name.
    ``calibration`` holds the ranges of activations (int8, fp8).
    """

    name: PrecisionName | None = None
    keep: tuple[str, ...] = ()
    io: bool = False
    block: int = 128
    method: str = "rtn"
    calibration: CalibrationTable | None = None
    activations: Mapping[str, Any] | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.name is not None and self.name not in PRECISIONS:
            known = ", ".join(map(repr, PRECISIONS))
            raise ValidationError(f"precision must be one of {known}; got {self.name!r}")
        if self.method not in METHODS:
            raise ValidationError(f"precision method must be one of {METHODS}; got {self.method!r}")
        if isinstance(self.keep, str) or not all(isinstance(name, str) for name in self.keep):
            raise ValidationError(f"precision keep must be a tuple of names, as ('Softmax',); got {self.keep!r}")
        object.__setattr__(self, "keep", tuple(self.keep))
        if not isinstance(self.io, bool):
            raise ValidationError(f"precision io must be True or False, got {self.io!r}")
        if self.calibration is not None:
            self._check_calibration()
        if self.activations is not None and not isinstance(self.activations, Mapping):
            raise ValidationError(
                f"precision activations must map products' names to their inputs [..., K]; got {self.activations!r}"
            )

    def _check_calibration(self) -> None:
        from .table import CalibrationTable

        if not isinstance(self.calibration, CalibrationTable):
            raise ValidationError(
                "precision calibration must be a pynn.CalibrationTable (CalibrationTable.load reads one from a file); "
                f"got {self.calibration!r}"
            )


AS_GIVEN = Precision()


def parse_precision(value: object) -> Precision:
    """A name, a Precision or None as a Precision. Raises ValidationError."""
    if value is None:
        return AS_GIVEN
    if isinstance(value, Precision):
        return value
    if isinstance(value, str):
        return Precision(value)  # type: ignore[arg-type]
    raise ValidationError(f"precision must be a name or a pynn.Precision, got {value!r}")
