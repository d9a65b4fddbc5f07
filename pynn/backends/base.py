"""What every back end offers: ``probe`` says whether and why it can be used, ``compile`` makes an Executable."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import numpy as np
from typing_extensions import Self

from ..converter.model import OnnxModel, TensorSpec
from ..errors import InputError, InvalidStateError

Array = np.ndarray[Any, Any]
ShapeRange = int | tuple[int, int, int]
"""One size, or (min, opt, max)."""


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
class CompileOptions:
    """What a back end may be told. ``shapes`` gives sizes to dynamic dimensions: by input name a whole shape, or by the
    name of a symbolic dimension one size; a size is a number or (min, opt, max)."""

    shapes: Mapping[str, ShapeRange | Sequence[ShapeRange]] = field(default_factory=dict)
    device: int = 0
    cuda_graph: bool = True
    optimization_level: int | None = None
    workspace_bytes: int | None = None
    tf32: bool | None = None


class Executable(ABC):
    """A compiled model: numpy arrays in, numpy arrays out, by the user's names and exact dtypes.

    Safe to call from many threads. A context manager; ``close`` is idempotent.
    """

    backend: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    notes: tuple[str, ...] = ()
    """Decisions the user should know of: an assumed batch size, why CUDA graphs are off."""

    def __init__(self, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> None:
        self.inputs = inputs
        self.outputs = outputs
        self._by_name = {spec.name: (spec, spec.numpy) for spec in inputs}
        self._closed = False

    @abstractmethod
    def _run(self, arrays: dict[str, Array], out: Mapping[str, Array] | None) -> dict[str, Array]:
        """Run with checked inputs."""

    @abstractmethod
    def _close(self) -> None: ...

    @property
    def stats(self) -> Mapping[str, Any]:
        """Times and settings worth knowing, back end by back end."""
        return {}

    def run(self, inputs: Mapping[str, Array], *, out: Mapping[str, Array] | None = None) -> dict[str, Array]:
        """Run once. ``out`` receives results in the caller's C-contiguous arrays (those it names).

        Raises InputError for a missing, extra, wrong-dtype or wrong-shape array (naming the tensor), InvalidStateError
        after ``close``, ExecutionError when the back end fails.
        """
        if self._closed:
            raise InvalidStateError("this executable is closed")
        return self._run(self.check_inputs(inputs), out)

    def check_inputs(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The arrays, C-contiguous and in native byte order, after every check."""
        checked: dict[str, Array] = {}
        for name, (spec, dtype) in self._by_name.items():
            try:
                array = inputs[name]
            except KeyError:
                raise InputError(f"input {name!r} is missing; expected {_listing(self.inputs)}", tensor=name) from None
            if type(array) is not np.ndarray:
                array = self._coerce(spec, dtype, array)
            if array.dtype is not dtype and array.dtype != dtype:
                raise InputError(
                    f"input {name!r} is {array.dtype}, expected {spec.data_type}; convert it with astype()", tensor=name
                )
            if array.shape != spec.shape:
                _check_shape(spec, array.shape)
            checked[name] = array if array.flags.c_contiguous else np.ascontiguousarray(array)
        if len(inputs) != len(checked):
            extra = sorted(set(inputs) - set(checked))
            raise InputError(f"unknown input {extra[0]!r}; expected {_listing(self.inputs)}", tensor=str(extra[0]))
        return checked

    @staticmethod
    def _coerce(spec: TensorSpec, dtype: np.dtype[Any], value: object) -> Array:
        array = np.asarray(value)
        if isinstance(value, (int, float, bool, list, tuple)):
            try:
                return np.asarray(value, dtype=dtype)
            except (TypeError, ValueError, OverflowError) as error:
                raise InputError(f"input {spec.name!r}: {error}", tensor=spec.name) from None
        return array

    def close(self) -> None:
        """Give everything back. Idempotent."""
        if not self._closed:
            self._closed = True
            self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def _listing(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(map(str, specs)) or "no inputs"


def _check_shape(spec: TensorSpec, shape: tuple[int, ...]) -> None:
    ok = len(shape) == len(spec.shape) and all(
        not isinstance(want, int) or want == got for want, got in zip(spec.shape, shape, strict=True)
    )
    if not ok:
        raise InputError(f"input {spec.name!r} has shape {list(shape)}, expected {spec}", tensor=spec.name)


class Backend(ABC):
    """A way to run models. Cheap to make; ``probe`` and ``compile`` load what they need."""

    name: str

    @abstractmethod
    def probe(self) -> tuple[Probe, ...]:
        """Every candidate in order of preference, with its verdict. Never raises."""

    @abstractmethod
    def compile(self, model: OnnxModel, options: CompileOptions) -> Executable:
        """Raises UnsupportedModelError when the library refuses the model, BackendUnavailableError without a candidate."""
