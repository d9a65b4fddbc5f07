"""Runs that overlap: an executable called from a few threads of pynn's, results as futures or in order."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from ..errors import InvalidStateError

Arrays = Mapping[str, np.ndarray[Any, Any]]
Results = dict[str, np.ndarray[Any, Any]]


class Overlap:
    """Threads for one executable, started with the first use and gone with ``close``; a child of fork has its own."""

    def __init__(self, run: Callable[..., Results], workers: int) -> None:
        self._run, self.workers = run, workers
        self._lock = threading.Lock()
        self._threads: ThreadPoolExecutor | None = None
        self._process = 0
        self._closed = False
        self._mine = threading.local()

    def submit(self, inputs: Arrays, out: Arrays | None = None) -> Future[Results]:
        """Raises InvalidStateError after ``close``."""
        with self._lock:
            if self._closed:
                raise _closed()
            if self._threads is None or self._process != os.getpid():
                self._threads = ThreadPoolExecutor(self.workers, "pynn-run", self._mark)
                self._process = os.getpid()
            return self._threads.submit(self._run, inputs, out=out)

    def _mark(self) -> None:
        self._mine.is_worker = True

    def map(self, inputs: Iterable[Arrays]) -> Iterator[Results]:
        """Results in the order of ``inputs``, of which one more than there are workers is read ahead."""
        waiting: deque[Future[Results]] = deque()
        source = iter(inputs)
        try:
            for _ in range(self.workers + 1):
                self._ahead(source, waiting)
            while waiting:
                try:
                    result = waiting.popleft().result()
                except CancelledError:
                    raise _closed() from None
                self._ahead(source, waiting)
                yield result
        finally:
            # Not waited for: garbage collection may end this in a thread that one of them needs.
            for future in waiting:
                future.cancel()

    def _ahead(self, source: Iterator[Arrays], waiting: deque[Future[Results]]) -> None:
        """Read one more. What is raised by that comes after the results of those before it."""
        try:
            waiting.append(self.submit(next(source)))
        except StopIteration:
            return
        except Exception as error:
            failed: Future[Results] = Future()
            failed.set_exception(error)
            waiting.append(failed)

    def close(self) -> None:
        """Wait for the runs that began; those that wait are cancelled. A callback of a future may call it."""
        with self._lock:
            self._closed = True
            threads, self._threads = self._threads, None
        if threads is not None:
            threads.shutdown(wait=not hasattr(self._mine, "is_worker"), cancel_futures=True)


def _closed() -> InvalidStateError:
    return InvalidStateError("this executable is closed")
