"""TensorRT: the first library found that takes the GPU, by way of libpynn_trt."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import replace

from ..cache.record import CacheRecord
from ..cache.store import Store
from ..converter.model import OnnxModel
from ..errors import (
    BackendUnavailableError,
    CacheError,
    CudaError,
    DeviceUnsupportedError,
    EngineBuildError,
    ExecutionError,
    LibraryNotFoundError,
    PlanError,
    PynnError,
    TensorRTError,
)
from ..native import Library, find_libraries
from ..native.find import INSTALL_HINT
from .base import Backend, BuildControl, CompileOptions, Executable, Probe
from .cuda import Device
from .engine_file import EngineFile
from .jit_cache import KernelCache, plan_digest
from .trt_build import CURRENT_GPU, DEFAULT_CAPABILITIES, allows_tf32, build_plan, check_model
from .trt_cache import EngineCache, engine_key
from .trt_executable import TensorRTExecutable, open_engine, wants_tf32
from .trt_kept import KeptVerdicts
from .trt_probe import BACKEND, Verdict, probe_cache

__all__ = [
    "DEFAULT_CAPABILITIES",
    "EngineFile",
    "TensorRTBackend",
    "TensorRTExecutable",
    "build_plan",
    "load_engine",
    "open_library",
]

_DOUBTFUL = (CudaError, DeviceUnsupportedError, EngineBuildError, ExecutionError, PlanError)
"""Failures that a library which does not take the GPU may be behind, though an earlier process found that it does."""


class TensorRTBackend(Backend):
    """TensorRT and TensorRT for RTX, of whatever version is found.

    ``library_dir`` is searched instead of the usual places. ``device`` is the GPU's number; None probes all and
    compiles for the first that can be used. ``keep`` has verdicts of earlier processes; None asks each library anew.
    """

    name = BACKEND

    def __init__(
        self,
        *,
        library_dir: str | os.PathLike[str] | None = None,
        device: int | None = 0,
        tf32: bool = False,
        keep: KeptVerdicts | None = None,
    ) -> None:
        self._directory = None if library_dir is None else os.fspath(library_dir)
        self._device = device
        self._tf32 = tf32
        self._keep = keep

    def probe(self) -> tuple[Probe, ...]:
        return tuple(verdict.probe for verdict in self._verdicts(self._device))

    def _verdicts(self, device: int | None) -> tuple[Verdict, ...]:
        return probe_cache.verdicts(self._directory, device, tf32=self._tf32, keep=self._keep)

    def _revoked(self, options: CompileOptions) -> bool:
        device = options.device or self._device
        return probe_cache.revoked(self._directory, device, tf32=self._tf32, keep=self._keep)

    def compile(self, model: OnnxModel, options: CompileOptions) -> Executable:
        """Raises UnsupportedModelError (node, op_type, the library's words), EngineBuildError, ValidationError for
        wrong ``shapes``, BackendUnavailableError with every candidate's reason, DeviceOutOfMemoryError."""
        try:
            return self._compile(model, options)
        except _DOUBTFUL:
            if not self._revoked(options):
                raise
        return self._compile(model, options)

    def _compile(self, model: OnnxModel, options: CompileOptions) -> Executable:
        library, device = self._usable(options)
        capability = device.info.compute_capability

        def build(control: BuildControl) -> EngineFile:
            whole = model.read()
            with device.current():
                file = build_plan(whole, library, replace(options, control=control), (CURRENT_GPU,), device=device)
            return replace(file, compute_capabilities=(capability,))

        def ready(file: EngineFile) -> TensorRTExecutable:
            return TensorRTExecutable(file, library, device, options=options, kernel_cache=kernels, weights=model)

        cache = EngineCache.of(
            options,
            lambda: engine_key(
                model, library.info, library.tf32.allowed, options, (capability,), device, topology=options.refit
            ),
        )
        kernels = KernelCache.of(cache.store, cache.record.key, library.info, device)
        try:
            executable = cache.obtain(build, ready, options.control)
        except (ExecutionError, PlanError) as error:
            raise EngineBuildError(
                f"TensorRT built an engine of the model but cannot make it ready to run: {error}", log=error.log
            ) from error
        executable.cache = cache.record
        return executable

    def check(self, model: OnnxModel, options: CompileOptions) -> None:
        """Raises UnsupportedModelError: the parser refuses the model."""
        library, device = self._usable(options)
        with device.current():
            check_model(model, library, options)

    def require(self, options: CompileOptions) -> None:
        if options.tf32:
            allows_tf32(self._usable(options)[0], options)

    def device(self, options: CompileOptions) -> Device:
        return self._usable(options)[1]

    def _usable(self, options: CompileOptions) -> tuple[Library, Device]:
        verdicts = self._verdicts(options.device or self._device)
        for verdict in verdicts:
            if verdict.probe.usable and verdict.library is not None and verdict.device is not None:
                return verdict.library, verdict.device
        raise BackendUnavailableError(f"TensorRT cannot be used here: {_reasons(verdicts)}")


def _reasons(verdicts: Sequence[Verdict]) -> str:
    return "; ".join(v.probe.reason + (f" ({v.probe.hint})" if v.probe.hint else "") for v in verdicts)


def open_library(directory: str | os.PathLike[str] | None = None, *, tf32: bool = False) -> Library:
    """The first TensorRT found that opens and has its parser: enough to build for other GPUs, without one here.

    Raises LibraryNotFoundError or LibraryVersionError with every candidate's reason.
    """
    search = find_libraries(directory)
    reasons = list(search.problems)
    kind: type[TensorRTError] = LibraryNotFoundError
    for candidate in search.candidates:
        try:
            library = Library.open_candidate(candidate, tf32=tf32)
        except TensorRTError as error:
            if not candidate.system:
                reasons.append(f"{candidate.core}: {error}")
                kind = type(error)
            continue
        info = library.info
        if info.parser_version:
            return library
        why = info.parser_error or "no file of it is beside the library"
        reasons.append(f"{info.title} at {info.path} has no ONNX parser: {why}")
        library.close()
    raise kind("; ".join(reasons) or f"no TensorRT library was found; {INSTALL_HINT}")


def load_engine(
    source: str | os.PathLike[str] | bytes | EngineFile,
    *,
    library_dir: str | os.PathLike[str] | None = None,
    device: int = 0,
    options: CompileOptions | None = None,
    weights: OnnxModel | None = None,
) -> TensorRTExecutable:
    """An engine file (or a plan of TensorRT's own tools), ready to run. A library of the version it was built with is
    preferred. Of ``options`` those of running hold: caches, CUDA graphs, concurrency, waiting. ``weights`` go into an
    engine that was built without them.

    Raises PlanError for a file that is truncated, damaged or of another library, DeviceUnsupportedError without a GPU
    that takes it, LibraryNotFoundError without a library, OSError when the file cannot be read.
    """
    file = source if isinstance(source, EngineFile) else EngineFile.load(source)
    directory = None if library_dir is None else os.fspath(library_dir)
    options = options or CompileOptions()
    keep, tf32 = KeptVerdicts.of(options.cache, options.cache_dir), wants_tf32(file)
    try:
        verdicts = probe_cache.verdicts(directory, device, tf32=tf32, keep=keep)
        return _load(file, verdicts, options, weights)
    except _DOUBTFUL:
        if not probe_cache.revoked(directory, device, tf32=tf32, keep=keep):
            raise
    return _load(file, probe_cache.verdicts(directory, device, tf32=tf32), options, weights)


def _load(
    file: EngineFile, verdicts: Sequence[Verdict], options: CompileOptions, weights: OnnxModel | None
) -> TensorRTExecutable:
    usable = [v for v in verdicts if v.probe.usable]
    if not usable:
        kind = DeviceUnsupportedError if any(v.library for v in verdicts) else LibraryNotFoundError
        raise kind(f"this engine cannot run here: it was {file.provenance}; {_reasons(verdicts)}")
    usable.sort(key=lambda v: not _same_library(v, file))
    if not file.is_bare and usable[0].info is not None and usable[0].info.flavor.name != file.flavor:
        raise PlanError(f"this engine cannot run: it was {file.provenance}; here is {usable[0].probe.candidate}")
    store = _store(options.cache, options.cache_dir)
    first: PynnError | None = None
    for verdict in usable if file.is_bare else usable[:1]:
        assert verdict.library is not None and verdict.info is not None and verdict.device is not None
        kernels = None if store is None else KernelCache.of(store, plan_digest(file), verdict.info, verdict.device)
        try:
            executable = open_engine(
                file,
                verdict.library,
                verdict.info,
                verdict.device,
                options=options,
                kernel_cache=kernels,
                weights=weights,
            )
            executable.cache = CacheRecord(False, reason="it was loaded from an engine file")
            return executable
        except PlanError as error:
            first = first or error
    assert first is not None
    raise first


def _store(cache: bool, cache_dir: str | None) -> Store | None:
    with contextlib.suppress(CacheError):
        return Store.open(cache_dir) if cache else None
    return None


def _same_library(verdict: Verdict, file: EngineFile) -> bool:
    info = verdict.info
    return info is not None and (info.flavor.name, info.version) == (file.flavor, file.version)
