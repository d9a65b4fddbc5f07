"""Store: entries by kind and key, for many processes at a time. Reading and writing never raise: they give a reason.

    ROOT/v1/KIND/KEY.entry    what is kept; its modification time is its last use
    ROOT/v1/locks             one file for each key; ROOT/v1/tmp: what is being written
    ROOT/v1/quarantine        what was damaged, each with its reason in NAME.reason

Another format is another ``v`` directory, so that two versions of pynn can share ROOT.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import CacheError
from .digest import Buffer
from .entry import FORMAT, MAX_HEADER, Header, pack, read_header, read_payload
from .folder import cache_folder, cache_limit, make_private
from .locks import lock

SUFFIX = ".entry"
_REASON = ".reason"
_FOLDERS = ("locks", "tmp", "quarantine")
_log = logging.getLogger(__name__)

Identity = tuple[int, int, int]


@dataclass(frozen=True)
class Reading:
    """What a key gave: the payload, or None and the ``reason``. ``identity`` tells this file from a later one."""

    payload: bytes | None
    reason: str
    path: Path
    identity: Identity | None = None


@dataclass(frozen=True)
class Entry:
    """An entry seen from outside. Without ``header``, ``problem`` says what is wrong with it. ``used`` is in seconds
    of the epoch; ``identity`` tells this file from a later one."""

    kind: str
    key: str
    path: Path
    size: int
    used: float
    header: Header | None = None
    problem: str = ""
    identity: Identity | None = None


@dataclass(frozen=True)
class Quarantined:
    """A file that was taken out of use, and why."""

    path: Path
    size: int
    reason: str
    since: float


class Store:
    """One directory of entries. Safe to use from many threads and processes."""

    def __init__(self, root: Path, limit: int) -> None:
        """Raises CacheError when the directory is not the user's alone."""
        self.root, self.limit = root, limit
        self._home = root / f"v{FORMAT}"
        self._prepare()

    @classmethod
    def open(cls, given: str | os.PathLike[str] | None = None) -> Store:
        """The store of ``given``, else of the environment or the user. Raises CacheError with the reason."""
        return cls(cache_folder(given), cache_limit())

    def _prepare(self, *kinds: str) -> None:
        """Create what is missing. A directory that cannot be created or written may still be read."""
        make = [self.root, self._home, *(self._home / name for name in (*_FOLDERS, *kinds))]
        try:
            for folder in make:
                make_private(folder)
        except OSError as error:
            if not self._home.is_dir():
                raise CacheError(f"the cache directory {self.root} cannot be used: {error}") from None

    def path(self, kind: str, key: str) -> Path:
        return self._home / kind / f"{key}{SUFFIX}"

    # -- one key

    def read(self, kind: str, key: str) -> Reading:
        """The payload; a damaged or foreign entry goes to quarantine. Never raises for what is on the disk."""
        path = self.path(kind, key)
        identity = None
        try:
            with path.open("rb") as file:
                identity = _identity(os.fstat(file.fileno()))
                payload = read_payload(file, read_header(file, kind, key))
        except FileNotFoundError:
            return self._miss(path, "no entry has this key")
        except CacheError as error:
            self.quarantine(kind, key, str(error), identity)
            return self._miss(path, f"the entry was put into quarantine: {error}")
        except (OSError, MemoryError) as error:
            return self._miss(path, f"the entry cannot be read: {error}")
        with contextlib.suppress(OSError):
            os.utime(path)
        return Reading(payload, "", path, identity)

    def _miss(self, path: Path, reason: str) -> Reading:
        _log.info("%s: %s", path, reason)
        return Reading(None, reason, path)

    @contextmanager
    def locked(
        self, kind: str, key: str, seconds: float = 0.0, check: Callable[[], object] | None = None
    ) -> Iterator[None]:
        """Hold the key's lock, waiting ``seconds`` at most; what ``check`` raises ends the wait. Raises CacheError."""
        self._prepare()
        with lock(self._lock_path(kind, key), seconds, check):
            yield

    def _lock_path(self, kind: str, key: str) -> Path:
        return self._home / "locks" / f"{kind}-{key}.lock"

    def write(self, kind: str, key: str, parts: Sequence[Buffer], details: Mapping[str, Any]) -> str:
        """Keep ``parts``, then evict what was used longest ago. The caller holds the key's lock. Returns "" or why it
        was not kept."""
        content = pack(kind, key, parts, details, time.time())
        size = sum(memoryview(part).nbytes for part in content)
        header = memoryview(content[2]).nbytes
        if header > MAX_HEADER:
            return self._refused(f"{header:,} bytes that say what it is are more than the {MAX_HEADER:,} of an entry")
        if size > self.limit:
            return self._refused(f"{size:,} bytes are more than the limit of the cache, {self.limit:,}")
        unfinished = self._home / "tmp" / f"{kind}-{key}.{os.urandom(6).hex()}"
        try:
            self._prepare(kind)
            for leftover in unfinished.parent.glob(f"{kind}-{key}.*"):  # of a process that died; we hold the lock
                leftover.unlink(missing_ok=True)
            _write(unfinished, content)
            unfinished.replace(self.path(kind, key))
            _sync(self._home / kind)
        except (OSError, CacheError) as error:
            return self._refused(f"the cache directory {self.root} cannot be written: {error}")
        finally:
            with contextlib.suppress(OSError):
                unfinished.unlink(missing_ok=True)
        self.evict(keep=self.path(kind, key))
        return ""

    def _refused(self, reason: str) -> str:
        _log.info("%s", reason)
        return reason

    def quarantine(self, kind: str, key: str, reason: str, identity: Identity | None = None) -> None:
        """Take an entry out of use and keep it with ``reason``; not if the file is another than ``identity``."""
        path = self.path(kind, key)
        target = self._home / "quarantine" / f"{kind}-{key}.{os.urandom(4).hex()}"
        reason = reason.encode("utf-8", "backslashreplace").decode()  # it may name a path that is no UTF-8
        _log.warning("%s goes to quarantine: %s", path, reason)
        try:
            if identity is not None and _identity(path.stat()) != identity:
                return
            self._prepare()
            path.replace(target)
            target.with_name(target.name + _REASON).write_text(reason, encoding="utf-8")
        except (OSError, CacheError) as error:
            _log.warning("%s cannot be put into quarantine: %s", path, error)

    # -- all of it

    def entries(self) -> list[Entry]:
        """All entries by their headers, the last used first. Raises OSError."""
        found = [entry for path in self._files("*", f"*{SUFFIX}") if (entry := self._look(path)) is not None]
        return sorted(found, key=lambda entry: -entry.used)

    def _look(self, path: Path, *, whole: bool = False) -> Entry | None:
        kind, key = path.parent.name, path.name.removesuffix(SUFFIX)
        try:
            with path.open("rb") as file:
                stat = os.fstat(file.fileno())
                header, problem = None, ""
                try:
                    header = read_header(file, kind, key)
                    if whole:
                        read_payload(file, header)
                except CacheError as error:
                    header, problem = None, str(error)
        except FileNotFoundError:
            return None
        return Entry(kind, key, path, stat.st_size, stat.st_mtime, header, problem, _identity(stat))

    def _files(self, folder: str, pattern: str) -> list[Path]:
        return [path for path in self._home.glob(f"{folder}/{pattern}") if path.is_file()]

    def verify(self) -> list[Entry]:
        """Read and check every entry; what is damaged goes to quarantine. Returns all, those with a ``problem`` too.

        Raises OSError."""
        checked = []
        for path in self._files("*", f"*{SUFFIX}"):
            entry = self._look(path, whole=True)
            if entry is None:
                continue
            if entry.problem:
                self.quarantine(entry.kind, entry.key, entry.problem, entry.identity)
            checked.append(entry)
        return checked

    def quarantined(self) -> list[Quarantined]:
        """What is in quarantine, the oldest first. Raises OSError."""
        found = []
        for path in self._files("quarantine", "*"):
            if path.suffix == _REASON:
                continue
            note = path.with_name(path.name + _REASON)
            with contextlib.suppress(FileNotFoundError):
                stat = path.stat()
                reason = note.read_text(encoding="utf-8", errors="replace") if note.is_file() else "unknown"
                found.append(Quarantined(path, stat.st_size, reason, stat.st_mtime))
        return sorted(found, key=lambda one: one.since)

    def size(self) -> int:
        """Bytes of all files, of what is being written and of the quarantine too."""
        total = 0
        for path in self._home.glob("*/*"):
            with contextlib.suppress(OSError):
                total += path.stat().st_size
        return total

    def evict(self, keep: Path | None = None, limit: int | None = None) -> int:
        """Remove what was used longest ago until the rest is within ``limit`` (the store's): the quarantine first,
        never ``keep`` nor an entry that a process has locked. Returns the bytes removed."""
        limit = self.limit if limit is None else limit
        try:
            self._sweep_tmp()
            total = start = self.size()
            if total <= limit:
                return 0
            for one in self.quarantined():
                total -= self._discard_quarantined(one) if total > limit else 0
            for path in sorted(self._files("*", f"*{SUFFIX}"), key=_used):
                if total > limit and path != keep:
                    total -= self._remove(path)
        except OSError as error:
            _log.info("evicting from %s: %s", self.root, error)
            return 0
        return start - total

    def clear(self, keys: Sequence[str] = ()) -> int:
        """Remove ``keys``, or all and the quarantine; what a process has locked stays. Returns the bytes removed."""
        removed = 0
        for path in self._files("*", f"*{SUFFIX}"):
            if not keys or path.name.removesuffix(SUFFIX) in keys:
                removed += self._remove(path)
        if not keys:
            self._sweep_tmp()
            removed += sum(self._discard_quarantined(one) for one in self.quarantined())
        return removed

    def _remove(self, path: Path) -> int:
        """Remove an entry and its lock file unless it is locked. The worst that a vanished lock file does is that two
        processes build the same."""
        held = self._lock_path(path.parent.name, path.name.removesuffix(SUFFIX))
        try:
            with lock(held):
                size = path.stat().st_size
                path.unlink()
                if os.name == "posix":
                    held.unlink(missing_ok=True)
                return size
        except (OSError, CacheError):
            return 0

    def _discard_quarantined(self, one: Quarantined) -> int:
        one.path.unlink(missing_ok=True)
        one.path.with_name(one.path.name + _REASON).unlink(missing_ok=True)
        return one.size

    def _sweep_tmp(self) -> None:
        """Remove what processes that died left: nobody has these locks."""
        for path in self._files("tmp", "*"):
            name = path.name.rpartition(".")[0]
            with contextlib.suppress(OSError, CacheError), lock(self._home / "locks" / f"{name}.lock"):
                path.unlink()


def _identity(stat: os.stat_result) -> Identity:
    return stat.st_dev, stat.st_ino, stat.st_size


def _used(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _write(path: Path, content: Sequence[Buffer]) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        for part in content:
            file.write(part)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
