"""cffi in ABI mode: libpynn_trt is loaded by dlopen at first use."""

from __future__ import annotations

import functools
import os
import threading
from typing import Any

from ..errors import LibraryNotFoundError, LibraryVersionError
from .declarations import declared
from .find import header_path, shim_path


class Shim:
    """The loaded libpynn_trt. ``lib`` has its functions, ``ffi`` its types; neither leaves this package."""

    def __init__(self) -> None:
        path = shim_path()
        self.ffi: Any = declared(header_path().read_text(encoding="utf-8"))
        try:
            self.lib: Any = self.ffi.dlopen(str(path))
        except OSError as error:
            raise LibraryNotFoundError(f"{path} cannot be loaded: {error}") from None
        self.path = path
        try:
            built = int(self.lib.pynn_trt_abi_version())
        except (AttributeError, getattr(self.ffi, "error", AttributeError)):  # parsed or generated declarations
            raise LibraryNotFoundError(f"{path} is not libpynn_trt") from None
        expected = int(self.lib.PYNN_TRT_ABI_VERSION)
        if built != expected:
            raise LibraryVersionError(
                f"{path} has interface version {built}, this pynn needs {expected}: reinstall pynn, or rebuild the shim"
            )
        self.null: Any = self.ffi.NULL

    def text(self, pointer: Any) -> str:
        """A ``const char *`` as str; NULL as the empty string."""
        return str(self.ffi.string(pointer).decode("utf-8", "replace")) if pointer else ""

    def struct(self, name: str) -> Any:
        """A zeroed struct with its struct_size set."""
        value = self.ffi.new(f"pynn_trt_{name} *")
        value.struct_size = self.ffi.sizeof(f"pynn_trt_{name}")
        return value


_loading = threading.Lock()


@functools.lru_cache(maxsize=1)
def _load() -> Shim:
    return Shim()


def shim() -> Shim:
    """The shim, loaded once. Raises LibraryNotFoundError or LibraryVersionError; a failure is tried again next time."""
    with _loading:
        return _load()


class ForkGuard:
    """Counts the forks this process descends from: a handle remembers the number it was made under."""

    def __init__(self) -> None:
        self.epoch = 0
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forked)

    def _forked(self) -> None:
        self.epoch += 1


fork_guard = ForkGuard()
