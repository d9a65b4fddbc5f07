"""A GPU of numbers: what is sent is counted, events have times that the test sets."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from pynn.backends.base import Array, DeviceRun, Executable
from pynn.converter.model import TensorSpec

MICROSECONDS = {"copy": 2.0, "run": 7.0}


class Clock:
    """The GPU's time in microseconds, moved on by what is sent to the stream."""

    def __init__(self) -> None:
        self.now = 0.0
        self.log: list[str] = []
        self.open = 0

    def send(self, kind: str) -> None:
        self.log.append(kind)
        self.now += MICROSECONDS["copy" if kind.startswith("copy") else "run"]


class Resource:
    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        clock.open += 1

    def close(self) -> None:
        self.clock.open -= 1

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Device(Resource):
    free = 4096

    def free_memory(self) -> int:
        self.free -= 256
        return self.free

    @contextmanager
    def current(self) -> Any:
        yield


class Memory(Resource):
    def __init__(self, device: Device, size: int) -> None:
        super().__init__(device.clock)
        self.bytes = np.zeros(size, np.uint8)
        self.address = self.bytes.ctypes.data

    def view(self) -> Array:
        return self.bytes


class Event(Resource):
    def __init__(self, device: Device, *, timing: bool) -> None:
        assert timing
        super().__init__(device.clock)
        self.at = 0.0

    def seconds_since(self, earlier: Event) -> float:
        return (self.at - earlier.at) / 1e6


class Stream(Resource):
    address = 7

    def __init__(self, device: Device) -> None:
        super().__init__(device.clock)

    def record(self, event: Event) -> None:
        event.at = self.clock.now

    def copy_in(self, device: int, host: int, size: int) -> None:
        self.clock.send("copy in")

    def copy_out(self, host: int, device: int, size: int) -> None:
        self.clock.send("copy out")

    def synchronize(self) -> None:
        self.clock.log.append("synchronize")


class OnDevice(DeviceRun):
    def __init__(self, clock: Clock) -> None:
        self.launch = lambda: clock.send("launch")
        self._clock = clock

    def close(self) -> None:
        self._clock.log.append("closed")


class FakeExecutable(Executable):
    """y = 2 x, float32 [n]; runs on memory of the fake GPU if it has a clock."""

    backend = "tensorrt"

    def __init__(self, clock: Clock | None = None) -> None:
        super().__init__((TensorSpec("x", "x", "float32", (4,)),), (TensorSpec("y", "y", "float32", (4,)),))
        self._clock = clock
        self.bound: tuple[int, Any, Any] | None = None

    @property
    def stats(self) -> Mapping[str, Any]:
        return {"library": "TensorRT for RTX 1.6.1", "seconds": {"build": 0.5, "context": 3.25}, "gpu": object()}

    def bind_device(self, stream: int, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> DeviceRun | None:
        self.bound = (stream, inputs, outputs)
        return None if self._clock is None else OnDevice(self._clock)

    def _run(self, arrays: dict[str, Array], out: Mapping[str, Array] | None) -> dict[str, Array]:
        return {"y": arrays["x"] * 2}

    def _close(self) -> None:
        if self._clock is not None:
            self._clock.log.append("executable closed")
