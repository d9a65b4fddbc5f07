"""Kernel caches of several processes: loaded, saved, merged, never lost by overwriting."""

from __future__ import annotations

import dataclasses
import errno
import os
from pathlib import Path
from typing import Any

import pytest

from pynn.backends.engine_file import EngineFile
from pynn.backends.jit_cache import KERNELS, KernelCache, plan_digest
from pynn.cache.store import Store
from pynn.errors import PlanError
from pynn.native import Flavor

from .trt_fakes import FakeDevice, FakeLibrary

INFO = FakeLibrary.info


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache", 1 << 20)


def cache(store: Store, engine: str = "engine", **info: Any) -> KernelCache:
    made = KernelCache.of(store, engine, dataclasses.replace(INFO, **info), FakeDevice())  # type: ignore[arg-type]
    assert made is not None
    return made


def union(theirs: bytes, mine: bytes) -> bytes:
    """Kernels are letters here."""
    return bytes(sorted(set(theirs) | set(mine)))


def test_what_is_saved_is_loaded_by_the_next(store: Store) -> None:
    first = cache(store)
    assert first.load() == b"" and not first.record.hit and first.record.reason == "no entry has this key"
    first.save(b"ab")
    second = cache(store)
    assert second.load() == b"ab" and second.record.hit and second.record.key == first.record.key
    assert set(first.record.seconds) == {"read", "write"}


def test_the_key(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [cache(store).record.key, cache(store, "other").record.key, cache(store, version="1.7").record.key]
    monkeypatch.setattr(FakeDevice.driver, "version", 13010)
    keys.append(cache(store).record.key)
    monkeypatch.setattr(FakeDevice, "info", dataclasses.replace(FakeDevice.info, name="Another GPU"))
    keys.append(cache(store).record.key)
    monkeypatch.setattr("platform.system", lambda: "Another OS")
    keys.append(cache(store).record.key)
    assert len(set(keys)) == len(keys)


def test_only_tensorrt_for_rtx_compiles_kernels(store: Store) -> None:
    other = dataclasses.replace(INFO, flavor=Flavor.TENSORRT)
    assert KernelCache.of(store, "engine", other, FakeDevice()) is None  # type: ignore[arg-type]
    assert KernelCache.of(None, "engine", INFO, FakeDevice()) is None  # type: ignore[arg-type]


def test_two_processes_that_save_are_merged(store: Store) -> None:
    one, two = cache(store), cache(store)
    one.load(), two.load()
    one.save(b"ab", union)
    two.save(b"bc", union)
    assert cache(store).load() == b"abc"
    one.save(b"abd", union)
    assert cache(store).load() == b"abcd"
    two.save(b"bce", union)
    one.save(b"abdf", union)
    assert cache(store).load() == b"abcdef"


def test_what_was_loaded_is_contained_in_what_is_saved(store: Store) -> None:
    cache(store).save(b"ab")
    one = cache(store)
    one.load()

    def merge(theirs: bytes, mine: bytes) -> bytes:
        raise AssertionError("nobody saved meanwhile")

    one.save(b"abc", merge)
    one.save(b"abcd", merge)
    assert cache(store).load() == b"abcd"


def failing(theirs: bytes, mine: bytes) -> bytes:
    raise PlanError("the library refuses it")


@pytest.mark.parametrize("merge", [None, failing])
def test_without_a_merge_the_larger_stays(store: Store, merge: Any) -> None:
    cache(store).save(b"abc", merge)
    cache(store).save(b"zz", merge)
    assert cache(store).load() == b"abc"
    cache(store).save(b"wxyz", merge)
    assert cache(store).load() == b"wxyz"


def test_the_same_again_writes_nothing(store: Store) -> None:
    one = cache(store)
    one.save(b"ab")
    before = Path(one.record.path).stat().st_ino
    one.save(b"ab")
    one.save(b"")
    two = cache(store)
    two.save(two.load())
    assert Path(one.record.path).stat().st_ino == before


def test_damage_is_put_away_and_saved_over(store: Store) -> None:
    one = cache(store)
    one.save(b"ab")
    Path(one.record.path).write_bytes(b"garbage")
    two = cache(store)
    assert two.load() == b"" and "put into quarantine" in two.record.reason
    two.save(b"cd", union)
    assert cache(store).load() == b"cd"
    assert len(store.quarantined()) == 1


def test_a_disk_that_takes_nothing_is_no_error(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("pynn.cache.store._write", fail)
    one = cache(store)
    one.save(b"ab")
    assert "not saved: " in one.record.reason and "No space left" in one.record.reason
    monkeypatch.undo()
    one.save(b"ab")
    assert cache(store).load() == b"ab"


def test_somebody_else_saves_for_too_long(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pynn.backends.jit_cache.SAVE_SECONDS", 0.01)
    one = cache(store)
    with Store(store.root, 1 << 20).locked(KERNELS, one.record.key):
        one.save(b"ab")
    assert "another process still held the lock" in one.record.reason
    one.save(b"ab")
    assert cache(store).load() == b"ab"


def test_plan_digest_is_of_the_plan_alone() -> None:
    a, b = EngineFile(b"plan", "RTX", "1", (86,)), EngineFile(memoryview(b"plan"))
    assert plan_digest(a) == plan_digest(b) != plan_digest(EngineFile(b"another"))
