"""Runs of a TensorRT engine from and to memory of the GPU: sent to a stream, not waited for."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress

from ..converter.model import TensorSpec, numpy_dtype
from ..errors import CudaError, InputError, InvalidStateError
from ..native import Binding, Engine, Runner
from .base import DeviceRun
from .cuda import Device
from .trt_memory import byte_size
from .trt_session import KernelStock, ReadyContext, SessionOptions, Shapes

Tensors = Mapping[str, tuple[int, tuple[int, ...]]]
"""By name, the address and the shape of a tensor on the GPU."""


class DeviceContexts:
    """Contexts of device runs. Runs on one stream with the same shapes come one after another and share one, where the
    graphs are ours: TensorRT's own hold for one set of addresses."""

    def __init__(self, engine: Engine, device: Device, options: SessionOptions, stock: KernelStock) -> None:
        self.device, self.options = device, options
        self._engine, self._stock = engine, stock
        self._lock = threading.RLock()  # garbage collection inside may close a run
        self._users: dict[ReadyContext, int] = {}
        self._by_place: dict[tuple[int, Shapes], ReadyContext] = {}

    @property
    def activations(self) -> int:
        return sum(ready.activations for ready in list(self._users))

    def take(self, stream: int, shapes: Shapes) -> ReadyContext:
        with self._lock:
            ready = None if self.options.library_graphs else self._by_place.get((stream, shapes))
            if ready is None:
                ready = ReadyContext(self._engine, self.device, self.options, shapes, self._stock, stream)
                self._users[ready] = 0
                self._by_place[stream, shapes] = ready
            self._users[ready] += 1
            return ready

    def give(self, ready: ReadyContext) -> None:
        with self._lock:
            self._users[ready] -= 1
            if not self._users[ready]:
                del self._users[ready]
                for place in [place for place, one in self._by_place.items() if one is ready]:
                    self._by_place.pop(place, None)
                ready.close()


class TensorRTDeviceRun(DeviceRun):
    """A context bound to the caller's memory. ``launch`` is one call of the shim."""

    def __init__(self, contexts: DeviceContexts, stream: int, inputs: Tensors, outputs: Tensors) -> None:
        """The caller made the device's context current. Raises InputError for names and shapes that differ."""
        device, options = contexts.device, contexts.options
        self._contexts, self._device = contexts, device
        _check("inputs", options.inputs, inputs)
        _check("outputs", options.outputs, outputs)
        shapes = tuple(inputs[spec.name][1] for spec in options.inputs)
        self._ready = contexts.take(stream, shapes)
        try:
            specs = (*options.inputs, *options.outputs)
            given = {**{("in", k): v for k, v in inputs.items()}, **{("out", k): v for k, v in outputs.items()}}
            bindings = []
            for i, (spec, shape) in enumerate(zip(specs, self._ready.shapes, strict=True)):
                is_output = i >= len(shapes)
                address, has = given["out" if is_output else "in", spec.name]
                if tuple(has) != shape:
                    raise InputError(
                        f"output {spec.name!r} has shape {list(has)}, the result has {list(shape)}", tensor=spec.name
                    )
                size = byte_size(shape, numpy_dtype(spec.carrier or spec.data_type))
                bindings.append(Binding(spec.onnx_name, is_output, 0, address, size, True))
            self._runner = Runner(
                self._ready.context,
                bindings,
                stream=stream,
                cuda_context=device.context_address,
                use_cuda_graph=options.own_graphs,
            )
        except BaseException:
            contexts.give(self._ready)
            raise
        self.launch = self._runner.launch

    @property
    def cuda_graph(self) -> bool:
        return self._runner.info.cuda_graph

    def close(self) -> None:
        if self._runner.closed:
            return
        self.launch = _closed
        if self._device.usable:
            with self._device.current():
                with suppress(CudaError):  # of a failed run: told to who waits for results, and all must go
                    self._device.synchronize()  # not the stream, which may be gone
                self._runner.close()
                self._contexts.give(self._ready)


def _check(side: str, specs: Sequence[TensorSpec], tensors: Tensors) -> None:
    names = [spec.name for spec in specs]
    if set(names) != set(tensors):
        raise InputError(f"{side}: got {sorted(tensors)}, the engine has {sorted(names)}")


def _closed() -> None:
    raise InvalidStateError("this device run is closed")
