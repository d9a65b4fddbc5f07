"""Sessions of a TensorRT engine: a context whose input shapes are set, bound to memory and to a stream."""

from __future__ import annotations

import functools
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from ..cache.record import DISABLED, CacheRecord
from ..converter.model import TensorSpec
from ..errors import InputError, TensorRTError, UnsupportedModelError
from ..native import Context, Engine, Flavor, Runner, RunnerInfo
from .base import Array
from .cuda import Device, DeviceMemory, Stream
from .memory_use import MemoryUse
from .trt_memory import Staging
from .trt_shapes import choose_profile

MAX_SESSIONS = 4
"""Sets of input shapes kept ready per stream; each has its own context, since a CUDA graph holds for one set."""
USER_MANAGED, LIBRARY_DEFAULT = 2, -1
_WAITS = {"spin": 0, "block": 1, "auto": 2}
_SPECIALIZATIONS = {"auto": -1, "lazy": 0, "eager": 1, "none": 2}
_WHOLE_GRAPH = 1
LIBRARY_GRAPHS = "TensorRT captures these runs itself, once its kernels for the shapes are compiled"

Shapes = tuple[tuple[int, ...], ...]


class Kernels(Protocol):
    """Kernels kept between contexts and processes: ``jit_cache.KernelCache``."""

    record: CacheRecord

    def load(self) -> bytes: ...
    def save(self, data: bytes, merge: Callable[[bytes, bytes], bytes] | None = None) -> None: ...


class KernelStock:
    """The compiled kernels of one engine, from its contexts and from disk. Only time is lost when it fails."""

    def __init__(self, engine: Engine, kernels: Kernels | None) -> None:
        self._engine, self._kernels = engine, kernels
        self.data = kernels.load() if kernels is not None else b""

    @property
    def record(self) -> CacheRecord:
        """What came of keeping them on disk."""
        return self._kernels.record if self._kernels is not None else DISABLED

    def add(self, context: Context, given: bytes) -> bytes:
        """Take over what ``context``, made with the kernels ``given``, has compiled since, and save it if there is
        something new. Returns what the context has now. Merging takes a quarter of a second, so it is not done when
        nothing came in between."""
        try:
            data = bytes(context.runtime_cache())
            if len(data) == len(given):
                return given
            known, self.data = self.data, data if self.data is given else self._merge(self.data, data)
        except TensorRTError:
            return given
        if self._kernels is not None and len(self.data) != len(known):
            self._kernels.save(self.data, self._merge)
        return data

    def _merge(self, one: bytes, other: bytes) -> bytes:
        return bytes(self._engine.merge_runtime_caches([one, other]))


@dataclass(frozen=True)
class SessionOptions:
    """What all sessions of an executable share. ``user_allocation``: the engine allocates nothing while it runs."""

    flavor: Flavor
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    cuda_graph: bool
    user_allocation: bool
    profiles: tuple[Mapping[str, Any], ...] = ()
    wait: str = "auto"
    kernel_specialization: str = "auto"

    @property
    def gives_memory(self) -> bool:
        return self.flavor is Flavor.RTX and self.user_allocation

    @property
    def library_graphs(self) -> bool:
        """TensorRT for RTX calls a stream capturable only if its memory is given to it, and crashes when that is tried
        with dynamic shapes; its own capture works."""
        return self.cuda_graph and self.flavor is Flavor.RTX and not self.user_allocation

    @property
    def own_graphs(self) -> bool:
        return self.cuda_graph and not self.library_graphs


class ReadyContext:
    """An execution context with shapes set and memory given."""

    def __init__(
        self, engine: Engine, device: Device, options: SessionOptions, shapes: Shapes, stock: KernelStock, stream: int
    ) -> None:
        self._resources = ExitStack()
        self.activations = 0
        is_rtx = options.flavor is Flavor.RTX
        try:
            self.kernels = stock.data if is_rtx else b""
            self.context = self._resources.enter_context(
                Context(
                    engine,
                    allocation_strategy=USER_MANAGED if options.gives_memory else LIBRARY_DEFAULT,
                    cuda_graph_strategy=_WHOLE_GRAPH if options.library_graphs else -1,
                    kernel_specialization=_SPECIALIZATIONS[options.kernel_specialization] if is_rtx else -1,
                    runtime_cache=self.kernels if is_rtx else None,
                )
            )
            if len(options.profiles) > 1:
                named = {spec.name: shape for spec, shape in zip(options.inputs, shapes, strict=True)}
                self.context.set_profile(choose_profile(options.profiles, named), stream)
            for spec, shape in zip(options.inputs, shapes, strict=True):
                self.context.set_input_shape(spec.onnx_name, shape)
            self.context.infer_shapes()
            if options.gives_memory:
                self._give_memory(device)
            self.shapes = (*shapes, *(self._output_shape(spec) for spec in options.outputs))
        except BaseException:
            self._resources.close()
            raise

    def _give_memory(self, device: Device) -> None:
        """Activations live in memory of ours, so that TensorRT for RTX allocates nothing in a CUDA graph."""
        size = self.context.device_memory_size()
        if size:
            memory = self._resources.enter_context(DeviceMemory(device, size))
            self.context.set_device_memory(memory.address, size)
            self.activations = size

    def _output_shape(self, spec: TensorSpec) -> tuple[int, ...]:
        shape = self.context.tensor_shape(spec.onnx_name)
        if min(shape, default=0) < 0:
            raise UnsupportedModelError(
                f"the shape of output {spec.name!r} depends on the values computed, which pynn's TensorRT back end "
                "cannot return yet"
            )
        return shape

    def close(self) -> None:
        self._resources.close()


class Session:
    """A context, its staging memory and its runner. ``run`` fills the memory, launches, waits and reads."""

    def __init__(
        self,
        engine: Engine,
        device: Device,
        stream: Stream,
        options: SessionOptions,
        shapes: Shapes,
        stock: KernelStock,
    ) -> None:
        self._resources = ExitStack()
        self._options = options
        try:
            ready = ReadyContext(engine, device, options, shapes, stock, stream.address)
            self._resources.callback(ready.close)
            specs = (*options.inputs, *options.outputs)
            tensors = [
                (spec, shape, i >= len(shapes)) for i, (spec, shape) in enumerate(zip(specs, ready.shapes, strict=True))
            ]
            staging = Staging(device, tensors)
            self._resources.callback(staging.close)
            self.memory = MemoryUse(activations=ready.activations) + staging.use
            self._ready = ready
            self._runner = self._resources.enter_context(
                Runner(
                    ready.context,
                    staging.bindings,
                    stream=stream.address,
                    cuda_context=device.context_address,
                    use_cuda_graph=options.own_graphs,
                    wait=_WAITS[options.wait],
                    kept=staging,
                )
            )
            self._warm_up()
            self.hand_over(stock)
        except BaseException:
            self._resources.close()
            raise
        self._launch = self._runner.run
        self._narrows = any(spec.data_type == "float64" for spec in options.inputs)
        self._place(tensors, staging)
        self._simple = not (self._narrows or self._by_address)

    def _warm_up(self) -> None:
        """Two runs on zeros: kernels are compiled, and the second is captured where runs become CUDA graphs."""
        self._runner.run()
        if self._options.cuda_graph:
            self._runner.run()
        self._warm_runs = self._runner.info.runs

    def _place(self, tensors: Sequence[tuple[TensorSpec, tuple[int, ...], bool]], staging: Staging) -> None:
        """Small arrays go by numpy into memory that the GPU sees; large ones are the runner's business, who gets their
        addresses."""
        inputs: list[tuple[str, Array]] = []
        large_inputs: list[tuple[str, int]] = []
        outputs: list[tuple[str, Array | None, int, tuple[int, ...], np.dtype[Any]]] = []
        order = {True: 0, False: 0}
        for (spec, shape, is_output), binding, view in zip(tensors, staging.bindings, staging.views, strict=True):
            index = order[is_output]
            order[is_output] += 1
            by_address = not binding.mapped and view.dtype == spec.numpy and spec.numpy.kind in "biufc"
            if is_output:
                outputs.append((spec.name, None if by_address else view, index, shape, spec.numpy))
            elif by_address:
                large_inputs.append((spec.name, index))
            else:
                inputs.append((spec.name, view))
        self._inputs, self._large_inputs, self._outputs = tuple(inputs), tuple(large_inputs), tuple(outputs)
        self._copies = tuple(
            (name, view.copy if view.dtype == dtype else functools.partial(view.astype, dtype))
            for name, view, _, _, dtype in outputs
            if view is not None
        )
        self._by_address = bool(large_inputs) or any(view is None for _, view, *_ in outputs)

    def hand_over(self, stock: KernelStock) -> None:
        """Give the kernels compiled so far to ``stock``; some are compiled beside the runs, later."""
        if self._options.flavor is Flavor.RTX:
            self._ready.kernels = stock.add(self._ready.context, self._ready.kernels)

    @property
    def info(self) -> RunnerInfo:
        """Runs are those that users asked for."""
        info = self._runner.info
        by_library = self._options.library_graphs
        return replace(
            info,
            runs=info.runs - self._warm_runs,
            cuda_graph=info.cuda_graph or by_library,
            cuda_graph_reason=LIBRARY_GRAPHS if by_library else info.cuda_graph_reason,
        )

    def run(self, arrays: Mapping[str, Array], out: Mapping[str, Array] | None) -> dict[str, Array]:
        """numpy converts where the engine's type is not the user's. One thread at a time."""
        if out is None and self._simple:
            for name, staged in self._inputs:
                staged[...] = arrays[name]
            self._launch()
            return {name: copy() for name, copy in self._copies}
        try:
            if self._narrows:
                with np.errstate(over="ignore"):
                    self._fill(arrays)
            else:
                self._fill(arrays)
            results: dict[str, Array] = {}
            for name, view, index, shape, dtype in self._outputs:
                target = out.get(name) if out else None
                if target is None:
                    target = np.empty(shape, dtype)
                elif target.shape != shape:
                    raise InputError(f"out {name!r} has shape {target.shape}, the result has {shape}", tensor=name)
                if view is None:
                    self._runner.set_output(index, target)
                results[name] = target
            self._launch()
        finally:
            if self._by_address:
                self._runner.forget()
        for name, view, _, _, _ in self._outputs:
            if view is not None:
                results[name][...] = view
        return results

    def _fill(self, arrays: Mapping[str, Array]) -> None:
        for name, view in self._inputs:
            view[...] = arrays[name]
        for name, index in self._large_inputs:
            self._runner.set_input(index, arrays[name])

    def close(self) -> None:
        self._inputs = self._outputs = self._copies = ()
        self._resources.close()


class Lane:
    """A stream with its sessions: what one thread needs to run an engine. ``only`` is the session of an engine that has
    one set of shapes."""

    def __init__(self, factory: LaneFactory) -> None:
        self._factory = factory
        self._sessions: OrderedDict[Shapes, Session] = OrderedDict()
        self._stream = Stream(factory.device)
        try:
            self.last = self._add(factory.first)
        except BaseException:
            self._stream.close()
            raise
        self.only = self.last if all(spec.is_static for spec in factory.options.inputs) else None

    @property
    def sessions(self) -> tuple[Session, ...]:
        return tuple(self._sessions.values())

    def session(self, shapes: Shapes) -> Session:
        """The session for these input shapes, in the order of the engine's inputs; the oldest makes room."""
        session = self._sessions.get(shapes)
        if session is not None:
            self._sessions.move_to_end(shapes)
            self.last = session
            return session
        with self._factory.making, self._factory.device.current():
            self.last.hand_over(self._factory.stock)
            while len(self._sessions) >= MAX_SESSIONS:
                self._sessions.popitem(last=False)[1].close()
            self.last = self._add(shapes)
        return self.last

    def _add(self, shapes: Shapes) -> Session:
        of = self._factory
        session = Session(of.engine, of.device, self._stream, of.options, shapes, of.stock)
        self._sessions[shapes] = session
        return session

    def close(self) -> None:
        for session in self._sessions.values():
            session.close()
        self._sessions.clear()
        self._stream.close()


@dataclass(frozen=True, eq=False)
class LaneFactory:
    """Makes lanes, and sessions in them, one at a time. ``lanes`` has all that it made."""

    engine: Engine
    device: Device
    options: SessionOptions
    first: Shapes
    stock: KernelStock
    lanes: list[Lane]
    making: threading.Lock = field(default_factory=threading.Lock)

    def lane(self) -> Lane:
        with self.making, self.device.current():
            lane = Lane(self)
            self.lanes.append(lane)
            return lane
