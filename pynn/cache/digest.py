"""A digest of much memory and many files: in chunks, on several threads, without copies."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

CHUNK = 8 << 20
_SERIAL_BYTES = 4 * CHUNK
"""Up to this size threads gain nothing."""

Buffer = bytes | memoryview
Source = bytes | memoryview | Path
Piece = TypeVar("Piece")


def content_digest(parts: Iterable[tuple[str, Source]]) -> str:
    """SHA-256 over the names, the sizes and the SHA-256 of each chunk of ``parts``: C-contiguous memory, or files.

    Raises OSError for a file that cannot be read.
    """
    total = 0
    digest = hashlib.sha256()
    pieces: list[tuple[Source, int, int]] = []
    for name, source in parts:
        size = source.stat().st_size if isinstance(source, Path) else memoryview(source).nbytes
        label = name.encode("utf-8", "surrogateescape")
        digest.update(len(label).to_bytes(8, "little") + label + size.to_bytes(8, "little"))
        pieces += [(source, start, min(CHUNK, size - start)) for start in range(0, size, CHUNK)]
        total += size
    for one in _map(_of_source, pieces, total):
        digest.update(one)
    return digest.hexdigest()


def payload_digest(parts: Sequence[Buffer]) -> str:
    """SHA-256 over the SHA-256 of each chunk of the bytes that ``parts`` are together, however they are cut."""
    pieces: list[list[memoryview]] = [[]]
    room, total = CHUNK, 0
    for part in parts:
        view = memoryview(part)
        total += view.nbytes
        while view.nbytes:
            pieces[-1].append(view[:room])
            taken = pieces[-1][-1].nbytes
            view, room = view[taken:], room - taken
            if room == 0:
                pieces.append([])
                room = CHUNK
    return hashlib.sha256(b"".join(_map(_of_views, pieces, total))).hexdigest()


def _map(function: Callable[[Piece], bytes], pieces: Sequence[Piece], total: int) -> Iterable[bytes]:
    """hashlib works without the interpreter's lock."""
    if total <= _SERIAL_BYTES:
        return map(function, pieces)
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1), "pynn-digest") as pool:
        return list(pool.map(function, pieces))


def _of_source(piece: tuple[Source, int, int]) -> bytes:
    source, start, size = piece
    if isinstance(source, Path):
        with source.open("rb") as file:
            file.seek(start)
            return hashlib.sha256(file.read(size)).digest()
    return hashlib.sha256(memoryview(source).cast("B")[start : start + size]).digest()


def _of_views(views: list[memoryview]) -> bytes:
    digest = hashlib.sha256()
    for view in views:
        digest.update(view)
    return digest.digest()
