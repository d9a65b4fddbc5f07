"""Kernels that TensorRT for RTX compiled for one engine on one GPU, kept for the next context and the next process."""

from __future__ import annotations

import hashlib
import platform
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from ..cache.record import CacheRecord
from ..cache.store import Store
from ..errors import CacheError, PynnError
from ..native import Flavor, LibraryInfo
from .cuda import Device
from .engine_file import EngineFile
from .trt_cache import digest_of

KERNELS = "kernels"
SAVE_SECONDS = 10.0
"""How long to wait for another process that saves the same."""

Merge = Callable[[bytes, bytes], bytes]


class KernelCache:
    """The kernels of one engine: ``load`` before the first context, ``save`` when more were compiled.

    Neither raises; ``record`` says what came of them.
    """

    def __init__(self, store: Store, details: Mapping[str, Any]) -> None:
        self._store, self._details = store, details
        self._lock = threading.Lock()
        self._contained: str | None = None
        self._saved: str | None = None
        key = digest_of(details)
        self.record = CacheRecord(True, key=key, path=str(store.path(KERNELS, key)))

    @classmethod
    def of(cls, store: Store | None, engine: str, info: LibraryInfo, device: Device) -> KernelCache | None:
        """``engine`` is the engine's key, or the digest of its plan. None where the library compiles no kernels."""
        if store is None or info.flavor is not Flavor.RTX:
            return None
        details = {
            "engine": engine,
            "library": {"flavor": info.flavor.name, "version": info.version},
            "gpu": {"name": device.info.name, "compute_capability": device.info.compute_capability},
            "driver": device.driver.version,
            "os": f"{platform.system()} {platform.machine()}",
        }
        return cls(store, details)

    def load(self) -> bytes:
        """What was saved for this engine, here and now; empty if there is nothing."""
        with self._lock:
            start = time.perf_counter()
            found = self._store.read(KERNELS, self.record.key)
            data = found.payload or b""
            if data:
                self._contained = self._saved = _digest(data)
            seconds = {**self.record.seconds, "read": time.perf_counter() - start}
            self.record = replace(self.record, hit=bool(data), reason=found.reason, seconds=seconds)
            return data

    def save(self, data: bytes, merge: Merge | None = None) -> None:
        """Keep ``data``, which contains what ``load`` gave. Where another process saved meanwhile, keep
        ``merge(theirs, data)``; without ``merge``, or if it fails, the larger."""
        with self._lock:
            mine = _digest(data)
            if not data or mine == self._saved:
                return
            start = time.perf_counter()
            try:
                with self._store.locked(KERNELS, self.record.key, SAVE_SECONDS):
                    problem = self._save(data, merge)
            except CacheError as error:
                problem = str(error)
            seconds = {**self.record.seconds, "write": time.perf_counter() - start}
            self.record = replace(self.record, seconds=seconds)
            if problem:
                self.record = replace(self.record, reason=f"not saved: {problem}")
            else:
                self._saved = mine

    def _save(self, data: bytes, merge: Merge | None) -> str:
        """``_contained`` stays what this process has in memory: a merged result is merged again the next time."""
        there = self._store.read(KERNELS, self.record.key).payload
        if there is not None and _digest(there) not in (self._contained, self._saved):
            merged = _merged(there, data, merge)
            return "" if merged == there else self._store.write(KERNELS, self.record.key, [merged], self._details)
        problem = self._store.write(KERNELS, self.record.key, [data], self._details)
        if not problem:
            self._contained = _digest(data)
        return problem


def plan_digest(file: EngineFile) -> str:
    """What names the engine of a file, whoever built it."""
    return hashlib.sha256(file.plan).hexdigest()


def _merged(theirs: bytes, mine: bytes, merge: Merge | None) -> bytes:
    if merge is not None:
        try:
            return merge(theirs, mine)
        except PynnError:
            pass
    return max(theirs, mine, key=len)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
