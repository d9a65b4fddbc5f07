"""A build in a child process: what the library does to its process becomes an exception here.

The model, without copying its weights in memory, and the request go to a private folder; the child answers with lines
of JSON on its standard output and leaves the engine file in the folder. Its standard input is held open for its life:
when this process dies, the child sees the end of it and goes too.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import selectors
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing import spawn
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
from typing_extensions import Self

from .. import errors
from ..converter.model import OnnxModel
from ..converter.precision.choice import AS_GIVEN
from ..errors import BuildCrashedError, EngineBuildError, HostOutOfMemoryError, PlanError, UnsupportedModelError
from ..native import Library, ProgressEvent
from ..native.tf32 import Settled
from .base import BuildControl, CompileOptions
from .build_control import POLL_SECONDS, Watch
from .cuda import Device
from .engine_file import EngineFile

REQUEST, WEIGHTS, ENGINE, PATHS = "request", "weights", "engine", "paths"
MARK = "pynn"
"""The key that makes a line of JSON one of ours, and not something that was printed."""
_BOOT = (
    # -c puts the working directory first, where a json.py may be
    "import sys; sys.path[:] = filter(None, sys.path); "
    f"import json; sys.path[:] = json.load(open(sys.argv[1] + '/{PATHS}', encoding='utf-8')); "
    "from pynn.backends.build_worker import main; main(sys.argv[1])"
)
_ALIGN = 64
_START_SECONDS, _END_SECONDS = 60.0, 2.0
_TAIL_LINES, _LINE_BYTES = 40, 1 << 20
_SIGNALS = {
    4: "SIGILL", 5: "SIGTRAP", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE", 9: "SIGKILL", 11: "SIGSEGV", 15: "SIGTERM",
    24: "SIGXCPU", 31: "SIGSYS",
}  # fmt: skip
_KILLED = (
    "nobody here sent it: on Linux mostly the kernel, because memory ran out. Free memory, or build on a machine with "
    "more of it"
)
_FAULT = "a fault inside the library: try another version of TensorRT, or run the model with backend='onnxruntime'"


@dataclass(frozen=True)
class Stored:
    """Where a weight lies in the file of weights, and what it is."""

    data_type: str
    shape: tuple[int, ...]
    offset: int


@dataclass(frozen=True)
class Request:
    """What the child is to build. ``model`` has no weights: ``weights`` says where they are."""

    model: OnnxModel
    weights: Mapping[str, Stored]
    options: CompileOptions
    compute_capabilities: tuple[int, ...]
    device: int | None
    core: str
    parser: str | None
    forced: bool
    version: str
    tf32: Settled


def build_isolated(
    model: OnnxModel,
    library: Library,
    options: CompileOptions,
    compute_capabilities: Sequence[int],
    watch: Watch,
    device: Device | None = None,
    command: Sequence[str] | None = None,
) -> EngineFile:
    """``build_plan`` in a child process. ``command`` is what runs there, with the folder as its last argument.

    Raises what the build raises; BuildCrashedError with the signal or exit code and the last lines written when the
    child dies, EngineBuildError when it cannot be started.
    """
    watch.check()
    with contextlib.ExitStack() as stack:
        try:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pynn-build-")))
            _write_request(folder, model, library, options, compute_capabilities, device)
        except OSError as error:
            raise EngineBuildError(
                f"the model cannot be written for the build process: {error}. TMPDIR names another directory"
            ) from error
        child = stack.enter_context(_Child(command or _command(), folder, library.info.title))
        seconds = child.follow(watch)
        try:
            engine = EngineFile.load(folder / ENGINE)
        except (OSError, PlanError) as error:
            raise BuildCrashedError(
                f"the build process said it was done, but its engine cannot be used: {error}", log=child.tail
            ) from error
    return replace(engine, seconds=seconds)


def _write_request(
    folder: Path,
    model: OnnxModel,
    library: Library,
    options: CompileOptions,
    compute_capabilities: Sequence[int],
    device: Device | None,
) -> None:
    core, parser = library.files
    path = None if model.path is None else Path(model.path).absolute()
    request = Request(
        model=OnnxModel(model.proto, model.inputs, model.outputs, path=path),
        weights=_write_weights(folder / WEIGHTS, model.weights),
        options=replace(options, control=BuildControl(), precision=AS_GIVEN, shapes=dict(options.shapes)),
        compute_capabilities=tuple(compute_capabilities),
        device=None if device is None else device.info.index,
        core=_absolute(core),
        parser=None if parser is None else _absolute(parser),
        forced=library.info.forced,
        version=library.info.version,
        tf32=Settled(library.tf32.allowed, library.tf32.reason),
    )
    with (folder / REQUEST).open("xb") as file:
        pickle.dump(request, file, protocol=5)
    package = Path(__file__).resolve().parents[2]
    paths = [os.path.abspath(entry) for entry in sys.path if isinstance(entry, str)]  # noqa: PTH100  ("" is the folder)
    (folder / PATHS).write_text(json.dumps([*paths, str(package)]), encoding="utf-8")


def _absolute(name: str) -> str:
    """A file's whole path; a name for the system's loader as it is."""
    return str(Path(name).absolute()) if Path(name).is_file() else name


def _write_weights(path: Path, weights: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, Stored]:
    """One after the other from where they are; a whole copy is only made by the disk."""
    stored: dict[str, Stored] = {}
    with path.open("xb") as file:
        for name, array in weights.items():
            if array.dtype.hasobject:
                raise UnsupportedModelError(f"weight {name!r} holds strings, which TensorRT does not have")
            file.write(bytes(-file.tell() % _ALIGN))
            stored[name] = Stored(array.dtype.name, array.shape, file.tell())
            file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return stored


def _command() -> tuple[str, ...]:
    """Python, as multiprocessing would start it: what embeds Python names it by ``multiprocessing.set_executable``."""
    named = spawn.get_executable()
    python = os.fsdecode(named) if named else ""
    if getattr(sys, "frozen", False) and python == sys.executable:  # the application: it would start once more
        python = ""
    elif not python:
        folder = Path(sys.exec_prefix)
        beside = (
            folder / "bin" / f"python3.{sys.version_info.minor}",
            folder / "bin" / "python3",
            folder / "python.exe",
        )
        python = next((str(path) for path in beside if path.is_file()), "")
    if not python:
        raise EngineBuildError(
            "isolate=True needs a Python interpreter for the build process and none is known here; name one with "
            "multiprocessing.set_executable"
        )
    wanted = {"-I": sys.flags.isolated, "-E": sys.flags.ignore_environment, "-s": sys.flags.no_user_site}
    return (python, *(flag for flag, is_set in wanted.items() if is_set), "-c", _BOOT)


class _Child:
    """The process, ended and waited for when the ``with`` is left."""

    def __init__(self, command: Sequence[str], folder: Path, library: str) -> None:
        self._library = library
        self._start = time.monotonic()
        self._lines: deque[str] = deque(maxlen=_TAIL_LINES)
        self._memory = 0
        self._phase = ""
        self._greeted = False
        self._seconds: dict[str, float] | None = None
        pipe = subprocess.PIPE
        try:
            # In a session of its own: Ctrl-C in the terminal is for this process, which ends that one.
            self._process = subprocess.Popen(
                [*command, str(folder)], stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0, start_new_session=True
            )
        except OSError as error:
            raise EngineBuildError(f"the build process cannot be started ({command[0]}): {error}") from error

    @property
    def tail(self) -> str:
        return "\n".join(self._lines)

    def follow(self, watch: Watch) -> dict[str, float]:
        """Until it is done: how long its parts took. Raises what it raised, or that it died."""
        process = self._process
        with selectors.DefaultSelector() as selector:
            for stream in (process.stdout, process.stderr):
                assert stream is not None
                selector.register(stream, selectors.EVENT_READ, _Lines())
            while self._seconds is None:
                watch.check()
                self._look()
                died = process.poll() is not None
                ready = selector.select(0 if died else POLL_SECONDS)
                for key, _ in ready:
                    data = os.read(key.fd, 1 << 16)
                    for line in key.data.feed(data):
                        self._take(line, watch)
                    if not data:
                        selector.unregister(key.fileobj)
                if died and not ready:
                    raise self._crash()
        watch.check()
        return self._seconds

    def _look(self) -> None:
        """How much memory it has had so far; and whether it is one of ours at all."""
        if not self._greeted and time.monotonic() - self._start > _START_SECONDS:
            raise EngineBuildError(
                f"the build process did not start within {_START_SECONDS:g} s; is {self._process.args!r} a Python that "
                "has pynn? multiprocessing.set_executable names another",
                log=self.tail,
            )
        with contextlib.suppress(OSError, ValueError, IndexError):
            status = Path(f"/proc/{self._process.pid}/status").read_text()
            self._memory = max(self._memory, int(status.partition("VmHWM:")[2].split()[0]) * 1024)

    def _take(self, line: bytes, watch: Watch) -> None:
        text = line.decode("utf-8", "replace").rstrip()
        message = _message(text)
        if message is None:
            if text:
                self._lines.append(text)
            return
        self._greeted = True
        if isinstance(message, ProgressEvent):
            if message.kind == "start":
                self._phase = message.phase
            watch.tell(message)
        elif isinstance(message, str):
            self._lines.append(message)
            if watch.log is not None:
                watch.log(message)
        elif isinstance(message, BaseException):
            raise message
        else:
            self._seconds = message

    def _crash(self) -> BuildCrashedError:
        code = self._process.returncode
        signal = "" if code >= 0 else _SIGNALS.get(-code, f"signal {-code}")
        how = f"was killed by {signal}" if signal else f"ended with exit code {code} and without an engine"
        where = f" in phase {self._phase!r}" if self._phase else ""
        memory = f"; it had used up to {self._memory / 2**20:,.0f} MiB of main memory" if self._memory else ""
        step = "see its last lines" if not signal else _KILLED if signal == "SIGKILL" else _FAULT
        last = f": {' | '.join([*self._lines][-3:])}" if self._lines else ""
        after = time.monotonic() - self._start
        return BuildCrashedError(
            f"the process that built with {self._library} {how}{where} after {after:.1f} s{memory}; {step}{last}",
            signal=signal,
            exit_code=max(code, 0),
            log=self.tail,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        process = self._process
        try:
            if self._seconds is None:
                process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_END_SECONDS)
        finally:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                _close(stream)


def _close(stream: IO[bytes] | None) -> None:
    if stream is not None:
        stream.close()


class _Lines:
    """Bytes in, lines out. What has no end of line for a long time is cut."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """``b""`` is the end, and gives what is left."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        yield from lines
        if len(self._rest) > _LINE_BYTES or not data:
            rest, self._rest = self._rest, b""
            yield rest


def _message(text: str) -> ProgressEvent | str | BaseException | dict[str, float] | None:
    """An event, a line of the library's log, the error or the times at the end; None for what was only printed."""
    if not text.startswith(f'{{"{MARK}": '):
        return None
    try:
        message = json.loads(text)
        kind = message.pop(MARK)
        if kind == "event":
            return ProgressEvent(**message)
        if kind == "error":
            return _revived(message)
        return (
            {str(key): float(value) for key, value in message["seconds"].items()} if kind == "done" else message["text"]
        )
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


_DETAILS = ("log", "node", "op_type", "operator", "label", "tensor")


def told(error: BaseException) -> dict[str, Any]:
    """An exception as JSON can carry it."""
    details = {name: getattr(error, name) for name in _DETAILS if hasattr(error, name)}
    return {"type": type(error).__name__, "message": str(error), "details": details}


def _revived(message: Mapping[str, Any]) -> BaseException:
    if message["type"] == "MemoryError":
        return HostOutOfMemoryError("the build process ran out of memory; close other programs, or build elsewhere")
    kind = getattr(errors, message["type"], None)
    if isinstance(kind, type) and issubclass(kind, errors.PynnError):
        return kind(message["message"], **message["details"])
    return EngineBuildError(f"the build process failed: {message['type']}: {message['message']}", **message["details"])
