"""Library, logger and blob: what the rest of the native objects is made from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..errors import LibraryNotFoundError
from .binding import Shim, fork_guard, shim
from .constants import Flavor, data_type_name
from .elf import truncation
from .find import Candidate
from .handle import Handle, create, encode
from .tf32 import Settled, real_path, settle, settled_for


@dataclass(frozen=True, slots=True)
class LibraryInfo:
    """What a library says of itself. ``generation``: the measured binary interface, 'A' to 'D'."""

    flavor: Flavor
    version: str
    generation: str
    path: str
    parser_version: int
    parser_error: str
    forced: bool

    @property
    def title(self) -> str:
        return f"{self.flavor.title} {self.version}"


class Library(Handle):
    """An opened TensorRT library. Stays mapped until the process ends, closed or not."""

    _noun = "library"
    tf32: Settled
    """Whether float32 may be computed in TF32. TensorRT for RTX: for the process, by whoever opened it first."""
    files: tuple[str, str | None]
    """Core and parser, as they were named when it was opened."""

    @classmethod
    def open(cls, core: str, parser: str | None = None, *, force_version: bool = False, tf32: bool = False) -> Library:
        """Open by path or loader name. ``tf32`` is a wish: see the attribute.

        Raises LibraryNotFoundError (missing, or not TensorRT), LibraryVersionError (unknown, and not forced). A parser
        that does not open is no error here: see ``info.parser_error``.
        """
        native = shim()
        for path in filter(None, (core, parser)):
            broken = truncation(path)
            if broken:
                raise LibraryNotFoundError(f"{broken}; install that library again")
        settled = settle(native, core, tf32)
        options = native.struct("library_options")
        names = [native.ffi.new("char[]", encode(core)), native.ffi.new("char[]", encode(parser or ""))]
        options.core_path = names[0]
        options.parser_path = names[1] if parser else native.null
        options.force_version = int(force_version)
        library = cls(*create("library", "library_open", options))
        library.tf32 = settled_for(library.info.path) or settled
        library.files = (core, parser)
        return library

    @classmethod
    def open_candidate(cls, candidate: Candidate, *, force_version: bool = False, tf32: bool = False) -> Library:
        return cls.open(candidate.core, candidate.parser, force_version=force_version, tf32=tf32)

    @staticmethod
    def known_versions() -> str:
        """The versions this build of pynn knows, as one line."""
        native = shim()
        return native.text(native.lib.pynn_trt_library_known_versions())

    @property
    def info(self) -> LibraryInfo:
        raw, text = self._describe("describe", "library_info"), self._shim.text
        return LibraryInfo(
            flavor=Flavor(raw.flavor),
            version=f"{raw.major}.{raw.minor}.{raw.patch}.{raw.build}",
            generation=raw.generation.decode(),
            path=real_path(text(raw.path)),
            parser_version=raw.parser_version,
            parser_error=text(raw.parser_error),
            forced=bool(raw.forced),
        )


@dataclass(frozen=True, slots=True)
class LogLine:
    severity: int
    """0 internal error, 1 error, 2 warning, 3 information, 4 verbose."""
    text: str
    sequence: int


class Logger(Handle):
    """Collects a library's log lines; poll them when convenient."""

    _noun = "logger"

    def __init__(self, library: Library, *, max_severity: int = 2, capacity: int = 256) -> None:
        super().__init__(*create("logger", "logger_create", library._pointer, max_severity, capacity))

    def poll(self) -> Iterator[LogLine]:
        """The lines kept since the last poll, oldest first."""
        ffi = self._shim.ffi
        line, available = self._shim.struct("log_line"), ffi.new("int32_t *")
        while True:
            self._call("poll", line, available)
            if not available[0]:
                return
            yield LogLine(line.severity, self._shim.text(line.text), line.sequence)


class Blob:
    """Bytes that belong to the library, seen without a copy.

    The memory lives as long as the blob or any view of it; ``close`` only lets go of the blob's own hold.
    """

    def __init__(self, native: Shim, pointer: Any) -> None:
        destroy, epoch = native.lib.pynn_trt_blob_destroy, fork_guard.epoch

        def release(_: Any) -> None:
            if epoch == fork_guard.epoch:
                destroy(pointer)

        size = int(native.lib.pynn_trt_blob_size(pointer))
        data = native.ffi.cast("char *", native.lib.pynn_trt_blob_data(pointer))
        owner = native.ffi.gc(data if data else native.ffi.cast("char *", pointer), release, size)
        self._view: memoryview | None = memoryview(native.ffi.buffer(owner, size)).toreadonly()

    @property
    def view(self) -> memoryview:
        """The bytes, read-only, not copied."""
        if self._view is None:
            raise ValueError("this Blob is closed")
        return self._view

    def __len__(self) -> int:
        return self.view.nbytes

    def __bytes__(self) -> bytes:
        return bytes(self.view)

    def close(self) -> None:
        self._view = None


def blob_of(handle: Handle, verb: str, *arguments: Any) -> Blob:
    """Call a function of ``handle`` whose out-parameter is a blob."""
    return Blob(handle._shim, handle._ask(verb, "pynn_trt_blob *", *arguments))


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """A tensor of a network or engine. A dimension of -1 is dynamic; ``shape`` is None if the rank is unknown."""

    name: str
    data_type: str
    shape: tuple[int, ...] | None
    is_input: bool
    is_output: bool
    is_shape_tensor: bool
    on_host: bool


def tensor_info(native: Shim, raw: Any) -> TensorInfo:
    return TensorInfo(
        name=native.text(raw.name),
        data_type=data_type_name(raw.data_type),
        shape=None if raw.rank < 0 else tuple(raw.dims[0 : raw.rank]),
        is_input=bool(raw.is_input),
        is_output=bool(raw.is_output),
        is_shape_tensor=bool(raw.is_shape_tensor),
        on_host=bool(raw.on_host),
    )
