"""ML, MLContext and AsyncMLContext as pywebnn has them."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

import numpy as np

from ... import context as core
from ... import ml
from ...aio import in_thread
from ...compiled import MLGraph as CoreGraph
from ...converter.convert import to_onnx
from ...ops.registry import operators
from ...types import DataType, OperandDescriptor
from .builder import MLGraphBuilder, check_narrow, convert
from .errors import ArgumentError, StateError, translated
from .graph import MLGraph
from .interchange import camel_case
from .tensor import Array, MLDeviceTensor, MLTensor

_BACKENDS = {"auto": None, "onnx": "onnxruntime", "trtx": "tensorrt"}
_OTHER_BACKENDS = ("coreml", "litert", "cann")


class ML:
    """The entry point: ``webnn.ML().create_context()``."""

    def create_context(
        self,
        power_preference: str = "default",
        accelerated: bool = True,
        device_type: str = "auto",
        backend: str = "auto",
    ) -> MLContext:
        """A context on TensorRT or ONNX Runtime.

        ``device_type`` "cpu" means not ``accelerated``; "gpu", "npu" and "auto" leave it to ``accelerated``, a wish.
        ``backend`` "onnx" or "trtx" decides instead. Raises ValueError for an unknown word, RuntimeError for a back end
        that cannot be used here.
        """
        if device_type not in ("auto", "cpu", "gpu", "npu"):
            raise ArgumentError(f"create_context: device_type is 'auto', 'cpu', 'gpu' or 'npu', got {device_type!r}")
        if backend in _OTHER_BACKENDS:
            raise StateError(f"create_context: pynn has no back end {backend!r}; use 'auto', 'onnx' or 'trtx'")
        if backend not in _BACKENDS:
            raise ArgumentError(f"create_context: backend is 'auto', 'onnx' or 'trtx', got {backend!r}")
        wish = cast(Literal["tensorrt", "onnxruntime"] | None, _BACKENDS[backend])
        preference = cast(Literal["default", "high-performance", "low-power"], power_preference)
        with translated():
            made = ml.ML().create_context(
                power_preference=preference, accelerated=accelerated and device_type != "cpu", backend=wish
            )
        return MLContext(made)


class MLContext:
    """Where graphs run and tensors live; made by ``ML.create_context``."""

    def __init__(self, context: core.MLContext) -> None:
        self._core = context
        self._lock = threading.Lock()
        self._graphs: weakref.WeakKeyDictionary[MLGraph, CoreGraph] = weakref.WeakKeyDictionary()

    def _compiled(self, graph: MLGraph) -> CoreGraph:
        """``graph`` compiled here; once."""
        if not isinstance(graph, MLGraph):
            raise ArgumentError(f"expected an MLGraph, got {type(graph).__name__}")
        with self._lock:
            compiled = self._graphs.get(graph)
            if compiled is None:
                compiled = self._graphs[graph] = self._core.compile(graph._graph)
            return compiled

    @property
    def power_preference(self) -> str:
        return self._core.power_preference

    @property
    def accelerated(self) -> bool:
        """Whether graphs run on a GPU here."""
        return self._core.backend == "tensorrt"

    def backend_info(self) -> dict[str, object]:
        """The back end in pywebnn's word, pynn's, and why it was taken."""
        names = {wish: name for name, wish in _BACKENDS.items() if wish}
        report = self._core.backend_report
        return {"backend": names[self._core.backend], "name": self._core.backend, "reason": report.reason}

    def op_support_limits(self) -> dict[str, Any]:
        """What the back end takes, with the spec's names in camelCase."""
        methods = {operator.method: operator.name for operator in operators.values()}
        with translated():
            limits = self._core.op_support_limits()
        return {methods.get(key, camel_case(key)): _camel(value) for key, value in limits.items()}

    def create_graph_builder(self) -> MLGraphBuilder:
        """A builder for one graph."""
        return MLGraphBuilder._of(self)

    # -- running

    def compute(
        self, graph: MLGraph, inputs: Mapping[str, object], outputs: Mapping[str, Any] | None = None
    ) -> dict[str, Array]:
        """Run ``graph`` on arrays and return its outputs as arrays.

        Inputs are converted to the graph's data types; names that the graph does not have are passed over. Arrays in
        ``outputs`` that fit an output exactly are filled and returned.
        """
        with translated():
            compiled = self._compiled(graph)
            arrays = {
                name: _array(f"input {name!r}", inputs[name], descriptor, graph._narrow.get(name))
                for name, descriptor in compiled.inputs.items()
                if name in inputs
            }
            out = {
                name: array
                for name, array in (outputs or {}).items()
                if (wanted := compiled.outputs.get(name)) is not None
                and isinstance(array, np.ndarray)
                and (array.dtype, array.shape) == (wanted.data_type.numpy, wanted.shape)
                and array.flags.writeable
                and array.flags.c_contiguous
            }
            return self._core.compute(compiled, arrays, out=out)

    def dispatch(self, graph: MLGraph, inputs: Mapping[str, MLTensor], outputs: Mapping[str, MLTensor]) -> None:
        """Run ``graph`` from tensors to tensors.

        A tensor may be bound twice, also as input and output; outputs may be left out; inputs that no output needs are
        passed over.
        """
        for side in (inputs, outputs):
            for name, tensor in side.items():
                if not isinstance(tensor, MLTensor):
                    raise ArgumentError(f"dispatch: {name!r} must be an MLTensor, got {type(tensor).__name__}")
                tensor._alive(f"dispatch: {name!r}")
        with translated():
            compiled = self._compiled(graph)
            sources = {name: inputs[name]._core for name in compiled.inputs if name in inputs}
            targets = {name: outputs[name]._core for name in compiled.outputs if name in outputs}
            bound = [*sources.values(), *targets.values()]
            if len(targets) == len(compiled.outputs) and len({id(tensor) for tensor in bound}) == len(bound):
                self._core.dispatch(compiled, sources, targets)
                return
            results = self._core.compute(compiled, {name: self._read(tensor) for name, tensor in sources.items()})
            for name, target in targets.items():
                self._core.write_tensor(target, results[name])

    def _read(self, tensor: Any) -> Array:
        return self._core.read_tensor(tensor)

    # -- tensors

    def create_tensor(
        self,
        shape: Sequence[int],
        data_type: str,
        readable: bool = True,
        writable: bool = True,
        exportable_to_gpu: bool = False,
    ) -> MLTensor:
        """A tensor of zeros. ``exportable_to_gpu`` has no effect: there are no textures here."""
        return MLTensor(self, shape, data_type, readable, writable, exportable_to_gpu)

    def create_host_tensor(self, shape: Sequence[int], data_type: str) -> MLTensor:
        """A tensor that can be read and written."""
        return MLTensor(self, shape, data_type, True, True)

    def create_device_tensor(
        self, graph: MLGraph, shape: Sequence[int], data_type: str, device: str | None = None
    ) -> MLDeviceTensor:
        """Older pywebnn's tensor on a device: here the context's own, whatever ``device`` says."""
        return MLDeviceTensor(self, shape, data_type, "cuda" if self.accelerated else "cpu")

    def read_tensor(self, tensor: MLTensor) -> Array:
        """A copy of the contents, in the tensor's data type. Raises RuntimeError when destroyed or not readable."""
        inner = tensor._alive("read_tensor")
        if not tensor.readable:
            raise StateError("read_tensor: the tensor is not readable; create it with readable=True")
        with translated():
            return self._core.read_tensor(inner)

    def write_tensor(self, tensor: MLTensor, data: object) -> None:
        """Set the contents, converted to the tensor's data type.

        ``data`` must have the tensor's number of elements. Raises RuntimeError when it is destroyed or not writable.
        """
        inner = tensor._alive("write_tensor")
        if not tensor.writable:
            raise StateError("write_tensor: the tensor is not writable; create it with writable=True")
        with translated():
            array = _array("write_tensor", data, inner.descriptor, tensor._narrow)
            if array.size != tensor.size:
                raise ArgumentError(
                    f"write_tensor: Shape mismatch: the tensor has {tensor.shape}, the data {list(array.shape)}"
                )
            self._core.write_tensor(inner, array.reshape(inner.shape))

    def resize_tensor(self, tensor: MLTensor, shape: Sequence[int]) -> None:
        """Give the tensor another shape; its contents are zeros."""
        tensor._resize(shape)

    def set_tensor_capacity(self, tensor: MLTensor, max_shape: Sequence[int]) -> None:
        """The largest shape that ``resize_tensor`` may give."""
        tensor._set_capacity(max_shape)

    # -- other formats

    def convert_to_onnx(self, graph: MLGraph, output_path: str | os.PathLike[str]) -> None:
        """Write the graph as an ONNX model."""
        with translated():
            to_onnx(graph._graph).save(output_path)

    def convert_to_coreml(self, graph: MLGraph, output_path: str | os.PathLike[str]) -> None:
        """Raises RuntimeError: pynn does not write Core ML."""
        raise StateError("convert_to_coreml: pynn does not write Core ML models; use convert_to_onnx")

    def __repr__(self) -> str:
        return f"MLContext(backend={self._core.backend!r}, power_preference={self.power_preference!r})"


class AsyncMLContext:
    """An MLContext whose slow methods are awaitable; they work in another thread."""

    def __init__(self, context: MLContext) -> None:
        self._context = context

    async def dispatch(self, graph: MLGraph, inputs: Mapping[str, MLTensor], outputs: Mapping[str, MLTensor]) -> None:
        await in_thread(self._context.dispatch, graph, inputs, outputs)

    async def read_tensor_async(self, tensor: MLTensor) -> Array:
        return await in_thread(self._context.read_tensor, tensor)

    async def write_tensor_async(self, tensor: MLTensor, data: object) -> None:
        await in_thread(self._context.write_tensor, tensor, data)

    def create_graph_builder(self) -> MLGraphBuilder:
        return self._context.create_graph_builder()

    def create_tensor(
        self,
        shape: Sequence[int],
        data_type: str,
        readable: bool = True,
        writable: bool = True,
        exportable_to_gpu: bool = False,
    ) -> MLTensor:
        return self._context.create_tensor(shape, data_type, readable, writable, exportable_to_gpu)

    def compute(
        self, graph: MLGraph, inputs: Mapping[str, object], outputs: Mapping[str, Any] | None = None
    ) -> dict[str, Array]:
        return self._context.compute(graph, inputs, outputs)

    def read_tensor(self, tensor: MLTensor) -> Array:
        return self._context.read_tensor(tensor)

    def write_tensor(self, tensor: MLTensor, data: object) -> None:
        self._context.write_tensor(tensor, data)

    @property
    def accelerated(self) -> bool:
        return self._context.accelerated

    @property
    def power_preference(self) -> str:
        return self._context.power_preference


def _array(where: str, value: object, wanted: OperandDescriptor, narrow: DataType | None) -> Array:
    array = np.asarray(value)
    if narrow is not None:
        check_narrow(where, array, narrow)
    dtype = wanted.data_type.numpy
    return np.ascontiguousarray(array if array.dtype == dtype else convert(where, array, dtype)).reshape(array.shape)


def _camel(value: Any) -> Any:
    if isinstance(value, dict):
        return {camel_case(key): _camel(item) for key, item in value.items()}
    return value
