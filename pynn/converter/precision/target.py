"""What a model's precision is for: a library and GPUs, and what these can do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...errors import FeatureNotSupportedError, ValidationError
from .choice import Precision

_LEAST = {"bf16": 80, "int4": 80, "fp8": 89, "fp4": 100}
"""The least compute capability by precision; fp4 in TensorRT for RTX: 120."""


@dataclass(frozen=True)
class Target:
    """``backend`` "tensorrt" or "onnxruntime"; "" is a file for anybody. ``flavor`` is "RTX" or "TENSORRT",
    ``capabilities`` are compute capabilities as 86."""

    backend: str = ""
    flavor: str = ""
    version: str = ""
    capabilities: tuple[int, ...] = ()

    @classmethod
    def of_probe(cls, backend: str, details: Mapping[str, Any]) -> Target:
        """From the ``details`` of a usable probe."""
        text = str(details.get("compute_capability", ""))
        capability = int(text.replace(".", "")) if text else 0
        return cls(
            backend,
            str(details.get("flavor", "")),
            str(details.get("version", "")),
            (capability,) if capability else (),
        )

    @property
    def is_rtx(self) -> bool:
        return self.backend == "tensorrt" and self.flavor != "TENSORRT"

    @property
    def wants_one_fp8_scale(self) -> bool:
        """TensorRT for RTX (1.6.1, on an H200) gives infinity for float16 products of fp8 operands where the weight has
        a scale per channel; with one scale, or in float32, it is right. For convolutions one scale was never tried."""
        return self.is_rtx

    def __str__(self) -> str:
        if self.backend == "tensorrt":
            title = "TensorRT for RTX" if self.is_rtx else "TensorRT"
            gpus = ", ".join(f"{one // 10}.{one % 10}" for one in self.capabilities)
            return f"{title} {self.version}".rstrip() + (f" on compute capability {gpus}" if gpus else "")
        return f"ONNX Runtime {self.version}".rstrip() if self.backend == "onnxruntime" else "any library"

    def refusal(self, name: str) -> str:
        """Why this target cannot do the precision, in one sentence; "" if it can."""
        if self.backend == "onnxruntime" and name == "fp4":
            return "ONNX Runtime (to 1.32) has no kernel that dequantises fp4 on the CPU"
        if self.backend != "tensorrt":
            return ""
        least = 120 if name == "fp4" and self.is_rtx else _LEAST.get(name, 0)
        old = [one for one in self.capabilities if one < least]
        if old:
            gpus = ", ".join(f"{one // 10}.{one % 10}" for one in old)
            return f"{name} needs compute capability {least // 10}.{least % 10}, this is {gpus}"
        return ""

    def possible(self) -> tuple[str, ...]:
        """The names that this target can do."""
        names = ("fp32", "tf32", "fp16", "bf16", "fp8", "int8", "int4", "fp4")
        return tuple(name for name in names if not self.refusal(name))


ANY = Target()


def resolve(precision: Precision, target: Target) -> str | None:
    """The name of what is done: "auto" decided, None for the types of the model.

    "auto": int8 where it is calibrated and the library takes int8 activations, else fp16 on TensorRT; elsewhere the
    types of the model. Raises FeatureNotSupportedError naming what the target can do.
    """
    if precision.name == "auto":
        if target.backend != "tensorrt":
            return None
        return "int8" if precision.calibration is not None and not target.is_rtx else "fp16"
    if precision.name is None:
        if precision.keep or precision.io:
            raise ValidationError("a Precision with keep or io needs a name, as pynn.Precision('fp16', keep=...)")
        return None
    why = target.refusal(precision.name)
    if not why and precision.name == "int8" and precision.calibration is not None and target.is_rtx:
        why = (
            "its int8 products overflow to infinity in float16 and its int8 convolutions do not build (measured with "
            "1.6.1); without a calibration, int8 stores weights in 8 bits there"
        )
    if why:
        raise FeatureNotSupportedError(
            f"precision={precision.name!r} cannot be used with {target}: {why}. It can do "
            f"{', '.join(target.possible())}; precision='auto' takes the best of them"
        )
    return precision.name
