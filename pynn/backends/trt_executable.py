"""TensorRTExecutable: an engine on a GPU behind pynn's interface, numpy arrays in and out."""

from __future__ import annotations

import time
import weakref
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from ..converter.model import OnnxModel, TensorSpec
from ..errors import InputError, InvalidStateError, PlanError, TensorRTError, UnsupportedModelError
from ..native import Engine, Flavor, Library, LibraryInfo, Logger, Runtime
from ..native import ProfileSelector as Selector
from ..native.binding import fork_guard
from ..native.handle import forked
from .base import Array, CompileOptions, Executable
from .cuda import Device
from .engine_file import EngineFile
from .memory_use import MemoryUse
from .pool import Pool
from .shapes import Range, hull
from .trt_build import TF32_NOTE, USER_ALLOCATION
from .trt_device_run import DeviceContexts, TensorRTDeviceRun, Tensors
from .trt_memory import pinned_empty
from .trt_refit import prepare
from .trt_session import Kernels, KernelStock, Lane, LaneFactory, Session, SessionOptions, Shapes

DEFAULT_CONCURRENCY = 8
"""Lanes are made when calls overlap: one thread has one."""


class TensorRTExecutable(Executable):
    """Runs one engine. Calls from several threads run side by side, each on a stream and contexts of its own."""

    backend = "tensorrt"

    def __init__(
        self,
        file: EngineFile,
        library: Library,
        device: Device,
        *,
        options: CompileOptions | None = None,
        kernel_cache: Kernels | None = None,
        weights: OnnxModel | None = None,
    ) -> None:
        """``weights`` go into an engine that was built without them.

        Raises PlanError or DeviceUnsupportedError when library or GPU do not take the plan."""
        options = options or CompileOptions()
        self._device = device
        self._epoch = fork_guard.epoch
        resources = ExitStack()
        self._device_runs: weakref.WeakSet[TensorRTDeviceRun] = weakref.WeakSet()
        lanes: list[Lane] = []
        self._shut = weakref.finalize(self, _shut, resources, lanes, device)
        self._shut.atexit = False
        try:
            start = time.perf_counter()
            self._info = library.info
            with device.current():
                logger = resources.enter_context(Logger(library))
                runtime = resources.enter_context(Runtime(logger))
                self._engine = resources.enter_context(runtime.deserialize(file.plan))
                self._weights_size = prepare(self._engine, file, weights)
            deserialized = time.perf_counter()
            file = _complete(file, self._engine)
            super().__init__(file.inputs, file.outputs, file.ranges, file.profiles)
            self.notes = file.notes
            self._file = replace(file, plan=b"")
            self._plan_size = len(file.plan)
            self._seconds = {**file.seconds, "deserialize": deserialized - start}
            self._static = all(spec.is_static for spec in file.inputs)
            self._settings = SessionOptions(
                flavor=self._info.flavor,
                inputs=file.inputs,
                outputs=file.outputs,
                cuda_graph=options.cuda_graph,
                user_allocation=bool(file.options.get(USER_ALLOCATION)),
                profiles=file.profiles,
                wait=options.wait,
                kernel_specialization=options.kernel_specialization,
            )
            self._stock = KernelStock(self._engine, kernel_cache)
            factory = LaneFactory(self._engine, device, self._settings, _first_shapes(file), self._stock, lanes)
            self._device_contexts = DeviceContexts(self._engine, device, self._settings, self._stock)
            self._making, self._made = factory.making, lanes
            self._lanes = Pool(factory.lane, options.concurrency or DEFAULT_CONCURRENCY)
            self._lanes.give(self._lanes.take())
            self._seconds["context"] = time.perf_counter() - deserialized
        except BaseException:
            self._shut()
            raise

    def _run(self, arrays: dict[str, Array], out: Mapping[str, Array] | None) -> dict[str, Array]:
        if self._epoch != fork_guard.epoch:
            raise forked("executable")
        pool = self._lanes
        try:
            lane = pool.free.pop()
        except IndexError:
            lane = pool.wait()
        try:
            session = lane.only or lane.session(tuple([array.shape for array in arrays.values()]))
            return session.run(arrays, out)
        finally:
            pool.free.append(lane)
            if pool.waiting:
                pool.wake()

    def bind_device(self, stream: int, inputs: Tensors, outputs: Tensors) -> TensorRTDeviceRun:
        if self._epoch != fork_guard.epoch:
            raise forked("executable")
        if self._rules is not None:
            self._rules.check({name: shape for name, (_, shape) in inputs.items()})
        with self._making:
            if self._closed:
                raise InvalidStateError("this executable is closed")
            with self._device.current():
                run = TensorRTDeviceRun(self._device_contexts, stream, inputs, outputs)
            self._device_runs.add(run)
            return run

    def empty_inputs(self, shapes: Mapping[str, tuple[int, ...]] | None = None) -> dict[str, Array]:
        return self._empty(self.inputs, shapes)

    def empty_outputs(self, shapes: Mapping[str, tuple[int, ...]] | None = None) -> dict[str, Array]:
        return self._empty(self.outputs, shapes)

    def _empty(self, specs: tuple[TensorSpec, ...], shapes: Mapping[str, tuple[int, ...]] | None) -> dict[str, Array]:
        wanted = self.shapes_of(specs, shapes)
        return {spec.name: pinned_empty(self._device, wanted[spec.name], spec.numpy) for spec in specs}

    def _explained(self, error: InputError, inputs: Mapping[str, Array]) -> InputError:
        sizes = [note for note in self.notes if not note.startswith(TF32_NOTE)]
        if sizes and isinstance(inputs, Mapping) and error.tensor in inputs:
            return InputError(f"{error}. Note: {'; '.join(sizes)}", tensor=error.tensor)
        return error

    @property
    def memory(self) -> MemoryUse:
        use = MemoryUse(weights=0 if self._closed else self._weights_size)
        for session in self._sessions():
            use = use + session.memory
        return use + MemoryUse(activations=self._device_contexts.activations)

    def _sessions(self) -> list[Session]:
        return [session for lane in list(self._made) for session in lane.sessions]

    @property
    def stats(self) -> Mapping[str, Any]:
        """Library, GPU, times in seconds, and whether runs are CUDA graph launches (else why not)."""
        with self._making:
            lanes, sessions = list(self._made), self._sessions()
            runner = lanes[0].last.info if lanes else None
            runs = sum(session.info.runs for session in sessions)
        return {
            "backend": self.backend,
            "library": self._info.title,
            "generation": self._info.generation,
            "library_path": self._info.path,
            "device": self._device.info.index,
            "gpu": self._device.info.name,
            "compute_capability": self._device.info.compute_capability,
            "engine": self._file.provenance,
            "plan_bytes": self._plan_size,
            "seconds": dict(self._seconds),
            "cache": self.cache.to_dict(),
            "kernel_cache": self._stock.record.to_dict(),
            "tf32": self._file.options.get("tf32"),
            "cuda_graph": bool(runner and runner.cuda_graph),
            "cuda_graph_reason": runner.cuda_graph_reason if runner else "closed",
            "runs": runs,
            "lanes": len(lanes),
            "lanes_note": self._lanes.note,
            "shape_sets": max((len(lane.sessions) for lane in lanes), default=0),
        }

    @property
    def engine_file(self) -> EngineFile:
        """The engine as a file to save."""
        with self._making, self._device.current():
            if self._closed:
                raise InvalidStateError("this executable is closed")
            return replace(self._file, plan=self._engine.serialize().view)

    def inspect(self) -> str:
        """The engine's layers, as JSON of the library."""
        with self._making, self._device.current():
            if self._closed:
                raise InvalidStateError("this executable is closed")
            return self._engine.inspect()

    def _close(self) -> None:
        if self._epoch != fork_guard.epoch:
            return
        self._lanes.close()
        with self._making:
            for run in list(self._device_runs):
                run.close()
            if self._device.usable and not self._static:
                with self._device.current():
                    for session in self._sessions():
                        session.hand_over(self._stock)
            self._shut()


def _shut(resources: ExitStack, lanes: list[Lane], device: Device) -> None:
    if device.usable:
        with device.current():
            while lanes:
                lanes.pop().close()
            resources.close()


def _first_shapes(file: EngineFile) -> Shapes:
    """The shapes the engine is best at."""
    return tuple(tuple(best for _, best, _ in file.ranges[spec.name]) for spec in file.inputs)


def _complete(file: EngineFile, engine: Engine) -> EngineFile:
    """The file with names and types checked against the engine; those of a bare plan are asked of it."""
    tensors = {tensor.name: tensor for tensor in engine.tensors}
    if any(tensor.on_host for tensor in tensors.values()):
        raise UnsupportedModelError("the engine has inputs or outputs in host memory (shapes as values): not supported")
    if not file.is_bare:
        for spec in (*file.inputs, *file.outputs):
            tensor = tensors.get(spec.onnx_name)
            if tensor is None or tensor.data_type != (spec.carrier or spec.data_type):
                raise PlanError(
                    f"the engine has no tensor for {spec}; its header belongs to another plan: build it again"
                )
        return file
    inputs: list[TensorSpec] = []
    outputs: list[TensorSpec] = []
    for name, tensor in tensors.items():
        dims: tuple[int | None, ...] = tuple(None if dim < 0 else dim for dim in tensor.shape or ())
        spec = TensorSpec(name, name, tensor.data_type, dims)
        (inputs if tensor.is_input else outputs).append(spec)
    count = 1 if all(spec.is_static for spec in inputs) else engine.info.profile_count
    profiles = tuple(
        {spec.name: _engine_ranges(engine, spec.name, tensors[spec.name].shape or (), i) for spec in inputs}
        for i in range(count)
    )
    ranges = {name: tuple(one for one in dims if one) for name, dims in hull(profiles).items()}
    # Any engine takes memory; one built to require it, which a bare plan does not tell, takes nothing else.
    options = {**file.options, USER_ALLOCATION: all(spec.is_static for spec in inputs)}
    return replace(
        file, inputs=tuple(inputs), outputs=tuple(outputs), ranges=ranges, profiles=profiles, options=options
    )


def _engine_ranges(engine: Engine, name: str, shape: tuple[int, ...], profile: int) -> tuple[Range, ...]:
    if min(shape, default=0) >= 0:
        return tuple((dim, dim, dim) for dim in shape)
    selectors = (Selector.MIN, Selector.OPT, Selector.MAX)
    low, best, high = (engine.profile_shape(name, selector, profile) for selector in selectors)
    return tuple(zip(low, best, high, strict=True))


def wants_tf32(file: EngineFile) -> bool:
    """What the engine was built with, and RTX demands at run. A bare plan does not tell; most have it on."""
    return bool(file.options.get("tf32", file.is_bare))


def open_engine(
    file: EngineFile,
    library: Library,
    info: LibraryInfo,
    device: Device,
    *,
    options: CompileOptions | None = None,
    kernel_cache: Kernels | None = None,
    weights: OnnxModel | None = None,
) -> TensorRTExecutable:
    """The executable of a loaded file. Refusals say what the plan was built for, and what is here."""
    wanted = wants_tf32(file)
    if info.flavor is Flavor.RTX and library.tf32.allowed != wanted and not file.is_bare:
        raise PlanError(
            f"this engine cannot run: it was {file.provenance}, with TF32 {'on' if wanted else 'off'}; {info.title} "
            f"settles that once in a process, while it is loaded: {library.tf32.reason}. Load it before other models, "
            "or in a process of its own"
        )
    try:
        return TensorRTExecutable(file, library, device, options=options, kernel_cache=kernel_cache, weights=weights)
    except TensorRTError as error:
        here = f"here is {info.title} on {device.info.title}"
        raise type(error)(f"this engine cannot run: it was {file.provenance}; {here}. {error}", log=error.log) from None
