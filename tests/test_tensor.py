"""MLTensor: creation, the buffer rule, reading and writing, and the errors of each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import pynn
from pynn import MLContext, OperandDescriptor, UnknownError, ValidationError
from pynn.types import ALL_TYPES, DataType

pytestmark = pytest.mark.ort


@pytest.fixture(scope="module")
def context() -> Iterator[MLContext]:
    with pynn.ML().create_context(backend="onnxruntime") as made:
        yield made


@pytest.mark.parametrize("data_type", sorted(ALL_TYPES))
@pytest.mark.parametrize("shape", [[], [1], [2, 3], [1, 1, 2, 1, 3]])
def test_new_tensors_are_zero_and_round_trip(context: MLContext, data_type: str, shape: list[int]) -> None:
    tensor = context.create_tensor(shape, data_type, readable=True, writable=True)
    zeros = context.read_tensor(tensor)
    assert zeros.dtype == np.dtype(DataType(data_type).value)
    assert zeros.shape == tuple(shape) == tensor.shape
    assert not zeros.any()
    values = np.arange(zeros.size).reshape(shape).astype(zeros.dtype)
    context.write_tensor(tensor, values)
    np.testing.assert_array_equal(context.read_tensor(tensor), values)
    assert tensor.byte_length == values.nbytes


def test_forms_of_the_descriptor(context: MLContext) -> None:
    by_shape = context.create_tensor([2], "int8", readable=True)
    by_object = context.create_tensor(OperandDescriptor(DataType.INT8, (2,)), writable=True)
    by_mapping = context.create_tensor({"data_type": "int8", "shape": [2], "readable": True})
    assert by_shape.descriptor == by_object.descriptor == by_mapping.descriptor
    assert (by_shape.readable, by_shape.writable, by_shape.constant) == (True, False, False)
    assert (by_object.readable, by_object.writable) == (False, True)
    assert by_mapping.readable
    assert repr(by_shape) == "<MLTensor int8[2] readable>"
    for name in ("data_type", "shape", "readable", "writable", "constant"):
        with pytest.raises(AttributeError):
            setattr(by_shape, name, True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (([2], "float128"), "unknown data type 'float128'; one of: float32"),
        (([2], "int4"), "int4 exists for constants of a builder only"),
        (([2],), "a data type is missing"),
        (([0], "int8"), "dimension 0 is not an integer in 1"),
        (([-1], "int8"), "dimension -1"),
        (([True], "int8"), "dimension True"),
        (([2.0], "int8"), "dimension 2.0"),
        ((2, "int8"), "must be a sequence"),
        (([2**16, 2**16], "int8"), "more than 2147483647 elements"),
        (({"shape": [2]},), "lacks 'data_type'"),
        ((OperandDescriptor(DataType.INT8, (2,)), "int8"), "already has a data type"),
        (({"data_type": "int8", "shape": [2], "readable": 1},), "readable must be True or False, got 1"),
    ],
)
def test_bad_descriptors(context: MLContext, arguments: tuple[Any, ...], words: str) -> None:
    with pytest.raises(ValidationError, match=words) as caught:
        context.create_tensor(*arguments)
    assert str(caught.value).startswith("create_tensor: ")


def test_no_memory_is_an_unknown_error(context: MLContext, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(np, "zeros", no_memory)
    with pytest.raises(UnknownError, match="no memory for 8 bytes"):
        context.create_tensor([2], "float32")


@pytest.mark.parametrize(
    "data",
    [
        np.array([1.5, -2], np.float32),
        np.array([[1.5], [-2]], np.float32),
        np.array([1.5, 0, -2, 0], np.float32)[::2],
        np.array([1.5, -2], np.float32).view(np.uint8),
        np.array([1.5, -2], np.float32).tobytes(),
        bytearray(np.array([1.5, -2], np.float32).tobytes()),
        memoryview(np.array([1.5, -2], np.float32).tobytes()),
    ],
    ids=["array", "other shape", "strided", "uint8", "bytes", "bytearray", "memoryview"],
)
def test_buffers_that_can_be_written(context: MLContext, data: Any) -> None:
    tensor = context.create_tensor([2], "float32", readable=True, writable=True)
    context.write_tensor(tensor, data)
    assert context.read_tensor(tensor).tolist() == [1.5, -2]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (np.zeros(2, np.float64), "array of float64, but the descriptor says float32"),
        (np.zeros(2, np.int32), "array of int32"),
        (np.zeros(3, np.float32), "12 bytes given.*takes 8"),
        (np.zeros(4, np.uint8), "4 bytes given"),
        (b"", "0 bytes given"),
        ([1.0, 2.0], "expected bytes or an array, got list"),
        (None, "expected bytes or an array, got NoneType"),
        ("12345678", "expected bytes or an array, got str"),
    ],
)
def test_buffers_that_cannot(context: MLContext, data: Any, words: str) -> None:
    tensor = context.create_tensor([2], "float32", readable=True, writable=True)
    context.write_tensor(tensor, np.ones(2, np.float32))
    with pytest.raises(ValidationError, match=words):
        context.write_tensor(tensor, data)
    assert context.read_tensor(tensor).tolist() == [1, 1]


def test_written_and_read_data_are_copies(context: MLContext) -> None:
    tensor = context.create_tensor([2], "float32", readable=True, writable=True)
    data = np.ones(2, np.float32)
    context.write_tensor(tensor, data)
    data[:] = 5
    read = context.read_tensor(tensor)
    read[:] = 7
    assert context.read_tensor(tensor).tolist() == [1, 1]


def test_read_into(context: MLContext) -> None:
    tensor = context.create_tensor([2], "float32", readable=True, writable=True)
    context.write_tensor(tensor, np.array([1, 2], np.float32))
    same, flat, raw = np.empty(2, np.float32), np.empty((1, 2), np.float32), np.empty(8, np.uint8)
    wide = np.zeros((2, 2), np.float32)
    buffer = bytearray(8)
    for out in (same, flat, raw, wide[:, 0], buffer, memoryview(buffer)):
        assert context.read_tensor(tensor, out) is None
    assert same.tolist() == [1, 2]
    assert flat.tolist() == [[1, 2]]
    assert raw.view(np.float32).tolist() == np.frombuffer(buffer, np.float32).tolist() == [1, 2]
    assert wide.tolist() == [[1, 0], [2, 0]]


@pytest.mark.parametrize(
    ("out", "words"),
    [
        (np.empty(2, np.float64), "output array is float64, the tensor is float32"),
        (np.empty(3, np.float32), "output has 12 bytes, the tensor has 8"),
        (bytearray(7), "output has 7 bytes"),
        (bytes(8), "read-only"),
        (np.broadcast_to(np.float32(0), (2,)), "read-only"),
        (np.empty((4, 2), np.float32)[::2, :1].T, "not C-contiguous"),
        ([0, 0], "expected an array or a writable buffer, got list"),
    ],
)
def test_outputs_that_cannot_be_read_into(context: MLContext, out: Any, words: str) -> None:
    tensor = context.create_tensor([2], "float32", readable=True)
    with pytest.raises(ValidationError, match=words):
        context.read_tensor(tensor, out)


def test_flags_are_enforced_in_the_order_of_the_spec(context: MLContext) -> None:
    plain = context.create_tensor([2], "float32")
    constant = context.create_constant_tensor(np.ones(2, np.float32))
    with pytest.raises(ValidationError, match="not readable; create it with readable=True"):
        context.read_tensor(plain, bytearray(1))
    with pytest.raises(ValidationError, match="not readable; constant tensors never are"):
        context.read_tensor(constant)
    with pytest.raises(ValidationError, match="not writable"):
        context.write_tensor(plain, b"")
    with pytest.raises(ValidationError, match="not writable"):
        context.write_tensor(constant, b"")
    plain.destroy()
    with pytest.raises(ValidationError, match="destroyed"):
        context.read_tensor(plain)
    with pynn.ML().create_context(backend="onnxruntime") as other:
        foreign = other.create_tensor([2], "float32")
        foreign.destroy()
        with pytest.raises(ValidationError, match="another context"):
            context.read_tensor(foreign)
        with pytest.raises(ValidationError, match="another context"):
            context.write_tensor(foreign, b"")
    with pytest.raises(ValidationError, match="expected an MLTensor, got ndarray"):
        context.read_tensor(np.ones(2))  # type: ignore[call-overload]


def test_constant_tensors(context: MLContext) -> None:
    data = np.array([1, 2], np.int32)
    tensor = context.create_constant_tensor(data)
    assert (tensor.constant, tensor.readable, tensor.writable) == (True, False, False)
    b = context.create_graph_builder()
    graph = b.build({"y": b.add(b.constant(tensor), b.input("x", [2], "int32"))})
    data[:] = 100
    assert context.compute(graph, {"x": np.zeros(2, np.int32)})["y"].tolist() == [1, 2]
    from_bytes = context.create_constant_tensor({"data_type": "int32", "shape": [2]}, bytes(8))
    assert from_bytes.descriptor == tensor.descriptor
    with pytest.raises(ValidationError, match="create_constant_tensor: 7 bytes given"):
        context.create_constant_tensor({"data_type": "int32", "shape": [2]}, bytes(7))
    with pytest.raises(ValidationError, match="create_constant_tensor: unknown data type 'float64'"):
        context.create_constant_tensor(np.ones(2))


def test_destroy_is_idempotent_and_a_context_manager_does_it(context: MLContext) -> None:
    with context.create_tensor([2], "float32", readable=True) as tensor:
        assert not tensor.destroyed
    tensor.destroy()
    assert tensor.destroyed
    assert "destroyed" in repr(tensor)
