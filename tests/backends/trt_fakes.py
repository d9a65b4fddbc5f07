"""A GPU and an engine made of numpy, for the parts of the TensorRT back end that need hardware.

The engine's function is written in numpy over the engine's own types; memory of the GPU is main memory, by address.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest

from pynn.backends import trt_device_run, trt_executable, trt_memory, trt_session
from pynn.backends.base import CompileOptions
from pynn.backends.cuda import DeviceInfo
from pynn.backends.engine_file import EngineFile
from pynn.backends.trt_executable import TensorRTExecutable
from pynn.converter.model import TensorSpec, numpy_dtype
from pynn.errors import PlanError
from pynn.native import Binding, Flavor, LibraryInfo, RunnerInfo, TensorInfo
from pynn.native.tf32 import Settled

Arrays = dict[str, np.ndarray[Any, Any]]
Function = Callable[[Arrays], Arrays]
ShapeRule = Callable[[Mapping[str, tuple[int, ...]]], Mapping[str, tuple[int, ...]]]


class Counted:
    """Something opened and closed; ``alive`` counts those still open."""

    alive: ClassVar[dict[str, int]] = {}

    def __init__(self, *_: object, **__: object) -> None:
        self._open = True
        self.alive[type(self).__name__] = self.alive.get(type(self).__name__, 0) + 1

    def close(self) -> None:
        if self._open:
            self._open = False
            self.alive[type(self).__name__] -= 1

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class FakeDriver:
    version, version_text = 13000, "13.0"

    def call(self, function: str, *_: object) -> None:
        assert function == "cuStreamSynchronize"


class FakeDevice:
    info = DeviceInfo(0, "Fake GPU", 86, 8 << 30)
    driver = FakeDriver()
    context_address = 1
    usable = True

    def synchronize(self) -> None: ...

    @contextmanager
    def current(self) -> Iterator[None]:
        yield


class FakeMemory(Counted):
    def __init__(self, device: object, size: int) -> None:
        super().__init__()
        self._bytes = np.full(max(size, 1) + 256, 0xA5, np.uint8)
        self.address = self._bytes.ctypes.data
        self.device_address = self.address
        self.size = size

    def view(self) -> np.ndarray[Any, Any]:
        return self._bytes[: self.size]


class PinnedMemory(FakeMemory):
    pass


class DeviceMemory(FakeMemory):
    pass


class Stream(Counted):
    address = 2


class Logger(Counted):
    pass


class Engine(Counted):
    def __init__(self, tensors: Sequence[TensorInfo], function: Function, rule: ShapeRule) -> None:
        super().__init__()
        self.tensors, self.function, self.rule = tuple(tensors), function, rule
        self.profiles: Sequence[Mapping[str, Sequence[tuple[int, int, int]]]] = ()

    @property
    def info(self) -> SimpleNamespace:
        return SimpleNamespace(profile_count=len(self.profiles))

    def profile_shape(self, name: str, selector: int, profile: int = 0) -> tuple[int, ...]:
        return tuple(one[selector] for one in self.profiles[profile][name])

    def merge_runtime_caches(self, caches: Sequence[bytes]) -> bytes:
        return max(caches, key=len)


class Context(Counted):
    caches: ClassVar[list[bytes | None]] = []
    chosen: ClassVar[list[int]] = []

    def __init__(
        self, engine: Engine, *, allocation_strategy: int, runtime_cache: bytes | None, **options: int
    ) -> None:
        super().__init__()
        self.options = options
        assert allocation_strategy in (-1, 2)
        self.needs_memory = allocation_strategy == 2
        self.scratch = 0
        self.caches.append(runtime_cache)
        self.engine = engine
        self.shapes: dict[str, tuple[int, ...]] = {}

    def set_profile(self, profile: int, stream: int) -> None:
        self.chosen.append(profile)

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> None:
        self.shapes[name] = shape

    def infer_shapes(self) -> None:
        self.shapes.update(self.engine.rule(self.shapes))

    def tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.shapes[name]

    def device_memory_size(self) -> int:
        assert self.shapes, "asked before the shapes are set"
        return 1000

    def set_device_memory(self, address: int, size: int) -> None:
        assert size == 1000
        self.scratch = address

    def runtime_cache(self) -> bytes:
        return b"kernels"


class Runner(Counted):
    failures: ClassVar[list[BaseException]] = []

    def __init__(self, context: Context, bindings: Sequence[Binding], **options: Any) -> None:
        super().__init__()
        self.context, self.bindings, self.options = context, bindings, options
        self.busy = threading.Lock()
        self.closed = False
        self.given: dict[tuple[bool, int], np.ndarray[Any, Any]] = {}
        self.runs = 0

    def set_input(self, index: int, array: np.ndarray[Any, Any]) -> None:
        self.given[False, index] = array

    def set_output(self, index: int, array: np.ndarray[Any, Any]) -> None:
        self.given[True, index] = array

    def forget(self) -> None:
        self.given.clear()

    def close(self) -> None:
        self.closed = True
        super().close()

    @property
    def info(self) -> RunnerInfo:
        return RunnerInfo(bool(self.options["use_cuda_graph"]), "", self.runs)

    def _array(self, binding: Binding, address: int) -> np.ndarray[Any, Any]:
        tensor = next(t for t in self.context.engine.tensors if t.name == binding.name)
        raw = np.frombuffer((ctypes.c_char * binding.size).from_address(address), np.uint8)
        return raw.view(numpy_dtype(tensor.data_type)).reshape(self.context.shapes[binding.name])

    def run(self) -> None:
        assert self.busy.acquire(blocking=False), "two runs at a time"
        try:
            if self.failures:
                raise self.failures.pop()
            sides: dict[bool, list[Binding]] = {
                side: [b for b in self.bindings if b.is_output is side] for side in (False, True)
            }
            for (is_output, index), array in self.given.items():
                if not is_output:
                    self._array(sides[False][index], sides[False][index].staging)[...] = array
            self._compute([b.staging for b in self.bindings])
            for (is_output, index), array in self.given.items():
                if is_output:
                    array[...] = self._array(sides[True][index], sides[True][index].staging)
        finally:
            self.busy.release()

    def launch(self) -> None:
        self._compute([b.device for b in self.bindings])

    def _compute(self, addresses: Sequence[int]) -> None:
        assert bool(self.context.scratch) == self.context.needs_memory, "memory for activations"
        self.runs += 1
        arrays = {b.name: self._array(b, where) for b, where in zip(self.bindings, addresses, strict=True)}
        inputs = {b.name: arrays[b.name].copy() for b in self.bindings if not b.is_output}
        with np.errstate(all="ignore"):
            results = self.context.engine.function(inputs)
        for binding in self.bindings:
            if binding.is_output:
                arrays[binding.name][...] = results[binding.name]


class FakeLibrary:
    info = LibraryInfo(Flavor.RTX, "1.6.1.120", "B", "/fake/libtensorrt_rtx.so.1", 200, "", False)
    tf32 = Settled(False, "a fake")


class Fakes:
    """Makes executables over numpy functions."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._patch = monkeypatch
        Counted.alive = {}
        Context.caches = []
        Context.chosen = []
        Runner.failures = []
        for module in (trt_executable, trt_session, trt_memory, trt_device_run):
            for fake in (PinnedMemory, DeviceMemory, Stream, Logger, Context, Runner):
                if hasattr(module, fake.__name__):
                    monkeypatch.setattr(module, fake.__name__, fake)

    @property
    def alive(self) -> int:
        return sum(Counted.alive.values())

    def executable(
        self,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        function: Function,
        rule: ShapeRule | None = None,
        *,
        bare: bool = False,
        options: CompileOptions | None = None,
        replaced: dict[str, Any] | None = None,
        profiles: Sequence[Mapping[str, Sequence[tuple[int, int, int]]]] = (),
        **header: Any,
    ) -> TensorRTExecutable:
        tensors = [
            TensorInfo(
                s.onnx_name,
                s.carrier or s.data_type,
                tuple(dim if isinstance(dim, int) else -1 for dim in s.shape),
                s in inputs,
                s in outputs,
                False,
                False,
            )
            for s in (*inputs, *outputs)
        ]
        static: dict[str, Any] = {s.onnx_name: s.shape for s in outputs}

        class Runtime(Counted):
            def deserialize(self, plan: bytes) -> Engine:
                if plan == b"bad":
                    raise PlanError("cannot read the plan: magic", log="magic")
                engine = Engine(tensors, function, rule or (lambda _: static))
                engine.profiles = profiles
                return engine

        self._patch.setattr(trt_executable, "Runtime", Runtime)
        ranges: dict[str, Any] = {s.name: tuple((d, d, d) for d in s.shape) for s in inputs if s.is_static}
        if not bare:
            fields = {"flavor": "RTX", "version": "1.6.1.120", "compute_capabilities": (86,), "pynn_version": "1"}
            header = (
                {"inputs": tuple(inputs), "outputs": tuple(outputs), "ranges": ranges}
                | fields
                | header
                | (replaced or {})
            )
        file = EngineFile(header.pop("plan", b"vtrt"), **header)
        return TensorRTExecutable(file, FakeLibrary(), FakeDevice(), options=options)  # type: ignore[arg-type]


def spec(name: str, data_type: str, *shape: int | str | None, carrier: str = "") -> TensorSpec:
    return TensorSpec(name, f"{name}_onnx", data_type, shape, carrier)
