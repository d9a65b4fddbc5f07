"""``pynn.calibrate``: the ranges of a model's activations over a user's data."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..backends.ort import OrtBackend
from ..compilation import load_model
from ..converter.convert import lower_graph
from ..converter.import_model import import_model
from ..converter.model import OnnxModel, TensorSpec
from ..converter.onnx_graph import OnnxGraph
from ..converter.passes import Pass, backend_passes
from ..converter.precision.digest import model_digest
from ..converter.precision.qdq import check_unquantized
from ..converter.precision.quantizable import FLOATS, calibration_points, fold_moved_weights, smooth_points
from ..converter.precision.scales import LARGEST, QuantizedForm
from ..converter.precision.table import CalibrationTable, check_smooth
from ..converter.serialize import to_model
from ..errors import BackendUnavailableError, InputError, ValidationError
from ..graph import Graph
from .activations import Activations
from .dataset import chain, samples
from .histogram import Histogram
from .state import State, start
from .thresholds import METHODS, Method, threshold

if TYPE_CHECKING:
    from ..compilation import Model

Array = np.ndarray[Any, Any]
Progress = Callable[[int, "int | None"], object]

_SAVE_SECONDS = 10.0


@dataclass(frozen=True)
class _Settings:
    method: Method
    percentile: float
    form: QuantizedForm
    smooth: float | None


def calibrate(
    model: Model,
    dataset: Iterable[Mapping[str, Array]] | Iterable[Array],
    *,
    method: Method = "minmax",
    percentile: float = 99.99,
    form: QuantizedForm = "int8",
    smooth: float | None = None,
    limit: int | None = None,
    tensors: Sequence[str] | None = None,
    resume: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    memory_bytes: int = 1 << 28,
) -> CalibrationTable:
    """Run the float model on ONNX Runtime's CPU over ``dataset`` and see how large its activations get.

    ``model`` is a path, bytes, a ModelProto, a Graph or an OnnxModel; ``dataset`` an iterable of samples, read once, at
    most ``limit`` of them. A sample maps input names to arrays, or is the array of the only input.

    ``method``: "minmax" keeps every magnitude, "percentile" the given per cent of them, "entropy" what preserves the
    distribution in int8, "mse" what has the least square error in ``form``. ``smooth`` (0 to 1) prepares SmoothQuant of
    that strength. ``tensors`` names values of the ONNX graph instead of those that quantisation needs.

    ``resume`` is a file that keeps what was seen, written now and then and when the run ends in any way: the same call
    again goes on from there, with more data or another method. ``progress`` is called with the number of samples done
    and their total (None if unknown); what it raises ends the run. ``memory_bytes`` limits the activations held at a
    time, at the price of more runs.

    Raises ValidationError (InputError with ``tensor``) for bad arguments, an empty dataset, samples of wrong names,
    dtypes or shapes, with NaN or infinity; UnsupportedModelError for a model with quantised activations; ModelError for
    what is no model, ExecutionError when ONNX Runtime fails, BackendUnavailableError without it.
    """
    settings = _check(method, percentile, form, smooth, limit, memory_bytes)
    backend = _onnxruntime()
    source = load_model(model)
    passes = _passes_for(source, backend.version())
    graph = source_graph(source)
    digest = model_digest(source)
    check_unquantized(graph, "calibration takes the float model")
    fold_moved_weights(graph)
    names = _wanted(graph, tensors)
    smoothed = smooth_points(graph) if smooth is not None else []
    state = start(resume, digest, names, smoothed)
    begun = saved = time.monotonic()
    total = _length(dataset, limit)
    with Activations(graph, names, backend, passes, memory_bytes) as activations:
        try:
            where = "" if resume is None else os.fspath(resume)
            for state in _seen(activations, to_model(graph).inputs, dataset, state, limit, where):  # noqa: B020
                if progress is not None:
                    progress(state.samples, total)
                if resume is not None and time.monotonic() - saved > _SAVE_SECONDS:
                    state.save(resume)
                    saved = time.monotonic()
        finally:
            if resume is not None and state.samples:
                state.save(resume)
    return _table(graph, state, settings, backend.version(), time.monotonic() - begun)


def _check(
    method: object, percentile: object, form: object, smooth: object, limit: object, memory_bytes: object
) -> _Settings:
    if method not in METHODS:
        raise ValidationError(f"method must be one of {', '.join(map(repr, METHODS))}; got {method!r}")
    if isinstance(percentile, bool) or not isinstance(percentile, (int, float)) or not 0 < percentile <= 100:
        raise ValidationError(f"percentile must be a number above 0 and at most 100, got {percentile!r}")
    if form not in LARGEST:
        raise ValidationError(f"form must be 'int8' or 'fp8', got {form!r}")
    if method == "entropy" and form == "fp8":
        raise ValidationError("method 'entropy' counts the 128 levels of int8; take 'minmax' or 'mse' for fp8")
    if smooth is not None:
        check_smooth(smooth)
    for name, value in (("limit", limit), ("memory_bytes", memory_bytes)):
        if value is not None and (type(value) is not int or value < 1):
            raise ValidationError(f"{name} must be a positive integer, got {value!r}")
    return _Settings(method, float(percentile), form, smooth)  # type: ignore[arg-type]


def _onnxruntime() -> OrtBackend:
    backend = OrtBackend(use_gpu=False)
    probe = backend.probe()[-1]
    if not probe.usable:
        raise BackendUnavailableError(f"calibration runs the model on ONNX Runtime: {probe.reason}; {probe.hint}")
    return backend


def _passes_for(source: Graph | OnnxModel, version: str) -> tuple[Pass, ...]:
    """What ONNX Runtime needs rewritten. Files run as they are; passes know sizes, which named dimensions have not."""
    if isinstance(source, OnnxModel) or source.dimensions:
        return ()
    return backend_passes("onnxruntime", version)


def source_graph(model: Model) -> OnnxGraph:
    """``model`` as the graph whose values a CalibrationTable names."""
    source = load_model(model)
    return import_model(source) if isinstance(source, OnnxModel) else lower_graph(source)


def _wanted(graph: OnnxGraph, tensors: Sequence[str] | None) -> list[str]:
    """The values to look at. Raises ValidationError for unknown names and for a model without any."""
    if tensors is None:
        points = calibration_points(graph)
        if not points:
            raise ValidationError(
                "the model has no convolution or matrix product with constant weights in floating point: there is "
                "nothing to quantise; tensors=[...] names other values"
            )
        return points
    floats = {name for name, tensor in graph.values.items() if tensor.data_type in FLOATS} - graph.initializers.keys()
    unknown = [name for name in tensors if name not in floats]
    if unknown or not tensors:
        known = ", ".join(map(repr, sorted(floats)[:5]))
        raise ValidationError(
            f"tensors names {', '.join(map(repr, unknown)) or 'nothing'}; floating-point values of the model are "
            f"wanted, such as {known}"
        )
    return list(dict.fromkeys(tensors))


def _seen(
    activations: Activations,
    inputs: tuple[TensorSpec, ...],
    dataset: object,
    state: State,
    limit: int | None,
    where: str,
) -> Iterator[State]:
    """The state after each sample that ``state`` has not seen; the ones it has must be the same. ``where`` is the
    state's file, "" if none is kept."""
    digest, number, before = "", 0, state.samples
    for sample in samples(dataset, inputs, activations.check, limit):
        number += 1
        digest = chain(digest, sample) if where else ""
        if number > before:
            state = state.with_sample(_observed(activations, sample, number - 1, state), digest)
            yield state
        elif number == before and digest != state.digest:
            raise ValidationError(f"{where} has seen other data: its first {number} samples differ from these")
    if not number:
        raise ValidationError("the calibration dataset is empty: give at least one sample; 100 to 500 are usual")
    if number < before:
        raise ValidationError(
            f"{where} has seen {before} samples, this dataset has {number}; name another file for less data"
        )


def _observed(activations: Activations, sample: Mapping[str, Array], number: int, state: State) -> dict[str, Histogram]:
    found = {name: Histogram() for name in state.histograms}
    for name, array in activations.run(sample):
        if not found[name].observe(array, per_channel=name in state.smooth):
            raise InputError(
                f"calibration sample {number} makes NaN or infinity in {name!r}: the float model overflows on it; look "
                "at the sample, or drop it",
                tensor=name,
            )
    return found


def _length(dataset: object, limit: int | None) -> int | None:
    """The number of samples to come, None if the dataset does not say."""
    try:
        known = len(dataset)  # type: ignore[arg-type]
    except TypeError:
        return limit
    return known if limit is None else min(known, limit)


def _table(graph: OnnxGraph, state: State, settings: _Settings, version: str, seconds: float) -> CalibrationTable:
    """The ranges by the method, and how they were found."""
    amax = {
        name: threshold(one, settings.method, settings.percentile, settings.form)
        for name, one in state.histograms.items()
    }
    notes = [f"{name!r} was all zero in every sample" for name, one in state.histograms.items() if not one.amax]
    narrow = {graph.values[name].data_type for name in state.histograms} - {"float32"}
    notes += [f"the model computes in {data_type}: its ranges are of values rounded so" for data_type in sorted(narrow)]
    details: dict[str, Any] = {
        "method": settings.method,
        "form": settings.form,
        "samples": state.samples,
        "onnxruntime": version,
        "seconds": round(seconds, 3),
        "notes": notes,
    }
    if state.digest:
        details["data"] = state.digest
    if settings.method == "percentile":
        details["percentile"] = settings.percentile
    channels = {
        name: tuple(state.histograms[name].channels.tolist())  # type: ignore[union-attr]
        for name in state.smooth
        if state.histograms[name].channels is not None
    }
    return CalibrationTable(state.model, amax, details, channels, settings.smooth)
