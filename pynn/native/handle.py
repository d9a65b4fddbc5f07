"""Handle: owner of one object of the shim."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from types import TracebackType
from typing import Any

from typing_extensions import Self

from ..errors import ForkError, InvalidStateError
from .binding import Shim, fork_guard, shim
from .status import call


class Handle:
    """Owns one native object; ``close`` destroys it (idempotent), so does garbage collection.

    Handles may be closed in any order: the shim keeps the parents of an object alive. Nothing is destroyed at
    interpreter exit, where another thread may still be inside TensorRT and the process gives all back anyway, nor in a
    forked child.
    """

    _noun: str
    _shim: Shim

    def __init__(self, shim: Shim, pointer: Any, *kept: object) -> None:
        """``kept`` stays alive until the native object is destroyed: memory it borrows."""
        destroy = getattr(shim.lib, f"pynn_trt_{self._noun}_destroy")
        self._shim = shim
        self._raw = pointer
        self._epoch = fork_guard.epoch
        self._finalizer = weakref.finalize(self, _destroy, destroy, pointer, self._epoch, kept)
        self._finalizer.atexit = False

    @property
    def _pointer(self) -> Any:
        if self._epoch != fork_guard.epoch:
            raise forked(type(self).__name__)
        if self._raw is None:
            raise InvalidStateError(f"this {type(self).__name__} is closed")
        return self._raw

    @property
    def closed(self) -> bool:
        return self._raw is None

    def _call(self, verb: str, *arguments: Any) -> None:
        """Call ``pynn_trt_<noun>_<verb>`` on this object."""
        call(self._shim, getattr(self._shim.lib, f"pynn_trt_{self._noun}_{verb}"), self._pointer, *arguments)

    def _ask(self, verb: str, kind: str, *arguments: Any) -> Any:
        """The same for a function with one out-parameter, whose value is returned."""
        result = self._shim.ffi.new(f"{kind} *")
        self._call(verb, *arguments, result)
        return result[0]

    def _describe(self, verb: str, struct: str, *arguments: Any) -> Any:
        """The same for a function that fills a struct."""
        info = self._shim.struct(struct)
        self._call(verb, *arguments, info)
        return info

    def close(self) -> None:
        self._raw = None
        self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._raw is None else "open" if self._epoch == fork_guard.epoch else "from before fork"
        return f"<{type(self).__name__} ({state})>"


def forked(noun: str) -> ForkError:
    return ForkError(
        f"this {noun} was made before os.fork(); CUDA and TensorRT do not survive a fork. "
        "Create it in the child, or start workers with multiprocessing's 'spawn' method"
    )


def _destroy(destroy: Callable[[Any], None], pointer: Any, epoch: int, kept: object) -> None:
    if epoch == fork_guard.epoch:
        destroy(pointer)


def create(noun: str, function: str, *arguments: Any) -> tuple[Shim, Any]:
    """Call ``pynn_trt_<function>``, whose last out-parameter is a new handle of ``noun``."""
    native = shim()
    result = native.ffi.new(f"pynn_trt_{noun} **")
    call(native, getattr(native.lib, f"pynn_trt_{function}"), *arguments, result)
    return native, result[0]


def encode(text: str) -> bytes:
    """A string for the shim; a NUL inside would cut it."""
    if "\0" in text:
        raise ValueError(f"a NUL character in {text!r}")
    return text.encode("utf-8", "surrogateescape")  # paths are bytes
