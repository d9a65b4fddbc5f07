"""GraphBuilder: WebNN's MLGraphBuilder without a context. Operators live in ``pynn.ops``.

Spec: https://www.w3.org/TR/webnn/#api-mlgraphbuilder.
"""

from __future__ import annotations

import mmap
from collections.abc import Mapping, Sequence
from typing import Any, overload

import numpy as np

from .errors import InvalidStateError, ValidationError
from .graph import Graph, Node, Operand
from .ops import AllOperators
from .sizes import Size, next_prime, sizes_in
from .types import DataType, OperandDescriptor, cast_number, check_shape

FIRST_SAMPLE, SAMPLE_STEP = 2**20, 1000
"""Named dimensions are sampled by primes from here on, each so far from the one before: larger than nearly every number
that a rule compares them with."""

Buffer = bytes | bytearray | memoryview | np.ndarray[Any, Any]


class GraphBuilder(AllOperators):
    """Builds one :class:`Graph`: ``input`` and ``constant`` make operands, operators combine them, ``finish`` ends it.

    Every argument is checked where it is given; a ValidationError (a TypeError) leaves the builder usable. Not
    thread-safe: one builder belongs to one thread.
    """

    def __init__(self) -> None:
        self._owner = object()
        self._nodes: list[Node] = []
        self._inputs: dict[str, Operand] = {}
        self._dimensions: dict[str, int] = {}
        self._finished = False

    def _check_can_build(self) -> None:
        if self._finished:
            raise InvalidStateError("this builder has already built its graph; make a new builder for another one")

    @overload
    def input(self, name: str, shape: Sequence[int | str], data_type: str | DataType) -> Operand: ...
    @overload
    def input(self, name: str, descriptor: OperandDescriptor | Mapping[str, Any], /) -> Operand: ...

    def input(self, name: str, shape: Any, data_type: Any = None) -> Operand:
        """A named graph input of ``shape`` (``[]`` is a scalar), or of a descriptor.

        An extension of the spec: a dimension may be a name, ``["batch", 3, 224, 224]``. Equal names are equal sizes,
        which are known when the graph is compiled, or when it runs. ``operand.shape`` has a ``Size`` there; what is
        calculated from it (``x.shape[0] * 2``, ``math.prod(x.shape)``) can be given wherever an operator takes a size.

        Raises ValidationError for an empty or repeated name, or a shape that fails the dimension check
        (https://www.w3.org/TR/webnn/#api-mlgraphbuilder-input), InvalidStateError after ``finish``.
        """
        self._check_can_build()
        if not isinstance(name, str) or not name:
            raise ValidationError(f"input: the name must be a non-empty string, got {name!r}", operator="input")
        if name in self._inputs:
            raise ValidationError(f"input: this builder already has an input named {name!r}", operator="input")
        if isinstance(shape, (OperandDescriptor, Mapping)) and data_type is None:
            if isinstance(shape, Mapping):
                shape = _descriptor_from_mapping("input", shape)
            shape, data_type = shape.shape, shape.data_type
        descriptor, named = self._input_descriptor(f"input {name!r}", shape, data_type)
        if descriptor.data_type.bits < 8:
            raise ValidationError(f"input {name!r}: {descriptor.data_type} exists for constants only", operator="input")
        operand = Operand(self._owner, descriptor.data_type, descriptor.shape, name=name)
        self._inputs[name] = operand
        self._dimensions.update(named)
        return operand

    def _input_descriptor(
        self, where: str, shape: object, data_type: object
    ) -> tuple[OperandDescriptor, Mapping[str, int]]:
        """The descriptor, and the samples of the names in it. The check sees 1 in the place of a name."""
        if not isinstance(shape, (list, tuple)) or not any(isinstance(dim, (str, Size)) for dim in shape):
            return _descriptor(where, shape, data_type), {}
        samples: dict[str, int] = {}
        dims: list[int] = []
        for dim in shape:
            name = dim.name if isinstance(dim, Size) else dim
            if isinstance(name, str) and name.isidentifier():
                known = self._dimensions.get(name) or samples.get(name)
                count = len(self._dimensions.keys() | samples.keys())
                samples[name] = known or next_prime(FIRST_SAMPLE + SAMPLE_STEP * count)
                dims.append(Size.named(name, samples[name]))
            elif isinstance(dim, (str, Size)):
                raise ValidationError(
                    f"{where}: dimension {dim!r} of shape {list(shape)} is neither a number nor a name: a letter, then "
                    "letters, digits and underscores",
                    operator="input",
                )
            else:
                dims.append(dim)
        fixed = _descriptor(where, [1 if isinstance(dim, Size) else dim for dim in dims], data_type)
        whole = (dim if isinstance(dim, Size) else size for dim, size in zip(dims, fixed.shape, strict=True))
        return OperandDescriptor(fixed.data_type, tuple(whole)), samples

    @overload
    def constant(self, value: np.ndarray[Any, Any] | np.generic, /) -> Operand: ...
    @overload
    def constant(self, data_type: str | DataType, value: float, /) -> Operand: ...
    @overload
    def constant(self, descriptor: OperandDescriptor | Mapping[str, Any], buffer: Buffer, /) -> Operand: ...

    def constant(self, first: Any, second: Any = None, /) -> Operand:
        """A constant operand, in one of three forms.

        ``constant(array)``: shape and data type of a numpy array. ``constant(data_type, number)``: a scalar, converted
        by the spec's cast rule (saturating, NaN to 0 for integers). ``constant(descriptor, buffer)``: raw bytes, a
        uint8 array or an array of the descriptor's data type, of exactly its byte length.

        The data is copied, unless no code in this process can write to it: ``bytes``, a file mapped read-only
        (``numpy.memmap(..., mode="r")``, ``numpy.load(..., mmap_mode="r")``), and C-contiguous arrays over either are
        taken as they are. The mapped file must stay as it is while the graph or anything made of it is in use.

        Raises ValidationError for an unknown data type, a wrong byte length or element type
        (https://www.w3.org/TR/webnn/#api-mlgraphbuilder-constant), InvalidStateError after ``finish``.
        """
        self._check_can_build()
        if isinstance(first, (np.ndarray, np.generic)) and second is None:
            array = _kept(np.asarray(first))
            data_type = _data_type_of(array)
            shape = check_shape(array.shape, what="constant: shape")
        elif isinstance(first, str):
            data_type = DataType.parse(first)
            if second is None:
                raise ValidationError(f"constant: a value for {data_type} is missing", operator="constant")
            array, shape = np.asarray(cast_number(second, data_type)), ()
        elif isinstance(first, (OperandDescriptor, Mapping)):
            if isinstance(first, Mapping):
                first = _descriptor_from_mapping("constant", first)
            first = _descriptor("constant", first.shape, first.data_type)
            array = _kept(array_over_buffer("constant", first, second))
            data_type, shape = first.data_type, first.shape
        else:
            raise ValidationError(
                f"constant: expected an array, (data type, number) or (descriptor, buffer), got {first!r}",
                operator="constant",
            )
        array.setflags(write=False)
        return Operand(self._owner, data_type, shape, data=array)

    def finish(self, outputs: Mapping[str, Operand]) -> Graph:
        """End this builder: the graph that computes ``outputs``, without compiling it.

        Raises ValidationError (the builder stays usable) when ``outputs`` is empty, a name is empty, or an operand is
        foreign, an input or a constant (wrap it in ``identity``). Spec: https://www.w3.org/TR/webnn/#api-mlgraphbuilder-build.
        """
        self._check_can_build()
        if not isinstance(outputs, Mapping) or not outputs:
            raise ValidationError("build: outputs must be a non-empty mapping of names to operands", operator="build")
        for name, operand in outputs.items():
            if not isinstance(name, str) or not name:
                raise ValidationError(f"build: output name {name!r} is not a non-empty string", operator="build")
            if not isinstance(operand, Operand) or operand._owner is not self._owner:
                raise ValidationError(f"build: output {name!r} is not an operand of this builder", operator="build")
            if operand.is_input or operand.is_constant:
                kind = "input" if operand.is_input else "constant"
                raise ValidationError(
                    f"build: output {name!r} is a graph {kind}; wrap it in identity()", operator="build"
                )
        graph = Graph.reached_from(outputs, self._nodes, self._inputs)
        if self._dimensions:
            _check_dimensions(graph)
        self._finished = True
        return graph


def _check_dimensions(graph: Graph) -> None:
    """Every named dimension that an operator is given must stand in an input that the graph has."""
    known = set(graph.dimensions)
    for node in graph.nodes:
        values = (*node.attributes.values(), *(result.shape for result in node.outputs))
        missing = {name for size in sizes_in(values) for name in size.names} - known
        if missing:
            raise ValidationError(
                f"build: {node.op} {node.label!r} uses dimension {min(missing)!r}, which no input has that the outputs "
                "depend on",
                operator="build",
            )


def _descriptor(where: str, shape: object, data_type: object) -> OperandDescriptor:
    try:
        return OperandDescriptor(DataType.parse(data_type), check_shape(shape))
    except ValidationError as error:
        raise ValidationError(f"{where}: {error}", operator=where.split()[0]) from None


def _descriptor_from_mapping(where: str, mapping: Mapping[str, Any]) -> OperandDescriptor:
    try:
        return OperandDescriptor(mapping["data_type"], mapping["shape"])
    except KeyError as error:
        raise ValidationError(f"{where}: the descriptor lacks {error}", operator=where) from None


def _data_type_of(array: np.ndarray[Any, Any]) -> DataType:
    try:
        return DataType.parse(array.dtype.name)
    except ValidationError:
        raise ValidationError(
            f"constant: numpy dtype {array.dtype} is no WebNN data type; convert it with astype()", operator="constant"
        ) from None


def _kept(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """``array`` in C order and native byte order, over the same memory if nobody can write to it, else a copy."""
    if array.flags.c_contiguous and array.flags.aligned and array.dtype.isnative and _is_immutable(array):
        return array.view(np.ndarray)
    return np.array(array, dtype=array.dtype.newbyteorder("="), order="C")


def _is_immutable(array: np.ndarray[Any, Any]) -> bool:
    """Whether the memory is that of ``bytes`` or of a file mapped read-only.

    The array's own flag proves nothing: other views may be writable, and its owner may set it again.
    """
    owner: object = array
    while isinstance(owner, (np.ndarray, memoryview)):
        owner = owner.base if isinstance(owner, np.ndarray) else owner.obj
    return type(owner) is bytes or (isinstance(owner, mmap.mmap) and memoryview(owner).readonly)


def array_over_buffer(where: str, descriptor: OperandDescriptor, buffer: object) -> np.ndarray[Any, Any]:
    """A C-contiguous array of ``descriptor``, by the spec's buffer rule; over the memory of ``buffer`` if possible."""
    dtype = descriptor.data_type.numpy
    if isinstance(buffer, np.ndarray):
        source = np.ascontiguousarray(buffer)
        if source.dtype != dtype and source.dtype != np.uint8:
            raise ValidationError(f"{where}: array of {source.dtype}, but the descriptor says {descriptor.data_type}")
    else:
        try:
            source = np.frombuffer(buffer, dtype=np.uint8)  # type: ignore[call-overload]
        except (TypeError, ValueError, BufferError):
            raise ValidationError(f"{where}: expected bytes or an array, got {type(buffer).__name__}") from None
    wanted = descriptor.element_count * dtype.itemsize
    if source.nbytes != wanted:
        raise ValidationError(
            f"{where}: {source.nbytes} bytes given, but {descriptor.data_type}{list(descriptor.shape)} takes {wanted}"
        )
    array: np.ndarray[Any, Any] = source.reshape(-1).view(dtype).reshape(descriptor.shape)
    return array
