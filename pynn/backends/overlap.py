"""Runs that overlap: an executable called from a few threads of pynn's, results as futures or in order."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

Arrays = Mapping[str, np.ndarray[Any, Any]]
Results = dict[str, np.ndarray[Any, Any]]


class Overlap:
    """Threads for one executable, started with the first use and gone with ``close``."""

    def __init__(self, run: Callable[..., Results], workers: int) -> None:
        self._run, self.workers = run, workers
        self._lock = threading.Lock()
        self._threads: ThreadPoolExecutor | None = None

    def submit(self, inputs: Arrays, out: Arrays | None = None) -> Future[Results]:
        with self._lock:
            if self._threads is None:
                self._threads = ThreadPoolExecutor(self.workers, thread_name_prefix="pynn-run")
            return self._threads.submit(self._run, inputs, out=out)

    def map(self, inputs: Iterable[Arrays]) -> Iterator[Results]:
        """Results in the order of ``inputs``, of which one more than there are workers is read ahead."""
        waiting: deque[Future[Results]] = deque()
        source = iter(inputs)
        try:
            waiting.extend(self.submit(one) for one in itertools.islice(source, self.workers + 1))
            while waiting:
                result = waiting.popleft().result()
                waiting.extend(self.submit(one) for one in itertools.islice(source, 1))
                yield result
        finally:
            for future in waiting:
                future.cancel()
            for future in waiting:
                if not future.cancelled():
                    future.exception()

    def close(self) -> None:
        """Wait for the runs that began; those that wait are cancelled."""
        with self._lock:
            threads, self._threads = self._threads, None
        if threads is not None:
            threads.shutdown(cancel_futures=True)
