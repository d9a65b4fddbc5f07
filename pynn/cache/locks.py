"""A lock for each key between processes; a process that dies frees what it holds."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import CacheError

_FIRST_POLL, _LONGEST_POLL = 0.002, 0.1


@contextmanager
def lock(path: Path, seconds: float = 0.0, check: Callable[[], object] | None = None) -> Iterator[None]:
    """Hold the lock at ``path`` for the ``with``, waiting ``seconds`` at most. ``check`` is called while waiting; what
    it raises ends the wait. Raises CacheError when another keeps it, or when there can be no lock file."""
    import filelock

    held = filelock.FileLock(path, timeout=0, mode=0o600)
    end, pause = time.monotonic() + seconds, _FIRST_POLL
    while True:
        try:
            held.acquire()
            break
        except filelock.Timeout:
            left = end - time.monotonic()
        except (OSError, NotImplementedError, RuntimeError) as error:
            raise CacheError(f"{path} cannot be locked: {error}") from None
        if check is not None:
            check()
        if left <= 0:
            raise CacheError(f"another process still held the lock {path.name} after {seconds:g} s")
        time.sleep(min(pause, left))
        pause = min(2 * pause, _LONGEST_POLL)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # the directory may be gone; closing the file frees the lock anyway
            held.release()
