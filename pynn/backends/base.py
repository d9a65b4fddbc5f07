"""What every back end offers: ``probe`` says whether and why it can be used, ``compile`` makes an Executable."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from typing_extensions import Self

from ..cache.record import DISABLED, CacheRecord
from ..converter.model import OnnxModel, TensorSpec
from ..converter.precision import AS_GIVEN, Precision, PrecisionReport, Target
from ..errors import InputError, InvalidStateError
from ..types import ALL_TYPES, DataType
from .memory_use import MemoryUse
from .overlap import Overlap
from .partition_report import PartitionReport, whole
from .report import BackendReport
from .shapes import Ranges, ShapeRange, ShapeRules, ShapeSizes, check_shape

if TYPE_CHECKING:
    from .cuda import Device

__all__ = [
    "Array",
    "Backend",
    "BuildControl",
    "CompileOptions",
    "DeviceRun",
    "Executable",
    "OperatorLimits",
    "Probe",
    "ShapeRange",
]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Probe:
    """One candidate that was looked at: a TensorRT library on a GPU, an ONNX Runtime provider.

    ``reason`` says in one sentence why it can or cannot be used; ``hint`` what to do about it.
    """

    backend: str
    candidate: str
    usable: bool
    reason: str
    hint: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class BuildControl:
    """How a build is watched and ended. ``progress`` is called with each event; ``cancel`` set, Ctrl-C, what
    ``progress`` raises, and ``deadline`` seconds gone end it. ``isolate`` builds in a child process, so that a crash or
    a hang of the library is an exception here. ``given`` is the user's deadline where ``deadline`` is what a wait left
    of it. No part of any cache key."""

    progress: Callable[[Any], object] | None = None
    cancel: threading.Event | None = None
    deadline: float | None = None
    isolate: bool = False
    given: float | None = None


@dataclass(frozen=True)
class CompileOptions:
    """What a back end may be told; ``pynn.options.Options`` describes each for users. ``shapes`` gives sizes to dynamic
    dimensions: by input name a whole shape, or by the name of a symbolic dimension one size; a size is a number or
    (min, opt, max). ``profiles``, where there are several, take the place of ``shapes``: one such mapping each."""

    shapes: ShapeSizes = field(default_factory=dict)
    profiles: tuple[ShapeSizes, ...] = ()
    device: int = 0
    cuda_graph: bool = True
    optimization_level: int | None = None
    workspace_bytes: int | None = None
    tf32: bool | None = None
    cache: bool = True
    cache_dir: str | None = None
    concurrency: int | None = None
    wait: str = "auto"
    kernel_specialization: str = "auto"
    refit: bool = False
    weight_streaming_bytes: int | None = None
    precision: Precision = AS_GIVEN
    control: BuildControl = field(default_factory=BuildControl)


class DeviceRun(ABC):
    """An executable bound to memory of the GPU and a stream. ``launch`` sends one run to the stream and returns;
    results are there when the stream gets to them. One thread at a time. The memory must outlive the last run."""

    launch: Callable[[], None]

    @abstractmethod
    def close(self) -> None:
        """Wait for what was sent, and give everything back. Idempotent."""


class Executable(ABC):
    """A compiled model: numpy arrays in, numpy arrays out, by the user's names and exact dtypes.

    Safe to call from many threads. A context manager; ``close`` is idempotent.
    """

    backend: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    notes: tuple[str, ...] = ()
    """Decisions the user should know of: an assumed batch size, why CUDA graphs are off."""
    report: BackendReport | None = None
    """Why this back end was taken."""
    _workers = 3
    """Threads of ``run_async`` and ``map``."""
    partition: PartitionReport | None = None
    """What was left out for it; ``partition_report`` has an answer in any case."""
    precision: PrecisionReport | None = None
    """What its operators compute in; ``explain_precision`` has an answer in any case."""
    cache: CacheRecord = DISABLED
    """Whether the engine came from the cache on disk, and why or why not."""

    def __init__(
        self,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
        ranges: Ranges | None = None,
        profiles: Sequence[Ranges] = (),
    ) -> None:
        """``ranges``, from ``resolve_shapes``, limits the sizes of dynamic dimensions at run; where there are several
        ``profiles``, one of them must take them all."""
        self.inputs = inputs
        self.outputs = outputs
        self._closed = False
        self._overlap: Overlap | None = None
        self._starting = threading.Lock()
        self._plan = tuple((spec.name, spec.numpy, spec.shape if spec.is_static else None, spec) for spec in inputs)
        self._out_plan = {spec.name: (spec.numpy, spec.shape if spec.is_static else None, spec) for spec in outputs}
        self._rules = None if all(spec.is_static for spec in inputs) else ShapeRules(inputs, ranges, profiles)
        self._seen_shapes: dict[tuple[tuple[int, ...], ...], None] = {}

    @abstractmethod
    def _run(self, arrays: dict[str, Array], out: Mapping[str, Array] | None) -> dict[str, Array]:
        """Run with checked inputs, a fresh dict that may be kept or changed, and checked ``out`` arrays."""

    @abstractmethod
    def _close(self) -> None: ...

    @property
    def stats(self) -> Mapping[str, Any]:
        """Times and settings worth knowing, back end by back end."""
        return {}

    def partition_report(self) -> PartitionReport:
        """Which operators run where, and why the preferred back end does not run the rest. Print it."""
        return self.partition or whole(self.backend)

    def explain_precision(self) -> PrecisionReport:
        """What each operator computes in, and why, where a precision was asked for. Print it."""
        note = "the types are the model's own; pynn.explain_precision(model) lists them"
        return self.precision or PrecisionReport(notes=(note,))

    def run(self, inputs: Mapping[str, Array], *, out: Mapping[str, Array] | None = None) -> dict[str, Array]:
        """Run once. ``out`` receives results in the caller's C-contiguous arrays (those it names).

        Raises InputError for a missing, extra, wrong-dtype, wrong-shape or non-contiguous array (naming the tensor),
        InvalidStateError after ``close``, ExecutionError when the back end fails.
        """
        if self._closed:
            raise InvalidStateError("this executable is closed")
        try:
            arrays = self.check_inputs(inputs)
        except InputError as error:
            raise self._explained(error, inputs) from None
        if out is not None:
            self.check_out(out)
        return self._run(arrays, out)

    def _explained(self, error: InputError, inputs: Mapping[str, Array]) -> InputError:
        """The error, with what a back end can add to it."""
        return error

    def run_async(
        self, inputs: Mapping[str, Array], *, out: Mapping[str, Array] | None = None
    ) -> Future[dict[str, Array]]:
        """``run`` in a thread of the executable's: a ``concurrent.futures.Future``; ``asyncio.wrap_future`` awaits it.

        The arrays must stay as they are until it is done. Wrong arrays raise here, as in ``run``; the rest there.
        """
        if self._closed:
            raise InvalidStateError("this executable is closed")
        self.check_inputs(inputs)
        if out is not None:
            self.check_out(out)
        return self._overlapping().submit(inputs, out)

    def map(self, inputs: Iterable[Mapping[str, Array]]) -> Iterator[dict[str, Array]]:
        """``run`` on each, results in order. Runs overlap, so that one is copied while another is computed; a few
        inputs are read ahead. Errors are those of ``run``, raised where the result would come."""
        if self._closed:
            raise InvalidStateError("this executable is closed")
        return self._overlapping().map(inputs)

    def _overlapping(self) -> Overlap:
        with self._starting:
            if self._closed:
                raise InvalidStateError("this executable is closed")
            if self._overlap is None:
                self._overlap = Overlap(self.run, self._workers)
            return self._overlap

    @property
    def memory(self) -> MemoryUse | None:
        """Bytes held by weights, activations and staging; None where the back end does not tell."""
        return None

    def empty_inputs(self, shapes: Mapping[str, tuple[int, ...]] | None = None) -> dict[str, Array]:
        """Uninitialised arrays for ``run``, in memory that the back end reads without a copy by the CPU: page-locked
        where it has a GPU. ``shapes`` are needed by name for inputs with dynamic shapes."""
        wanted = self.shapes_of(self.inputs, shapes)
        return {spec.name: np.empty(wanted[spec.name], spec.numpy) for spec in self.inputs}

    def empty_outputs(self, shapes: Mapping[str, tuple[int, ...]] | None = None) -> dict[str, Array]:
        """The same for ``run(..., out=...)``."""
        wanted = self.shapes_of(self.outputs, shapes)
        return {spec.name: np.empty(wanted[spec.name], spec.numpy) for spec in self.outputs}

    @staticmethod
    def shapes_of(
        specs: Sequence[TensorSpec], shapes: Mapping[str, tuple[int, ...]] | None
    ) -> dict[str, tuple[int, ...]]:
        """Whole shapes by name, from the specs or, where these have none, from ``shapes``. Raises InputError."""
        found: dict[str, tuple[int, ...]] = {}
        for spec in specs:
            given = (shapes or {}).get(spec.name)
            if given is None and not spec.is_static:
                raise InputError(f"{spec} has a dynamic shape; give shapes={{{spec.name!r}: (...)}}", tensor=spec.name)
            if given is not None:
                check_shape(spec, tuple(given), "shapes of")
            found[spec.name] = tuple(dim for dim in given or spec.shape if isinstance(dim, int))
        return found

    def bind_device(
        self,
        stream: int,
        inputs: Mapping[str, tuple[int, tuple[int, ...]]],
        outputs: Mapping[str, tuple[int, tuple[int, ...]]],
    ) -> DeviceRun | None:
        """Runs on device memory, without copies: by name, the address and the shape of each tensor, in the *carrier*
        types of ``inputs`` and ``outputs``; ``stream`` is a CUstream of the same GPU's primary context.

        None where the back end has no device memory. Raises InputError for shapes, DeviceOutOfMemoryError.
        """
        return None

    def check_inputs(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The arrays by name, after every check, C-contiguous and of exactly the dtype that the model has."""
        if type(inputs) is not dict and not isinstance(inputs, Mapping):
            raise InputError(f"inputs must map names to arrays, got {type(inputs).__name__}")
        checked: dict[str, Array] = {}
        try:
            for name, dtype, shape, spec in self._plan:
                array = inputs[name]
                if (
                    type(array) is not np.ndarray
                    or array.dtype is not dtype
                    or array.shape != shape
                    or not array.flags.c_contiguous
                ):
                    array = self._admit(spec, dtype, array)
                checked[name] = array
        except KeyError:
            raise InputError(f"input {name!r} is missing; expected {_listing(self.inputs)}", tensor=name) from None
        if len(inputs) != len(checked):
            extra = sorted(map(str, set(inputs) - set(checked)))
            raise InputError(f"unknown input {extra[0]!r}; expected {_listing(self.inputs)}", tensor=extra[0])
        if self._rules is not None:
            shapes = tuple([array.shape for array in checked.values()])
            if shapes not in self._seen_shapes:
                self._rules.check({name: array.shape for name, array in checked.items()})
                if len(self._seen_shapes) < 256:
                    self._seen_shapes[shapes] = None
        return checked

    @staticmethod
    def _admit(spec: TensorSpec, dtype: np.dtype[Any], value: object) -> Array:
        """The slow way in: numbers and lists, strings, subclasses of ndarray; or the error."""
        name = spec.name
        if isinstance(value, np.ndarray):
            array = value
        elif isinstance(value, (int, float, bool, list, tuple)):
            try:
                array = np.asarray(value, dtype=dtype)
            except (TypeError, ValueError, OverflowError) as error:
                raise InputError(f"input {name!r}: {error}", tensor=name) from None
        else:
            array = np.asarray(value)
        if spec.data_type == "string" and array.dtype.kind in "UT":
            array = array.astype(object)
        if array.dtype != dtype:
            hint = f"convert it with astype({spec.data_type!r})" if spec.data_type != "string" else "pass str objects"
            raise InputError(f"input {name!r} is {array.dtype}, expected {spec.data_type}; {hint}", tensor=name)
        check_shape(spec, array.shape)
        if not array.flags.c_contiguous:
            raise InputError(
                f"input {name!r} is not C-contiguous (strides {array.strides}); pass numpy.ascontiguousarray(...)",
                tensor=name,
            )
        return array

    def check_out(self, out: Mapping[str, Array]) -> None:
        """Raise InputError unless every array of ``out`` can take the result of its name."""
        if not isinstance(out, Mapping):
            raise InputError(f"out must map names to arrays, got {type(out).__name__}")
        for name, array in out.items():
            plan = self._out_plan.get(name)
            if (
                plan is None
                or type(array) is not np.ndarray
                or array.dtype is not plan[0]
                or array.shape != plan[1]
                or not array.flags.carray
            ):
                self._admit_out(name, array)

    def _admit_out(self, name: str, array: object) -> None:
        """The slow way: subclasses of ndarray and dynamic shapes; or the error."""
        if name not in self._out_plan:
            raise InputError(f"out: there is no output {name!r}; outputs: {_listing(self.outputs)}", tensor=str(name))
        spec = self._out_plan[name][2]
        if not isinstance(array, np.ndarray):
            raise InputError(f"out {name!r} must be a numpy array, got {type(array).__name__}", tensor=name)
        if array.dtype != spec.numpy:
            raise InputError(f"out {name!r} is {array.dtype}, expected {spec.data_type}", tensor=name)
        check_shape(spec, array.shape, "out")
        if not array.flags.carray:
            fault = "not C-contiguous" if not array.flags.c_contiguous else "read-only or not aligned"
            raise InputError(f"out {name!r} is {fault}; pass a writable array made with numpy.empty", tensor=name)

    def close(self) -> None:
        """Give everything back. Idempotent."""
        with self._starting:
            if self._closed:
                return
            self._closed = True
        if self._overlap is not None:
            self._overlap.close()
        self._close()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a compiled model cannot be copied or pickled: threads may share it, another process compiles the model or "
            "loads the engine file itself"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def _listing(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(map(str, specs)) or "none"


@dataclass(frozen=True)
class OperatorLimits:
    """What a back end takes beyond its passes' help: the source of ``op_support_limits``.

    ``unsupported`` lists data types that fail, by WebNN operator name and operand name ("" for the whole operator).
    """

    max_rank: int
    max_tensor_byte_length: int
    preferred_input_layout: str = "nchw"
    data_types: frozenset[DataType] = ALL_TYPES
    unsupported: Mapping[tuple[str, str], frozenset[DataType]] = field(default_factory=dict)


class Backend(ABC):
    """A way to run models. Cheap to make; ``probe`` and ``compile`` load what they need."""

    name: str

    @abstractmethod
    def probe(self) -> tuple[Probe, ...]:
        """Every candidate in order of preference, with its verdict. Never raises.

        ``details["version"]`` of a usable candidate is its library's version: passes are chosen by it.
        """

    @abstractmethod
    def compile(self, model: OnnxModel, options: CompileOptions) -> Executable:
        """Raises UnsupportedModelError when the library refuses the model, ModelError when it is broken,
        BackendUnavailableError without a candidate."""

    def check(self, model: OnnxModel, options: CompileOptions) -> None:
        """Raise what ``compile`` would raise for a model that the library refuses, as far as can be told without
        building it. Quick; takes what it cannot tell."""
        return

    def require(self, options: CompileOptions) -> None:
        """Raise FeatureNotSupportedError for an option that was asked for and that this process can no longer have:
        another back end would not be an answer."""
        return

    def device(self, options: CompileOptions) -> Device | None:
        """The GPU that ``compile`` takes with these options; None for a back end whose tensors are in main memory."""
        return None

    def version(self) -> str:
        """The version of the library that ``compile`` uses; "" when there is none."""
        return next((str(probe.details.get("version", "")) for probe in self.probe() if probe.usable), "")

    def target(self) -> Target:
        """The library and the GPU that ``compile`` uses, for which a precision is chosen."""
        return Target.of_probe(self.name, next((probe.details for probe in self.probe() if probe.usable), {}))

    def limits(self) -> OperatorLimits:
        """What the library takes, after this back end's passes."""
        return OperatorLimits(max_rank=8, max_tensor_byte_length=2**31 - 1)
