"""One file of the cache: a payload of bytes under a header that says what it is, both checked.

Layout, little-endian: magic (8 bytes), format u32, header length u32, payload length u64, SHA-256 of what precedes and
of the header (32), the header as JSON, the payload. The header has the payload's digest.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from ..errors import CacheError
from .digest import Buffer, payload_digest

MAGIC = b"\x89PYNNC\r\n"
FORMAT = 1
_NUMBERS = struct.Struct("<8sIIQ")
_DIGEST_SIZE = 32
PREFIX_SIZE = _NUMBERS.size + _DIGEST_SIZE
MAX_HEADER = 1 << 24


@dataclass(frozen=True)
class Header:
    """``kind`` and ``key`` say which entry it is, ``details`` (JSON) what its key was made of. ``created`` is in
    seconds of the epoch."""

    kind: str
    key: str
    details: Mapping[str, Any]
    created: float
    payload_digest: str
    payload_size: int


def pack(kind: str, key: str, parts: Sequence[Buffer], details: Mapping[str, Any], created: float) -> list[Buffer]:
    """The file's content, in pieces."""
    header = json.dumps(
        {
            "kind": kind,
            "key": key,
            "details": dict(details),
            "created": created,
            "payload_digest": payload_digest(parts),
        },
        sort_keys=True,
    ).encode()
    size = sum(memoryview(part).nbytes for part in parts)
    numbers = _NUMBERS.pack(MAGIC, FORMAT, len(header), size)
    return [numbers, hashlib.sha256(numbers + header).digest(), header, *parts]


def read_header(file: BinaryIO, kind: str, key: str) -> Header:
    """Leaves ``file`` at the payload. Raises CacheError for a file that is truncated, damaged or of another key."""
    there = os.fstat(file.fileno()).st_size
    prefix = file.read(PREFIX_SIZE)
    if len(prefix) < PREFIX_SIZE:
        raise CacheError(f"truncated: {there} bytes, less than its first header")
    magic, number, header_size, payload_size = _NUMBERS.unpack_from(prefix)
    if magic != MAGIC:
        raise CacheError("foreign: it does not begin as an entry of pynn's cache")
    if number != FORMAT:
        raise CacheError(f"format {number}, written by another pynn; this one reads {FORMAT}")
    expected = PREFIX_SIZE + header_size + payload_size
    if header_size > MAX_HEADER or there != expected:
        raise CacheError(f"truncated or damaged: {there:,} bytes where its header says {expected:,}")
    header = file.read(header_size)
    if hashlib.sha256(prefix[: _NUMBERS.size] + header).digest() != prefix[_NUMBERS.size :]:
        raise CacheError("damaged: its header's checksum is wrong")
    try:
        values = json.loads(header)
        found = Header(
            str(values["kind"]),
            str(values["key"]),
            dict(values["details"]),
            float(values["created"]),
            str(values["payload_digest"]),
            payload_size,
        )
    except (ValueError, KeyError, TypeError) as error:
        raise CacheError(f"its header makes no sense: {error!r}") from None
    if (found.kind, found.key) != (kind, key):
        raise CacheError(f"foreign: it is {found.kind}/{found.key}, not {kind}/{key}")
    return found


def read_payload(file: BinaryIO, header: Header) -> bytes:
    """Raises CacheError when the payload is not what was written."""
    payload = file.read(header.payload_size)
    if len(payload) != header.payload_size or payload_digest([payload]) != header.payload_digest:
        raise CacheError("damaged: its payload's checksum is wrong")
    return payload
