"""Overlap: what closes, forks, fails and is abandoned while runs are under way."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from pynn.backends.overlap import Arrays, Overlap, Results
from pynn.errors import InvalidStateError


def double(inputs: Arrays, *, out: Arrays | None = None) -> Results:
    return {"y": inputs["x"] * 2}


def x(value: float) -> Arrays:
    return {"x": np.full(1, value)}


def test_nothing_starts_after_close() -> None:
    overlap = Overlap(double, 2)
    results = overlap.map(x(i) for i in range(100))
    assert next(results)["y"][0] == 0
    overlap.close()
    with pytest.raises(InvalidStateError, match="closed"):
        list(results)
    with pytest.raises(InvalidStateError, match="closed"):
        next(overlap.map([x(1)]))
    with pytest.raises(InvalidStateError, match="closed"):
        overlap.submit(x(1))
    assert overlap._threads is None


def test_a_callback_may_close() -> None:
    hold = threading.Event()
    overlap = Overlap(lambda inputs, out=None: double(inputs) if hold.wait(10) else {}, 1)
    closed: list[object] = []

    def close(_: object) -> None:
        try:
            overlap.close()
            closed.append(True)
        except RuntimeError as error:
            closed.append(error)

    future = overlap.submit(x(1))
    future.add_done_callback(close)
    hold.set()
    assert future.result(10)["y"][0] == 2
    for thread in [t for t in threading.enumerate() if t.name.startswith("pynn-run")]:
        thread.join(10)
    assert closed == [True]


def test_an_error_of_the_source_comes_after_the_results_before_it() -> None:
    def source() -> Iterator[Arrays]:
        yield x(1)
        yield x(2)
        raise OSError("the camera is gone")

    overlap = Overlap(double, 3)
    results = overlap.map(source())
    assert [next(results)["y"][0], next(results)["y"][0]] == [2, 4]
    with pytest.raises(OSError, match="camera"):
        next(results)
    overlap.close()


def test_an_abandoned_map_does_not_wait_for_runs() -> None:
    """Garbage collection may end it in the very thread that a run needs."""
    hold, ended = threading.Event(), threading.Event()

    def run(inputs: Arrays, *, out: Arrays | None = None) -> Results:
        if inputs["x"][0] > 0:
            hold.wait(10)
        return double(inputs)

    overlap = Overlap(run, 2)
    results: Any = overlap.map(x(i) for i in range(10))
    next(results)

    def abandon() -> None:
        results.close()
        ended.set()

    thread = threading.Thread(target=abandon)
    thread.start()
    assert ended.wait(5), "waits for runs"
    hold.set()
    thread.join(10)
    overlap.close()


@pytest.mark.skipif(sys.platform != "linux", reason="os.fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_of_fork_has_threads_of_its_own() -> None:
    overlap = Overlap(lambda inputs, out=None: {"y": np.array(os.getpid())}, 1)
    assert overlap.submit(x(1)).result(10)["y"] == os.getpid()
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    child = context.Process(target=lambda: answers.put(int(overlap.submit(x(1)).result(10)["y"])))
    child.start()
    child.join(15)
    assert child.exitcode == 0 and answers.get() == child.pid
    overlap.close()
