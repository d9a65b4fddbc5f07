"""A digest of much memory and many files: in chunks, on several threads, without copies."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

CHUNK = 8 << 20
_SERIAL_BYTES = 4 * CHUNK
"""Up to this size threads gain nothing."""

Source = bytes | memoryview | Path
Piece = tuple[Source, int, int]


def content_digest(parts: Iterable[tuple[str, Source]]) -> str:
    """SHA-256 over the names, the sizes and the SHA-256 of each chunk of ``parts``: C-contiguous memory, or files.

    Raises OSError for a file that cannot be read.
    """
    total = 0
    digest = hashlib.sha256()
    pieces: list[Piece] = []
    for name, source in parts:
        size = source.stat().st_size if isinstance(source, Path) else memoryview(source).nbytes
        label = name.encode("utf-8", "surrogateescape")
        digest.update(len(label).to_bytes(8, "little") + label + size.to_bytes(8, "little"))
        pieces += [(source, start, min(CHUNK, size - start)) for start in range(0, size, CHUNK)]
        total += size
    if total <= _SERIAL_BYTES:
        digests: Iterable[bytes] = map(_piece, pieces)
    else:
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(min(8, os.cpu_count() or 1), "pynn-digest") as pool:
            digests = list(pool.map(_piece, pieces))
    for one in digests:
        digest.update(one)
    return digest.hexdigest()


def _piece(piece: Piece) -> bytes:
    source, start, size = piece
    if isinstance(source, Path):
        with source.open("rb") as file:
            file.seek(start)
            return hashlib.sha256(file.read(size)).digest()
    return hashlib.sha256(memoryview(source).cast("B")[start : start + size]).digest()
