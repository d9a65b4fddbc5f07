"""content_digest: the same content, the same digest; and how long 100 MB take."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import numpy as np
import pytest

from pynn.cache import digest
from pynn.cache.digest import CHUNK, content_digest, payload_digest


def test_what_changes_it(tmp_path: Path) -> None:
    data = bytes(range(256))
    known = {content_digest([("a", data)])}
    for parts in (
        [("a", data[:-1])],
        [("b", data)],
        [("a", data[::-1])],
        [("a", data), ("b", b"")],
        [("a", data[:100]), ("", data[100:])],
        [],
    ):
        one = content_digest(parts)
        assert one not in known
        known.add(one)


def test_memory_and_files_of_the_same_bytes(tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(0, 256, 2 * CHUNK + 17, np.uint8)
    (tmp_path / "f").write_bytes(data.tobytes())
    expected = content_digest([("x", data.tobytes())])
    assert content_digest([("x", data.data)]) == expected
    assert content_digest([("x", data.view(np.uint8).data)]) == expected
    assert content_digest([("x", tmp_path / "f")]) == expected
    assert content_digest([("x", np.empty((0, 3)).data)]) == content_digest([("x", b"")])


def test_threads_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [(str(i), np.full(CHUNK // 2 + i, i, np.uint8).data) for i in range(5)]
    serial = content_digest(parts)
    monkeypatch.setattr(digest, "_SERIAL_BYTES", 0)
    assert content_digest(parts) == serial


def test_a_payload_has_one_digest_however_it_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    data = np.random.default_rng(0).integers(0, 256, 2 * CHUNK + 17, np.uint8).tobytes()
    whole = payload_digest([data])
    for cuts in ([5], [CHUNK], [CHUNK - 1, CHUNK + 1], [0, 17, 2 * CHUNK, len(data)]):
        ends = [0, *cuts, len(data)]
        assert payload_digest([memoryview(data)[a:b] for a, b in itertools.pairwise(ends)]) == whole
    monkeypatch.setattr(digest, "_SERIAL_BYTES", 0)
    assert payload_digest([data]) == whole
    assert payload_digest([]) == payload_digest([b"", b""]) != whole


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        content_digest([("x", tmp_path / "none")])


def test_a_hundred_megabytes() -> None:
    data = np.zeros(100_000_000, np.uint8)
    start = time.perf_counter()
    content_digest([("x", data.data)])
    seconds = time.perf_counter() - start
    print(f"content_digest of 100 MB: {seconds * 1000:.0f} ms")
    assert seconds < 2.0
