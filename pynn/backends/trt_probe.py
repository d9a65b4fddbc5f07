"""Which TensorRT on which GPU: every library found is opened and made to read an engine it built for the GPU here."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from ..errors import CudaError, DeviceUnsupportedError, LibraryVersionError, PynnError
from ..native import (
    Builder,
    Candidate,
    Config,
    Flavor,
    Library,
    LibraryInfo,
    Logger,
    Network,
    Parser,
    Runtime,
    find_libraries,
)
from ..native.binding import fork_guard, shim
from ..native.find import DIRECTORY_VARIABLE, INSTALL_HINT, SHIM_VARIABLE
from . import cuda
from .base import Probe
from .trt_kept import KeptVerdicts, question_of

BACKEND = "tensorrt"

SMOKE_MODEL = (
    b'\x08\n:=\n\x12\n\x01x\x12\x01y\x1a\x04relu"\x04Relu\x12\x05probe'
    b"Z\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x04"
    b"b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x04B\x04\n\x00\x10\x15"
)
"""ONNX, opset 21: y = Relu(x), float32[4]."""


@dataclass(frozen=True, eq=False)
class Verdict:
    """A probe with what it opened. ``library`` is there when it opened, ``device`` when the probe says usable."""

    probe: Probe
    library: Library | None = None
    info: LibraryInfo | None = None
    device: cuda.Device | None = None
    kept: Mapping[str, Any] | None = None
    """The question that an earlier process answered; None when the library was asked by this one."""


class ProbeCache:
    """Verdicts by search path and device: a probe builds an engine, which takes a tenth of a second."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[tuple[object, ...], tuple[Verdict, ...]] = {}

    def verdicts(
        self, directory: str | None, device: int | None, *, tf32: bool = False, keep: KeptVerdicts | None = None
    ) -> tuple[Verdict, ...]:
        """Every candidate in order of preference; ``device`` None means each GPU. Never raises.

        With ``keep``, what an earlier process found usable is believed, and what is found now is kept.
        """
        asked, believed = _keys(directory, device)
        with self._lock:
            found = self._known.get(asked) or (self._known.get(believed) if keep is not None else None)
            if found is None:
                found = tuple(_look(directory, device, tf32, keep))
                self._known[believed if any(verdict.kept for verdict in found) else asked] = found
            return found

    def revoked(self, directory: str | None, device: int | None, *, tf32: bool, keep: KeptVerdicts | None) -> bool:
        """After a failure: whether a verdict was only believed, and the library, asked in earnest, refuses the GPU.
        ``verdicts`` knows better then."""
        with self._lock:
            before = self._known.pop(_keys(directory, device)[1], None)
        if keep is None or before is None:
            return False
        after = self.verdicts(directory, device, tf32=tf32)
        usable = {(verdict.info.path, verdict.device.info) for verdict in after if verdict.info and verdict.device}
        wrong = [
            v.kept for v in before if v.kept and v.info and v.device and (v.info.path, v.device.info) not in usable
        ]
        for question in wrong:
            keep.forget(question)
        return bool(wrong)


def _where(verdict: Verdict) -> tuple[str, int]:
    assert verdict.info is not None and verdict.device is not None
    return verdict.info.path, verdict.device.info.index


def _keys(directory: str | None, device: int | None) -> tuple[tuple[object, ...], tuple[object, ...]]:
    """Of verdicts that were all asked for, and of those among which some are believed."""
    places = (os.environ.get(name) for name in (DIRECTORY_VARIABLE, SHIM_VARIABLE, "LD_LIBRARY_PATH"))
    key = (fork_guard.epoch, directory, device, *places)
    return (*key, "asked"), (*key, "believed")


probe_cache = ProbeCache()


def _look(directory: str | None, device: int | None, tf32: bool, keep: KeptVerdicts | None) -> Iterator[Verdict]:
    try:
        shim()
    except (PynnError, OSError, ImportError) as error:
        yield _unusable("libpynn_trt", f"pynn's TensorRT part cannot be loaded: {error}", "reinstall pynn")
        return
    search = find_libraries(directory)
    for problem in search.problems:
        yield _unusable("TensorRT", problem, f"correct {DIRECTORY_VARIABLE if directory is None else 'the directory'}")
    discovery = cuda.discover()
    seen: set[str] = set()
    found = False
    for candidate in search.candidates:
        opened = _open(candidate, tf32)
        if opened is None or (opened.info is not None and opened.info.path in seen):
            continue
        found = True
        if opened.library is None or opened.info is None:
            yield opened
            continue
        seen.add(opened.info.path)
        yield from _on_devices(opened, discovery, device, keep)
    if not found and not (directory and search.problems):
        here = f"; {discovery.reason}" if discovery.driver is None else ""
        places = "the packages tensorrt_rtx_libs and tensorrt_libs, the system's loader"
        yield _unusable("TensorRT", f"no TensorRT library was found (looked at {places}){here}", INSTALL_HINT)


def _open(candidate: Candidate, tf32: bool) -> Verdict | None:
    """The opened library, or why not; None for a name that the system's loader does not know."""
    name = candidate.core
    try:
        library = Library.open_candidate(candidate, tf32=tf32)
        info = library.info
    except LibraryVersionError as error:
        return _unusable(name, str(error), f"pynn knows {Library.known_versions()}", {"path": name})
    except PynnError as error:
        if candidate.system:
            return None
        return _unusable(name, str(error), "reinstall that library", {"path": name, "origin": candidate.origin})
    details = {
        "version": info.version,
        "generation": info.generation,
        "flavor": info.flavor.name,
        "path": info.path,
        "origin": candidate.origin,
    }
    return Verdict(Probe(BACKEND, info.title, False, "", details=details), library, info)


def _on_devices(
    opened: Verdict, discovery: cuda.Discovery, device: int | None, keep: KeptVerdicts | None
) -> Iterator[Verdict]:
    library, info, details = opened.library, opened.info, opened.probe.details
    assert library is not None and info is not None
    if not info.parser_version:
        why = info.parser_error or "no file of it is beside the library"
        yield _unusable(
            info.title, f"{info.title} has no ONNX parser: {why}", "install the whole library", details, opened
        )
        return
    driver = discovery.driver
    if driver is None:
        reason = f"{info.title} was found, but {discovery.reason}"
        yield _unusable(info.title, reason, discovery.hint, details, opened)
        return
    for index in range(len(driver.devices)) if device is None else (device,):
        yield _try(opened, driver, index, keep)


def _try(opened: Verdict, driver: cuda.Driver, index: int, keep: KeptVerdicts | None) -> Verdict:
    """Build a small engine for the GPU and read it back: the library itself says whether it takes the GPU."""
    library, info, details = opened.library, opened.info, opened.probe.details
    assert library is not None and info is not None
    try:
        device = cuda.Device(driver, index)
    except DeviceUnsupportedError as error:
        return _unusable(info.title, str(error), "choose another device", details, opened)
    except PynnError as error:
        return _unusable(info.title, f"GPU {index} cannot be used: {error}", "see nvidia-smi", details, opened)
    gpu = device.info
    details = {
        **details,
        "device": index,
        "gpu": gpu.name,
        "compute_capability": cuda.capability_text(gpu.compute_capability),
        "memory": gpu.memory,
        "driver": driver.version_text,
    }
    candidate = f"{info.title} on {gpu.name}"
    question = None if keep is None else question_of(library, info, device)
    known = keep is not None and question is not None and keep.knows(question)
    try:
        if not known:
            _smoke(library, info, device)
    except PynnError as error:
        device.close()
        if isinstance(error, (CudaError, MemoryError)):
            return _unusable(candidate, f"{gpu.title} cannot be used now: {error}", "see nvidia-smi", details, opened)
        hint = "another version of TensorRT may take this GPU; pynn uses the first found that does"
        return _unusable(candidate, f"{info.title} refuses {gpu.title}: {error}", hint, details, opened)
    reason = f"{candidate}, compute capability {details['compute_capability']}"
    if keep is not None and question is not None and not known:
        keep.keep(question)
    probe = Probe(BACKEND, candidate, True, reason, details=details)
    return Verdict(probe, library, info, device, kept=question if known else None)


def _smoke(library: Library, info: LibraryInfo, device: cuda.Device) -> None:
    with ExitStack() as stack:
        stack.enter_context(device.current())
        logger = stack.enter_context(Logger(library))
        builder = stack.enter_context(Builder(logger))
        network = stack.enter_context(Network(builder))
        stack.enter_context(Parser(network)).parse(SMOKE_MODEL)
        config = stack.enter_context(Config(builder))
        if info.flavor is Flavor.RTX:
            config.set_compute_capabilities([0])
        plan = builder.build(network, config)
        runtime = stack.enter_context(Runtime(logger))
        runtime.deserialize(plan.view).close()


def _unusable(
    candidate: str,
    reason: str,
    hint: str = "",
    details: Mapping[str, Any] | None = None,
    opened: Verdict | None = None,
) -> Verdict:
    probe = Probe(BACKEND, candidate, False, reason, hint, details or {})
    return Verdict(probe, opened.library, opened.info) if opened is not None else Verdict(probe)
