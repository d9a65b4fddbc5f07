"""A build is cancelled at every event and at many moments; deadlines; whose turn it is."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from pynn.backends import trt_build
from pynn.backends.base import BuildControl, CompileOptions
from pynn.backends.build_control import PARSING, WAITING, WHOLE, Watch
from pynn.backends.trt_build import build_plan
from pynn.errors import BuildCancelledError, BuildDeadlineError, TensorRTError
from pynn.native import Library, ProgressEvent

from ..native.models import deep, tiny


def build(library: Library, **control: Any) -> bytes:
    options = CompileOptions(control=BuildControl(**control))
    return bytes(build_plan(deep(3), library, options, compute_capabilities=(86,)).plan)


def cancel_at(n: int) -> dict[str, Any]:
    """A control that cancels at the event of that number."""
    cancel, seen = threading.Event(), itertools.count(1)

    def count(event: ProgressEvent) -> None:
        if next(seen) == n:
            cancel.set()

    return {"progress": count, "cancel": cancel}


@pytest.mark.trt
def test_cancelled_at_every_event(newest_library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trt_build, "POLL_SECONDS", 0.001)
    events: list[ProgressEvent] = []
    plan = build(newest_library, progress=events.append)
    assert [(e.kind, e.phase) for e in events[:3]] == [("start", WHOLE), ("start", PARSING), ("finish", PARSING)]
    assert (events[-1].kind, events[-1].phase) == ("finish", WHOLE)
    for n in range(1, len(events)):
        with pytest.raises(BuildCancelledError):
            build(newest_library, **cancel_at(n))
    assert not [t for t in threading.enumerate() if t.name == "pynn-build"]
    assert build(newest_library) == plan


@pytest.mark.trt
def test_cancelled_from_another_thread_at_any_time(newest_library: Library) -> None:
    start = time.perf_counter()
    plan = build(newest_library)
    whole = time.perf_counter() - start
    for tenth in range(10):
        cancel = threading.Event()
        timer = threading.Timer(whole * tenth / 10, cancel.set)
        timer.start()
        try:
            assert build(newest_library, cancel=cancel) == plan
        except BuildCancelledError:
            assert cancel.is_set()
        timer.join()


@pytest.mark.trt
@pytest.mark.parametrize("second", [False, True])
def test_ctrl_c_is_waited_for(newest_library: Library, monkeypatch: pytest.MonkeyPatch, second: bool) -> None:
    """A second Ctrl-C while the library stops does not pull its objects away."""
    joined: list[float] = []
    join = threading.Thread.join

    def interrupted(thread: threading.Thread, timeout: float | None = None) -> None:
        if second and timeout is None and thread.name == "pynn-build" and not joined:
            joined.append(time.monotonic())
            raise KeyboardInterrupt
        join(thread, timeout)

    monkeypatch.setattr(threading.Thread, "join", interrupted)
    monkeypatch.setattr(trt_build, "POLL_SECONDS", 0.001)

    def press(event: ProgressEvent) -> None:
        if event.phase not in (WHOLE, PARSING):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(newest_library, progress=press)
    assert not [t for t in threading.enumerate() if t.name == "pynn-build"]


@pytest.mark.trt
def test_deadline(newest_library: Library) -> None:
    start = time.monotonic()
    options = CompileOptions(control=BuildControl(deadline=0.05))
    with pytest.raises(BuildDeadlineError, match=r"deadline of 0\.05 s; give it more time") as caught:
        build_plan(deep(100), newest_library, options)
    assert isinstance(caught.value, (TimeoutError, TensorRTError)) and time.monotonic() - start < 5
    assert build(newest_library, deadline=60)


@pytest.mark.trt
def test_builds_of_many_threads_are_those_of_one(trt_library: Library) -> None:
    models = [deep(4), tiny(2), tiny(16)]
    alone = [bytes(build_plan(m, trt_library, compute_capabilities=(86,)).plan) for m in models]
    wrong: list[object] = []

    def work(first: int) -> None:
        for i in range(len(models)):
            which = (first + i) % len(models)
            try:
                plan = bytes(build_plan(models[which], trt_library, compute_capabilities=(86,)).plan)
                wrong.extend([which] * (plan != alone[which]))
            except Exception as error:
                wrong.append(error)

    in_threads([lambda first=first: work(first) for first in range(4)])
    assert wrong == []


def in_threads(works: list[Callable[[], object]]) -> None:
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_one_at_a_time_and_all_in_the_end() -> None:
    inside, most = 0, 0

    def work() -> None:
        nonlocal inside, most
        with Watch(BuildControl()).turn():
            inside += 1
            most = max(most, inside)
            time.sleep(0.01)
            inside -= 1

    in_threads([work] * 8)
    assert (inside, most) == (0, 1)


@pytest.mark.parametrize("why", [BuildCancelledError, BuildDeadlineError, RuntimeError])
def test_waiting_for_ones_turn_can_be_ended(why: type[Exception]) -> None:
    cancel, events = threading.Event(), []

    def tell(event: ProgressEvent) -> None:
        events.append(event)
        if why is BuildCancelledError:
            cancel.set()
        elif why is RuntimeError:
            raise why

    deadline = 0.1 if why is BuildDeadlineError else None
    with Watch(BuildControl()).turn():
        waiting = Watch(BuildControl(progress=tell, cancel=cancel, deadline=deadline))
        with pytest.raises(why), waiting.turn():
            pytest.fail("it was not its turn")
    assert [(e.kind, e.phase) for e in events] == [("start", WAITING)]
    with Watch(BuildControl()).turn():
        pass


def test_a_callback_that_fails_at_the_start_of_its_turn_gives_it_back() -> None:
    first, release = threading.Event(), threading.Event()

    def hold() -> None:
        with Watch(BuildControl()).turn():
            first.set()
            release.wait(10)

    def tell(event: ProgressEvent) -> None:
        release.set()
        if event.kind == "finish":
            raise RuntimeError("enough")

    thread = threading.Thread(target=hold)
    thread.start()
    first.wait(10)
    with pytest.raises(RuntimeError), Watch(BuildControl(progress=tell)).turn():
        pytest.fail("the callback raised")
    thread.join()
    with Watch(BuildControl(deadline=1)).turn():
        pass
