"""A context whose tensors are in the memory of a fake GPU, and graphs that are functions in numpy."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from pynn.backends.base import Array, Backend, CompileOptions, DeviceRun, Executable, Probe
from pynn.backends.cuda import Device, Driver
from pynn.backends.report import BackendReport
from pynn.backends.selection import Selection
from pynn.context import MLContext
from pynn.converter.model import OnnxModel, TensorSpec, numpy_dtype
from pynn.errors import InvalidStateError

from .cuda_fakes import FakeApi, value_at

Function = Callable[[dict[str, Array]], dict[str, Array]]
Places = Mapping[str, tuple[int, tuple[int, ...]]]


class FakeRun(DeviceRun):
    """Puts the function on the stream; counts what is open."""

    alive: ClassVar[weakref.WeakSet[FakeRun]] = weakref.WeakSet()

    def __init__(self, executable: FakeExecutable, stream: int, inputs: Places, outputs: Places) -> None:
        self.closed = False
        self.executable, self._stream = executable, stream
        self._inputs, self._outputs = dict(inputs), dict(outputs)
        self.launch = self._launch
        self.alive.add(self)

    def _launch(self) -> None:
        self.executable.launches += 1
        self.executable.api.put(self._stream, self._work)

    def _work(self) -> None:
        assert not self.closed, "closed before the stream passed"
        executable = self.executable
        arrays = {
            spec.name: value_at(executable.api, *self._inputs[spec.name], _inside(spec)).astype(spec.numpy)
            for spec in executable.inputs
        }
        results = executable.function(arrays)
        for spec in executable.outputs:
            value_at(executable.api, *self._outputs[spec.name], _inside(spec))[...] = results[spec.name]

    def close(self) -> None:
        self.closed = True
        self.launch = _closed
        self.alive.discard(self)


def _closed() -> None:
    raise InvalidStateError("this device run is closed")


def _inside(spec: TensorSpec) -> np.dtype[Any]:
    return numpy_dtype(spec.carrier or spec.data_type)


class FakeExecutable(Executable):
    backend = "tensorrt"

    def __init__(self, api: FakeApi, model: OnnxModel, function: Function, *, binds: bool) -> None:
        super().__init__(model.inputs, model.outputs)
        self.api, self.function, self._binds = api, function, binds
        self.launches = self.runs = self.bindings = 0

    def _run(self, arrays: dict[str, Array], out: Mapping[str, Array] | None) -> dict[str, Array]:
        self.runs += 1
        results = {name: np.asarray(value) for name, value in self.function(arrays).items()}
        for name, array in (out or {}).items():
            array[...] = results[name]
            results[name] = array
        return results

    def bind_device(self, stream: int, inputs: Places, outputs: Places) -> DeviceRun | None:
        if not self._binds:
            return None
        self.bindings += 1
        return FakeRun(self, stream, inputs, outputs)

    def _close(self) -> None:
        self.api.cuCtxSynchronize()
        for run in list(FakeRun.alive):
            if run.executable is self:
                run.close()


class FakeGpu(Backend):
    """TensorRT's place, with its passes. ``carriers`` gives types by name that the engine has instead of the user's."""

    name = "tensorrt"

    def __init__(self, api: FakeApi, function: Function, *, index: int = 0, binds: bool = True) -> None:
        self.api, self.function, self.binds = api, function, binds
        self.gpu = Device(Driver(api), index)
        self.carriers: dict[str, str] = {}
        self.made: list[FakeExecutable] = []

    def probe(self) -> tuple[Probe, ...]:
        return (Probe(self.name, "fake", True, "a fake", details={"version": "1.6.1.120"}),)

    def compile(self, model: OnnxModel, options: CompileOptions) -> Executable:
        def carried(specs: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
            return tuple(replace(spec, carrier=self.carriers.get(spec.name, "")) for spec in specs)

        model = replace(model, inputs=carried(model.inputs), outputs=carried(model.outputs))
        self.made.append(FakeExecutable(self.api, model, self.function, binds=self.binds))
        return self.made[-1]

    def device(self, options: CompileOptions) -> Device:
        return self.gpu


def gpu_context(backend: FakeGpu) -> MLContext:
    report = BackendReport("auto", "default", True, "tensorrt", "a fake", probes=backend.probe())
    return MLContext(Selection([backend], report), CompileOptions())


class FakeCudaArray:
    """An array of another library on the fake GPU: DLPack by numpy with the device said to be CUDA's."""

    def __init__(self, api: FakeApi, array: np.ndarray[Any, Any], device: tuple[int, int] = (2, 0)) -> None:
        self.api, self.array, self.device = api, array, device
        self.stream = api.new_stream()
        self.streams: list[int | None] = []
        self.versioned = True
        api.blocks[array.ctypes.data] = array.reshape(-1).view(np.uint8) if array.flags.c_contiguous else array.base

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device

    def __dlpack__(self, *, stream: int | None = None, **more: Any) -> Any:
        from pynn.dlpack import export

        if not self.versioned and more:
            raise TypeError(f"unexpected {more}")
        self.streams.append(stream)
        if stream is not None:
            event = self.api.cuEventCreate(0)[1]
            self.api.cuEventRecord(event, self.stream)
            self.api.cuStreamWaitEvent(stream, event, 0)
            self.api.cuEventDestroy(event)
        return export(self.array, self.device, more.get("max_version"), copied=False)
