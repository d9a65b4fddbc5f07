"""Pool: things that one thread uses at a time, made when they are needed, up to a limit."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from ..errors import DeviceOutOfMemoryError, InvalidStateError

T = TypeVar("T")


class Pool(Generic[T]):
    """``take`` one, ``give`` it back. The one given back last is taken first; a new one is made when all are taken.

    When there is no GPU memory for another one, those that exist must do: ``limit`` goes down to their number, and
    ``note`` says so. Who counts tenths of a microsecond does what ``take`` and ``give`` do on ``free`` and ``waiting``.
    """

    def __init__(self, make: Callable[[], T], limit: int) -> None:
        self.limit = limit
        self.note = ""
        self._make = make
        self.free: list[T] = []
        self._all: list[T] = []
        self._count = 0
        self.waiting = 0
        self._closed = False
        self._changed = threading.Condition()

    @property
    def all(self) -> tuple[T, ...]:
        return tuple(self._all)

    def take(self) -> T:
        """Waits while all are taken. Raises InvalidStateError after ``close``, and what making one raises."""
        try:
            return self.free.pop()
        except IndexError:
            return self.wait()

    def give(self, item: T) -> None:
        self.free.append(item)
        if self.waiting:
            self.wake()

    def wake(self) -> None:
        with self._changed:
            self._changed.notify()

    def wait(self) -> T:
        """``take`` when ``free`` was found empty."""
        while True:
            with self._changed:
                self.waiting += 1
                try:
                    while True:
                        if self._closed:
                            raise InvalidStateError("this executable is closed")
                        # A thread that gave one back before it saw this one waiting did so before this look.
                        if self.free:
                            return self.free.pop()
                        if self._count < self.limit:
                            self._count += 1
                            break
                        self._changed.wait()
                except IndexError:
                    continue
                except BaseException:
                    self._changed.notify()  # Ctrl-C may have come with the call to take what was given back
                    raise
                finally:
                    self.waiting -= 1
            made = self._grow()
            if made is not None:
                return made

    def _grow(self) -> T | None:
        try:
            made = self._make()
        except BaseException as error:
            with self._changed:
                self._count -= 1
                enough = self._count and isinstance(error, DeviceOutOfMemoryError)
                if enough:
                    self.limit = self._count
                    self.note = f"at most {self.limit} runs at a time: {error}"
                self._changed.notify()
            if enough:
                return None
            raise
        self._all.append(made)
        return made

    def close(self) -> tuple[T, ...]:
        """Wait until all are given back and take them for good. Idempotent."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            self.waiting += 1
            everything: list[T] = []
            try:
                while len(everything) < self._count:
                    try:
                        everything.append(self.free.pop())  # one by one: ``take`` pops without the lock
                    except IndexError:
                        self._changed.wait()
            finally:
                self.waiting -= 1
            self._count = 0
        return tuple(everything)
