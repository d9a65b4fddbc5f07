"""Faults of the disk and of other processes: a miss with a reason, never a wrong payload, never an exception."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import pynn
from pynn.cache import store as store_module
from pynn.cache.entry import MAX_HEADER, pack, read_header
from pynn.cache.store import Store
from pynn.errors import CacheError

SOURCE = str(Path(pynn.__file__).parent.parent)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache", 1 << 20)


def keep(store: Store, payload: bytes = b"payload") -> Path:
    with store.locked("engines", "k"):
        assert store.write("engines", "k", [payload], {"of": "k"}) == ""
    return store.path("engines", "k")


def test_truncated_at_every_byte(store: Store) -> None:
    path = keep(store)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        found = store.read("engines", "k")
        assert found.payload is None, length
        assert "was put into quarantine: truncated" in found.reason, (length, found.reason)
        assert not path.exists()
    assert len(store.quarantined()) == len(whole)
    path.write_bytes(whole)
    assert store.read("engines", "k").payload == b"payload"


def test_flipped_bits_are_found(store: Store) -> None:
    path = keep(store)
    whole = path.read_bytes()
    for at in range(len(whole)):
        for bit in {at % 8, 7}:
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :])
            assert store.read("engines", "k").payload is None, (at, bit)
    store.clear()


def test_bytes_at_the_end_are_damage(store: Store) -> None:
    path = keep(store)
    path.write_bytes(path.read_bytes() + b"x")
    assert "truncated or damaged" in store.read("engines", "k").reason


def test_lengths_that_lie_allocate_nothing(store: Store) -> None:
    path = keep(store)
    whole = bytearray(path.read_bytes())
    whole[12:16] = (MAX_HEADER + 1).to_bytes(4, "little")
    path.write_bytes(whole)
    assert "truncated or damaged" in store.read("engines", "k").reason


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\x89PYNNE\r\n" + bytes(100), "foreign: it does not begin"),
        (b"".join(map(bytes, pack("engines", "another", [b"p"], {}, 0.0))), "foreign: it is engines/another"),
        (b"".join(map(bytes, pack("kernels", "k", [b"p"], {}, 0.0))), "foreign: it is kernels/k"),
        (b"".join(map(bytes, pack("engines", "k", [b"p"], {}, "now"))), "its header makes no sense"),  # type: ignore[arg-type]
    ],
)
def test_foreign_entries(store: Store, content: bytes, reason: str) -> None:
    path = keep(store)
    path.write_bytes(content)
    assert reason in store.read("engines", "k").reason
    assert reason in store.quarantined()[0].reason


def test_an_entry_of_another_format(store: Store) -> None:
    path = keep(store)
    whole = bytearray(path.read_bytes())
    whole[8] = 9
    path.write_bytes(whole)
    with path.open("rb") as file, pytest.raises(CacheError, match="format 9, written by another pynn"):
        read_header(file, "engines", "k")


def test_a_directory_in_place_of_an_entry(store: Store) -> None:
    store.path("engines", "k").mkdir(parents=True)
    assert "cannot be read" in store.read("engines", "k").reason
    assert store.entries() == [] and store.verify() == []
    with store.locked("engines", "k"):
        assert "cannot be written" in store.write("engines", "k", [b"p"], {})


# -- full, read-only, deleted. The tests may run as root, whom no mode stops: the calls are made to fail.


def failing(number: int) -> Any:
    def fail(*_: object, **__: object) -> Any:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("function", ["open", "fsync"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT])
def test_a_full_or_read_only_disk(store: Store, monkeypatch: pytest.MonkeyPatch, function: str, number: int) -> None:
    keep(store, b"older")
    with store.locked("engines", "k"):
        monkeypatch.setattr(store_module.os, function, failing(number))
        reason = store.write("engines", "k", [b"newer"], {})
        monkeypatch.undo()
    assert "cannot be written" in reason and os.strerror(number) in reason
    assert store.read("engines", "k").payload in (b"older", b"newer")
    assert list((store.root / "v1" / "tmp").iterdir()) == []


def test_a_disk_that_fills_up_while_writing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(store, b"older")

    def half(path: Path, content: Any) -> None:
        path.write_bytes(content[0])
        failing(errno.ENOSPC)()

    monkeypatch.setattr(store_module, "_write", half)
    with store.locked("engines", "k"):
        assert "No space left" in store.write("engines", "k", [b"newer"], {})
    assert store.read("engines", "k").payload == b"older"
    assert list((store.root / "v1" / "tmp").iterdir()) == []


def test_a_read_only_directory_can_be_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(store)
    monkeypatch.setattr(Path, "mkdir", failing(errno.EROFS))
    monkeypatch.setattr(os, "utime", failing(errno.EROFS))
    again = Store(store.root, 1 << 20)
    assert again.read("engines", "k").payload == b"payload"
    with pytest.raises(CacheError, match=r"cannot be used: .*Read-only"):
        Store(store.root / "new", 1)


def test_no_lock_file_can_be_made(store: Store) -> None:
    shutil.rmtree(store.root / "v1" / "locks")
    (store.root / "v1" / "locks").write_text("a file")
    with pytest.raises(CacheError, match="cannot be locked"), store.locked("engines", "k"):
        pass


def test_deleted_while_in_use(store: Store) -> None:
    keep(store)
    shutil.rmtree(store.root)
    assert store.read("engines", "k").reason == "no entry has this key"
    assert store.entries() == [] and store.quarantined() == [] and store.size() == 0 and store.clear() == 0
    with store.locked("engines", "k"):
        shutil.rmtree(store.root)
        assert store.write("engines", "k", [b"again"], {}) == ""
    assert store.read("engines", "k").payload == b"again"
    with store.locked("engines", "other"):
        shutil.rmtree(store.root)
        store.quarantine("engines", "k", "gone already")


def test_a_quarantine_that_cannot_be(store: Store) -> None:
    path = keep(store)
    path.write_bytes(b"garbage")
    shutil.rmtree(store.root / "v1" / "quarantine")
    (store.root / "v1" / "quarantine").write_text("a file")
    for _ in range(2):
        assert store.read("engines", "k").payload is None


# -- other processes

KILLS = 200
WRITER = """
import os, signal, sys, time
sys.path.insert(0, {source!r})
from pathlib import Path
import filelock
from pynn.cache.store import Store
store = Store(Path(sys.argv[1]), 1 << 24)
payload = lambda n: bytes([n % 251]) * 200_000

def write_for_ever(n, ready):
    while True:
        n += 1
        with store.locked("engines", "k", 5):
            os.write(ready, b"x")
            store.write("engines", "k", [payload(n)], {{"n": n}})

start = time.perf_counter()
with store.locked("engines", "k", 5):
    assert store.write("engines", "k", [payload(0)], {{}}) == ""
one_write = time.perf_counter() - start
torn = 0
for round in range({kills}):
    begun, ready = os.pipe()
    pid = os.fork()
    if pid == 0:
        write_for_ever(round, ready)
    os.close(ready)
    assert os.read(begun, 1) == b"x"
    time.sleep(one_write * (round % 20) / 10)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(begun)
    torn += any((store.root / "v1" / "tmp").iterdir())
    found = store.read("engines", "k")
    assert found.payload is not None, (round, found.reason)
    assert len(found.payload) == 200_000 and len(set(found.payload)) == 1, round
with store.locked("engines", "k", 5):
    assert store.write("engines", "k", [b"last"], {{}}) == ""
assert store.read("engines", "k").payload == b"last"
assert store.quarantined() == []
assert list((store.root / "v1" / "tmp").iterdir()) == []
print(torn)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the writers are forked, which is POSIX's")
def test_writers_killed_200_times(tmp_path: Path) -> None:
    """No kill leaves a damaged entry, a lock, or anything that the next writer does not clean up."""
    command = [sys.executable, "-c", WRITER.format(source=SOURCE, kills=KILLS), str(tmp_path / "cache")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    torn = int(done.stdout)
    assert torn > 0, "no kill came in the middle of a write"
    print(f"{KILLS} kills, {torn} in the middle of a write")


HOLDER = """
import sys, time
sys.path.insert(0, {source!r})
from pathlib import Path
from pynn.cache.store import Store
with Store(Path(sys.argv[1]), 1 << 20).locked("engines", "k", 5):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_dead_holder_frees_the_lock(store: Store) -> None:
    command = [sys.executable, "-c", HOLDER.format(source=SOURCE), str(store.root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        with pytest.raises(CacheError, match="another process"), store.locked("engines", "k", 0.01):
            pass
        holder.kill()
        start = time.monotonic()
        with store.locked("engines", "k", 30):
            assert time.monotonic() - start < 10
