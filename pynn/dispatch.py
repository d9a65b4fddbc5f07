"""Runs from tensors to tensors: what is checked, what is kept ready for the next time, and the way by main memory."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from .backends.base import DeviceRun, Executable
from .errors import ValidationError
from .sizes import Size, sizes_in, value_at
from .storage import DeviceStorage, HostStorage, Storage
from .tensor import MLTensor
from .types import OperandDescriptor, Shape

if TYPE_CHECKING:
    from .backends.cuda import StreamHandle
    from .backends.device_memory import DeviceQueue

Tensors = Mapping[str, MLTensor]
Storages = Mapping[str, Storage]
Key = tuple[object, ...]

MAX_BOUND = 32
"""Sets of tensors kept ready for a graph."""
ALIGNMENT = 256
"""TensorRT wants addresses that are multiples of this."""


Asked = tuple[Tensors | None, Tensors | None, "Bound | None"]
_NOTHING: Asked = (None, None, None)


class Bound:
    """A graph bound to tensors of a GPU: ``run`` is all that a dispatch needs, or None when a tensor is gone.

    Holds the tensors weakly and their memory strongly: it ends with the first of the tensors that is destroyed or
    forgotten, and gives the memory up when the stream has passed.
    """

    __slots__ = (
        "__weakref__",
        "_home",
        "_key",
        "_references",
        "_storages",
        "queue",
        "recent",
        "run",
    )

    def __init__(
        self, queue: DeviceQueue, run: DeviceRun, home: ReadyRuns, key: Key, tensors: Sequence[MLTensor]
    ) -> None:
        self.run: DeviceRun | None = run
        self.recent = False
        self.queue = queue
        self._home, self._key = weakref.ref(home), key
        self._storages = [tensor._storage for tensor in tensors]
        self._references = [weakref.ref(tensor, self._forgotten) for tensor in tensors]
        home.kept[key] = self
        for tensor in tensors:
            tensor._bound.add(self)
        if any(tensor.destroyed for tensor in tensors):
            self.end()

    def _forgotten(self, _: object) -> None:
        self.end()

    def end(self) -> None:
        """No launch from now on. Idempotent; from any thread, and from garbage collection."""
        home = self._home()
        if home is not None:
            home.drop(self, self._key)
        run, self.run = self.run, None
        if run is not None:
            self.queue.retire(partial(self._close, run))

    def _close(self, run: DeviceRun) -> None:
        run.close()
        self._storages.clear()


class ReadyRuns:
    """What a graph keeps ready: ``kept`` by names and identities of tensors; the ``last`` one, and the one before it,
    with the mappings they were asked for with, which are quicker to compare but hold the tensors."""

    __slots__ = ("__weakref__", "_before", "kept", "last")

    def __init__(self) -> None:
        self.kept: dict[Key, Bound] = {}
        self.forget_last()

    def forget_last(self) -> None:
        self.last = self._before = _NOTHING

    def find(self, inputs: Tensors, outputs: Tensors) -> Bound:
        """The run for these tensors, which are not those of the last one. Raises KeyError."""
        known_inputs, known_outputs, bound = self._before
        if bound is not None and known_inputs == inputs and known_outputs == outputs:
            self.last, self._before = self._before, self.last
            return bound
        bound = self.kept[key_of(inputs, outputs)]
        self._before = self.last
        self.last = (dict(inputs), dict(outputs), bound)
        return bound

    def drop(self, bound: Bound, key: Key) -> None:
        if self.kept.get(key) is bound:
            self.kept.pop(key, None)
        if bound in (self.last[2], self._before[2]):
            self.forget_last()

    def end(self) -> None:
        end_all(self.kept)

    def make_room(self) -> None:
        """End those that were not used since this looked at them before, until there is room for one more."""
        while len(self.kept) >= MAX_BOUND:
            key, oldest = next(iter(self.kept.items()))
            if oldest.recent and self.kept.pop(key, None) is not None:
                oldest.recent = False
                self.kept[key] = oldest
            else:
                oldest.end()


def end_all(kept: dict[Key, Bound]) -> None:
    """Also when the graph is forgotten: what was sent may still run, and must not lose its context."""
    for bound in list(kept.values()):
        bound.end()


def key_of(inputs: Tensors, outputs: Tensors) -> Key:
    return (*inputs, *map(id, inputs.values()), None, *outputs, *map(id, outputs.values()))


def prepare(
    queue: DeviceQueue | None,
    executable: Executable,
    home: ReadyRuns,
    tensors: tuple[Tensors, Tensors],
    storages: tuple[Storages, Storages],
) -> Bound | str:
    """The graph bound to these inputs and outputs, in ``home`` for the next time; or why it must run by main memory."""
    key = key_of(*tensors)
    known = home.kept.get(key)
    if known is not None and known.run is not None:
        return known
    if queue is None:
        return "the context has no memory on a GPU"
    inputs, outputs = storages
    reason = _obstacle(executable, inputs, outputs)
    if reason:
        return reason
    with queue.using():
        run = executable.bind_device(queue.stream.address, _places(inputs), _places(outputs))
    if run is None:
        return f"{executable.backend} does not take memory of a GPU for this graph"
    home.make_room()
    return Bound(queue, run, home, key, [*tensors[0].values(), *tensors[1].values()])


def _places(storages: Storages) -> dict[str, tuple[int, tuple[int, ...]]]:
    return {
        name: (storage.address, storage.descriptor.shape)
        for name, storage in storages.items()
        if isinstance(storage, DeviceStorage)
    }


def _obstacle(executable: Executable, inputs: Storages, outputs: Storages) -> str:
    """Why the engine cannot use the tensors' memory itself; "" when it can."""
    from .backends.device_memory import same_bits

    for specs, storages, is_output in ((executable.inputs, inputs, False), (executable.outputs, outputs, True)):
        for spec in specs:
            storage = storages[spec.name]
            if not isinstance(storage, DeviceStorage):
                return f"{spec.name!r} is in main memory"
            if not same_bits(spec, is_output=is_output):
                return f"{spec.name!r} is {spec.data_type}, which the engine has as {spec.carrier}"
            if storage.address % ALIGNMENT:
                return f"{spec.name!r} does not begin at a multiple of {ALIGNMENT} bytes"
    return ""


def launch_between(bound: Bound, user: StreamHandle | None) -> bool:
    """Launch, after what is on the user's stream and before what comes there. False when a tensor is gone."""
    queue = bound.queue
    with queue.using():
        run = bound.run
        if run is None:
            return False
        if user is not None:
            queue.follow(user)
        run.launch()
        if user is not None:
            queue.lead(user)
    return True


def run_on_host(
    executable: Executable, sources: Storages, targets: Storages, queue: DeviceQueue | None, user: StreamHandle | None
) -> None:
    """Fetch, run on arrays, store. Outputs in main memory are written by the run itself."""
    if queue is not None and user is not None:
        with queue.using():
            queue.follow(user)
    out = {name: storage.array for name, storage in targets.items() if isinstance(storage, HostStorage)}
    results = executable.run({name: storage.fetch() for name, storage in sources.items()}, out=out or None)
    for name, storage in targets.items():
        storage.store(results[name])
    if queue is not None and user is not None:
        with queue.using():
            queue.lead(user)


def check_tensors(
    context: object, graph: Any, inputs: Tensors, outputs: Tensors, lost: str
) -> tuple[Storages, Storages]:
    """What the tensors hold. Raises ValidationError in the order of the spec; ``lost`` is added to what is said of a
    destroyed tensor."""
    for side, tensors in (("inputs", inputs), ("outputs", outputs)):
        if not isinstance(tensors, Mapping):
            raise ValidationError(f"dispatch: {side} must map names to tensors, got {type(tensors).__name__}")
        for name, tensor in tensors.items():
            if not isinstance(tensor, MLTensor):
                raise ValidationError(f"dispatch: {side}[{name!r}] must be an MLTensor, got {type(tensor).__name__}")
    seen: dict[int, str] = {}
    everything = [(f"inputs[{n!r}]", t) for n, t in inputs.items()] + [
        (f"outputs[{n!r}]", t) for n, t in outputs.items()
    ]
    for where, tensor in everything:
        first = seen.setdefault(id(tensor), where)
        if first != where:
            raise ValidationError(f"dispatch: {first} and {where} are the same tensor; each binding needs its own")
    for where, tensor in everything:
        if tensor._context is not context:
            raise ValidationError(f"dispatch: {where} belongs to another context")
    storages: dict[str, Storage] = {}
    for where, tensor in everything:
        storage = tensor._storage
        if storage is None:
            raise ValidationError(f"dispatch: {where} is destroyed{lost}")
        storages[where] = storage
    sizes: dict[str, int] = {}
    _check_side("inputs", inputs, graph.inputs, sizes)
    _check_side("outputs", outputs, graph.outputs, sizes)
    return (
        {name: storages[f"inputs[{name!r}]"] for name in inputs},
        {name: storages[f"outputs[{name!r}]"] for name in outputs},
    )


def _check_side(side: str, tensors: Tensors, wanted: Mapping[str, OperandDescriptor], sizes: dict[str, int]) -> None:
    """``sizes`` gets those of the graph's named dimensions from the inputs; the outputs' shapes follow from it."""
    listing = ", ".join(f"{name}: {d.data_type}{list(d.shape)}" for name, d in wanted.items()) or "none"
    for name, tensor in tensors.items():
        descriptor = wanted.get(name)
        if descriptor is None:
            raise ValidationError(f"dispatch: {side}[{name!r}] is not of this graph; its {side}: {listing}")
        if tensor.constant:
            raise ValidationError(f"dispatch: {side}[{name!r}] is a constant tensor; make it with create_tensor")
        for size, number in zip(descriptor.shape, tensor.shape, strict=False):
            if side == "inputs" and isinstance(size, Size) and size.name is not None:
                sizes.setdefault(size.name, number)
        shape = value_at(descriptor.shape, sizes) if set(_names(descriptor.shape)) <= set(sizes) else descriptor.shape
        if (tensor.data_type, tensor.shape) != (descriptor.data_type, shape):
            found = ", ".join(f"{name} {number}" for name, number in sizes.items())
            raise ValidationError(
                f"dispatch: {side}[{name!r}] is {tensor.data_type}{list(tensor.shape)}, "
                f"the graph has {descriptor.data_type}{list(descriptor.shape)}{f' with {found}' if found else ''}"
            )
    for name in wanted:
        if name not in tensors:
            raise ValidationError(f"dispatch: {side} lack {name!r}; the graph has {listing}")


def _names(shape: Shape) -> Iterator[str]:
    for size in sizes_in(shape):
        yield from size.names


def stream_handle(where: str, stream: object) -> int:
    """A CUstream as a number, of a number or of an object with ``__cuda_stream__``. Raises ValidationError."""
    if type(stream) is int and stream >= 0:
        return stream
    protocol = getattr(stream, "__cuda_stream__", None)
    if protocol is None:
        raise ValidationError(
            f"{where}: stream must be a CUDA stream's handle or an object with __cuda_stream__, got {stream!r}; "
            "torch streams have .cuda_stream, those of CuPy .ptr"
        )
    answer = protocol() if callable(protocol) else protocol
    if not isinstance(answer, tuple) or len(answer) != 2 or type(answer[1]) is not int or answer[1] < 0:
        raise ValidationError(f"{where}: __cuda_stream__ of {type(stream).__name__} gave {answer!r}, not (0, handle)")
    if answer[0] != 0:
        raise ValidationError(f"{where}: __cuda_stream__ of version {answer[0]!r}; pynn knows 0")
    return int(answer[1])
