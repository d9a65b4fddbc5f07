"""From a plan to results: runtime, engine, context, runner."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import InvalidStateError
from .binding import fork_guard
from .constants import ProfileSelector
from .handle import Handle, create, encode, forked
from .library import Blob, Logger, TensorInfo, blob_of, tensor_info
from .status import exception


class Runtime(Handle):
    """IRuntime: turns plans into engines."""

    _noun = "runtime"

    def __init__(self, logger: Logger) -> None:
        super().__init__(*create("runtime", "runtime_create", logger._pointer))

    def deserialize(self, plan: bytes | memoryview) -> Engine:
        """Needs a GPU, and its context current. Raises PlanError, DeviceUnsupportedError."""
        return Engine(self, plan)

    def check_plan(self, plan: bytes | memoryview) -> tuple[int, int]:
        """RTX: (0 valid, 1 suboptimal or 2 invalid; diagnostics bits). Else FeatureNotSupportedError."""
        ffi = self._shim.ffi
        validity, diagnostics = ffi.new("int32_t *"), ffi.new("uint64_t *")
        self._call("check_plan", ffi.from_buffer(plan), len(plan), validity, diagnostics)
        return validity[0], diagnostics[0]


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """``device_memory`` and ``streamable_weights`` are bytes, or -1 where the version cannot tell."""

    name: str
    io_count: int
    profile_count: int
    layer_count: int
    refittable: bool
    aux_streams: int
    device_memory: int
    streamable_weights: int


class Engine(Handle):
    """ICudaEngine."""

    _noun = "engine"

    def __init__(self, runtime: Runtime, plan: bytes | memoryview) -> None:
        native = runtime._shim
        view = native.ffi.from_buffer(plan)
        super().__init__(*create("engine", "runtime_deserialize", runtime._pointer, view, len(view)))

    @property
    def info(self) -> EngineInfo:
        raw = self._describe("describe", "engine_info")
        return EngineInfo(
            name=self._shim.text(raw.name),
            io_count=raw.io_count,
            profile_count=raw.profile_count,
            layer_count=raw.layer_count,
            refittable=bool(raw.refittable),
            aux_streams=raw.aux_streams,
            device_memory=raw.device_memory,
            streamable_weights=raw.streamable_weights,
        )

    @property
    def tensors(self) -> tuple[TensorInfo, ...]:
        """Inputs and outputs, in the engine's order."""
        count = self.info.io_count
        return tuple(tensor_info(self._shim, self._describe("describe_io", "tensor_info", i)) for i in range(count))

    def profile_shape(self, tensor: str, selector: ProfileSelector, profile: int = 0) -> tuple[int, ...]:
        ffi = self._shim.ffi
        dims, rank = ffi.new("int64_t[8]"), ffi.new("int32_t *")
        self._call("profile_shape", encode(tensor), profile, int(selector), dims, rank)
        return tuple(dims[0 : rank[0]])

    def inspect(self, *, json: bool = True, context: Context | None = None) -> str:
        """The engine's layers as the library describes them."""
        where = self._shim.null if context is None else context._pointer
        return bytes(blob_of(self, "inspect", where, int(json))).decode("utf-8", "replace")

    def serialize(self) -> Blob:
        return blob_of(self, "serialize")

    def merge_runtime_caches(self, caches: Sequence[bytes]) -> Blob:
        """RTX: the kernels of several contexts' runtime caches as one."""
        ffi = self._shim.ffi
        views = [ffi.from_buffer(cache) for cache in caches]
        return blob_of(
            self, "merge_runtime_caches", ffi.new("void *[]", views), [len(view) for view in views], len(views)
        )


class Context(Handle):
    """IExecutionContext. One thread at a time."""

    _noun = "context"

    def __init__(
        self,
        engine: Engine,
        *,
        allocation_strategy: int = -1,
        cuda_graph_strategy: int = -1,
        kernel_specialization: int = -1,
        runtime_cache: bytes | None = None,
    ) -> None:
        """Slow: kernels are compiled here. ``runtime_cache``: an earlier cache, or b"" to have one to save later."""
        native = engine._shim
        options = native.struct("context_options")
        options.allocation_strategy = allocation_strategy
        options.cuda_graph_strategy = cuda_graph_strategy
        options.kernel_specialization = kernel_specialization
        options.use_runtime_cache = int(runtime_cache is not None)
        view = native.ffi.from_buffer(runtime_cache or b"")
        if runtime_cache:
            options.runtime_cache, options.runtime_cache_size = view, len(view)
        super().__init__(*create("context", "context_create", engine._pointer, options))

    def runtime_cache(self) -> Blob:
        return blob_of(self, "runtime_cache")

    def set_profile(self, profile: int, stream: int = 0) -> None:
        self._call("set_profile", profile, stream)

    def set_input_shape(self, tensor: str, shape: Sequence[int]) -> None:
        self._call("set_input_shape", encode(tensor), list(shape), len(shape))

    def tensor_shape(self, tensor: str) -> tuple[int, ...]:
        ffi = self._shim.ffi
        dims, rank = ffi.new("int64_t[8]"), ffi.new("int32_t *")
        self._call("tensor_shape", encode(tensor), dims, rank)
        return tuple(dims[0 : rank[0]])

    def infer_shapes(self) -> None:
        """Raises, naming the inputs that still lack a shape."""
        self._call("infer_shapes")

    def max_output_size(self, tensor: str) -> int:
        return int(self._ask("max_output_size", "int64_t", encode(tensor)))

    def set_address(self, tensor: str, address: int) -> None:
        self._call("set_address", encode(tensor), address)

    def device_memory_size(self) -> int:
        """Bytes that ``set_device_memory`` must give for the input shapes now set (allocation strategy 2)."""
        return int(self._ask("device_memory_size", "int64_t"))

    def set_device_memory(self, address: int, size: int) -> None:
        """The memory stays the caller's and must outlive the last run."""
        self._call("set_device_memory", address, size)

    def enqueue(self, stream: int) -> None:
        self._call("enqueue", stream)

    def is_stream_capturable(self, stream: int) -> bool:
        return bool(self._ask("is_stream_capturable", "int32_t", stream))


@dataclass(frozen=True, slots=True)
class Binding:
    """One engine input or output, and the memory that carries it.

    ``staging`` is the address of pinned host memory, ``device`` that of device memory; ``mapped``: they are the same
    memory, seen from both sides.
    """

    name: str
    is_output: bool
    staging: int
    device: int
    size: int
    mapped: bool


@dataclass(frozen=True, slots=True)
class RunnerInfo:
    cuda_graph: bool
    cuda_graph_reason: str
    runs: int


class Runner(Handle):
    """The hot path: ``run`` is one C call without the interpreter lock. One thread at a time.

    ``kept`` stays alive as long as the native object: the memory behind the bindings.
    """

    _noun = "runner"
    run: Callable[[], None]
    """Run once, from and to the arrays last given; tensors without one are read from and left in staging memory."""
    launch: Callable[[], None]
    """Send one run from and to the memory bound, without waiting."""

    def __init__(
        self,
        context: Context,
        bindings: Sequence[Binding],
        *,
        stream: int,
        cuda_context: int,
        use_cuda_graph: bool,
        wait: int = 0,
        kept: object = None,
    ) -> None:
        native = context._shim
        ffi = native.ffi
        options = native.struct("runner_options")
        options.use_cuda_graph, options.wait = int(use_cuda_graph), wait
        options.stream, options.cuda_context = stream, cuda_context
        table = ffi.new("pynn_trt_binding[]", max(len(bindings), 1))
        names = [ffi.new("char[]", encode(binding.name)) for binding in bindings]
        for raw, binding, name in zip(table, bindings, names, strict=False):
            raw.struct_size = ffi.sizeof("pynn_trt_binding")
            raw.is_output, raw.mapped = int(binding.is_output), int(binding.mapped)
            raw.name, raw.bytes = name, binding.size
            raw.staging, raw.device = ffi.cast("void *", binding.staging), binding.device
        super().__init__(
            *create("runner", "runner_create", context._pointer, options, table, len(bindings)), names, kept
        )
        outputs = sum(binding.is_output for binding in bindings)
        self._inputs = ffi.new("void *[]", max(len(bindings) - outputs, 1))
        self._outputs = ffi.new("void *[]", max(outputs, 1))
        self._views: dict[tuple[bool, int], object] = {}
        self.run, self.launch = self._calls()

    def _calls(self) -> tuple[Callable[[], None], Callable[[], None]]:
        """Everything the calls need, in local variables: this is counted in tenths of a microsecond."""
        native, pointer, guard, epoch = self._shim, self._raw, fork_guard, self._epoch
        inputs, outputs = self._inputs, self._outputs
        error, null = native.ffi.new("pynn_trt_error **"), native.null
        run_function, launch_function = native.lib.pynn_trt_runner_run, native.lib.pynn_trt_runner_launch

        def fail(status: int) -> None:
            problem, error[0] = error[0], null
            raise exception(native, status, problem)

        def run() -> None:
            if guard.epoch != epoch:
                raise forked("Runner")
            status = run_function(pointer, inputs, outputs, error)
            if status:
                fail(status)

        def launch() -> None:
            if guard.epoch != epoch:
                raise forked("Runner")
            status = launch_function(pointer, error)
            if status:
                fail(status)

        return run, launch

    def set_input(self, index: int, array: np.ndarray[Any, Any] | None) -> None:
        """Read the index-th input from a C-contiguous array, which is borrowed until the next ``set_input``."""
        self._inputs[index] = self._address(False, index, array)

    def set_output(self, index: int, array: np.ndarray[Any, Any] | None) -> None:
        self._outputs[index] = self._address(True, index, array)

    def forget(self) -> None:
        """Let go of the arrays. Each must be given anew, or taken back with None, before the next run."""
        self._views.clear()

    def _address(self, output: bool, index: int, array: np.ndarray[Any, Any] | None) -> Any:
        if array is None:
            self._views.pop((output, index), None)
            return self._shim.null
        if array.dtype.kind not in "biufc":
            array = array.reshape(-1).view(np.uint8)  # ml_dtypes' arrays are no buffers
        view = self._shim.ffi.from_buffer(array, require_writable=output)
        self._views[output, index] = view
        return view

    @property
    def info(self) -> RunnerInfo:
        raw = self._describe("describe", "runner_info")
        return RunnerInfo(bool(raw.cuda_graph), self._shim.text(raw.cuda_graph_reason), raw.runs)

    def close(self) -> None:
        self.run = self.launch = _closed
        super().close()


def _closed() -> None:
    raise InvalidStateError("this Runner is closed")
