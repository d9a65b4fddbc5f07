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


class ProbeCache:
    """Verdicts by search path and device: a probe builds an engine, which takes a tenth of a second."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[tuple[object, ...], tuple[Verdict, ...]] = {}

    def verdicts(self, directory: str | None, device: int | None, *, tf32: bool = False) -> tuple[Verdict, ...]:
        """Every candidate in order of preference; ``device`` None means each GPU. Never raises."""
        places = (os.environ.get(name) for name in (DIRECTORY_VARIABLE, SHIM_VARIABLE, "LD_LIBRARY_PATH"))
        key = (fork_guard.epoch, directory, device, *places)
        with self._lock:
            if key not in self._known:
                self._known[key] = tuple(_look(directory, device, tf32))
            return self._known[key]


probe_cache = ProbeCache()


def _look(directory: str | None, device: int | None, tf32: bool) -> Iterator[Verdict]:
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
        yield from _on_devices(opened, discovery, device)
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


def _on_devices(opened: Verdict, discovery: cuda.Discovery, device: int | None) -> Iterator[Verdict]:
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
        yield _try(library, info, driver, index, details, opened)


def _try(
    library: Library, info: LibraryInfo, driver: cuda.Driver, index: int, details: Mapping[str, Any], opened: Verdict
) -> Verdict:
    """Build a small engine for the GPU and read it back: the library itself says whether it takes the GPU."""
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
    try:
        _smoke(library, info, device)
    except PynnError as error:
        device.close()
        if isinstance(error, (CudaError, MemoryError)):
            return _unusable(candidate, f"{gpu.title} cannot be used now: {error}", "see nvidia-smi", details, opened)
        hint = "another version of TensorRT may take this GPU; pynn uses the first found that does"
        return _unusable(candidate, f"{info.title} refuses {gpu.title}: {error}", hint, details, opened)
    reason = f"{candidate}, compute capability {details['compute_capability']}"
    return Verdict(Probe(BACKEND, candidate, True, reason, details=details), library, info, device)


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
