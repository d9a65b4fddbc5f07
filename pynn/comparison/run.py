"""``pynn.compare``: what a precision costs in accuracy, and which operators to leave out of it."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..backends.base import CompileOptions, Executable
from ..backends.named_sizes import settle_sizes
from ..backends.ort import OrtBackend
from ..backends.report import TITLES
from ..backends.samples import random_inputs
from ..backends.selection import Selection, select
from ..compilation import load_model
from ..converter.convert import to_onnx
from ..converter.model import OnnxModel
from ..converter.onnx_graph import OnnxGraph
from ..converter.passes import Pass, backend_passes, run_passes
from ..converter.precision import Precision, PrecisionPlan, PrecisionReport, Target, parse_precision, precision_passes
from ..converter.precision.autocast_passes import emulate_bfloat16, emulate_float16
from ..converter.precision.opset import raise_opset
from ..converter.precision.qdq import check_unquantized
from ..converter.serialize import to_model
from ..errors import BackendUnavailableError, PynnError, ValidationError
from ..graph import Graph
from ..options import BackendName, Shapes, parse_options
from ..quantization.calibrate import source_graph
from ..quantization.dataset import samples as checked_samples
from .emulation import emulate_float4
from .measures import Deviation, deviation, worst
from .operators import judge, suggest
from .report import AutoKeep, Comparison, OperatorError
from .search import search
from .shadow import FLOATS, Shadow

if TYPE_CHECKING:
    from ..compilation import Model
    from ..converter.precision.choice import PrecisionName

Array = np.ndarray[Any, Any]
Sample = Mapping[str, Array]
Metric = Literal["relative", "cosine"]

_ROUNDED = (
    "per operator, and on ONNX Runtime: float16 and bfloat16 are computed in float32 and rounded after each operator, "
    "as a GPU does that keeps sums in float32; ONNX Runtime by itself leaves roundings out"
)


def compare(
    model: Model,
    precision: PrecisionName | Precision,
    *,
    against: Literal["fp32"] = "fp32",
    inputs: Sample | Iterable[Sample] | Iterable[Array] | None = None,
    shapes: Shapes | None = None,
    samples: int = 4,
    limit: int = 100,
    seed: int = 0,
    operators: int | None = None,
    auto_keep: float | None = None,
    metric: Metric = "relative",
    evaluations: int = 40,
    memory_bytes: int = 1 << 28,
    progress: Callable[[str], object] | None = None,
    backend: BackendName = "auto",
    accelerated: bool = True,
    device: int = 0,
    tensorrt_library: str | os.PathLike[str] | None = None,
    cache: bool = True,
) -> Comparison:
    """What ``precision`` costs in accuracy against the float32 model on ONNX Runtime's CPU.

    ``model`` is what ``pynn.compile`` takes, in float32. ``inputs``: a mapping of names to arrays, or a dataset of
    such, as ``pynn.calibrate`` takes, of which the first ``limit`` are held in memory; without, ``samples`` times
    standard normal floats and integers 0 or 1 from ``seed``, of sizes by ``shapes``. The whole model runs on what
    ``pynn.compile`` chooses by ``backend``, ``accelerated``, ``device``, ``tensorrt_library`` and ``cache``.

    Operators are judged on ONNX Runtime's CPU in parts whose results take about ``memory_bytes``. ``operators`` limits
    how many of the worst are in the result; 0 judges none.

    ``auto_keep`` is a tolerance: the smallest keep-list is searched with which the worst ``metric`` of all samples and
    outputs meets it ("relative": at most; "cosine": at least), compiling at most ``evaluations`` times. ``progress`` is
    called with a line of text now and then; what it raises ends the run.

    Raises ValidationError (InputError with ``tensor``) for bad arguments and arrays, for a model without float32 and
    for unknown names in ``keep``, UnsupportedModelError for a model with quantised activations,
    FeatureNotSupportedError for a precision that the back end cannot do, and what ``pynn.compile`` raises.
    """
    begun = time.perf_counter()
    wanted = _check(precision, against, samples, limit, operators, auto_keep, metric, evaluations, memory_bytes)
    options = {"backend": backend, "accelerated": accelerated, "device": device, "tensorrt_library": tensorrt_library}
    wish, compile_options = parse_options("compare", {**options, "cache": cache, "precision": wanted}, shapes)
    source = load_model(model)
    if isinstance(source, Graph):
        source, compile_options = settle_sizes(source, compile_options)
    tell = progress or (lambda text: None)
    work = _Workbench(source, compile_options, select(wish))
    with work.reference() as reference:
        dataset = _dataset(inputs, reference, shapes, samples, limit, seed)
        tell(f"compiling in {wanted.name}")
        with work.reduced(wanted) as made:
            outputs = _deviations(reference, made.executable, dataset)
        after_outputs = time.perf_counter()
        found: tuple[OperatorError, ...] = ()
        notes = made.notes
        if operators != 0 or auto_keep is not None:
            found, more = _operators(work, wanted, made, dataset, memory_bytes, tell)
            notes += more
        after_operators = time.perf_counter()
        kept = None
        if auto_keep is not None:
            base = _worst(outputs, metric)

            def evaluate(keep: tuple[str, ...]) -> float:
                if not keep:
                    return base
                tell(f"auto-keep: {len(keep)} operators kept")
                with work.reduced(replace(wanted, keep=(*wanted.keep, *keep))) as one:
                    return _worst(_deviations(reference, one.executable, dataset), metric)

            kept = _search(found, evaluate, metric, auto_keep, evaluations)
    return Comparison(
        model=_title(model),
        precision=wanted,
        report=made.report,
        ran_on=made.title,
        samples=len(dataset),
        inputs={name: f"{array.dtype}{list(array.shape)}" for name, array in dataset[0].items()},
        outputs=outputs,
        operators=found[:operators],
        judged=len(found),
        suggestion=suggest(found, made.report.used),
        auto_keep=kept,
        notes=notes,
        seconds={
            "outputs": round(after_outputs - begun, 3),
            "operators": round(after_operators - after_outputs, 3),
            "auto_keep": round(time.perf_counter() - after_operators, 3),
        },
    )


def _check(
    precision: object,
    against: object,
    samples: object,
    limit: object,
    operators: object,
    auto_keep: object,
    metric: object,
    evaluations: object,
    memory_bytes: object,
) -> Precision:
    wanted = parse_precision(precision)
    if wanted.name is None:
        raise ValidationError("compare: name a precision, such as 'fp16'")
    if against != "fp32":
        raise ValidationError(f"compare: against can be 'fp32' only, on ONNX Runtime's CPU; got {against!r}")
    if metric not in ("relative", "cosine"):
        raise ValidationError(f"compare: metric must be 'relative' or 'cosine', got {metric!r}")
    for name, value, least in (
        ("samples", samples, 1),
        ("limit", limit, 1),
        ("operators", operators, 0),
        ("evaluations", evaluations, 3),
        ("memory_bytes", memory_bytes, 1),
    ):
        if (value is not None or name != "operators") and (type(value) is not int or value < least):
            raise ValidationError(f"compare: {name} must be an integer, {least} or more; got {value!r}")
    if auto_keep is not None:
        _check_tolerance(auto_keep)
    return wanted


def _check_tolerance(auto_keep: object) -> None:
    is_number = isinstance(auto_keep, (int, float)) and not isinstance(auto_keep, bool)
    if not is_number or not math.isfinite(auto_keep):  # type: ignore[arg-type]
        raise ValidationError(f"compare: auto_keep must be a tolerance, as 1e-3; got {auto_keep!r}")


@dataclass
class _Made:
    """The model in the precision, ready to run, and how it was made. A context manager."""

    executable: Executable
    report: PrecisionReport
    target: Target
    title: str
    notes: tuple[str, ...]

    def __enter__(self) -> _Made:
        return self

    def __exit__(self, *_: object) -> None:
        self.executable.close()


class _Workbench:
    """One model in several precisions."""

    def __init__(self, source: Graph | OnnxModel, options: CompileOptions, selection: Selection) -> None:
        self.source, self._options, self._selection = source, options, selection
        self.cpu = OrtBackend(use_gpu=False)
        probe = self.cpu.probe()[-1]
        if not probe.usable:
            raise BackendUnavailableError(f"compare needs ONNX Runtime for its reference: {probe.reason}; {probe.hint}")
        self.passes: tuple[Pass, ...] = ()
        if isinstance(source, Graph):
            self.passes = backend_passes("onnxruntime", self.cpu.version())
        self.exact = source_graph(source)
        _check_exact(self.exact)

    def reference(self) -> Executable:
        """The model as it is, on ONNX Runtime's CPU."""
        source = self.source
        model = to_onnx(source, self.passes) if isinstance(source, Graph) else source
        return self.cpu.compile(model, replace(self._options, precision=Precision()))

    def reduced(self, precision: Precision) -> _Made:
        """In the precision, on the back end that is best for it."""
        best = self._selection.best
        if best.name != self.cpu.name:
            executable = self._selection.compile(self.source, replace(self._options, precision=precision))
            report = executable.precision
            if executable.backend != self.cpu.name and report is not None:
                title = str(executable.stats.get("library") or TITLES.get(executable.backend, executable.backend))
                return _Made(executable, report, best.target(), title, (*executable.notes, *report.notes))
            executable.close()
        return self._on_cpu(precision)

    def _on_cpu(self, precision: Precision) -> _Made:
        target = self.cpu.target()
        graph, plan = self.rewritten(precision, target)
        run_passes(graph, self.passes)
        executable = self.cpu.compile(to_model(graph), replace(self._options, precision=precision))
        report = plan.report()
        return _Made(executable, report, target, f"{target}, CPU", report.notes)

    def rewritten(self, precision: Precision, target: Target) -> tuple[OnnxGraph, PrecisionPlan]:
        """A copy of the graph in the precision, for ONNX Runtime's CPU, and what was done."""
        plan = precision_passes(precision, target)
        graph = self.exact.copy()
        run_passes(graph, plan.passes)
        if plan.passes:
            run_passes(graph, (emulate_float4, emulate_float16, emulate_bfloat16))
        return graph, plan


def _check_exact(graph: OnnxGraph) -> None:
    """Raises ValidationError, UnsupportedModelError for a model that was reduced before."""
    check_unquantized(graph, "there is no exact model to compare with")
    outputs = [(node, name) for node in graph.nodes if node.op_type != "Cast" for name in node.outputs if name]
    types = {graph.values[name].data_type for _, name in outputs} & set(FLOATS)
    if types and types <= {"float16", "bfloat16"}:
        raise ValidationError(
            f"the model computes in {' and '.join(sorted(types))} already, so that there is no float32 to compare "
            "with: give the model from before it was converted"
        )


def _dataset(
    inputs: object, reference: Executable, shapes: Shapes | None, samples: int, limit: int, seed: int
) -> list[dict[str, Array]]:
    if inputs is None:
        return [random_inputs(reference.inputs, shapes or {}, seed + number) for number in range(samples)]
    given = [inputs] if isinstance(inputs, (Mapping, np.ndarray)) else inputs
    found = list(checked_samples(given, reference.inputs, reference.check_inputs, limit, "comparison"))
    if not found:
        raise ValidationError("compare: the dataset is empty; give at least one sample, or none for random ones")
    return found


def _deviations(reference: Executable, executable: Executable, dataset: list[dict[str, Array]]) -> dict[str, Deviation]:
    """The worst of all samples by output."""
    found: dict[str, Deviation] = {}
    for sample in dataset:
        exact, results = reference.run(sample), executable.run(_fitting(sample, executable))
        for name, array in exact.items():
            if array.dtype != object:
                one = deviation(array, results[name])
                found[name] = worst([found[name], one]) if name in found else one
    return found


def _fitting(sample: Sample, executable: Executable) -> dict[str, Array]:
    """With ``io``, inputs have become narrow."""
    return {spec.name: sample[spec.name].astype(spec.numpy, copy=False) for spec in executable.inputs}


def _worst(outputs: Mapping[str, Deviation], metric: Metric) -> float:
    one = worst(outputs.values())
    return one.relative if metric == "relative" else one.cosine


def _operators(
    work: _Workbench,
    precision: Precision,
    made: _Made,
    dataset: list[dict[str, Array]],
    memory_bytes: int,
    tell: Callable[[str], object],
) -> tuple[tuple[OperatorError, ...], tuple[str, ...]]:
    """Their errors, and what is to be said of how they were found."""

    def counted() -> Iterable[dict[str, Array]]:
        for number, sample in enumerate(dataset):
            tell(f"operators: sample {number + 1} of {len(dataset)}")
            yield sample

    try:
        reduced, plan = work.rewritten(precision, made.target)
        if not plan.passes:
            return (), ("operators compute as in the model: none to judge",)
        exact = work.exact.copy()
        raise_opset(exact, reduced.opsets.get("", 0))
        shadow = Shadow(exact, reduced)
        decisions = plan.report().decisions
        found = judge(shadow, decisions, counted(), work.cpu, work.passes, memory_bytes, plan.used)
    except PynnError as error:
        return (), (f"operators could not be judged on ONNX Runtime's CPU: {error}",)
    notes = [_ROUNDED] if any(one.data_type in ("float16", "bfloat16") for one in decisions) else []
    inner = [node.name for node in work.exact.nodes if node.captures]
    if inner:
        notes.append(f"what graphs inside {', '.join(inner[:3])} read is exact in both models")
    return tuple(found), tuple(notes)


def _search(
    found: tuple[OperatorError, ...],
    evaluate: Callable[[tuple[str, ...]], float],
    metric: Metric,
    tolerance: float,
    evaluations: int,
) -> AutoKeep:
    ranked = [one.name for one in found if not one.is_exact]
    return search(ranked, evaluate, metric, float(tolerance), evaluations)


def _title(model: object) -> str:
    if isinstance(model, OnnxModel) and model.path is not None:
        return model.path.name
    return Path(model).name if isinstance(model, (str, os.PathLike)) else type(model).__name__
