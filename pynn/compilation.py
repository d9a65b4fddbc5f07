"""``pynn.compile``: a model file, its bytes, or a graph, straight to an executable. Engines built ahead and loaded."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from typing_extensions import Unpack

from .backends.base import CompileOptions, Executable
from .backends.cuda_ahead import cuda_ahead
from .backends.named_sizes import settle_sizes
from .backends.report import BackendReport
from .backends.selection import Selection, Wish, refusal_message, select, warn_fallback
from .converter.model import OnnxModel
from .converter.passes import backend_passes
from .converter.precision import Target, apply_precision
from .converter.unread import UnreadModel
from .errors import ValidationError
from .graph import Graph
from .options import EngineOptions, Options, RunOptions, Shapes, parse_options

if TYPE_CHECKING:
    import onnx

    from .backends.engine_file import EngineFile

    Model = str | os.PathLike[str] | bytes | onnx.ModelProto | Graph | OnnxModel


def compile(  # noqa: A001  (pynn.compile is the name users call)
    model: Model, *, shapes: Shapes | None = None, **options: Unpack[Options]
) -> Executable:
    """Compile ``model`` for the best back end; ``run`` the result on numpy arrays by input name.

    ``model`` is the path or the bytes of an ONNX file, a ``ModelProto``, a Graph or an OnnxModel. ``shapes`` gives
    sizes to dynamic dimensions, by input name or by symbol: a number or (min, opt, max); a list of such mappings is
    several optimisation profiles. ``pynn.options.Options`` describes the other arguments. A fallback that was not asked
    for is one FallbackWarning; ``executable.report`` says why.

    Raises ValidationError for bad arguments, ModelError when the model is not valid ONNX, UnsupportedModelError when no
    back end takes it, BackendUnavailableError when there is no back end, OSError when the file cannot be read.
    """
    wish, compile_options = parse_options("compile", options, shapes)
    with cuda_ahead(wish.device if wish.may_use_gpu else None):
        source = _open_model(model) if wish.may_use_gpu and wish.cache else load_model(model)
        selection = _select(wish, source)
        executable = selection.compile(source, compile_options)
    report = executable.report
    message = selection.fallback_message or (refusal_message(report) if report is not None else None)
    if message is not None:
        warn_fallback(message)
    return executable


def _open_model(model: Model) -> Graph | OnnxModel:
    """A file is not parsed yet: its engine may be in the cache. Raises ValidationError, OSError."""
    return UnreadModel.open(model) if isinstance(model, (str, os.PathLike, bytes)) else load_model(model)


def _select(wish: Wish, source: Graph | OnnxModel) -> Selection:
    """Only TensorRT's engines are in the cache; otherwise what is wrong with the model is said now, and first."""
    selection = None
    try:
        selection = select(wish)
    finally:
        if isinstance(source, OnnxModel) and (selection is None or selection.best.name != "tensorrt"):
            source.read()
    return selection


def build_engine(
    model: Model,
    path: str | os.PathLike[str] | None = None,
    *,
    compute_capabilities: Sequence[int | str | tuple[int, int]] | None = None,
    shapes: Shapes | None = None,
    **options: Unpack[EngineOptions],
) -> EngineFile:
    """Build a TensorRT engine for later, and write it to ``path`` if one is given. Needs no GPU (TensorRT for RTX).

    ``compute_capabilities`` names the GPUs, as "8.6", (8, 6) or 86; by default common ones.
    ``pynn.options.EngineOptions`` describes the other arguments.

    Raises ValidationError for bad arguments, ModelError when the model is not valid ONNX, UnsupportedModelError (with
    ``node``, ``op_type`` and the library's ``log``) when TensorRT refuses it, EngineBuildError, BuildCrashedError,
    BuildCancelledError, BuildDeadlineError, LibraryNotFoundError without a TensorRT, FeatureNotSupportedError where it
    builds for its own GPU only, OSError where ``path`` cannot be written.
    """
    from .backends.trt import DEFAULT_CAPABILITIES, build_plan, open_library

    targets = [parse_capability(target) for target in compute_capabilities or DEFAULT_CAPABILITIES]
    if path is not None and not Path(path).absolute().parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "the directory for the engine does not exist", str(Path(path).parent))
    wish, compile_options = parse_options("build_engine", options, shapes)
    source = load_model(model)
    with open_library(wish.tensorrt_library, tf32=bool(compile_options.tf32)) as library:
        if isinstance(source, Graph):
            source, compile_options = settle_sizes(source, compile_options)
        info = library.info
        target = Target("tensorrt", info.flavor.name, info.version, tuple(targets))
        passes = backend_passes("tensorrt", info.version)
        source = apply_precision(source, compile_options.precision, target, passes)
        engine = build_plan(source, library, compile_options, targets)
    if path is not None:
        engine.save(path)
    return engine


def load_engine(
    source: str | os.PathLike[str] | bytes | EngineFile,
    *,
    tensorrt_library: str | os.PathLike[str] | None = None,
    weights: Model | None = None,
    **options: Unpack[RunOptions],
) -> Executable:
    """An engine of ``build_engine`` (or a plan of TensorRT's own tools) ready to run.

    An engine built with ``refit=True`` has no weights: ``weights`` is the model that it was built from, or one that
    differs in float weights only, in the precision that the engine computes in.
    ``pynn.options.RunOptions`` describes the other arguments. Raises PlanError for a file that is truncated, damaged,
    or of another library, version or GPU, DeviceUnsupportedError without a GPU, LibraryNotFoundError without a
    TensorRT, OSError when the file cannot be read.
    """
    from .backends.trt import EngineFile, load_engine

    wish, compile_options = parse_options("load_engine", options)
    with cuda_ahead(wish.device):
        file = source if isinstance(source, EngineFile) else EngineFile.load(source)
        model = None if weights is None else _weights_for(file, weights, compile_options)
        executable = load_engine(
            file, library_dir=tensorrt_library, device=wish.device, options=compile_options, weights=model
        )
    executable.report = BackendReport("tensorrt", "default", True, "tensorrt", f"the engine was {file.provenance}")
    return executable


def _weights_for(file: EngineFile, weights: Model, options: CompileOptions) -> OnnxModel:
    """The model as ``build_engine`` makes one for that library: weights have the same names then."""
    source = load_model(weights)
    if isinstance(source, Graph):
        source, options = settle_sizes(source, options)
    target = Target("tensorrt", file.flavor, file.version, file.compute_capabilities)
    return apply_precision(source, options.precision, target, backend_passes("tensorrt", file.version))


def parse_capability(value: object) -> int:
    """``"8.6"``, ``(8, 6)`` and 86 are 86. Raises ValidationError."""
    number: object = value
    if isinstance(value, str):
        major, dot, minor = value.partition(".")
        if dot and major.isdecimal() and minor.isdecimal() and len(minor) == 1:
            number = int(major) * 10 + int(minor)
    elif isinstance(value, tuple) and len(value) == 2 and all(type(part) is int and part >= 0 for part in value):
        number = value[0] * 10 + value[1]
    if type(number) is not int or not 50 <= number < 1000:
        raise ValidationError(f"{value!r} is not a compute capability such as '8.6', (8, 6) or 86")
    return number


def load_model(model: object) -> Graph | OnnxModel:
    """Any form of model as a Graph or an OnnxModel. Raises ValidationError for another type."""
    if isinstance(model, (Graph, OnnxModel)):
        return model
    if isinstance(model, (str, os.PathLike, bytes, bytearray, memoryview)) or hasattr(model, "SerializeToString"):
        return OnnxModel.load(model)  # type: ignore[arg-type]
    raise ValidationError(f"expected a path, bytes, a ModelProto, a Graph or an OnnxModel, got {type(model).__name__}")
