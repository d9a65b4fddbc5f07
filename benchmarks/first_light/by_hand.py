"""The floor: a careful user of NVIDIA's own Python binding. Pinned staging, asynchronous copies, one stream, one wait.

Uses nothing of pynn. Needs the module ``tensorrt_rtx`` (or its bindings alone), cuda-python and a GPU.
"""

from __future__ import annotations

import ctypes
import importlib
from types import ModuleType
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def binding() -> ModuleType:
    """NVIDIA's module, whole or without its metapackage. Raises ImportError."""
    try:
        return importlib.import_module("tensorrt_rtx")
    except ImportError:
        return importlib.import_module("tensorrt_rtx_bindings")


def driver() -> ModuleType:
    return importlib.import_module("cuda.bindings.driver")


def ok(answer: tuple[Any, ...]) -> Any:
    """The value of a CUDA driver call. Raises RuntimeError when it failed."""
    status, *values = answer
    if int(status):
        raise RuntimeError(f"CUDA: {status.name}")
    return values[0] if len(values) == 1 else tuple(values)


class Floor:
    """One engine, built from ``model`` (ONNX bytes) or given as ``plan``, its buffers and its stream.

    ``run`` is numpy to numpy with three calls on the stream; ``run_graph`` the same as one captured CUDA graph. With
    ``mapped`` the GPU reads and writes pinned host memory itself, without copies. ``runtime_cache``: compiled kernels
    of an earlier context; ``kernels`` has those of this one.
    """

    def __init__(
        self, model: bytes = b"", *, plan: Any = None, mapped: bool = False, runtime_cache: bytes | None = None
    ) -> None:
        trt, cuda = binding(), driver()
        self._cuda = cuda
        ok(cuda.cuInit(0))
        self._device = ok(cuda.cuDeviceGet(0))
        ok(cuda.cuCtxSetCurrent(ok(cuda.cuDevicePrimaryCtxRetain(self._device))))
        self._logger = trt.Logger(trt.Logger.ERROR)
        self._runtime = trt.Runtime(self._logger)
        self._engine = self._runtime.deserialize_cuda_engine(self._build(trt, model) if plan is None else plan)
        if self._engine is None:
            raise RuntimeError("TensorRT does not take the plan")
        self._mapped = mapped
        self._scratch: Any = None
        self._context = self._create_context(trt, user_managed=plan is not None, cache=runtime_cache)
        self._stream = ok(cuda.cuStreamCreate(cuda.CUstream_flags.CU_STREAM_NON_BLOCKING.value))
        self._handle = int(self._stream)
        self._inputs: dict[str, tuple[Array, Any, Any, int]] = {}
        self._outputs: dict[str, tuple[Array, Any, Any, int]] = {}
        for i in range(self._engine.num_io_tensors):
            name = self._engine.get_tensor_name(i)
            shape = tuple(self._engine.get_tensor_shape(name))
            dtype = np.dtype(trt.nptype(self._engine.get_tensor_dtype(name)))
            size = int(np.prod(shape)) * dtype.itemsize
            pinned = ok(cuda.cuMemHostAlloc(size, cuda.CU_MEMHOSTALLOC_DEVICEMAP if mapped else 0))
            memory = ok(cuda.cuMemHostGetDevicePointer(pinned, 0) if mapped else cuda.cuMemAlloc(size))
            view = np.frombuffer((ctypes.c_char * size).from_address(int(pinned)), dtype).reshape(shape)
            is_input = self._engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
            (self._inputs if is_input else self._outputs)[name] = (view, pinned, memory, size)
            if not self._context.set_tensor_address(name, int(memory)):
                raise RuntimeError(f"set_tensor_address failed for {name}")
        self._graph: Any = None

    def _build(self, trt: ModuleType, model: bytes) -> Any:
        """The plan."""
        builder = trt.Builder(self._logger)
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        parser = trt.OnnxParser(network, self._logger)
        if not parser.parse(model):
            raise RuntimeError("; ".join(str(parser.get_error(i)) for i in range(parser.num_errors)))
        config = builder.create_builder_config()
        config.clear_flag(trt.BuilderFlag.TF32)
        plan = builder.build_serialized_network(network, config)
        if plan is None:
            raise RuntimeError("TensorRT built no engine")
        return plan

    def _create_context(self, trt: ModuleType, *, user_managed: bool, cache: bytes | None) -> Any:
        """pynn's engines of static shapes demand that their activations live in memory of the user's."""
        settings = self._engine.create_runtime_config()
        if user_managed:
            settings.set_execution_context_allocation_strategy(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
        self._kernels = settings.create_runtime_cache() if cache is not None else None
        if self._kernels is not None:
            if cache:
                self._kernels.deserialize(cache)
            settings.set_runtime_cache(self._kernels)
        context = self._engine.create_execution_context(settings)
        if context is None:
            raise RuntimeError("TensorRT gives no context")
        size = context.update_device_memory_size_for_shapes() if user_managed else 0
        if size:
            self._scratch = ok(self._cuda.cuMemAlloc(size))
            context.set_device_memory(int(self._scratch), size)
        return context

    @property
    def kernels(self) -> bytes:
        return bytes(self._kernels.serialize()) if self._kernels is not None else b""

    def _enqueue(self) -> None:
        cuda, stream = self._cuda, self._stream
        for _, pinned, memory, size in () if self._mapped else self._inputs.values():
            ok(cuda.cuMemcpyHtoDAsync(memory, pinned, size, stream))
        if not self._context.execute_async_v3(self._handle):
            raise RuntimeError("execute_async_v3 failed")
        for _, pinned, memory, size in () if self._mapped else self._outputs.values():
            ok(cuda.cuMemcpyDtoHAsync(pinned, memory, size, stream))

    def _stage(self, arrays: dict[str, Array]) -> None:
        for name, (view, *_) in self._inputs.items():
            np.copyto(view, arrays[name])

    def _results(self) -> dict[str, Array]:
        ok(self._cuda.cuStreamSynchronize(self._stream))
        return {name: view.copy() for name, (view, *_) in self._outputs.items()}

    def run(self, arrays: dict[str, Array]) -> dict[str, Array]:
        self._stage(arrays)
        self._enqueue()
        return self._results()

    def run_graph(self, arrays: dict[str, Array]) -> dict[str, Array]:
        if self._graph is None:
            self.run(arrays)
            cuda = self._cuda
            mode = cuda.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
            ok(cuda.cuStreamBeginCapture(self._stream, mode))
            self._enqueue()
            self._graph = ok(cuda.cuGraphInstantiate(ok(cuda.cuStreamEndCapture(self._stream)), 0))
        self._stage(arrays)
        ok(self._cuda.cuGraphLaunch(self._graph, self._stream))
        return self._results()

    def close(self) -> None:
        """Give all back; what fails here is of no interest to a benchmark."""
        cuda = self._cuda
        cuda.cuStreamSynchronize(self._stream)
        if self._graph is not None:
            cuda.cuGraphExecDestroy(self._graph)
        self._context = self._engine = None
        for _, pinned, memory, _ in (*self._inputs.values(), *self._outputs.values()):
            if not self._mapped:
                cuda.cuMemFree(memory)
            cuda.cuMemFreeHost(pinned)
        if self._scratch is not None:
            cuda.cuMemFree(self._scratch)
        self._inputs.clear()
        self._outputs.clear()
        cuda.cuStreamDestroy(self._stream)
        cuda.cuDevicePrimaryCtxRelease(self._device)
