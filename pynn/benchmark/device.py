"""What the GPU itself takes, by CUDA events: copies in and out, one run, and bare runs back to back, the floor."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

import numpy as np
from typing_extensions import Self

from ..backends.base import Array, Executable
from ..backends.cuda import Device, DeviceMemory, Event, PinnedMemory, Stream, discover
from ..converter.model import TensorSpec, numpy_dtype
from ..errors import FeatureNotSupportedError

QUANTITIES = ("enqueue", "h2d", "compute", "d2h", "floor")
SINGLE_RUNS = 8


class DeviceTimer:
    """An executable's runs on memory of the GPU. A sampler of ``QUANTITIES``, in microseconds.

    ``enqueue`` is the host's time to launch one run, ``h2d``, ``compute`` and ``d2h`` are the GPU's between events of
    one run alone (pinned memory, asynchronous copies), ``floor`` that of a run among many back to back.
    """

    def __init__(
        self, executable: Executable, inputs: Mapping[str, Array], outputs: Mapping[str, Array], *, device: int = 0
    ) -> None:
        """``outputs``: the results of one run, for their shapes. Raises FeatureNotSupportedError where the back end has
        no memory of a GPU, DeviceUnsupportedError without one, DeviceOutOfMemoryError."""
        self._resources = ExitStack()
        try:
            self._open(executable, inputs, outputs, device)
        except BaseException:
            self._resources.close()
            raise

    def _open(
        self, executable: Executable, inputs: Mapping[str, Array], outputs: Mapping[str, Array], device: int
    ) -> None:
        self._device = self._resources.enter_context(Device(discover().require(), device))
        self._stream = self._resources.enter_context(Stream(self._device))
        self._in = [self._stage(spec, inputs[spec.name]) for spec in executable.inputs]
        self._out = [self._stage(spec, outputs[spec.name]) for spec in executable.outputs]
        run = executable.bind_device(
            self._stream.address,
            {s.name: (m[1], inputs[s.name].shape) for s, m in zip(executable.inputs, self._in, strict=True)},
            {s.name: (m[1], outputs[s.name].shape) for s, m in zip(executable.outputs, self._out, strict=True)},
        )
        if run is None:
            raise FeatureNotSupportedError(
                f"the back end {executable.backend} runs on no memory of a GPU: it has no device times"
            )
        self._resources.callback(run.close)
        self._launch = run.launch
        self._events = [self._resources.enter_context(Event(self._device, timing=True)) for _ in range(4)]
        with self._device.current():
            self._copy_in()
            self._launch()
            self._stream.synchronize()

    def _stage(self, spec: TensorSpec, array: Array) -> tuple[int, int, int]:
        """The addresses of pinned and of device memory for a tensor, and its bytes; filled with the array."""
        raw = np.ascontiguousarray(array, numpy_dtype(spec.carrier or spec.data_type)).reshape(-1).view(np.uint8)
        pinned = self._resources.enter_context(PinnedMemory(self._device, raw.nbytes))
        memory = self._resources.enter_context(DeviceMemory(self._device, raw.nbytes))
        pinned.view()[:] = raw
        return pinned.address, memory.address, raw.nbytes

    def _copy_in(self) -> None:
        for host, device, size in self._in:
            self._stream.copy_in(device, host, size)

    def _copy_out(self) -> None:
        for host, device, size in self._out:
            self._stream.copy_out(host, device, size)

    def sample(self, count: int) -> Mapping[str, Sequence[float]]:
        times: dict[str, list[float]] = {name: [] for name in QUANTITIES}
        with self._device.current():
            for _ in range(min(count, SINGLE_RUNS)):
                self._one_run(times)
            times["floor"].append(self._back_to_back(count))
        return times

    def _one_run(self, times: dict[str, list[float]]) -> None:
        stream, (first, filled, ran, last) = self._stream, self._events
        stream.record(first)
        self._copy_in()
        stream.record(filled)
        start = time.perf_counter_ns()
        self._launch()
        times["enqueue"].append((time.perf_counter_ns() - start) / 1000)
        stream.record(ran)
        self._copy_out()
        stream.record(last)
        stream.synchronize()
        times["h2d"].append(filled.seconds_since(first) * 1e6)
        times["compute"].append(ran.seconds_since(filled) * 1e6)
        times["d2h"].append(last.seconds_since(ran) * 1e6)

    def _back_to_back(self, count: int) -> float:
        stream, launch, (first, *_, last) = self._stream, self._launch, self._events
        stream.record(first)
        for _ in range(count):
            launch()
        stream.record(last)
        stream.synchronize()
        return last.seconds_since(first) * 1e6 / count

    def close(self) -> None:
        self._resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
