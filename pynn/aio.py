"""The timeline of a context: work in the order it was asked for, and awaitable faces of the synchronous methods."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Timeline:
    """Runs calls one after another. ``run`` works in the caller's thread; ``submit`` queues for a thread of its own.

    A ``run`` waits for what was submitted before it, so that a write after an awaited-later read does not overtake it.
    The thread starts with the first ``submit``: purely synchronous use pays one lock. Who finds that ``last``, the
    work last submitted, is None or done, may take the ``lock`` himself.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._submitting = threading.RLock()
        self._worker: ThreadPoolExecutor | None = None
        self._process = os.getpid()
        self.last: Future[object] | None = None

    def run(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        last = self.last
        if last is not None:
            _wait(last)
            with self._submitting:
                if self.last is last:
                    self.last = None
        with self.lock:
            return call(*args, **kwargs)

    def submit(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        def locked() -> T:
            with self.lock:
                return call(*args, **kwargs)

        with self._submitting:  # ``last`` is the last in the queue, too
            if self._worker is None or self._process != os.getpid():  # a parent's thread is not in its child
                self._worker = ThreadPoolExecutor(1, thread_name_prefix="pynn-timeline")
                self._process = os.getpid()
            future = self._worker.submit(locked)
            self.last = future  # type: ignore[assignment]
        return future

    async def awaited(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """``submit`` for coroutines. Work that has been queued is done even if the awaiting task is cancelled."""
        return await asyncio.shield(asyncio.wrap_future(self.submit(call, *args, **kwargs)))

    def after_pending(self, call: Callable[[], object]) -> None:
        """The call when everything asked for so far is done: now, or in the timeline's thread."""
        if self.last is None or self.last.done():
            with self.lock:
                call()
        else:
            self.submit(call)

    def close(self) -> None:
        """Let the thread end after what is queued."""
        if self._worker is not None:
            self._worker.shutdown(wait=False)


def _wait(future: Future[object]) -> None:
    if not future.done():
        future.exception()


async def in_thread(call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """The call in a thread, so that the event loop goes on."""
    return await asyncio.to_thread(call, *args, **kwargs)


@dataclass(frozen=True, slots=True)
class ContextLostInfo:
    """MLContextLostInfo: why a context was lost."""

    message: str


class ContextLost:
    """The ``lost`` promise of a context: ``await`` it, ``wait`` for it, or look at ``done`` and ``message``.

    Spec: https://www.w3.org/TR/webnn/#dom-mlcontext-lost.
    """

    def __init__(self) -> None:
        self._future: Future[ContextLostInfo] = Future()
        self._future.set_running_or_notify_cancel()

    @property
    def done(self) -> bool:
        """Whether the context is lost."""
        return self._future.done()

    @property
    def message(self) -> str:
        """Why the context was lost; empty while it is not."""
        return self._future.result().message if self._future.done() else ""

    def wait(self, timeout: float | None = None) -> ContextLostInfo:
        """Block until the context is lost. Raises TimeoutError."""
        try:
            return self._future.result(timeout)
        except FutureTimeoutError as error:  # another class than TimeoutError before Python 3.11
            raise TimeoutError(f"the context is not lost after {timeout} s") from error

    def add_done_callback(self, callback: Callable[[ContextLostInfo], object]) -> None:
        """Call ``callback`` with the information when the context is lost, at once if it is already."""
        self._future.add_done_callback(lambda future: callback(future.result()))

    def __await__(self) -> Generator[object, None, ContextLostInfo]:
        return asyncio.wrap_future(self._future).__await__()

    def _resolve(self, message: str) -> bool:
        """False when it was lost already."""
        try:
            self._future.set_result(ContextLostInfo(message))
        except InvalidStateError:
            return False
        return True

    def __repr__(self) -> str:
        return f"<ContextLost: {self.message}>" if self.done else "<ContextLost: not lost>"
