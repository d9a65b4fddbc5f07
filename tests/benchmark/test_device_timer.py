"""Times on the GPU, on a GPU of numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pynn.benchmark import device
from pynn.benchmark.device import DeviceTimer
from pynn.errors import DeviceUnsupportedError, FeatureNotSupportedError

from . import fakes

X = {"x": np.arange(4, dtype=np.float32)}
Y = {"y": np.zeros(4, np.float32)}


def test_each_quantity_is_what_the_gpu_took(clock: fakes.Clock) -> None:
    executable = fakes.FakeExecutable(clock)
    with DeviceTimer(executable, X, Y) as timer:
        stream, inputs, outputs = executable.bound or (0, {}, {})
        assert stream == fakes.Stream.address
        assert inputs["x"][1] == outputs["y"][1] == (4,)
        before = clock.log.count("launch")
        times = timer.sample(20)
        assert clock.log.count("launch") - before == 20 + device.SINGLE_RUNS
    assert set(times) == set(device.QUANTITIES)
    assert times["h2d"] == times["d2h"] == pytest.approx([2.0] * device.SINGLE_RUNS)
    assert times["compute"] == pytest.approx([7.0] * device.SINGLE_RUNS)
    assert times["floor"] == pytest.approx([7.0])
    assert all(value >= 0 for value in times["enqueue"])
    assert clock.open == 0
    assert "closed" in clock.log


def test_inputs_are_there_before_the_first_run(clock: fakes.Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[fakes.Memory] = []

    def pinned(*arguments: Any) -> fakes.Memory:
        kept.append(fakes.Memory(*arguments))
        return kept[-1]

    monkeypatch.setattr(device, "PinnedMemory", pinned)
    with DeviceTimer(fakes.FakeExecutable(clock), X, Y):
        assert clock.log[:3] == ["copy in", "launch", "synchronize"]
        np.testing.assert_array_equal(kept[0].bytes.view(np.float32), X["x"])


def test_a_back_end_without_memory_of_a_gpu_is_refused_and_nothing_leaks(clock: fakes.Clock) -> None:
    with pytest.raises(FeatureNotSupportedError, match="tensorrt runs on no memory of a GPU"):
        DeviceTimer(fakes.FakeExecutable(), X, Y)
    assert clock.open == 0


def test_without_a_driver_the_reason_is_the_drivers() -> None:
    if device.discover().driver is not None:
        pytest.skip("there is a driver here")
    with pytest.raises(DeviceUnsupportedError, match="driver"):
        DeviceTimer(fakes.FakeExecutable(), X, Y)
