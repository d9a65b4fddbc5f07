"""``pynn.explain_precision``: what each operator of a model would compute in, without compiling it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from .compilation import load_model, parse_capability
from .converter.model import OnnxModel
from .converter.precision import Precision, PrecisionReport, Target, apply_precision, parse_precision
from .converter.precision.plan import explain_given
from .errors import ValidationError

if TYPE_CHECKING:
    from .compilation import Model
    from .converter.precision.choice import PrecisionName

BACKENDS = ("tensorrt", "tensorrt-rtx", "onnxruntime", "")


def explain_precision(
    model: Model,
    precision: PrecisionName | Precision | None = None,
    *,
    backend: Literal["tensorrt", "tensorrt-rtx", "onnxruntime", ""] = "tensorrt-rtx",
    compute_capability: int | str | tuple[int, int] | None = None,
) -> PrecisionReport:
    """What each operator of ``model`` computes in and why, with ``precision`` or (None) as the model is. Print it.

    ``backend`` names the library that it is for ("" is any), ``compute_capability`` the GPU ("8.6", (8, 6) or 86; None
    is any). Neither needs to be here.

    Raises ValidationError for bad arguments and unknown names in ``keep``, FeatureNotSupportedError for a precision
    that the library or the GPU cannot do, ModelError when the model is not valid ONNX, OSError when it is unreadable.
    """
    return convert_precision(model, precision, backend=backend, compute_capability=compute_capability)[1]


def convert_precision(
    model: Model,
    precision: PrecisionName | Precision | None = None,
    *,
    backend: Literal["tensorrt", "tensorrt-rtx", "onnxruntime", ""] = "",
    compute_capability: int | str | tuple[int, int] | None = None,
) -> tuple[OnnxModel, PrecisionReport]:
    """``model`` as an ONNX model that computes in ``precision``, and what ``explain_precision`` says of it."""
    if backend not in BACKENDS:
        raise ValidationError(f"backend must be one of {', '.join(map(repr, BACKENDS))}, got {backend!r}")
    wanted = parse_precision(precision)
    capabilities = () if compute_capability is None else (parse_capability(compute_capability),)
    name, _, flavor = backend.partition("-")
    target = Target(name, flavor.upper() or ("TENSORRT" if name == "tensorrt" else ""), "", capabilities)
    made = apply_precision(load_model(model), wanted, target)
    report = made.precision
    assert report is not None
    return made, report if report.decisions else explain_given(made, report)
