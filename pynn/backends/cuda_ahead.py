"""Starts CUDA on a thread of its own, while the caller imports modules and reads its model.

``cuInit`` and the primary context take 0.2 s in the driver. They are called by ctypes, which needs no cuda-python and
lets go of the GIL. Nothing depends on the thread: the caller does it all again, in no time then, and gets its errors.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ..native.binding import fork_guard
from .cuda import DRIVER_NAME

_SUCCESS = 0


@contextmanager
def cuda_ahead(device: int | None) -> Iterator[None]:
    """Inside ``with``, the primary context of GPU ``device`` comes up and is kept; None starts nothing.

    Whoever needs the context retains it inside. At the end the thread is over.
    """
    if device is None:
        yield
        return
    start = _Start(device)
    try:
        yield
    finally:
        start.finish()


class _Start:
    def __init__(self, device: int) -> None:
        self._device = device
        self._epoch = fork_guard.epoch
        self._driver: ctypes.CDLL | None = None
        self._handle = ctypes.c_int()
        self._thread: threading.Thread | None = threading.Thread(target=self._run, name="pynn-cuda", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # no more threads, or the interpreter ends
            self._thread = None

    def _run(self) -> None:
        try:
            driver = ctypes.CDLL(DRIVER_NAME)
            context = ctypes.c_void_p()
            started = (
                driver.cuInit(0) == _SUCCESS
                and driver.cuDeviceGet(ctypes.byref(self._handle), self._device) == _SUCCESS
                and driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), self._handle) == _SUCCESS
            )
        except (OSError, AttributeError):  # no driver: discover() says so
            return
        if started:
            self._driver = driver

    def finish(self) -> None:
        """Wait for the thread and let go of its hold on the context. Nothing happens in a child of fork."""
        if self._thread is None or self._epoch != fork_guard.epoch:
            return
        self._thread.join()
        if self._driver is not None:
            self._driver.cuDevicePrimaryCtxRelease_v2(self._handle)
