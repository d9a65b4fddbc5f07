"""What the tests of pynn/benchmark share."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from pynn.benchmark import device

from . import fakes


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> fakes.Clock:
    """A GPU of numbers in place of CUDA."""
    clock = fakes.Clock()
    monkeypatch.setattr(device, "discover", lambda: SimpleNamespace(require=lambda: clock))
    monkeypatch.setattr(device, "Device", lambda driver, index: fakes.Device(clock))
    for name, kind in (
        ("Stream", fakes.Stream),
        ("Event", fakes.Event),
        ("PinnedMemory", fakes.Memory),
        ("DeviceMemory", fakes.Memory),
    ):
        monkeypatch.setattr(device, name, kind)
    return clock
