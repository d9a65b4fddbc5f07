"""MLContext and MLGraphBuilder: WebNN's running half. Spec: https://www.w3.org/TR/webnn/#api-mlcontext."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from typing_extensions import Self

from .aio import ContextLost, Timeline, in_thread
from .backends.base import CompileOptions, Executable
from .backends.report import BackendReport
from .backends.selection import Selection, refusal_message, warn_fallback
from .builder import Buffer, GraphBuilder
from .compiled import MLGraph
from .dispatch import Bound, Tensors, check_tensors, launch_between, prepare, run_on_host, stream_handle
from .errors import InvalidStateError, ValidationError
from .graph import Graph, Operand
from .limits import op_support_limits
from .options import Shapes, parse_sizes
from .storage import Array, HostStorage, Storage, allocate, allocate_on, share
from .tensor import MLTensor, TensorLike, parse_descriptor
from .types import DataType, OperandDescriptor

if TYPE_CHECKING:
    from .backends.device_memory import DeviceQueue


class MLContext:
    """Where graphs are compiled and run, and tensors live. Made by ``pynn.ML().create_context``; a context manager.

    Reads, writes and dispatches take effect in the order of the calls. Methods ending in ``_async`` are the awaitable
    faces of those without; their slow work happens in another thread. Safe to call from many threads.
    """

    def __init__(self, selection: Selection, options: CompileOptions, *, warned: bool = False) -> None:
        self._selection = selection
        self._options = options
        self._limits = selection.best.limits()
        self._timeline = Timeline()
        self._lost = ContextLost()
        self._warned = warned
        self._queues: tuple[DeviceQueue | None, ...] = ()
        self._graphs: weakref.WeakSet[MLGraph] = weakref.WeakSet()
        self._tensors: weakref.WeakSet[MLTensor] = weakref.WeakSet()
        self.power_preference = selection.report.power_preference
        self.accelerated = selection.report.accelerated

    # -- what it is

    @property
    def backend(self) -> str:
        """The back end's name: "tensorrt" or "onnxruntime"."""
        return self._selection.report.chosen

    @property
    def backend_report(self) -> BackendReport:
        """Why this back end, and what every candidate said. Print it."""
        return self._selection.report

    @property
    def lost(self) -> ContextLost:
        """Resolves with a ``message`` when the context is lost or destroyed: await it, wait for it, or ask ``done``."""
        return self._lost

    def op_support_limits(self) -> dict[str, Any]:
        """Data types and ranks that this context's back end takes, for each builder method and operand.

        Spec: https://www.w3.org/TR/webnn/#api-mlcontext-opsupportlimits.
        """
        return op_support_limits(self._limits)

    def __repr__(self) -> str:
        state = f" lost: {self._lost.message}" if self._lost.done else ""
        return f"<MLContext on {self.backend}{state}>"

    # -- graphs

    def create_graph_builder(self) -> MLGraphBuilder:
        """A builder of one graph for this context. Raises InvalidStateError when the context is lost."""
        return MLGraphBuilder(self)

    def compile(self, graph: Graph, *, shapes: Shapes | None = None) -> MLGraph:
        """Compile a Graph of ``GraphBuilder.finish`` for this context; ``MLGraphBuilder.build`` in two steps.

        ``shapes`` gives sizes to named dimensions, as in ``pynn.compile``. Raises InvalidStateError when the context is
        lost, ValidationError for wrong ``shapes``, OperationError when compiling fails.
        """
        return self._adopt(graph, self._compile(graph, shapes))

    def compute(
        self, graph: MLGraph, inputs: Mapping[str, Array], *, out: Mapping[str, Array] | None = None
    ) -> dict[str, Array]:
        """Run ``graph`` on numpy arrays and return the outputs by name; those named in ``out`` go to its arrays.

        A convenience beyond the spec: no tensors, no timeline, concurrent calls allowed. Raises ValidationError (as
        InputError where it names an array) for a graph of another context or wrong arrays, InvalidStateError for a
        destroyed graph, ExecutionError when the back end fails.
        """
        return self._ready(graph).run(inputs, out=out)

    async def compute_async(
        self, graph: MLGraph, inputs: Mapping[str, Array], *, out: Mapping[str, Array] | None = None
    ) -> dict[str, Array]:
        """``compute`` in a thread."""
        executable = self._ready(graph)
        return await in_thread(executable.run, inputs, out=out)

    def dispatch(self, graph: MLGraph, inputs: Tensors, outputs: Tensors, *, stream: object = None) -> None:
        """Run ``graph`` from tensors to tensors: all inputs and outputs of the graph, nothing else, no tensor twice.

        With tensors of a GPU this sends the work there and returns; ``read_tensor`` waits for it. ``stream`` is a CUDA
        stream that the caller uses, a handle or an object with ``__cuda_stream__``: the run waits for what is on it
        now, and what comes on it later waits for the run. A context without a GPU has no use for it.

        Raises, in this order: ValidationError for a graph of another context; InvalidStateError for a destroyed graph;
        ValidationError for a tensor given twice, of another context, destroyed, constant, unknown, missing, or not
        exactly of the graph's data type and shape, and for a stream of another CUDA context; ExecutionError when the
        back end fails. Spec: https://www.w3.org/TR/webnn/#api-mlcontext-dispatch.
        """
        try:
            known_inputs, known_outputs, bound = graph._ready.last
            if bound is None or known_inputs != inputs or known_outputs != outputs:
                bound = graph._ready.find(inputs, outputs)
            ready = graph._context is self and self._timeline.last is None
        except (AttributeError, KeyError, TypeError, ValueError):
            bound, ready = None, False
        if ready and bound is not None and stream is not None:
            user = bound.queue.user_stream("dispatch", stream_handle("dispatch", stream))
            bound.recent = True
            with self._timeline.lock:
                if launch_between(bound, user):
                    return
        elif ready and bound is not None:
            lock = self._timeline.lock
            lock.acquire()  # takes half the time of a with statement, which is counted here
            try:
                run = bound.run
                if run is not None:
                    bound.recent = True
                    run.launch()
                    return
            finally:
                lock.release()
        self._dispatch(graph, inputs, outputs, stream)

    def _dispatch(self, graph: MLGraph, inputs: Tensors, outputs: Tensors, stream: object) -> None:
        """All of ``dispatch``, with every check."""
        executable = self._ready(graph, "dispatch")
        sources, targets = check_tensors(self, graph, inputs, outputs, self._lost_suffix())
        handle = None if stream is None else stream_handle("dispatch", stream)

        def now() -> None:
            queue = self._queue()
            user = None if handle is None or queue is None else queue.user_stream("dispatch", handle)
            bound = prepare(queue, executable, graph._ready, (inputs, outputs), (sources, targets))
            if isinstance(bound, Bound):
                graph._host_reason = ""
                if not launch_between(bound, user):
                    raise ValidationError("dispatch: a tensor was destroyed during the call")
            else:
                graph._host_reason = bound
                run_on_host(executable, sources, targets, queue, user)

        self._timeline.run(now)

    def __cuda_stream__(self) -> tuple[int, int]:
        """Version 0 and the handle of the CUDA stream that this context puts its work on.

        Raises ValidationError for a context without a GPU.
        """
        queue = self._queue()
        if queue is None:
            raise ValidationError(f"__cuda_stream__: this context runs on {self.backend} and has no CUDA stream")
        return 0, queue.stream.address

    def _ready(self, graph: MLGraph, where: str = "compute") -> Executable:
        if not isinstance(graph, MLGraph):
            raise ValidationError(f"{where}: expected an MLGraph, got {type(graph).__name__}")
        if graph._context is not self:
            raise ValidationError(f"{where}: the graph belongs to another context; build it with a builder of this one")
        executable = graph._executable
        if executable is None:
            raise InvalidStateError(f"{where}: the graph is destroyed" + self._lost_suffix())
        return executable

    def _compile(self, graph: Graph, shapes: Shapes | None) -> Executable:
        self._check_alive("build")
        options = self._options if shapes is None else replace(self._options, **parse_sizes(shapes))
        executable = self._selection.compile(graph, options)
        if self._lost.done:
            executable.close()
            raise InvalidStateError(f"build: the context was lost while compiling{self._lost_suffix()}")
        return executable

    def _adopt(self, graph: Graph, executable: Executable) -> MLGraph:
        compiled = MLGraph(self, graph, executable)
        self._graphs.add(compiled)
        message = refusal_message(compiled.backend_report)
        if message is not None and not self._warned:
            self._warned = True
            warn_fallback(message)
        return compiled

    # -- tensors

    def create_tensor(
        self,
        descriptor: TensorLike,
        data_type: str | DataType | None = None,
        *,
        readable: bool = False,
        writable: bool = False,
    ) -> MLTensor:
        """A tensor of zeros: ``create_tensor([2, 3], "float32", readable=True)`` or with a descriptor. It is in the
        memory of the GPU that the context runs on, else in main memory.

        A mapping may also hold ``readable`` and ``writable``. Raises InvalidStateError when the context is lost,
        ValidationError for a bad descriptor, UnknownError without memory.
        Spec: https://www.w3.org/TR/webnn/#api-mlcontext-createtensor.
        """
        self._check_alive("create_tensor")
        if isinstance(descriptor, Mapping):
            readable, writable = descriptor.get("readable", readable), descriptor.get("writable", writable)
        for name, flag in (("readable", readable), ("writable", writable)):
            if not isinstance(flag, bool):
                raise ValidationError(f"create_tensor: {name} must be True or False, got {flag!r}")
        parsed = parse_descriptor("create_tensor", descriptor, data_type, self._limits.max_tensor_byte_length)
        queue = self._queue()
        made = allocate("create_tensor", parsed) if queue is None else allocate_on(queue, "create_tensor", parsed)
        return self._new_tensor(made, parsed, readable=readable, writable=writable)

    async def create_tensor_async(
        self,
        descriptor: TensorLike,
        data_type: str | DataType | None = None,
        *,
        readable: bool = False,
        writable: bool = False,
    ) -> MLTensor:
        """``create_tensor``, awaitable."""
        return self.create_tensor(descriptor, data_type, readable=readable, writable=writable)

    @overload
    def create_constant_tensor(self, data: Array, /) -> MLTensor: ...
    @overload
    def create_constant_tensor(
        self, descriptor: OperandDescriptor | Mapping[str, Any], data: Buffer, /
    ) -> MLTensor: ...

    def create_constant_tensor(self, descriptor: Any, data: Any = None, /) -> MLTensor:
        """A tensor for ``MLGraphBuilder.constant``, from an array, or a descriptor and a buffer, copied.

        Raises InvalidStateError when the context is lost, ValidationError for a bad descriptor or buffer, UnknownError
        without memory. Spec: https://www.w3.org/TR/webnn/#api-mlcontext-createconstanttensor.
        """
        where = "create_constant_tensor"
        self._check_alive(where)
        if isinstance(descriptor, np.ndarray) and data is None:
            data, descriptor = descriptor, {"data_type": descriptor.dtype.name, "shape": descriptor.shape}
        parsed = parse_descriptor(where, descriptor, None, self._limits.max_tensor_byte_length)
        storage = allocate(where, parsed)
        storage.write(where, parsed, data)
        storage.array.setflags(write=False)
        return self._new_tensor(storage, parsed, readable=False, writable=False, constant=True)

    async def create_constant_tensor_async(self, descriptor: Any, data: Any = None, /) -> MLTensor:
        """``create_constant_tensor``, awaitable."""
        return self.create_constant_tensor(descriptor, data)

    def from_dlpack(
        self, producer: Any, *, copy: bool = False, readable: bool = True, writable: bool = True
    ) -> MLTensor:
        """A tensor over the memory of an array of PyTorch, CuPy, JAX, numpy, ...: whatever has ``__dlpack__``.

        Nothing is copied unless ``copy`` says so; the producer's memory is kept until the tensor is destroyed and the
        GPU is done with it. The context sees what the producer's current stream does before this call.

        Raises InvalidStateError when the context is lost; ValidationError (InputError) for an array of another device,
        of a data type that WebNN lacks, not C-contiguous, read-only, or no array at all; UnknownError without memory.
        """
        where = "from_dlpack"
        self._check_alive(where)
        storage, found = share(where, producer, self._queue(), copy=copy)
        descriptor = parse_descriptor(where, found, None, self._limits.max_tensor_byte_length)
        return self._new_tensor(storage, descriptor, readable=readable, writable=writable)

    def write_tensor(self, tensor: MLTensor, data: Buffer) -> None:
        """Copy ``data`` into the whole tensor: bytes, a uint8 array, or an array of its data type, of its exact length.

        Raises ValidationError for a tensor of another context, destroyed or not writable, and for a wrong buffer.
        Spec: https://www.w3.org/TR/webnn/#api-mlcontext-writetensor.
        """
        storage = self._own("write_tensor", tensor)
        if not tensor.writable:
            raise ValidationError("write_tensor: the tensor is not writable; create it with writable=True")
        self._timeline.run(storage.write, "write_tensor", tensor.descriptor, data)

    @overload
    def read_tensor(self, tensor: MLTensor) -> Array: ...
    @overload
    def read_tensor(self, tensor: MLTensor, out: Array | bytearray | memoryview) -> None: ...

    def read_tensor(self, tensor: MLTensor, out: Array | bytearray | memoryview | None = None) -> Array | None:
        """The tensor's contents as a new array, or None after copying them into ``out``.

        Raises ValidationError for a tensor of another context, destroyed or not readable, and for a wrong ``out``.
        Spec: https://www.w3.org/TR/webnn/#api-mlcontext-readtensor.
        """
        storage = self._readable(tensor)
        return self._timeline.run(storage.read, "read_tensor", tensor.descriptor, out)()

    async def read_tensor_async(
        self, tensor: MLTensor, out: Array | bytearray | memoryview | None = None
    ) -> Array | None:
        """``read_tensor``, awaitable; InvalidStateError if the tensor or the context goes away while it is pending."""
        storage = self._readable(tensor)

        def check() -> None:
            if tensor.destroyed:
                raise InvalidStateError(f"read_tensor: the tensor was destroyed during the read{self._lost_suffix()}")

        def read() -> Array | None:
            check()
            return storage.read("read_tensor", tensor.descriptor, out)()

        if storage.location == "host" or self._timeline.last is not None:
            return await self._timeline.awaited(read)
        finish = self._timeline.run(storage.read, "read_tensor", tensor.descriptor, out)
        result = await in_thread(finish)
        check()
        return result

    def _readable(self, tensor: MLTensor) -> Storage:
        storage = self._own("read_tensor", tensor)
        if not tensor.readable:
            fix = "constant tensors never are" if tensor.constant else "create it with readable=True"
            raise ValidationError(f"read_tensor: the tensor is not readable; {fix}")
        return storage

    def _own(self, where: str, tensor: MLTensor) -> Storage:
        if not isinstance(tensor, MLTensor):
            raise ValidationError(f"{where}: expected an MLTensor, got {type(tensor).__name__}")
        if tensor._context is not self:
            raise ValidationError(f"{where}: the tensor belongs to another context")
        storage = tensor._storage
        if storage is None:
            raise ValidationError(f"{where}: the tensor is destroyed{self._lost_suffix()}")
        return storage

    def _new_tensor(
        self, storage: Storage, descriptor: OperandDescriptor, *, readable: bool, writable: bool, constant: bool = False
    ) -> MLTensor:
        tensor = MLTensor(self, storage, descriptor, readable=readable, writable=writable, constant=constant)
        self._tensors.add(tensor)
        for graph in list(self._graphs):
            graph._ready.forget_last()
        return tensor

    def _queue(self) -> DeviceQueue | None:
        """What the tensors' GPU is used by, made when it is needed; None for a context without a GPU."""
        if not self._queues:
            with self._timeline.lock:
                if not self._queues:
                    self._check_alive("the context's stream")
                    self._queues = (self._new_queue(),)
        return self._queues[0]

    def _new_queue(self) -> DeviceQueue | None:
        device = self._selection.best.device(self._options)
        if device is None:
            return None
        from .backends.device_memory import DeviceQueue

        return DeviceQueue(device, self._timeline.lock)

    # -- the end

    def destroy(self) -> None:
        """Lose the context: its graphs and tensors are destroyed, pending work fails. Idempotent.

        Spec: https://www.w3.org/TR/webnn/#api-mlcontext-destroy.
        """
        self._lose("destroy() was called")

    def _lose(self, message: str) -> None:
        if not self._lost._resolve(message):
            return
        for tensor in list(self._tensors):
            tensor.destroy()
        for graph in list(self._graphs):
            graph.destroy()
        for queue in filter(None, self._queues):
            self._timeline.after_pending(queue.close)
        self._timeline.close()

    def _check_alive(self, where: str) -> None:
        if self._lost.done:
            raise InvalidStateError(f"{where}: the context is lost ({self._lost.message}); create a new one")

    def _lost_suffix(self) -> str:
        return f" (the context is lost: {self._lost.message})" if self._lost.done else ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.destroy()


class MLGraphBuilder(GraphBuilder):
    """Builds one graph for a context: ``GraphBuilder`` with ``build``, and constants from constant tensors.

    Raises InvalidStateError when the context is lost. Spec: https://www.w3.org/TR/webnn/#api-mlgraphbuilder.
    """

    def __init__(self, context: MLContext) -> None:
        if not isinstance(context, MLContext):
            raise ValidationError(f"MLGraphBuilder: expected an MLContext, got {type(context).__name__}")
        context._check_alive("MLGraphBuilder")
        super().__init__()
        self._context = context
        self._constant_tensors: dict[int, tuple[Operand, MLTensor]] = {}

    def _check_can_build(self) -> None:
        self._context._check_alive("graph builder")
        super()._check_can_build()

    @overload
    def constant(self, value: MLTensor | Array | np.generic, /) -> Operand: ...
    @overload
    def constant(self, data_type: str | DataType, value: float, /) -> Operand: ...
    @overload
    def constant(self, descriptor: OperandDescriptor | Mapping[str, Any], buffer: Buffer, /) -> Operand: ...

    def constant(self, first: Any, second: Any = None, /) -> Operand:
        """As ``GraphBuilder.constant``, or from a constant tensor of the same context, which shares its memory.

        The tensor must be alive until ``build``; the graph keeps working when it is destroyed later.
        """
        if not isinstance(first, MLTensor):
            return super().constant(first, second)
        storage = self._context._own("constant", first)
        if not first.constant or not isinstance(storage, HostStorage):
            raise ValidationError(
                "constant: the tensor is not constant; make it with create_constant_tensor", operator="constant"
            )
        self._check_can_build()
        operand = Operand(self._owner, first.data_type, first.shape, data=storage.array)
        self._constant_tensors[id(operand)] = (operand, first)
        return operand

    def finish(self, outputs: Mapping[str, Operand]) -> Graph:
        """As ``GraphBuilder.finish``; also a ValidationError when a constant tensor that is needed was destroyed."""
        graph = super().finish(outputs)
        for operand in graph.constants:
            _, tensor = self._constant_tensors.get(id(operand), (None, None))
            if tensor is not None and tensor.destroyed:
                self._finished = False
                raise ValidationError(
                    f"build: the constant tensor {tensor!r} was destroyed before build; destroy it afterwards",
                    operator="build",
                )
        return graph

    def build(self, outputs: Mapping[str, Operand], *, shapes: Shapes | None = None) -> MLGraph:
        """Compile the graph that computes ``outputs``; ``shapes`` gives sizes to named dimensions, as in
        ``pynn.compile``.

        Raises InvalidStateError when this builder has built or the context is lost, ValidationError (the builder stays
        usable) for empty outputs, an empty name, or an operand that is foreign, an input or a constant, OperationError
        when compiling fails. Spec: https://www.w3.org/TR/webnn/#api-mlgraphbuilder-build.
        """
        graph = self.finish(outputs)
        return self._context._adopt(graph, self._context._compile(graph, shapes))

    async def build_async(self, outputs: Mapping[str, Operand], *, shapes: Shapes | None = None) -> MLGraph:
        """``build``, compiling in a thread."""
        graph = self.finish(outputs)
        return self._context._adopt(graph, await in_thread(self._context._compile, graph, shapes))
