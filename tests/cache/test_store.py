"""The store: what goes in comes out, or a reason does."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from pynn.cache import store as store_module
from pynn.cache.folder import DEFAULT_LIMIT, cache_folder, cache_limit
from pynn.cache.store import Store
from pynn.errors import BuildCancelledError, CacheError

ROOT_USER = hasattr(os, "geteuid") and os.geteuid() == 0
POSIX = pytest.mark.skipif(os.name != "posix", reason="owners and modes of directories are POSIX's")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache", 1 << 20)


def keep(store: Store, key: str, payload: bytes = b"payload", kind: str = "engines") -> None:
    with store.locked(kind, key):
        assert store.write(kind, key, [payload], {"of": key}) == ""


def stored(store: Store) -> set[str]:
    return {entry.key for entry in store.entries()}


def test_what_is_written_is_read(store: Store) -> None:
    miss = store.read("engines", "k")
    assert miss.payload is None and miss.reason == "no entry has this key"
    with store.locked("engines", "k"):
        assert store.write("engines", "k", [b"one", memoryview(b" and two"), b""], {"model": "m"}) == ""
    hit = store.read("engines", "k")
    assert hit.payload == b"one and two" and hit.reason == ""
    (entry,) = store.entries()
    assert entry.header is not None and entry.header.details == {"model": "m"}
    assert (entry.kind, entry.key, entry.path, entry.problem) == ("engines", "k", hit.path, "")
    assert store.read("kernels", "k").payload is None


def test_an_empty_payload_and_a_second_write(store: Store) -> None:
    keep(store, "k", b"")
    assert store.read("engines", "k").payload == b""
    keep(store, "k", b"newer")
    assert store.read("engines", "k").payload == b"newer"


@POSIX
def test_everything_is_private(store: Store) -> None:
    keep(store, "k")
    for path in (store.root, *store.root.rglob("*")):
        assert path.stat().st_mode & 0o077 == 0, path


@POSIX
def test_a_directory_that_others_may_write_is_refused(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(CacheError, match="can be written by every user; name a directory of your own"):
        Store(tmp_path / "open", 1)
    Store(tmp_path / "mine", 1)
    (tmp_path / "mine" / "v1").chmod(0o702)
    with pytest.raises(CacheError, match="v1 can be written by every user"):
        Store(tmp_path / "mine", 1)


@POSIX
def test_a_directory_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Store(tmp_path, 1)
    other = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: other)
    with pytest.raises(CacheError, match=rf"belongs to user {other - 1}, and this is user {other}"):
        Store(tmp_path, 1)


def test_a_directory_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheError, match="cannot be used"):
        Store(tmp_path / "file" / "cache", 1)


def test_where_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PYNN_CACHE_DIR", str(tmp_path / "named"))
    assert cache_folder() == tmp_path / "named"
    assert cache_folder(tmp_path / "given") == tmp_path / "given"
    monkeypatch.delenv("PYNN_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder().name == "pynn" and cache_folder().is_absolute()


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("", DEFAULT_LIMIT),
        ("1000", 1000),
        ("10GiB", 10 << 30),
        ("1.5 k", 1536),
        ("500mb", 500 << 20),
        ("0", 0),
        pytest.param("9" * 400, 1 << 60, id="too large"),
    ],
)
def test_limits(monkeypatch: pytest.MonkeyPatch, text: str, size: int) -> None:
    monkeypatch.setenv("PYNN_CACHE_LIMIT", text)
    assert cache_limit() == size


@pytest.mark.parametrize("text", ["much", "-1", "10 GiBs", "1e9"])
def test_a_limit_that_is_no_size(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("PYNN_CACHE_LIMIT", text)
    with pytest.raises(CacheError, match="which is not a size such as 10GiB"):
        Store.open()


# -- the limit


def test_what_was_used_longest_ago_goes_first(tmp_path: Path) -> None:
    store = Store(tmp_path, 3500)
    for age, key in enumerate("abc"):
        keep(store, key, bytes(800))
        os.utime(store.path("engines", key), (1000 + age, 1000 + age))
    assert store.read("engines", "a").payload is not None
    keep(store, "d", bytes(800))
    assert stored(store) == {"a", "c", "d"}
    assert store.size() <= 3500


def test_what_is_locked_is_not_evicted(tmp_path: Path) -> None:
    store = Store(tmp_path, 2200)
    keep(store, "a", bytes(800))
    os.utime(store.path("engines", "a"), (1000, 1000))
    keep(store, "b", bytes(800))
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with store.locked("engines", "a"):
            held.set()
            done.wait(20)

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(20)
    try:
        keep(store, "c", bytes(800))
        assert stored(store) == {"a", "c"}
        assert store.clear() > 0
        assert stored(store) == {"a"}
    finally:
        done.set()
        holder.join()
    assert store.clear() > 0
    assert stored(store) == set()


def test_more_than_the_limit_is_not_kept(tmp_path: Path) -> None:
    store = Store(tmp_path, 1000)
    with store.locked("engines", "k"):
        assert "more than the limit of the cache, 1,000" in store.write("engines", "k", [bytes(1000)], {})
    assert stored(store) == set() and store.size() == 0


def test_a_header_that_nobody_would_read_is_not_written(store: Store) -> None:
    with store.locked("engines", "k"):
        reason = store.write("engines", "k", [b"x"], {"long": "x" * (1 << 24)})
    assert "more than the 16,777,216 of an entry" in reason and stored(store) == set()


def test_the_quarantine_is_evicted_before_anything_of_use(tmp_path: Path) -> None:
    store = Store(tmp_path, 3500)
    for key in "ab":
        keep(store, key, bytes(800))
    store.quarantine("engines", "b", "a reason")
    keep(store, "c", bytes(800))
    assert stored(store) == {"a", "c"} and len(store.quarantined()) == 1
    keep(store, "d", bytes(800))
    assert stored(store) == {"a", "c", "d"} and store.quarantined() == []


def test_leftovers_of_dead_processes_go(store: Store) -> None:
    keep(store, "k")
    dead, writing, same = (store.root / "v1" / "tmp" / f"engines-{name}.1" for name in ("x", "y", "k"))
    for path in (dead, writing, same):
        path.write_bytes(b"half")
    with store.locked("engines", "y"):
        keep(store, "k")
        assert list(dead.parent.iterdir()) == [writing]
        store.clear()
        assert writing.exists()
    store.clear()
    assert store.size() == 0


# -- locks


def test_one_holds_the_lock_the_other_waits(store: Store) -> None:
    order: list[str] = []
    held, go = threading.Event(), threading.Event()

    def first() -> None:
        with store.locked("engines", "k"):
            held.set()
            assert go.wait(20)
            time.sleep(0.05)
            order.append("first")

    thread = threading.Thread(target=first)
    thread.start()
    assert held.wait(20)
    with store.locked("engines", "other"):
        order.append("other key")
    go.set()
    with store.locked("engines", "k", 20):
        order.append("second")
    thread.join()
    assert order == ["other key", "first", "second"]


def test_the_wait_is_bounded_and_can_be_ended(store: Store) -> None:
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with store.locked("engines", "k"):
            held.set()
            done.wait(20)

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(20)

    def cancelled() -> None:
        raise BuildCancelledError("the build was cancelled")

    try:
        start = time.monotonic()
        with pytest.raises(CacheError, match=r"another process still held the lock .* after 0\.05 s"):  # noqa: SIM117
            with store.locked("engines", "k", 0.05):
                pass
        with pytest.raises(BuildCancelledError), store.locked("engines", "k", 60, cancelled):
            pass
        assert time.monotonic() - start < 10
    finally:
        done.set()
        holder.join()


def test_what_the_body_raises_is_not_the_locks(store: Store) -> None:
    with pytest.raises(OSError, match="of the body"), store.locked("engines", "k"):
        raise OSError("of the body")
    with store.locked("engines", "k"):
        pass


# -- quarantine, verify, clear


def test_quarantine_keeps_the_reason(store: Store) -> None:
    keep(store, "k")
    store.quarantine("engines", "k", "the library refused it")
    (one,) = store.quarantined()
    assert one.reason == "the library refused it" and one.size > 0
    assert store.read("engines", "k").payload is None
    store.quarantine("engines", "never there", "no matter")
    assert store.clear() == one.size
    assert store.quarantined() == []


def test_a_reason_that_is_no_utf8_hinders_nothing(store: Store) -> None:
    keep(store, "k")
    store.quarantine("engines", "k", f"refused: {os.fsdecode(bytes([0x66, 0xFF]))}")
    (one,) = store.quarantined()
    assert one.reason == r"refused: f\udcff"
    one.path.with_name(one.path.name + ".reason").write_bytes(b"damaged \xff")
    assert store.quarantined()[0].reason.startswith("damaged") and store.evict(limit=0) >= one.size


def test_a_newer_entry_is_not_put_into_quarantine_for_an_older_one(store: Store) -> None:
    keep(store, "k", b"older")
    identity = store.read("engines", "k").identity
    keep(store, "k", b"newer one")
    store.quarantine("engines", "k", "the older was damaged", identity)
    assert store.read("engines", "k").payload == b"newer one"


def test_verify_finds_what_is_damaged(store: Store) -> None:
    for key in "abc":
        keep(store, key)
    path = store.path("engines", "b")
    path.write_bytes(path.read_bytes()[:-1] + b"X")
    problems = {entry.key: entry.problem for entry in store.verify()}
    assert problems == {"a": "", "b": "damaged: its payload's checksum is wrong", "c": ""}
    assert stored(store) == {"a", "c"} and len(store.quarantined()) == 1


def test_clear_some(store: Store) -> None:
    for key in "abc":
        keep(store, key)
    assert store.clear(["b"]) > 0
    assert stored(store) == {"a", "c"}


def test_another_format_lives_beside_this_one(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(store, "k", b"of this pynn")
    monkeypatch.setattr(store_module, "FORMAT", 2)
    newer = Store(store.root, 1 << 20)
    assert newer.entries() == []
    newer.clear()
    newer.evict(limit=0)
    assert store.read("engines", "k").payload == b"of this pynn"
