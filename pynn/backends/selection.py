"""Which back end runs a model: the preference, the probes, and the fallback when a library refuses.

WebNN's device selection: ``power_preference`` weighs more than ``accelerated``; both are wishes. A GPU is wanted by
"high-performance", and by "default" with ``accelerated``; "low-power", and "default" without ``accelerated``, want the
CPU.
Spec: https://www.w3.org/TR/webnn/#programming-model-device-selection.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..converter.import_passes import mentions_quantization
from ..converter.model import OnnxModel
from ..converter.passes import backend_passes
from ..converter.precision import (
    ANY,
    AS_GIVEN,
    Precision,
    PrecisionReport,
    Target,
    apply_precision,
    precision_passes,
)
from ..converter.precision.target import resolve
from ..errors import (
    BackendUnavailableError,
    EngineBuildError,
    FallbackWarning,
    NotSupportedError,
    PynnError,
    UnsupportedModelError,
    ValidationError,
)
from ..graph import Graph
from .base import Backend, CompileOptions, Executable, Probe
from .named_sizes import settle_sizes
from .partition_report import DYNAMIC_IS_WHOLE, LeftOut, PartitionReport, whole
from .report import TITLES, BackendReport

BACKENDS = ("auto", "tensorrt", "onnxruntime")
POWER_PREFERENCES = ("default", "high-performance", "low-power")

_SAY_SO = "backend='onnxruntime' or accelerated=False says that you want this, and silences the warning"
_SAY_SO_IN_PART = (
    "allow_partition=False forbids this (backend='tensorrt' raises then, otherwise ONNX Runtime runs the whole); "
    "backend='onnxruntime' says that you want no GPU"
)
_FILES_ARE_WHOLE = "ONNX files are not partitioned: ONNX Runtime runs the whole; graphs of pynn's builder are"
_PACKAGE = str(Path(__file__).parent.parent) + os.sep


@dataclass(frozen=True, slots=True)
class Wish:
    """What the user asked for, checked."""

    backend: str = "auto"
    power_preference: str = "default"
    accelerated: bool = True
    device: int = 0
    tensorrt_library: str | None = None
    allow_partition: bool = True
    tf32: bool = False
    cache: bool = False
    """Verdicts of earlier processes are believed, and kept in ``cache_dir``."""
    cache_dir: str | None = None

    @property
    def wants_gpu(self) -> bool:
        return self.power_preference == "high-performance" or (self.power_preference == "default" and self.accelerated)

    @property
    def may_use_gpu(self) -> bool:
        """TensorRT is looked at."""
        return self.backend == "tensorrt" or (self.backend == "auto" and self.wants_gpu)


def check_wish(
    backend: str | None,
    power_preference: str,
    accelerated: bool,
    device: int,
    tensorrt_library: object,
    allow_partition: bool = True,
    tf32: bool = False,
) -> Wish:
    """Raises ValidationError naming the argument and what it may be."""
    name = "auto" if backend is None else backend
    if name not in BACKENDS:
        raise ValidationError(f"backend must be one of {', '.join(map(repr, BACKENDS))}, got {backend!r}")
    if power_preference not in POWER_PREFERENCES:
        known = ", ".join(map(repr, POWER_PREFERENCES))
        raise ValidationError(f"power_preference must be one of {known}; got {power_preference!r}")
    if not isinstance(accelerated, bool):
        raise ValidationError(f"accelerated must be True or False, got {accelerated!r}")
    if not isinstance(allow_partition, bool):
        raise ValidationError(f"allow_partition must be True or False, got {allow_partition!r}")
    if type(device) is not int or device < 0:
        raise ValidationError(f"device must be the number of a GPU, 0 or more, got {device!r}")
    if tensorrt_library is not None and not isinstance(tensorrt_library, (str, os.PathLike)):
        raise ValidationError(f"tensorrt_library must be a directory, got {tensorrt_library!r}")
    directory = None if tensorrt_library is None else os.fspath(tensorrt_library)
    return Wish(name, power_preference, accelerated, device, directory, allow_partition, tf32)


class Selection:
    """The back ends a model may go to, best first, and the report of the choice. ``compile`` tries them in order.

    ``partner`` runs what the best back end refuses of a graph; without one, graphs are not partitioned.
    """

    def __init__(
        self, backends: Sequence[Backend], report: BackendReport, partner: Callable[[], Backend] | None = None
    ) -> None:
        self._backends = tuple(backends)
        self._partner = partner
        self._versions: dict[str, str] = {}
        self._targets: dict[str, Target] = {}
        self.report = report

    @property
    def best(self) -> Backend:
        return self._backends[0]

    @property
    def fallback_message(self) -> str | None:
        """What a user should be warned of: the preferred back end cannot be used at all."""
        report = self.report
        if not report.fallback:
            return None
        hint = _first_tensorrt(report.probes).hint
        advice = f". To use TensorRT: {hint}" if hint else ""
        return f"running on {report.reason}{advice}. {_SAY_SO}"

    def compile(self, source: Graph | OnnxModel, options: CompileOptions) -> Executable:
        """An executable of the first back end that takes ``source``, of the best one and its partner where that takes
        only a part, or of the next one; its report has the refusals.

        Raises the only back end's own error, naming the operators that it refuses, or UnsupportedModelError with every
        refusal; ValidationError for sizes of named dimensions that an operator's rules do not allow;
        FeatureNotSupportedError for a precision, or TF32, that the best back end cannot have.
        """
        if isinstance(source, Graph):
            source, options = settle_sizes(source, options)
        resolve(options.precision, self._target(self.best, options.precision))
        self.best.require(options)
        refused: dict[str, str] = {}
        partition: PartitionReport | None = None
        for i, backend in enumerate(self._backends):
            try:
                model = self._model_for(backend, source, options.precision)
                executable = backend.compile(model, options)
            except (NotSupportedError, EngineBuildError) as error:
                if i == 0:
                    whole_of_parts, partition = self._in_parts(source, options, error)
                    if whole_of_parts is not None:
                        whole_of_parts.report = self._report_of_parts(whole_of_parts, error)
                        whole_of_parts.precision = self._precision_of_parts(options.precision)
                        return whole_of_parts
                if len(self._backends) == 1:
                    raise
                refused[backend.name] = str(error)
                if i + 1 < len(self._backends):
                    continue
                both = "\n".join(f"{TITLES[name]}: {reason}" for name, reason in refused.items())
                raise UnsupportedModelError(
                    f"every back end refuses the model\n{both}",
                    node=getattr(error, "node", ""),
                    op_type=getattr(error, "op_type", ""),
                    log=getattr(error, "log", ""),
                ) from error
            executable.report = self._report_for(backend, refused)
            executable.partition = partition
            executable.precision = model.precision
            return executable
        raise AssertionError("a selection has at least one back end")

    def _in_parts(
        self, source: Graph | OnnxModel, options: CompileOptions, error: PynnError
    ) -> tuple[Executable | None, PartitionReport | None]:
        """What the best back end refused with ``error``, in parts. Without an executable, what can be said of it.

        Raises ``error`` with the operators' names where nothing else may run them.
        """
        from .partition_search import Refusal, partition, refused_operators

        if not isinstance(error, Refusal):
            return None, None
        if isinstance(source, OnnxModel):
            left_out = LeftOut(getattr(error, "op_type", "") or "the model", getattr(error, "node", ""), str(error))
            return None, whole(self._backends[-1].name, (), [left_out], note=_FILES_ARE_WHOLE)
        if source.dimensions:
            if len(self._backends) == 1 and self._partner is not None:
                raise _naming(error, (), f"; {DYNAMIC_IS_WHOLE}") from error
            return None, whole(self._backends[-1].name, (node.op for node in source.nodes), note=DYNAMIC_IS_WHOLE)
        demanded = len(self._backends) == 1

        def lower(backend: Backend, part: Graph) -> OnnxModel:
            return self._model_for(backend, part, options.precision, whole=False)

        if self._partner is None:
            if demanded and self.best.name == "tensorrt":
                raise _naming(error, refused_operators(source, self.best, lower, options, error)) from error
            return None, None
        partner = self._partner()
        try:
            made = partition(source, self.best, partner, lower, options, error, min_work=0 if demanded else None)
        except (NotSupportedError, EngineBuildError) as more:
            if demanded:
                raise _naming(error, (), f"; ONNX Runtime cannot run the rest: {more}") from more
            return None, None
        return made.executable, made.report

    def _report_of_parts(self, executable: Executable, error: PynnError) -> BackendReport:
        report = executable.partition_report()
        total = sum(part.size for part in report.parts)
        elsewhere = sum(part.size for part in report.parts if part.backend != self.best.name)
        reason = f"TensorRT takes this model only in part; ONNX Runtime runs {elsewhere} of {total} operators"
        refused = {self.best.name: str(error)}
        return replace(
            self.report, chosen=executable.backend, reason=reason, fallback=True, refused=refused, partition=report
        )

    def _precision_of_parts(self, precision: Precision) -> PrecisionReport | None:
        if precision is AS_GIVEN:
            return None
        report = precision_passes(precision, self._target(self.best, precision)).report()
        note = "the graph runs in parts, each in this precision with float32 between them; see partition_report()"
        return replace(report, notes=(*report.notes, note))

    def _model_for(
        self, backend: Backend, source: Graph | OnnxModel, precision: Precision = AS_GIVEN, *, whole: bool = True
    ) -> OnnxModel:
        target = self._target(backend, precision)
        if isinstance(source, OnnxModel) and not mentions_quantization(source):
            return apply_precision(source, precision, target)
        if backend.name not in self._versions:
            self._versions[backend.name] = backend.version()
        passes = backend_passes(backend.name, self._versions[backend.name])
        return apply_precision(source, precision, target, passes, whole=whole)

    def _target(self, backend: Backend, precision: Precision) -> Target:
        if precision is AS_GIVEN:
            return ANY
        if backend.name not in self._targets:
            self._targets[backend.name] = backend.target()
        return self._targets[backend.name]

    def _report_for(self, backend: Backend, refused: Mapping[str, str]) -> BackendReport:
        if not refused:
            return self.report
        names = " and ".join(TITLES[name] for name in refused)
        reason = f"{names} refused this model; {TITLES[backend.name]} takes it"
        return replace(self.report, chosen=backend.name, reason=reason, fallback=True, refused=refused)


def _naming(error: PynnError, refused: Sequence[LeftOut], more: str = "") -> PynnError:
    """The error with the WebNN operators it is about, and what could be done."""
    names = ", ".join(dict.fromkeys(one.name for one in refused))
    named = f"TensorRT refuses {names}, and allow_partition=False lets no other back end run them: " if names else ""
    text, log = f"{named}{error}{more}", getattr(error, "log", "")
    if isinstance(error, EngineBuildError):
        return EngineBuildError(text, log=log)
    return UnsupportedModelError(text, node=getattr(error, "node", ""), op_type=getattr(error, "op_type", ""), log=log)


def refusal_message(report: BackendReport) -> str | None:
    """What a user should be warned of after a compile: the model fell back to another back end."""
    if not report.refused:
        return None
    if report.partition is not None:
        return f"{report.reason}: {report.partition.warning()}. {_SAY_SO_IN_PART}"
    return ". ".join((report.reason, *(f"{TITLES[n]}: {text}" for n, text in report.refused.items()), _SAY_SO))


def select(wish: Wish) -> Selection:
    """Probe in order of preference and keep every verdict. Raises BackendUnavailableError when nothing can be used."""
    if wish.backend == "tensorrt":
        return _forced(_tensorrt(wish), wish, (lambda: _onnxruntime(wish)) if wish.allow_partition else None)
    if wish.backend == "onnxruntime":
        return _forced(_onnxruntime(wish), wish)
    if not wish.wants_gpu:
        return _cpu(wish)
    first, second = _tensorrt(wish), _onnxruntime(wish)
    probes = first.probe()
    if any(probe.usable for probe in probes):
        report = _report(wish, "tensorrt", _reason(probes), (*probes, _glance_onnxruntime()))
        return Selection([first, second], report, (lambda: second) if wish.allow_partition else None)
    more = second.probe()
    probes = (*probes, *more)
    if not any(probe.usable for probe in more):
        raise _unavailable("no back end can be used here", probes)
    reason = f"{_reason(more)}, because TensorRT cannot be used: {_first_tensorrt(probes).reason}"
    return Selection([second], replace(_report(wish, "onnxruntime", reason, probes), fallback=True))


def probe_all(
    *, device: int = 0, tensorrt_library: object = None
) -> tuple[Selection | BackendUnavailableError, tuple[Probe, ...]]:
    """What the default choice would be here, and every candidate's verdict: for ``pynn doctor``."""
    wish = check_wish(None, "default", True, device, tensorrt_library)
    probes = (*_tensorrt(wish).probe(), *_onnxruntime(wish).probe())
    try:
        return select(wish), probes
    except BackendUnavailableError as error:
        return error, probes


def _cpu(wish: Wish) -> Selection:
    backend = _onnxruntime(wish)
    probes = backend.probe()
    asked = f"power_preference={wish.power_preference!r}, accelerated={wish.accelerated}"
    if any(probe.usable for probe in probes):
        skipped = Probe("tensorrt", "any", False, f"not looked at: {asked} asks for the CPU")
        return Selection([backend], _report(wish, "onnxruntime", _reason(probes), (*probes, skipped)))
    raise _unavailable("no back end can be used here", probes)


def _forced(backend: Backend, wish: Wish, partner: Callable[[], Backend] | None = None) -> Selection:
    probes = backend.probe()
    if not any(probe.usable for probe in probes):
        raise _unavailable(f"backend={wish.backend!r} was asked for, but it cannot be used here", probes)
    return Selection([backend], _report(wish, wish.backend, _reason(probes), probes), partner)


def _tensorrt(wish: Wish) -> Backend:
    from .trt import TensorRTBackend
    from .trt_kept import KeptVerdicts

    keep = KeptVerdicts.of(wish.cache, wish.cache_dir)
    return TensorRTBackend(library_dir=wish.tensorrt_library, device=wish.device, tf32=wish.tf32, keep=keep)


def _onnxruntime(wish: Wish) -> Backend:
    from .ort import OrtBackend

    return OrtBackend(use_gpu=wish.wants_gpu)


def _glance_onnxruntime() -> Probe:
    """ONNX Runtime's presence without importing it: it only comes second."""
    found = importlib.util.find_spec("onnxruntime") is not None
    reason = "installed; not loaded, TensorRT comes first" if found else "not installed: no fallback"
    return Probe("onnxruntime", "onnxruntime", found, reason, "" if found else "pip install onnxruntime")


def _report(wish: Wish, chosen: str, reason: str, probes: tuple[Probe, ...]) -> BackendReport:
    return BackendReport(wish.backend, wish.power_preference, wish.accelerated, chosen, reason, probes=probes)


def _reason(probes: Sequence[Probe]) -> str:
    return next(probe.reason for probe in probes if probe.usable)


def _first_tensorrt(probes: Sequence[Probe]) -> Probe:
    return next(probe for probe in probes if probe.backend == "tensorrt")


def _unavailable(what: str, probes: Sequence[Probe]) -> BackendUnavailableError:
    verdicts = (f"{p.backend} {p.candidate}: {p.reason}" + (f" ({p.hint})" if p.hint else "") for p in probes)
    return BackendUnavailableError("\n  ".join((f"{what}:", *verdicts)))


def warn_fallback(message: str) -> None:
    """One FallbackWarning at the line of the user's code that called into pynn."""
    depth, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
        depth += 1
    warnings.warn(message, FallbackWarning, stacklevel=depth)
