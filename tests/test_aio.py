"""The timeline: what was submitted last is what a later call waits for."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest

from pynn.aio import Timeline


def test_the_last_submitted_is_the_last_in_the_queue() -> None:
    timeline = Timeline()
    queued: list[Future[Any]] = []
    others: list[threading.Thread] = []

    class Worker:
        def submit(self, call: Callable[[], object]) -> Future[Any]:
            future: Future[Any] = Future()
            queued.append(future)
            if len(queued) == 1:  # another thread comes in between
                others.append(threading.Thread(target=timeline.submit, args=(int,)))
                others[0].start()
                others[0].join(0.1)
            return future

    timeline._worker = Worker()  # type: ignore[assignment]
    timeline.submit(int)
    others[0].join(10)
    assert len(queued) == 2 and timeline.last is queued[1]
    for future in queued:
        future.set_result(None)
    assert timeline.run(int) == 0 and timeline.last is None


@pytest.mark.skipif(sys.platform != "linux", reason="os.fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_of_fork_has_a_thread_of_its_own() -> None:
    timeline = Timeline()
    assert timeline.submit(os.getpid).result(10) == os.getpid()
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    child = context.Process(target=lambda: answers.put(timeline.submit(os.getpid).result(10)))
    child.start()
    child.join(15)
    assert child.exitcode == 0 and answers.get() == child.pid
    timeline.close()
