"""Whether TensorRT for RTX may compute float32 in TF32: settled once for each library, while it is loaded.

RTX reads NVIDIA_TF32_OVERRIDE in its static initialisers and goes by that alone on some GPUs: on compute capability 9.0
clearing its TF32 flag changed nothing. The environment is the application's, so it is not touched:
``libpynn_trt_environment`` has a getenv of its own and is opened in such a way (RTLD_DEEPBIND, with TensorRT as its
dependency) that the loader resolves TensorRT's calls there, and only those. An engine demands at run what it was built
with.
"""

from __future__ import annotations

import mmap
import os
import re
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .binding import Shim

VARIABLE = "NVIDIA_TF32_OVERRIDE"
_TARGET = b"libpynn_trt_target.so"
_ENVIRONMENT = "libpynn_trt_environment.so"
_FIRST = (1, 5)
"""RTX 1.4 without TF32 refused a float32 MatMul on compute capability 9.0 ("cuDNN graph compilation failed")."""


@dataclass(frozen=True)
class Settled:
    """``allowed``: TF32 may be used. ``reason``: what settled that. ``handle`` keeps the getenv that TensorRT calls."""

    allowed: bool
    reason: str
    handle: Any = None


_lock = threading.Lock()
_settled: dict[str, Settled] = {}
_named: dict[str, str] = {}
"""The real path behind each name that was given to the loader."""


def settle(native: Shim, core: str, wanted: bool) -> Settled:
    """Settle it for the library at ``core``, before that is loaded; later calls get the first one's answer."""
    if "tensorrt_rtx" not in Path(core).name:
        return Settled(wanted, "TensorRT goes by its builder flag")
    with _lock:
        path = os.path.realpath(core) if Path(core).is_file() else core
        found = _settled.get(path)
        if found is None:
            found = _settled[path] = _settle(native, core, wanted)
        return found


def _settle(native: Shim, core: str, wanted: bool) -> Settled:
    value = os.environ.get(VARIABLE)
    if value is not None:
        return Settled(value != "0", f"{VARIABLE} is {value!r} in the environment")
    if wanted:
        return Settled(True, "the first model of this process asked for it")
    if not Path(core).is_file():
        return Settled(True, "the library is found by the system's loader; name its directory to have float32")
    if version_of(core) < _FIRST:
        return Settled(True, "this version refuses some float32 products without it")
    if _is_loaded(core):
        return Settled(True, "another package of this process loaded the library first")
    environment = native.path.with_name(_ENVIRONMENT)
    if not environment.is_file() or not hasattr(os, "RTLD_DEEPBIND"):
        return Settled(True, f"{_ENVIRONMENT} is not installed")
    try:
        handle = _load(native, core, environment)
    except OSError as error:
        return Settled(True, f"{_ENVIRONMENT} cannot be used: {error}")
    if not _is_loaded(core):
        return Settled(True, f"the loader took another library for {core}")
    return Settled(False, "float32 is computed in float32", handle)


def _load(native: Shim, core: str, environment: Path) -> Any:
    """The loader finds TensorRT beside a copy of the environment, under the name that the copy depends on.

    The name is another one for each library, because the loader takes a name it knows for the library it knows. Both
    files may go once they are loaded.
    """
    name = f"libpynn_trt_{len(_named):06d}.so"
    with tempfile.TemporaryDirectory(prefix="pynn-") as folder:
        copy = Path(folder, _ENVIRONMENT)
        copy.write_bytes(environment.read_bytes().replace(_TARGET, name.encode()))
        _named[name] = os.path.realpath(core)
        Path(folder, name).symlink_to(_named[name])
        return native.ffi.dlopen(str(copy), os.RTLD_NOW | os.RTLD_LOCAL | os.RTLD_DEEPBIND)


def _is_loaded(core: str) -> bool:
    path = os.path.realpath(core)
    with Path("/proc/self/maps").open(encoding="utf-8", errors="surrogateescape") as maps:
        return any(line.rstrip("\n").endswith(path) for line in maps)


def real_path(path: str) -> str:
    """Where a loaded library is, which the loader may know by a name of ours."""
    return _named.get(Path(path).name, path)


def settled_for(path: str) -> Settled | None:
    """What was settled for the loaded library at ``path``, whatever name it is opened by now."""
    return _settled.get(os.path.realpath(path))


def version_of(core: str) -> tuple[int, int]:
    """Major and minor version by the file's own symbol, without loading it; (0, 0) if it has none."""
    with Path(core).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        found = re.search(rb"tensorrt_version_(\d+)_(\d+)_", content)
        return (int(found[1]), int(found[2])) if found else (0, 0)
