"""Verdicts of earlier processes: a library that took a kind of GPU once is believed to take it again.

Only that it did is kept, never a refusal. What the key does not know (a broken GPU, a driver changed within a version)
shows when an engine is made ready; then the library is asked in earnest.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..cache.store import Store
from ..errors import CacheError
from ..native import Library, LibraryInfo
from .cuda import Device
from .engine_file import pynn_version
from .trt_cache import digest_of

PROBES = "probes"
_TOOK_IT = b"usable"


class KeptVerdicts:
    """Those in one store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @classmethod
    def of(cls, cache: bool, cache_dir: str | None) -> KeptVerdicts | None:
        """None where nothing is kept: without ``cache``, or with a directory that cannot be used."""
        with contextlib.suppress(CacheError):
            return cls(Store.open(cache_dir)) if cache else None
        return None

    def knows(self, question: Mapping[str, Any]) -> bool:
        """The library took such a GPU."""
        return self._store.read(PROBES, digest_of(question)).payload == _TOOK_IT

    def keep(self, question: Mapping[str, Any]) -> None:
        key = digest_of(question)
        with contextlib.suppress(CacheError), self._store.locked(PROBES, key):
            self._store.write(PROBES, key, [_TOOK_IT], question)

    def forget(self, question: Mapping[str, Any]) -> None:
        self._store.clear([digest_of(question)])


def question_of(library: Library, info: LibraryInfo, device: Device) -> Mapping[str, Any] | None:
    """All that decides the verdict, as JSON: the library's files, the kind of GPU, the driver, pynn and TF32. None when
    a file cannot be looked at."""
    parser = library.files[1]
    try:
        files = [_file(path) for path in (info.path, *([parser] if parser else []))]
    except OSError:
        return None
    gpu = device.info
    return {
        "library": {"flavor": info.flavor.name, "version": info.version, "files": files},
        "gpu": {"name": gpu.name, "compute_capability": gpu.compute_capability, "memory": gpu.memory},
        "driver": device.driver.version,
        "tf32": library.tf32.allowed,
        "pynn": pynn_version(),
    }


def _file(path: str) -> list[Any]:
    stat = Path(path).stat()
    return [path, stat.st_size, stat.st_mtime_ns]
