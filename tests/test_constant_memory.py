"""Which memory a builder's constants share with what the caller gave: that which nobody can write to, and no other."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pynn.builder import GraphBuilder
from pynn.converter import to_onnx
from pynn.types import DataType, OperandDescriptor

Array = np.ndarray[Any, Any]
VALUES: Array = np.arange(1024, dtype=np.float32).reshape(32, 32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "weights.bin"
    file.write_bytes(VALUES.tobytes())
    return file


def held(*arguments: Any) -> Array:
    """The array that the builder keeps."""
    data = GraphBuilder().constant(*arguments)._data
    assert data is not None
    assert not data.flags.writeable
    assert type(data) is np.ndarray
    np.testing.assert_array_equal(data, VALUES)
    return data


def test_bytes_are_shared() -> None:
    array = np.frombuffer(VALUES.tobytes(), np.float32).reshape(32, 32)
    assert np.shares_memory(held(array), array)
    over_view = np.frombuffer(memoryview(VALUES.tobytes()), np.float32).reshape(32, 32)
    assert np.shares_memory(held(over_view), over_view)


def test_raw_bytes_are_shared() -> None:
    raw = VALUES.tobytes()
    data = held(OperandDescriptor(DataType.FLOAT32, (32, 32)), raw)
    assert np.shares_memory(data, np.frombuffer(raw, np.uint8))


def test_files_mapped_read_only_are_shared(path: Path) -> None:
    mapped = np.memmap(path, np.float32, "r", shape=(32, 32))
    assert np.shares_memory(held(mapped), mapped)
    assert np.shares_memory(held({"data_type": "float32", "shape": [32, 32]}, mapped.view(np.uint8)), mapped)
    with path.open("rb") as file:
        raw = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    assert np.shares_memory(
        held(OperandDescriptor(DataType.FLOAT32, (32, 32)), memoryview(raw)), np.frombuffer(raw, np.uint8)
    )


def test_views_of_shared_memory_are_shared_where_contiguous(path: Path) -> None:
    mapped = np.memmap(path, np.float32, "r", shape=(32, 32))
    builder = GraphBuilder()
    part, turned = builder.constant(mapped[4:8])._data, builder.constant(mapped.T)._data
    assert part is not None
    assert turned is not None
    assert np.shares_memory(part, mapped)
    assert not np.shares_memory(turned, mapped)
    np.testing.assert_array_equal(turned, VALUES.T)


def test_the_operand_keeps_the_mapping_alive(path: Path) -> None:
    builder = GraphBuilder()
    constant = builder.constant(np.memmap(path, np.float32, "r", shape=(32, 32)))
    graph = builder.finish({"y": builder.relu(constant)})
    (weights,) = to_onnx(graph).weights.values()
    np.testing.assert_array_equal(weights, VALUES)


def _frozen() -> Array:
    """Its owner may thaw it."""
    array: Array = VALUES.copy()
    array.setflags(write=False)
    return array


def _read_only_view_of_a_bytearray() -> Array:
    array: Array = np.frombuffer(memoryview(bytearray(VALUES.tobytes())).toreadonly(), np.float32).reshape(32, 32)
    return array


def _unaligned() -> Array:
    array: Array = np.frombuffer(b"x" + VALUES.tobytes(), np.uint8)[1:].view(np.float32)
    return array.reshape(32, 32)


def _big_endian() -> Array:
    array: Array = np.frombuffer(VALUES.astype(">f4").tobytes(), np.dtype(">f4"))
    return array.reshape(32, 32)


@pytest.mark.parametrize(
    "make",
    [VALUES.copy, _frozen, _read_only_view_of_a_bytearray, _unaligned, _big_endian],
    ids=lambda make: make.__name__,
)
def test_everything_else_is_copied(make: Any) -> None:
    array = make()
    data = held(array)
    assert not np.shares_memory(data, array)
    assert data.flags.c_contiguous
    assert data.flags.aligned
    assert data.dtype.isnative


def test_writing_through_an_older_view_changes_no_constant() -> None:
    array: Array = VALUES.copy()
    view = array[:]
    array.setflags(write=False)
    data = held(array)
    view[0] = -1
    np.testing.assert_array_equal(data, VALUES)


@pytest.mark.parametrize("mode", ["r+", "c"])
def test_writable_mappings_are_copied(path: Path, mode: Any) -> None:
    mapped = np.memmap(path, np.float32, mode, shape=(32, 32))
    mapped.setflags(write=False)
    assert not np.shares_memory(held(mapped), mapped)
