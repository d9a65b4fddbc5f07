"""DLPack both ways: with numpy in main memory, with a fake library on a fake GPU; strides, lifetimes, refusals."""

from __future__ import annotations

import ctypes
import gc
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pynn
from pynn import InputError, InvalidStateError, MLContext, ValidationError, dlpack
from pynn.types import ALL_TYPES

from .backends.cuda_fakes import FOREIGN_CONTEXT, FakeApi
from .backends.device_fakes import FakeCudaArray, FakeGpu, gpu_context

F32 = np.float32


@pytest.fixture(scope="module")
def cpu() -> Iterator[MLContext]:
    with pynn.ML().create_context(backend="onnxruntime") as made:
        yield made


@pytest.fixture
def api() -> FakeApi:
    return FakeApi(2)


@pytest.fixture
def gpu(api: FakeApi) -> Iterator[MLContext]:
    with gpu_context(FakeGpu(api, lambda a: {"y": a["x"] * 2})) as made:
        yield made


class Watched(np.ndarray[Any, Any]):
    """An array whose end can be seen."""


def watched(*values: float, dtype: Any = F32) -> Any:
    return np.array(values, dtype).view(Watched)


def name_of(capsule: object) -> bytes:
    get = ctypes.PYFUNCTYPE(ctypes.c_char_p, ctypes.py_object)(("PyCapsule_GetName", ctypes.pythonapi))
    return bytes(get(capsule))


# -- main memory, with numpy


@pytest.mark.ort
@pytest.mark.parametrize("data_type", sorted(ALL_TYPES))
@pytest.mark.parametrize("shape", [[], [1], [2, 3], [1, 4, 1]])
def test_numpy_shares_a_tensors_memory(cpu: MLContext, data_type: str, shape: list[int]) -> None:
    tensor = cpu.create_tensor(shape, data_type, readable=True, writable=True)
    assert tensor.location == "host" and tensor.__dlpack_device__() == (1, 0)
    array = np.from_dlpack(tensor)  # type: ignore[arg-type]
    assert array.dtype == np.dtype(data_type) and array.shape == tuple(shape)
    values = np.arange(1, array.size + 1).reshape(shape).astype(data_type)
    cpu.write_tensor(tensor, values)
    np.testing.assert_array_equal(array, values)


@pytest.mark.ort
@pytest.mark.parametrize("data_type", sorted(ALL_TYPES))
def test_a_tensor_shares_numpys_memory(cpu: MLContext, data_type: str) -> None:
    array = np.arange(6).reshape(2, 3).astype(data_type)
    tensor = cpu.from_dlpack(array)
    assert (tensor.data_type, tensor.shape, tensor.location) == (data_type, (2, 3), "host")
    array[1, 2] = 77
    assert cpu.read_tensor(tensor)[1, 2] == 77
    cpu.write_tensor(tensor, np.full((2, 3), 5, data_type))
    assert (array == 5).all()


@pytest.mark.ort
def test_shared_tensors_go_in_and_out_of_graphs(cpu: MLContext) -> None:
    b = cpu.create_graph_builder()
    graph = b.build({"y": b.add(b.input("x", [3], "float32"), b.constant("float32", 1))})
    x, y = np.arange(3, dtype=F32), np.zeros(3, F32)
    cpu.dispatch(graph, {"x": cpu.from_dlpack(x)}, {"y": cpu.from_dlpack(y)})
    assert y.tolist() == [1, 2, 3]


@pytest.mark.ort
def test_lifetimes_in_main_memory(cpu: MLContext) -> None:
    array = watched(1, 2)
    gone = weakref.ref(array)
    tensor = cpu.from_dlpack(array)
    view = np.from_dlpack(tensor)  # type: ignore[arg-type]
    del array
    gc.collect()
    assert gone() is not None
    tensor.destroy()
    tensor.destroy()
    assert gone() is not None and view.tolist() == [1, 2], "the consumer keeps what it has"
    with pytest.raises(ValidationError, match="destroyed"):
        np.from_dlpack(tensor)  # type: ignore[arg-type]
    del view, tensor
    gc.collect()
    assert gone() is None


@pytest.mark.ort
def test_capsules_never_consumed_leak_nothing(cpu: MLContext) -> None:
    tensor = cpu.create_tensor([2], "float32")
    array = tensor._storage.array  # type: ignore[union-attr]
    before = sys.getrefcount(array)
    for version in (None, (0, 8), (1, 0), (1, 3)):
        for _ in range(10):
            capsule = tensor.__dlpack__(max_version=version)
        wanted = b"dltensor_versioned" if version and version[0] else b"dltensor"
        assert name_of(capsule) in (wanted, b"dltensor")
    del capsule
    gc.collect()
    assert sys.getrefcount(array) == before


@pytest.mark.ort
def test_a_consumed_capsule_cannot_be_taken_again(cpu: MLContext) -> None:
    class Once:
        def __init__(self) -> None:
            self.capsule: Any = np.ones(2, F32).__dlpack__()

        def __dlpack__(self, **_: object) -> Any:
            return self.capsule

        def __dlpack_device__(self) -> tuple[int, int]:
            return 1, 0

    once = Once()
    tensor = cpu.from_dlpack(once)
    assert name_of(once.capsule) == b"used_dltensor"
    with pytest.raises(InputError, match="gave no unused DLPack capsule"):
        cpu.from_dlpack(once)
    assert cpu.read_tensor(tensor).tolist() == [1, 1]


@pytest.mark.ort
@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros(2, np.float64), "unknown data type 'float64'.*convert it first"),
        (np.zeros(2, np.complex64), "unknown data type 'complex64'"),
        (np.zeros(2, np.bool_), "unknown data type 'bool'"),
        (np.zeros((2, 3), F32).T, r"not C-contiguous \(shape \[3, 2\], strides in elements \[1, 3\]\).*contiguous\(\)"),
        (np.zeros(6, F32)[::2], r"strides in elements \[2\]"),
        (np.zeros(6, F32)[::-1], "not C-contiguous"),
        (np.zeros((0, 2), F32), "dimension 0 is not an integer in 1"),
        ([1.0], "list does not speak DLPack"),
        (None, "NoneType does not speak DLPack"),
    ],
)
def test_arrays_that_cannot_be_shared(cpu: MLContext, array: Any, words: str) -> None:
    before = sys.getrefcount(array)
    with pytest.raises(ValidationError, match=f"^from_dlpack: .*{words}"):
        cpu.from_dlpack(array)
    gc.collect()
    assert sys.getrefcount(array) <= before


@pytest.mark.ort
def test_read_only_memory_is_refused_and_may_be_copied(cpu: MLContext) -> None:
    array = np.arange(4, dtype=F32)
    array.setflags(write=False)
    with pytest.raises(InputError, match=r"(?i)read-?only"):
        cpu.from_dlpack(array)
    strided = cpu.from_dlpack(np.arange(6, dtype=F32)[::2], copy=True)
    assert cpu.read_tensor(strided).tolist() == [0, 2, 4]
    own = np.arange(3, dtype=F32)
    tensor = cpu.from_dlpack(own, copy=True)
    own[:] = 9
    assert cpu.read_tensor(tensor).tolist() == [0, 1, 2]


@pytest.mark.ort
def test_copies_and_devices_that_a_consumer_asks_for(cpu: MLContext) -> None:
    tensor = cpu.from_dlpack(np.ones(2, F32))
    lease = dlpack.take("here", _Capsule(tensor.__dlpack__(copy=True)), None, (1, 0))
    assert lease.address != tensor._storage.array.ctypes.data  # type: ignore[union-attr]
    with pytest.raises(BufferError, match="the tensor is on the CPU, not on CUDA:0"):
        tensor.__dlpack__(dl_device=(2, 0))
    with pytest.raises(BufferError, match="stream=5"):
        tensor.__dlpack__(stream=5)
    with pytest.raises(AttributeError, match="not in the memory of a GPU"):
        _ = tensor.__cuda_array_interface__
    with pytest.raises(ValidationError, match="onnxruntime and has no CUDA stream"):
        cpu.__cuda_stream__()
    with pytest.raises(InputError, match=r"the array is on CUDA:0, the tensors of this context are on the CPU: move"):
        cpu.from_dlpack(FakeCudaArray(FakeApi(), np.ones(2, F32)))


class _Capsule:
    def __init__(self, capsule: object) -> None:
        self._capsule = capsule

    def __dlpack__(self, **_: object) -> object:
        return self._capsule


def test_versions_and_vectors_that_nobody_knows() -> None:
    capsule = dlpack.export(np.ones(2, F32), (1, 0), (1, 0), copied=False)
    managed = dlpack._managed(capsule)
    if not isinstance(managed, dlpack._Versioned):
        pytest.skip("numpy before 2.1 makes unversioned capsules only")
    managed.major = 2
    with pytest.raises(InputError, match=r"DLPack 2.0; pynn knows 1.x"):
        dlpack.take("here", _Capsule(capsule), None, (1, 0))
    managed.major = 1
    managed.tensor.lanes = 4
    with pytest.raises(InputError, match="float32 in vectors of 4"):
        dlpack.take("here", _Capsule(capsule), None, (1, 0))
    managed.tensor.lanes, managed.tensor.code = 1, 99
    with pytest.raises(InputError, match="type code 99, bits 32"):
        dlpack.take("here", _Capsule(capsule), None, (1, 0))
    managed.tensor.code = 2
    with pytest.raises(InputError, match="the capsule is on the CPU, not on CUDA:0 as was said"):
        dlpack.take("here", _Capsule(capsule), None, (2, 0))
    with pytest.raises(InputError, match="no unused DLPack capsule"):
        dlpack.take("here", _Capsule("nothing"), None, (1, 0))
    assert name_of(capsule) == b"dltensor_versioned", "nothing was consumed"


@given(data=st.data(), shape=st.lists(st.integers(1, 4), max_size=4))
def test_contiguity_is_numpys(data: st.DataObject, shape: list[int]) -> None:
    base = np.zeros([2 * size for size in shape], F32)
    cut = tuple(slice(data.draw(st.integers(0, size)), None, data.draw(st.sampled_from([1, 2, -1]))) for size in shape)
    array = base[cut].transpose(data.draw(st.permutations(range(len(shape)))))
    if data.draw(st.booleans()):
        array = np.ascontiguousarray(array)
    strides = tuple(stride // array.itemsize for stride in array.strides)
    assert dlpack.is_contiguous(array.shape, strides) == array.flags.c_contiguous


# -- memory of a GPU


def test_a_tensor_shares_an_array_of_another_library(gpu: MLContext, api: FakeApi) -> None:
    other = FakeCudaArray(api, watched(1, 2, 3))
    api.put(other.stream, lambda: other.array.fill(7))
    tensor = gpu.from_dlpack(other)
    assert (tensor.location, tensor.data_type, tensor.shape) == ("gpu", "float32", (3,))
    assert tensor._storage.address == other.array.ctypes.data  # type: ignore[union-attr]
    assert gpu.read_tensor(tensor).tolist() == [7, 7, 7], "after what was on the producer's stream"
    assert other.streams[0] is not None and other.streams[0] > 2
    gpu.write_tensor(tensor, np.array([4, 5, 6], F32))
    gpu.read_tensor(tensor)
    assert other.array.tolist() == [4, 5, 6]


@pytest.mark.parametrize("versioned", [True, False])
@pytest.mark.parametrize("end", ["destroy", "forget", "context"])
def test_a_producers_memory_is_kept_until_the_stream_has_passed(api: FakeApi, versioned: bool, end: str) -> None:
    context = gpu_context(FakeGpu(api, lambda a: {"y": a["x"] * 2}))
    b = context.create_graph_builder()
    graph = b.build({"y": b.relu(b.input("x", [64], "float32"))})
    raw = np.zeros(64 + 64, F32)
    start = -raw.ctypes.data % 256 // 4
    array = raw[start : start + 64].view(Watched)
    array[:] = 3
    other = FakeCudaArray(api, array)
    other.versioned = versioned
    gone = weakref.ref(array)
    x, y = context.from_dlpack(other), context.create_tensor([64], "float32", readable=True)
    context.dispatch(graph, {"x": x}, {"y": y})
    assert graph.stats["dispatch"] == "gpu"
    address = array.ctypes.data
    del other, array
    gc.collect()
    assert gone() is not None
    queue = context._queue()
    assert queue is not None
    with queue.using():  # as if another thread were at it
        if end == "destroy":
            x.destroy()
        elif end == "forget":
            del x
        gc.collect()
        assert gone() is not None
    if end == "context":
        context.destroy()
        del x, y
    else:
        assert set(context.read_tensor(y).tolist()) == {6.0}
    del api.blocks[address]
    gc.collect()
    assert gone() is None
    context.destroy()


def test_arrays_that_a_gpu_context_refuses(gpu: MLContext, api: FakeApi) -> None:
    for producer, words in (
        (FakeCudaArray(api, np.ones(2, F32), (2, 1)), "the array is on CUDA:1, .* on CUDA:0: move it there first"),
        (np.ones(2, F32), "the array is on the CPU, .* on CUDA:0: copy=True copies it"),
        (FakeCudaArray(api, np.ones(2, F32), (10, 0)), "on DLPack device type 10"),
        (FakeCudaArray(api, np.ones(2, np.float64)), "unknown data type 'float64'"),
        (FakeCudaArray(api, np.ones((2, 2), F32).T), "contiguous"),
    ):
        if words == "contiguous":
            producer.array = np.ones((2, 3), F32).T  # type: ignore[union-attr]
        with pytest.raises(InputError, match=words):
            gpu.from_dlpack(producer)
    copied = gpu.from_dlpack(np.arange(6, dtype=F32)[::2], copy=True)
    assert copied.location == "gpu" and gpu.read_tensor(copied).tolist() == [0, 2, 4]
    gpu.destroy()
    with pytest.raises(InvalidStateError, match="lost"):
        gpu.from_dlpack(np.ones(2, F32))


def test_read_only_memory_of_a_gpu(gpu: MLContext, api: FakeApi) -> None:
    array = np.arange(3, dtype=F32)
    array.setflags(write=False)
    other = FakeCudaArray(api, array)
    if tuple(map(int, np.__version__.split(".")[:2])) < (2, 1):
        pytest.skip("numpy before 2.1 cannot say that memory is read-only")
    with pytest.raises(InputError, match="the memory is read-only, and a tensor may be written to; pass copy=True"):
        gpu.from_dlpack(other)
    tensor = gpu.from_dlpack(other, copy=True)
    gpu.write_tensor(tensor, np.zeros(3, F32))
    assert gpu.read_tensor(tensor).tolist() == [0, 0, 0] and array.tolist() == [0, 1, 2]


def test_the_second_gpu(api: FakeApi) -> None:
    with gpu_context(FakeGpu(api, lambda a: a, index=1)) as context:
        tensor = context.from_dlpack(FakeCudaArray(api, np.ones(2, F32), (2, 1)))
        assert tensor.__dlpack_device__() == (2, 1)
        with pytest.raises(InputError, match=r"on CUDA:0, .* on CUDA:1"):
            context.from_dlpack(FakeCudaArray(api, np.ones(2, F32), (2, 0)))


@pytest.mark.parametrize("stream", [None, 1, 2, "other"])
@pytest.mark.parametrize("version", [None, (1, 0)])
def test_a_consumers_stream_sees_what_was_asked_before(
    gpu: MLContext, api: FakeApi, stream: Any, version: tuple[int, int] | None
) -> None:
    tensor = gpu.create_tensor([2], "float32", readable=True, writable=True)
    gpu.write_tensor(tensor, np.array([1, 2], F32))
    handle = api.new_stream() if stream == "other" else stream
    capsule = tensor.__dlpack__(stream=handle, max_version=version)
    lease = dlpack.take("here", _Capsule(capsule), None, (2, 0))
    seen: list[float] = []
    api.put(handle or 1, lambda: seen.extend(api.bytes_at(lease.address, 8).view(F32)))
    api.run(handle or 1)
    assert seen == [1, 2]


def test_a_consumer_keeps_the_memory(gpu: MLContext, api: FakeApi) -> None:
    tensor = gpu.create_tensor([2], "float32", readable=True, writable=True)
    gpu.write_tensor(tensor, np.array([1, 2], F32))
    lease = dlpack.take("here", _Capsule(tensor.__dlpack__(stream=-1)), None, (2, 0))
    address = lease.address
    tensor.destroy()
    assert address in api.blocks
    gpu.destroy()
    assert api.bytes_at(address, 8).view(F32).tolist() == [1, 2]
    closer = threading.Thread(target=lease.close)  # a consumer may let go in any thread
    closer.start()
    closer.join()
    lease.close()
    gc.collect()
    assert address not in api.blocks


def test_a_consumer_asks_for_a_copy_or_main_memory(gpu: MLContext, api: FakeApi) -> None:
    tensor = gpu.create_tensor([2], "float32", readable=True, writable=True)
    gpu.write_tensor(tensor, np.array([1, 2], F32))
    copied = gpu.from_dlpack(tensor, copy=True)
    shared = gpu.from_dlpack(tensor)
    gpu.write_tensor(tensor, np.array([3, 4], F32))
    assert gpu.read_tensor(copied).tolist() == [1, 2] and gpu.read_tensor(shared).tolist() == [3, 4]
    lease = dlpack.take("here", _Capsule(tensor.__dlpack__(copy=True)), None, (2, 0))
    assert lease.address not in (tensor._storage.address, copied._storage.address)  # type: ignore[union-attr]
    lease = dlpack.take("here", _Capsule(tensor.__dlpack__(dl_device=(1, 0))), None, (1, 0))
    assert (ctypes.c_float * 2).from_address(lease.address)[:] == [3, 4]
    with pytest.raises(BufferError, match="copy=False forbids"):
        tensor.__dlpack__(dl_device=(1, 0), copy=False)
    with pytest.raises(BufferError, match="on CUDA:0, not on CUDA:1"):
        tensor.__dlpack__(dl_device=(2, 1))
    with pytest.raises(ValidationError, match="does not say which stream 0 is"):
        tensor.__dlpack__(stream=0)
    with pytest.raises(ValidationError, match="another CUDA context"):
        tensor.__dlpack__(stream=api.new_stream(FOREIGN_CONTEXT))


def test_cuda_array_interface(gpu: MLContext, api: FakeApi) -> None:
    tensor = gpu.create_tensor([2, 3], "float16", readable=True)
    interface = tensor.__cuda_array_interface__
    assert interface["shape"] == (2, 3) and interface["typestr"] == "<f2" and interface["version"] == 3
    assert interface["strides"] is None and interface["stream"] == gpu.__cuda_stream__()[1]
    address, read_only = interface["data"]
    assert address in api.blocks and not read_only
    tensor.destroy()
    assert address in api.blocks, "the consumer holds the tensor, not its memory"
    with pytest.raises(AttributeError):
        _ = tensor.__cuda_array_interface__
    del tensor
    gc.collect()
    assert address not in api.blocks


def test_unaligned_memory_goes_by_the_host(gpu: MLContext, api: FakeApi) -> None:
    whole = np.zeros(200, F32)
    start = -whole.ctypes.data % 256 // 4
    view = whole[start + 1 : start + 3]
    api.blocks[whole.ctypes.data] = whole.view(np.uint8)
    x = gpu.from_dlpack(FakeCudaArray(api, view))
    y = gpu.create_tensor([2], "float32", readable=True)
    gpu.write_tensor(x, np.array([1, 2], F32))
    b = gpu.create_graph_builder()
    graph = b.build({"y": b.relu(b.input("x", [2], "float32"))})
    gpu.dispatch(graph, {"x": x}, {"y": y})
    assert gpu.read_tensor(y).tolist() == [2, 4]
    assert graph.stats["dispatch_reason"] == "'x' does not begin at a multiple of 256 bytes"


@pytest.mark.ort
def test_a_consumer_outlives_the_interpreter(tmp_path: Any) -> None:
    """Leases and exports alive at exit, in module globals and in a cycle, end without a crash."""
    script = """
import numpy as np, pynn
context = pynn.ML().create_context(backend="onnxruntime")
tensor = context.create_tensor([4], "float32", readable=True)
view = np.from_dlpack(tensor)
shared = context.from_dlpack(np.ones(4, np.float32))
capsule = tensor.__dlpack__()
cycle = [capsule, shared]; cycle.append(cycle)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
