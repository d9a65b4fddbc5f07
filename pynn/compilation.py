"""``pynn.compile``: a model file, its bytes, or a graph, straight to an executable. Engines built ahead and loaded."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from .backends.base import CompileOptions, Executable, ShapeRange
from .backends.selection import check_wish, refusal_message, select, warn_fallback
from .converter.model import OnnxModel
from .errors import ValidationError
from .graph import Graph
from .ml import BackendName, PowerPreference

if TYPE_CHECKING:
    import onnx

    Model = str | os.PathLike[str] | bytes | onnx.ModelProto | Graph | OnnxModel

Shapes = Mapping[str, ShapeRange | Sequence[ShapeRange]]


def compile(  # noqa: A001  (pynn.compile is the name users call)
    model: Model,
    *,
    backend: BackendName = "auto",
    shapes: Shapes | None = None,
    device: int = 0,
    power_preference: PowerPreference = "default",
    accelerated: bool = True,
    tensorrt_library: str | os.PathLike[str] | None = None,
    cuda_graph: bool = True,
    tf32: bool | None = None,
    optimization_level: int | None = None,
    workspace_bytes: int | None = None,
) -> Executable:
    """Compile ``model`` for the best back end; ``run`` the result on numpy arrays by input name.

    ``model`` is the path or the bytes of an ONNX file, a ``ModelProto``, a Graph or an OnnxModel. ``shapes`` gives
    sizes to dynamic dimensions, by input name or by symbol: a number or (min, opt, max). The other arguments are those
    of ``ML.create_context``. A fallback that was not asked for is one FallbackWarning; ``executable.report`` says why.

    Raises ValidationError for bad arguments, ModelError when the model is not valid ONNX, UnsupportedModelError when no
    back end takes it, BackendUnavailableError when there is no back end, OSError when the file cannot be read.
    """
    wish = check_wish(backend, power_preference, accelerated, device, tensorrt_library)
    source = load_model(model)
    options = CompileOptions(dict(shapes or {}), device, cuda_graph, optimization_level, workspace_bytes, tf32)
    selection = select(wish)
    executable = selection.compile(source, options)
    report = executable.report
    message = selection.fallback_message or (refusal_message(report) if report is not None else None)
    if message is not None:
        warn_fallback(message)
    return executable


def load_engine(
    path: str | os.PathLike[str],
    *,
    device: int = 0,
    tensorrt_library: str | os.PathLike[str] | None = None,
    cuda_graph: bool = True,
) -> Executable:
    raise NotImplementedError


def build_engine() -> None:
    raise NotImplementedError


def load_model(model: object) -> Graph | OnnxModel:
    """Any form of model as a Graph or an OnnxModel. Raises ValidationError for another type."""
    if isinstance(model, (Graph, OnnxModel)):
        return model
    if isinstance(model, (str, os.PathLike, bytes, bytearray, memoryview)) or hasattr(model, "SerializeToString"):
        return OnnxModel.load(model)  # type: ignore[arg-type]
    raise ValidationError(f"expected a path, bytes, a ModelProto, a Graph or an OnnxModel, got {type(model).__name__}")
