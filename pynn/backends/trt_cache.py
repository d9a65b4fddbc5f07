"""The engine cache: what decides an engine, as a key; and a compile that asks the store before it builds."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ..cache.digest import content_digest
from ..cache.record import CacheRecord
from ..cache.store import Identity, Store
from ..converter.model import OnnxModel
from ..converter.unread import UnreadModel
from ..errors import CacheError, DeviceUnsupportedError, PlanError
from ..native import LibraryInfo
from .base import BuildControl, CompileOptions
from .build_control import Watch
from .cuda import Device
from .engine_file import EngineFile, pynn_version

ENGINES = "engines"
REVISION = 1
"""Raised when the same model and options give another engine, though pynn's version did not change."""
RUN_ONLY = frozenset({"device", "cuda_graph", "cache", "cache_dir", "concurrency", "wait", "kernel_specialization"})
"""Options that do not change the engine. All others are part of the key, those added later too."""
_NOT_IN_KEY = RUN_ONLY | {"control"}
WAIT_SECONDS = 900.0
"""How long to wait for another process that builds the same, before building it here."""
_LONG_TEXT = 4096

_log = logging.getLogger(__name__)

Made = TypeVar("Made")


@dataclass(frozen=True)
class EngineKey:
    """``text`` is the SHA-256 of ``details``, which name all that decides the engine."""

    text: str
    details: Mapping[str, Any]


def engine_key(
    model: OnnxModel,
    info: LibraryInfo,
    tf32: bool,
    options: CompileOptions,
    capabilities: Sequence[int],
    device: Device | None = None,
    *,
    topology: bool = False,
) -> EngineKey:
    """``device`` is the GPU that the engine is for, where it is for one that is here; ``tf32`` what was settled for the
    library. ``topology``: the engine is for any float weights, which are put into it when it is loaded.

    Raises OSError for external data that cannot be read, CacheError for an option that has no text.
    """
    gpu = None
    if device is not None:
        gpu = {
            "name": device.info.name,
            "compute_capability": device.info.compute_capability,
            "driver": device.driver.version // 1000,
        }
    details = {
        "model": model_digest(model, topology=topology),
        **({} if isinstance(model, UnreadModel) else _sides(model)),
        "library": {"flavor": info.flavor.name, "version": info.version, "parser": info.parser_version},
        "compute_capabilities": list(capabilities),
        "gpu": gpu,
        "tf32": tf32,
        "options": {f.name: _brief(getattr(options, f.name)) for f in fields(options) if f.name not in _NOT_IN_KEY},
        "pynn": pynn_version(),
        "revision": REVISION,
    }
    return EngineKey(digest_of(details), details)


def _sides(model: OnnxModel | EngineFile) -> dict[str, Any]:
    """Inputs and outputs. A file's are in its bytes, and are no part of its key."""
    return {"inputs": [plain(spec) for spec in model.inputs], "outputs": [plain(spec) for spec in model.outputs]}


def digest_of(details: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(details, sort_keys=True).encode()).hexdigest()


def model_digest(model: OnnxModel, *, topology: bool = False) -> str:
    """Over the proto, the weights beside it and the files of external data. With ``topology``, of float weights only
    names, types and shapes count; external data counts whole. Raises OSError, ModelError."""
    return content_digest(_contents(model, topology))


def _contents(model: OnnxModel, topology: bool) -> Iterator[tuple[str, bytes | memoryview | Path]]:
    refers = model.path is not None and b"location" in model.proto
    if topology or refers:
        model.read()  # what is not ONNX is said as it is without a cache
    if topology:
        from ..converter.serialize import topology_parts

        yield from topology_parts(model.proto)
    else:
        yield "proto", model.proto
    for name in sorted(model.weights):
        array = model.weights[name]
        memory = b"" if topology and "float" in array.dtype.name else _memory(array)
        yield f"weight {name!r} {array.dtype.name} {array.shape}", memory
    if refers and model.path is not None:
        from ..converter.serialize import external_locations

        for location in external_locations(model.proto):
            yield f"file {location!r}", model.path.parent / location


def _memory(array: np.ndarray[Any, Any]) -> memoryview:
    return memoryview(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def _brief(value: Any) -> Any:
    """``plain``, or a digest of it where it is long, as a calibration table: details are read for each miss."""
    made = plain(value)
    text = json.dumps(made, sort_keys=True).encode()
    return made if len(text) <= _LONG_TEXT else {"sha256": hashlib.sha256(text).hexdigest()}


def plain(value: Any) -> Any:
    """An option as JSON. Raises CacheError for what has no stable text."""
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return [[plain(key), plain(one)] for key, one in sorted(value.items(), key=lambda pair: str(pair[0]))]
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if isinstance(value, (set, frozenset)):
        return sorted(map(str, value))
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, (np.ndarray, np.generic)):
        array = np.ascontiguousarray(value)
        return [array.dtype.name, list(array.shape), hashlib.sha256(array.tobytes()).hexdigest()]
    raise CacheError(f"an option of type {type(value).__name__} cannot be part of a key")


class EngineCache:
    """The store for one compile; ``record`` says what came of it."""

    def __init__(self, store: Store | None, key: EngineKey | None, record: CacheRecord) -> None:
        self.store, self._key, self.record = store, key, record
        self._identity: Identity | None = None

    @classmethod
    def of(cls, options: CompileOptions, make_key: Callable[[], EngineKey]) -> EngineCache:
        """With the user's store, or without one and the reason why. Never raises for what is on the disk."""
        if not options.cache:
            return cls(None, None, CacheRecord(False, reason="cache=False"))
        start = time.perf_counter()
        try:
            store, key = Store.open(options.cache_dir), make_key()
        except (CacheError, OSError, TypeError, ValueError) as error:  # a weight without bytes of its own: strings
            _log.info("no engine cache: %s", error)
            return cls(None, None, CacheRecord(False, reason=str(error)))
        seconds = {"key": time.perf_counter() - start}
        path = str(store.path(ENGINES, key.text))
        return cls(store, key, CacheRecord(True, key=key.text, path=path, seconds=seconds))

    def obtain(
        self,
        build: Callable[[BuildControl], EngineFile],
        open_file: Callable[[EngineFile], Made],
        control: BuildControl,
    ) -> Made:
        """What ``open_file`` makes of the cached engine, or of one that ``build`` makes now. An entry that the library
        refuses goes to quarantine and is built again.

        Of many processes one builds, the others wait for it; ``control`` ends the wait as it ends a build. Raises what
        ``build`` and ``open_file`` raise.
        """
        if self.store is None or self._key is None:
            return open_file(build(control))
        made = self._from_cache(open_file)
        if made is not None:
            return made
        reason, watch, start = self.record.reason, Watch(control), time.perf_counter()
        try:
            with self.store.locked(ENGINES, self._key.text, WAIT_SECONDS, watch.check):
                self._took("wait", start)
                found = self._read()
                if found is None:
                    file = build(_shorter(control, start))
                    self._write(file, reason)
        except CacheError as error:
            self._miss(f"{reason}; built without keeping it, because {error}")
            return open_file(build(_shorter(control, start)))
        if found is not None:
            made = self._open(found, open_file, "another process built it meanwhile")
            if made is not None:
                return made
            file = build(_shorter(control, start))
        try:
            return open_file(file)
        except PlanError as error:
            self.store.quarantine(ENGINES, self._key.text, f"not even the library that built it takes it: {error}")
            raise

    def _from_cache(self, open_file: Callable[[EngineFile], Made]) -> Made | None:
        file = self._read()
        return None if file is None else self._open(file, open_file, "an entry has this key")

    def _open(self, file: EngineFile, open_file: Callable[[EngineFile], Made], reason: str) -> Made | None:
        """None if the library refuses it: it is of no use to anybody then."""
        assert self.store is not None and self._key is not None
        try:
            made = open_file(file)
        except (PlanError, DeviceUnsupportedError) as error:
            self.store.quarantine(ENGINES, self._key.text, f"refused: {error}", self._identity)
            self._miss(f"the entry was put into quarantine, because it was refused: {error}")
            return None
        self.record = replace(self.record, hit=True, reason=reason)
        return made

    def _read(self) -> EngineFile | None:
        assert self.store is not None and self._key is not None
        start = time.perf_counter()
        found = self.store.read(ENGINES, self._key.text)
        self._identity = found.identity
        if found.payload is None:
            self._miss(found.reason + self._nearest())
            return None
        try:
            file = EngineFile.load(found.payload, intact=True)
        except PlanError as error:
            self.store.quarantine(ENGINES, self._key.text, str(error), found.identity)
            self._miss(f"the entry was put into quarantine: {error}")
            return None
        self._took("read", start)
        return file

    def _write(self, file: EngineFile, reason: str) -> None:
        assert self.store is not None and self._key is not None
        start = time.perf_counter()
        problem = self.store.write(ENGINES, self._key.text, file.parts(), {**_sides(file), **self._key.details})
        self._took("write", start)
        self._miss(f"{reason}; not kept: {problem}" if problem else reason)

    def _nearest(self) -> str:
        """What is different about an entry of the same model, if there is one."""
        assert self.store is not None and self._key is not None
        wanted, best = self._key.details, None
        with contextlib.suppress(OSError):
            for entry in self.store.entries():
                details = entry.header.details if entry.header is not None else {}
                if entry.kind == ENGINES and details.get("model") == wanted["model"]:
                    differing = [name for name in wanted if details.get(name) != wanted[name]]
                    best = differing if best is None or len(differing) < len(best) else best
        return f"; there is one of this model with another {', '.join(best)}" if best else ""

    def _miss(self, reason: str) -> None:
        _log.info("engine cache, %s: %s", self.record.key, reason)
        self.record = replace(self.record, hit=False, reason=reason)

    def _took(self, phase: str, start: float) -> None:
        self.record = replace(self.record, seconds={**self.record.seconds, phase: time.perf_counter() - start})


def _shorter(control: BuildControl, start: float) -> BuildControl:
    """What is left of the deadline after the wait."""
    if control.deadline is None:
        return control
    left = max(control.deadline - (time.perf_counter() - start), 1e-3)
    return replace(control, deadline=left, given=control.given or control.deadline)
