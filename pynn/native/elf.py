"""Is a shared library whole? The loader maps a truncated one and the process dies of SIGBUS; so look before."""

from __future__ import annotations

import struct
from pathlib import Path

_MAGIC_64_LITTLE = b"\x7fELF\x02\x01"
_LOAD = 1


def truncation(path: str) -> str:
    """Why the file cannot be whole, or "" (also for what is no file, or not a 64-bit little-endian ELF file)."""
    file = Path(path)
    if not file.is_file():
        return ""
    size = file.stat().st_size
    with file.open("rb") as stream:
        head = stream.read(64)
        if not head.startswith(_MAGIC_64_LITTLE):
            return "" if size else f"{path} is empty"
        if len(head) < 64:
            return f"{path} is truncated"
        table, entry_size, count = struct.unpack_from("<32xQ14xHH", head)
        stream.seek(table)
        entries = stream.read(entry_size * count)
    if entry_size < 56 or len(entries) < entry_size * count:
        return f"{path} is truncated"
    needed = 0
    for start in range(0, len(entries), entry_size):
        kind, offset, length = struct.unpack_from("<I4xQ16xQ", entries, start)
        if kind == _LOAD:
            needed = max(needed, offset + length)
    return f"{path} is truncated: {size:,} bytes of at least {needed:,}" if size < needed else ""
