"""How a build is followed and ended: its events, cancelling, its deadline, and whose turn it is."""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections.abc import Callable, Iterator

from ..errors import BuildCancelledError, BuildDeadlineError
from ..native import ProgressEvent
from ..native.binding import fork_guard
from .base import BuildControl

POLL_SECONDS = 0.05
WHOLE, PARSING, WAITING = "Compiling model", "Parsing model", "Waiting for another build"
"""pynn's own phases; the others are the library's."""


class Watch:
    """One build, seen by a BuildControl: passes events on, and raises once the build is to end.

    The deadline counts from here. ``log`` gets each line that the library logs.
    """

    def __init__(self, control: BuildControl, *, log: Callable[[str], object] | None = None) -> None:
        self._control = control
        self._end = None if control.deadline is None else time.monotonic() + control.deadline
        self.log = log

    @property
    def wants_events(self) -> bool:
        return self._control.progress is not None

    def tell(self, event: ProgressEvent) -> None:
        """Raises what the user's callback raises: that cancels the build."""
        if self._control.progress is not None:
            self._control.progress(event)

    def check(self) -> None:
        """Raises BuildCancelledError or BuildDeadlineError when it is time."""
        if self._control.cancel is not None and self._control.cancel.is_set():
            raise BuildCancelledError("the build was cancelled")
        if self._end is not None and time.monotonic() >= self._end:
            given = self._control.given or self._control.deadline
            raise BuildDeadlineError(
                f"the build was not done within its deadline of {given:g} s; give it more time, or "
                "build with a lower optimization_level"
            )

    @contextlib.contextmanager
    def phase(self, name: str, parent: str = "") -> Iterator[None]:
        """A phase of pynn's own. No finish is told of a phase that fails."""
        self.tell(ProgressEvent("start", name, parent))
        self.check()
        yield
        self.check()
        self.tell(ProgressEvent("finish", name))

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Hold the lock of this process's builders; waiting for it can be cancelled.

        TensorRT times kernels while it builds, which a second build falsifies, and parallel builds of 10.16 were seen
        to crash (KataGo #1225). TensorRT for RTX times nothing: 800 builds by 8 threads, in 4 versions, gave the bytes
        of those one by one.
        """
        lock = _builders(fork_guard.epoch)
        waits = lock.locked()
        if waits:
            self.tell(ProgressEvent("start", WAITING, WHOLE))
        while not lock.acquire(timeout=POLL_SECONDS):
            self.check()
        try:
            if waits:
                self.tell(ProgressEvent("finish", WAITING))
            yield
        finally:
            lock.release()


@functools.lru_cache(maxsize=1)
def _builders(epoch: int) -> threading.Lock:
    """A lock for each process: a child of fork must not wait for a thread that only its parent has."""
    return threading.Lock()
