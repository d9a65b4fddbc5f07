"""Weights of a serialized ONNX model as arrays over its own bytes or its data files: found, not copied.

protobuf copies a weight when it parses a model and again when it hands it out. Here the few fields around the weights
are walked (https://protobuf.dev/programming-guides/encoding/), so that what is parsed has none of them.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ModelError
from .model import numpy_dtype

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_GRAPH, _INITIALIZER, _RAW_DATA = 7, 5, 9
"""Field numbers of ModelProto.graph, GraphProto.initializer and TensorProto.raw_data."""

Spans = dict[int, tuple[int, int]]


def detach(data: bytes, least: int) -> tuple[bytes, Spans]:
    """The model without the ``raw_data`` of initializers above ``least`` bytes, and where these are: by the number of
    the initializer, (offset, length) in ``data``. Bytes that are no model come back as they are."""
    try:
        return _detach(data, least)
    except (IndexError, ValueError):
        return data, {}


def _detach(data: bytes, least: int) -> tuple[bytes, Spans]:
    view, spans, number = memoryview(data), Spans(), 0
    model: list[bytes | memoryview] = []
    for field, first, start, end in _fields(data, 0, len(data)):
        if field != _GRAPH:
            model.append(view[first:end])
            continue
        graph: list[bytes | memoryview] = []
        for inner, first_inner, start_inner, end_inner in _fields(data, start, end):
            if inner == _INITIALIZER:
                if end_inner - start_inner > least:
                    tensor = _without_raw_data(data, start_inner, end_inner, least, number, spans)
                    graph += (_key(_INITIALIZER), _varint(len(tensor)), tensor)
                else:
                    graph.append(view[first_inner:end_inner])
                number += 1
            else:
                graph.append(view[first_inner:end_inner])
        model += (_key(_GRAPH), _varint(sum(map(len, graph))), *graph)
    return b"".join(model), spans


def _without_raw_data(data: bytes, start: int, end: int, least: int, number: int, spans: Spans) -> bytes:
    kept = []
    for field, first, begin, stop in _fields(data, start, end):
        if field == _RAW_DATA and stop - begin > least:
            spans[number] = (begin, stop - begin)
        else:
            kept.append(data[first:stop])
    return b"".join(kept)


def _fields(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """(number, offset of the key, offset of the value, end) of each field of one message."""
    while at < end:
        first = at
        key, at = _read_varint(data, at)
        kind, start = key & 7, at
        if kind == _VARINT:
            _, at = _read_varint(data, at)
        elif kind == _BYTES:
            length, start = _read_varint(data, at)
            at = start + length
        elif kind in (_FIXED32, _FIXED64):
            at += 4 if kind == _FIXED32 else 8
        else:
            raise ValueError(f"wire type {kind}")
        if at > end:
            raise ValueError("a field is longer than its message")
        yield key >> 3, first, start, at


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than ten bytes")


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _key(field: int) -> bytes:
    return _varint(field << 3 | _BYTES)


class DataFiles:
    """Files of external data beside a model, each mapped read-only once and kept by the arrays over it."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._maps: dict[str, mmap.mmap] = {}

    def array(self, name: str, data_type: str, shape: tuple[int, ...], entries: Mapping[str, str]) -> Any:
        """The tensor that ``external_data`` entries describe. Raises ModelError naming it, OSError."""
        location = entries.get("location", "")
        offset = int(entries.get("offset", "0") or 0)
        count = int(np.prod(shape, dtype=np.int64))
        need = packed_bytes(data_type, count)
        mapped = self._mapped(name, location, offset + need)
        if need == 0:
            return np.zeros(shape, numpy_dtype(data_type))
        return from_memory(memoryview(mapped)[offset : offset + need], data_type, shape)

    def _mapped(self, name: str, location: str, need: int) -> mmap.mmap | bytes:
        if self._folder is None:
            raise ModelError(
                f"initializer {name!r} is in the file {location!r}, but the model was given without a path; pass the "
                "path of the model's file"
            )
        folder = self._folder.resolve()
        path = (folder / location).resolve()
        if not location or os.path.commonpath((folder, path)) != str(folder):
            raise ModelError(f"initializer {name!r}: its file {location!r} is not beside the model in {folder}")
        try:
            size = path.stat().st_size
        except OSError as error:
            raise ModelError(f"initializer {name!r}: its file cannot be read: {error}") from None
        if size < need:
            raise ModelError(f"initializer {name!r} ends at byte {need:,} of {path}, which has {size:,}")
        if size == 0:
            return b""
        if location not in self._maps:
            with path.open("rb") as file:
                self._maps[location] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return self._maps[location]


def packed_bytes(data_type: str, count: int) -> int:
    """Bytes of ``count`` elements as ONNX stores them: 4-bit types two to a byte."""
    return (count + 1) // 2 if is_packed(data_type) else count * numpy_dtype(data_type).itemsize


def is_packed(data_type: str) -> bool:
    return data_type in ("int4", "uint4", "float4e2m1")


def from_memory(memory: Any, data_type: str, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """An array over ``memory`` in ONNX's layout; 4-bit types are spread to one element a byte, which copies."""
    dtype = numpy_dtype(data_type)
    if not is_packed(data_type):
        return np.frombuffer(memory, dtype).reshape(shape)
    packed = np.frombuffer(memory, np.uint8)
    spread = np.empty(packed.size * 2, np.uint8)
    spread[0::2], spread[1::2] = packed & 0xF, packed >> 4
    if data_type == "int4":
        spread = ((spread ^ 8) - 8).astype(np.uint8)
    return spread[: int(np.prod(shape, dtype=np.int64))].view(dtype).reshape(shape)
