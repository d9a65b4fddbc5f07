"""CUDA started on a thread: what it calls and gives back, with a driver played by a stand-in; and without a driver."""

from __future__ import annotations

import ctypes
import threading
from typing import Any

import pytest

import pynn
from pynn.backends import cuda_ahead as module
from pynn.backends.cuda_ahead import cuda_ahead
from pynn.backends.selection import check_wish
from pynn.native.binding import fork_guard


class FakeDriver:
    """Notes its calls and the threads they came from; ``fails`` names one that returns an error."""

    def __init__(self, fails: str = "", error: int = 100) -> None:
        self.calls: list[str] = []
        self.threads: set[str] = set()
        self._fails, self._error = fails, error

    def __getattr__(self, name: str) -> Any:
        def call(*_: object) -> int:
            self.calls.append(name)
            self.threads.add(threading.current_thread().name)
            return self._error if name == self._fails else 0

        return call


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> FakeDriver:
    fake = FakeDriver()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: fake)
    return fake


STARTED = ["cuInit", "cuDeviceGet", "cuDevicePrimaryCtxRetain"]


def pynn_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "pynn-cuda"]


def test_starts_on_a_thread_and_gives_the_context_back(driver: FakeDriver) -> None:
    with cuda_ahead(0):
        pass
    assert driver.calls == [*STARTED, "cuDevicePrimaryCtxRelease_v2"]
    assert "pynn-cuda" in driver.threads and pynn_threads() == []


def test_gives_back_when_the_caller_fails(driver: FakeDriver) -> None:
    with pytest.raises(pynn.ModelError), cuda_ahead(0):
        raise pynn.ModelError("not ONNX")
    assert driver.calls[-1] == "cuDevicePrimaryCtxRelease_v2" and pynn_threads() == []


@pytest.mark.parametrize("fails", STARTED)
def test_a_driver_that_fails_is_the_callers_to_find(fails: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeDriver(fails)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: fake)
    with cuda_ahead(0):
        pass
    assert fake.calls == STARTED[: STARTED.index(fails) + 1]


def test_without_a_driver_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    with cuda_ahead(0):
        pass
    assert pynn_threads() == []


def test_nothing_is_called_without_a_device(driver: FakeDriver) -> None:
    with cuda_ahead(None):
        pass
    assert driver.calls == []


def test_a_child_of_fork_gives_nothing_back(driver: FakeDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    with cuda_ahead(0):
        for thread in threading.enumerate():
            if thread.name == "pynn-cuda":
                thread.join()
        monkeypatch.setattr(fork_guard, "epoch", fork_guard.epoch + 1)
    assert driver.calls == STARTED


def test_no_more_threads(driver: FakeDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(module.threading.Thread, "start", refuse)
    with cuda_ahead(0):
        pass
    assert driver.calls == []


@pytest.mark.parametrize(
    ("backend", "preference", "accelerated", "expected"),
    [
        ("auto", "default", True, True),
        ("auto", "default", False, False),
        ("auto", "low-power", True, False),
        ("auto", "high-performance", False, True),
        ("tensorrt", "low-power", False, True),
        ("onnxruntime", "high-performance", True, False),
    ],
)
def test_who_may_use_a_gpu(backend: str, preference: str, accelerated: bool, expected: bool) -> None:
    assert check_wish(backend, preference, accelerated, 0, None).may_use_gpu is expected


def test_a_broken_model_leaves_no_thread() -> None:
    with pytest.raises(pynn.ModelError):
        pynn.compile(b"broken")
    assert pynn_threads() == []
