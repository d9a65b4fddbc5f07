"""Contestant: one way to run the model, ready to be timed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..backends.base import Array, Executable
from ..backends.cuda import Device, discover
from ..errors import PynnError

Arrays = Mapping[str, Array]
Call = Callable[[Arrays], Arrays]


@dataclass
class Contestant:
    """``call`` is numpy to numpy. ``seconds`` are of getting ready: "ready" is the wall time, others are parts of it.

    ``gpu_memory_bytes`` is what the GPU had less afterwards; None without a GPU.
    """

    name: str
    title: str
    call: Call
    close: Callable[[], object] = lambda: None
    seconds: Mapping[str, float] = field(default_factory=dict)
    gpu_memory_bytes: int | None = None
    notes: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    executable: Executable | None = None


def prepare(
    make: Callable[[], Contestant], inputs_for: Callable[[Contestant], Arrays], gpu: Device | None
) -> tuple[Contestant, dict[str, Array]]:
    """The contestant with its times and memory, and the results of its first run. Any exception is its refusal."""
    before, start = gpu.free_memory() if gpu is not None else 0, time.perf_counter()
    contestant = make()
    try:
        ready = time.perf_counter()
        inputs = inputs_for(contestant)
        start_run = time.perf_counter()
        first = {name: np.array(array) for name, array in contestant.call(inputs).items()}
        ran = time.perf_counter()
    except BaseException:
        contestant.close()
        raise
    contestant.seconds = {"ready": ready - start, "first_run": ran - start_run, **contestant.seconds}
    if gpu is not None:
        contestant.gpu_memory_bytes = before - gpu.free_memory()
    return contestant, first


def open_gpu(device: int) -> Device | None:
    """The GPU, held so that CUDA starts once, before anything is timed; None without it."""
    driver = discover().driver
    if driver is None:
        return None
    try:
        return Device(driver, device)
    except PynnError:
        return None


def relative_error(got: Arrays, want: Arrays) -> float | None:
    """The largest ||got - want|| / ||want|| of all outputs; None where they cannot be compared."""
    worst = 0.0
    for name, array in want.items():
        if name not in got or array.dtype.kind in "OUS" or got[name].shape != array.shape:
            return None
        exact, here = array.astype(np.float64), got[name].astype(np.float64)
        norm = float(np.linalg.norm(exact))
        distance = float(np.linalg.norm(here - exact))
        worst = max(worst, distance / norm if norm else distance)
    return worst
