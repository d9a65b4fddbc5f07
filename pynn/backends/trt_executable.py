"""TensorRTExecutable: an engine on a GPU behind pynn's interface, numpy arrays in and out."""

from __future__ import annotations

import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np

from ..converter.model import TensorSpec, numpy_dtype
from ..errors import InputError, InvalidStateError, PlanError, TensorRTError, UnsupportedModelError
from ..native import Binding, Context, Engine, Flavor, Library, LibraryInfo, Logger, Runner, Runtime
from ..native import ProfileSelector as Selector
from ..native.binding import fork_guard
from ..native.handle import forked
from .base import Array, Executable
from .cuda import Device, DeviceMemory, PinnedMemory, Stream
from .engine_file import EngineFile
from .shapes import Range
from .trt_build import TF32_NOTE, USER_ALLOCATION

MAPPED_BYTES = 64 * 1024
"""Up to this size the GPU reads and writes pinned host memory itself; above, copies. An estimate, not measured."""
MAX_SESSIONS = 4
"""Sets of input shapes kept ready at a time; each has its own context, since a CUDA graph holds for one set."""
_ALIGN = 256
_USER_MANAGED, _LIBRARY_DEFAULT = 2, -1

Shapes = tuple[tuple[int, ...], ...]


class TensorRTExecutable(Executable):
    """Runs one engine. Calls from several threads take turns."""

    backend = "tensorrt"

    def __init__(self, file: EngineFile, library: Library, device: Device, *, cuda_graph: bool = True) -> None:
        """Raises PlanError or DeviceUnsupportedError when library or GPU do not take the plan."""
        self._device, self._cuda_graph = device, cuda_graph
        self._lock = threading.Lock()
        self._epoch = fork_guard.epoch
        self._sessions: OrderedDict[Shapes, Session] = OrderedDict()
        resources = ExitStack()
        self._shut = weakref.finalize(self, _shut, resources, self._sessions, device)
        self._shut.atexit = False
        try:
            start = time.perf_counter()
            self._info = library.info
            with device.current():
                logger = resources.enter_context(Logger(library))
                runtime = resources.enter_context(Runtime(logger))
                self._engine = resources.enter_context(runtime.deserialize(file.plan))
            deserialized = time.perf_counter()
            file = _complete(file, self._engine)
            super().__init__(file.inputs, file.outputs, file.ranges)
            self.notes = file.notes
            self._file = replace(file, plan=b"")
            self._plan_size = len(file.plan)
            self._stream = resources.enter_context(Stream(device))
            self._seconds = {**file.seconds, "deserialize": deserialized - start}
            self._last = self._session(_first_shapes(file))
            self._only = self._last if all(spec.is_static for spec in file.inputs) else None
            self._seconds["context"] = time.perf_counter() - deserialized
        except BaseException:
            self._shut()
            raise

    def _run(self, arrays: dict[str, Array], out: Mapping[str, Array] | None) -> dict[str, Array]:
        if self._epoch != fork_guard.epoch:
            raise forked("executable")
        with self._lock:
            if self._closed:
                raise InvalidStateError("this executable is closed")
            session = self._only or self._session(tuple([array.shape for array in arrays.values()]))
            return session.run(arrays, out)

    def _session(self, shapes: Shapes) -> Session:
        """The session for these input shapes, in the order of ``inputs``."""
        session = self._sessions.get(shapes)
        if session is not None:
            self._sessions.move_to_end(shapes)
            self._last = session
            return session
        with self._device.current():
            cache = next(iter(self._sessions.values())).runtime_cache() if self._sessions else b""
            while len(self._sessions) >= MAX_SESSIONS:
                self._sessions.popitem(last=False)[1].close()
            session = Session(
                self._engine,
                self._device,
                self._stream,
                (self._file.inputs, self._file.outputs),
                shapes,
                cuda_graph=self._cuda_graph,
                give_memory=self._info.flavor is Flavor.RTX and bool(self._file.options.get(USER_ALLOCATION)),
                runtime_cache=cache if self._info.flavor is Flavor.RTX else None,
            )
        self._sessions[shapes] = session
        self._last = session
        return session

    def check_inputs(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        try:
            return super().check_inputs(inputs)
        except InputError as error:
            sizes = [note for note in self.notes if not note.startswith(TF32_NOTE)]
            if sizes and isinstance(inputs, Mapping) and error.tensor in inputs:
                raise InputError(f"{error}. Note: {'; '.join(sizes)}", tensor=error.tensor) from None
            raise

    @property
    def stats(self) -> Mapping[str, Any]:
        """Library, GPU, times in seconds, and whether runs are CUDA graph launches (else why not)."""
        with self._lock:
            runner = None if self._closed else self._last.runner.info
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
            "tf32": self._file.options.get("tf32"),
            "cuda_graph": bool(runner and runner.cuda_graph),
            "cuda_graph_reason": runner.cuda_graph_reason if runner else "closed",
            "runs": runner.runs if runner else 0,
            "shape_sets": len(self._sessions),
        }

    @property
    def engine_file(self) -> EngineFile:
        """The engine as a file to save."""
        with self._lock:
            if self._closed:
                raise InvalidStateError("this executable is closed")
            with self._device.current():
                return replace(self._file, plan=self._engine.serialize().view)

    def inspect(self) -> str:
        """The engine's layers, as JSON of the library."""
        with self._lock:
            if self._closed:
                raise InvalidStateError("this executable is closed")
            with self._device.current():
                return self._engine.inspect()

    def _close(self) -> None:
        if self._epoch == fork_guard.epoch:
            with self._lock:
                self._shut()


def _shut(resources: ExitStack, sessions: OrderedDict[Shapes, Session], device: Device) -> None:
    if device.usable:
        with device.current():
            for session in sessions.values():
                session.close()
            sessions.clear()
            resources.close()


class Session:
    """A context whose input shapes are set, its memory and its runner. ``run`` fills staging memory and launches."""

    def __init__(
        self,
        engine: Engine,
        device: Device,
        stream: Stream,
        specs: tuple[Sequence[TensorSpec], Sequence[TensorSpec]],
        shapes: Shapes,
        *,
        cuda_graph: bool,
        give_memory: bool,
        runtime_cache: bytes | None,
    ) -> None:
        self._resources = ExitStack()
        try:
            self._has_cache = runtime_cache is not None
            strategy = _USER_MANAGED if give_memory else _LIBRARY_DEFAULT
            self._context = self._resources.enter_context(
                Context(engine, allocation_strategy=strategy, runtime_cache=runtime_cache)
            )
            inputs, outputs = specs
            for spec, shape in zip(inputs, shapes, strict=True):
                self._context.set_input_shape(spec.onnx_name, shape)
            self._context.infer_shapes()
            if give_memory:
                self._give_memory(device)
            tensors = [(spec, shape, False) for spec, shape in zip(inputs, shapes, strict=True)]
            tensors += [(spec, self._output_shape(spec), True) for spec in outputs]
            memory = Memory(device, tensors)
            self._resources.callback(memory.close)
            self.runner = self._resources.enter_context(
                Runner(
                    self._context,
                    memory.bindings,
                    stream=stream.address,
                    cuda_context=device.context_address,
                    use_cuda_graph=cuda_graph,
                    kept=memory,
                )
            )
        except BaseException:
            self._resources.close()
            raise
        self._launch = self.runner.run
        self._narrows = any(spec.data_type == "float64" for spec in inputs)
        views = [(spec.name, view) for (spec, _, _), view in zip(tensors, memory.views, strict=True)]
        self._inputs = tuple(views[: len(shapes)])
        self._outputs = tuple(
            (name, view, shape, spec.numpy)
            for (name, view), (spec, shape, _) in zip(views[len(shapes) :], tensors[len(shapes) :], strict=True)
        )

    def _give_memory(self, device: Device) -> None:
        """Activations live in memory of ours, so that TensorRT for RTX allocates nothing in a CUDA graph."""
        size = self._context.device_memory_size()
        if size:
            memory = self._resources.enter_context(DeviceMemory(device, size))
            self._context.set_device_memory(memory.address, size)

    def _output_shape(self, spec: TensorSpec) -> tuple[int, ...]:
        shape = self._context.tensor_shape(spec.onnx_name)
        if min(shape, default=0) < 0:
            raise UnsupportedModelError(
                f"the shape of output {spec.name!r} depends on the values computed, which pynn's TensorRT back end "
                "cannot return yet"
            )
        return shape

    def run(self, arrays: Mapping[str, Array], out: Mapping[str, Array] | None) -> dict[str, Array]:
        """numpy converts where the engine's type is not the user's. The caller holds the lock."""
        if self._narrows:
            with np.errstate(over="ignore"):
                self._fill(arrays)
        else:
            self._fill(arrays)
        self._launch()
        results = {}
        for name, view, shape, dtype in self._outputs:
            target = out.get(name) if out else None
            if target is None:
                target = np.empty(shape, dtype)
            elif target.shape != shape:
                raise InputError(f"out {name!r} has shape {target.shape}, the result has {shape}", tensor=name)
            target[...] = view
            results[name] = target
        return results

    def _fill(self, arrays: Mapping[str, Array]) -> None:
        for name, view in self._inputs:
            view[...] = arrays[name]

    def runtime_cache(self) -> bytes:
        """Compiled kernels, for the next context of the same engine."""
        try:
            return bytes(self._context.runtime_cache()) if self._has_cache else b""
        except TensorRTError:
            return b""

    def close(self) -> None:
        self._inputs = self._outputs = ()
        self._resources.close()


class Memory:
    """Staging memory of a session: one pinned block for all tensors, one device block for those above MAPPED_BYTES."""

    def __init__(self, device: Device, tensors: Sequence[tuple[TensorSpec, tuple[int, ...], bool]]) -> None:
        dtypes = [numpy_dtype(spec.carrier or spec.data_type) for spec, _, _ in tensors]
        sizes = [
            int(np.prod(shape, dtype=np.int64)) * d.itemsize for (_, shape, _), d in zip(tensors, dtypes, strict=True)
        ]
        pinned_at, pinned_size = _offsets(sizes)
        device_at, device_size = _offsets([size if size > MAPPED_BYTES else 0 for size in sizes])
        self._pinned = PinnedMemory(device, pinned_size)
        try:
            self._device = DeviceMemory(device, device_size) if device_size else None
        except BaseException:
            self._pinned.close()
            raise
        base = self._pinned.view()
        self.bindings: list[Binding] = []
        self.views: list[Array] = []
        for i, ((spec, shape, is_output), dtype) in enumerate(zip(tensors, dtypes, strict=True)):
            mapped = sizes[i] <= MAPPED_BYTES or self._device is None
            where = self._pinned.device_address + pinned_at[i]
            if not mapped and self._device is not None:
                where = self._device.address + device_at[i]
            staging = self._pinned.address + pinned_at[i]
            self.bindings.append(Binding(spec.onnx_name, is_output, staging, where, sizes[i], mapped))
            raw = base[pinned_at[i] : pinned_at[i] + sizes[i]]
            self.views.append(_as_user(raw.view(dtype).reshape(shape), spec.numpy))

    def close(self) -> None:
        self.views.clear()
        self._pinned.close()
        if self._device is not None:
            self._device.close()


def _as_user(view: Array, dtype: np.dtype[Any]) -> Array:
    """The same memory under the user's type where the bits mean the same: uint32 travels as int32."""
    same = view.dtype.itemsize == dtype.itemsize and view.dtype.kind in "iu" and dtype.kind in "iu"
    return view.view(dtype) if same else view


def _offsets(sizes: Sequence[int]) -> tuple[list[int], int]:
    """Where each piece starts in one block, and the block's size. Pieces of size 0 get a place too."""
    starts, end = [], 0
    for size in sizes:
        starts.append(end)
        end += -(-size // _ALIGN) * _ALIGN
    return starts, end


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
    ranges = {}
    for name, tensor in tensors.items():
        dims: tuple[int | None, ...] = tuple(None if dim < 0 else dim for dim in tensor.shape or ())
        spec = TensorSpec(name, name, tensor.data_type, dims)
        (inputs if tensor.is_input else outputs).append(spec)
        if tensor.is_input:
            ranges[name] = _engine_ranges(engine, name, tensor.shape or ())
    # Any engine takes memory; one built to require it, which a bare plan does not tell, takes nothing else.
    options = {**file.options, USER_ALLOCATION: all(spec.is_static for spec in inputs)}
    return replace(file, inputs=tuple(inputs), outputs=tuple(outputs), ranges=ranges, options=options)


def _engine_ranges(engine: Engine, name: str, shape: tuple[int, ...]) -> tuple[Range, ...]:
    if min(shape, default=0) >= 0:
        return tuple((dim, dim, dim) for dim in shape)
    low, best, high = (engine.profile_shape(name, selector) for selector in (Selector.MIN, Selector.OPT, Selector.MAX))
    return tuple(zip(low, best, high, strict=True))


def wants_tf32(file: EngineFile) -> bool:
    """What the engine was built with, and RTX demands at run. A bare plan does not tell; most have it on."""
    return bool(file.options.get("tf32", file.is_bare))


def open_engine(
    file: EngineFile, library: Library, info: LibraryInfo, device: Device, cuda_graph: bool
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
        return TensorRTExecutable(file, library, device, cuda_graph=cuda_graph)
    except TensorRTError as error:
        here = f"here is {info.title} on {device.info.title}"
        raise type(error)(f"this engine cannot run: it was {file.provenance}; {here}. {error}", log=error.log) from None
