"""The weights of a loaded engine: replaced by a refitter, or streamed from host memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .handle import Handle, create, encode
from .run import Engine


@dataclass(frozen=True, slots=True)
class WeightStreaming:
    """Bytes. ``streamable``: weights that may lie in host memory; ``budget``: how much of them is on the GPU now;
    ``automatic``: what the library would choose; ``scratch``: GPU memory that a context needs on top."""

    streamable: int
    budget: int
    automatic: int
    scratch: int


def weight_streaming(engine: Engine) -> WeightStreaming:
    """Raises FeatureNotSupportedError before TensorRT 10.1."""
    raw = engine._describe("describe_weight_streaming", "weight_streaming_info")
    return WeightStreaming(raw.streamable, raw.budget, raw.automatic, raw.scratch)


def set_weight_budget(engine: Engine, size: int) -> None:
    """Only before the engine's first context, or after its last. Raises TensorRTError."""
    engine._call("set_weight_budget", size)


def activation_memory(engine: Engine, profile: int = 0) -> int:
    """Bytes that a context of this profile needs for activations, at most."""
    return int(engine._ask("device_memory", "int64_t", profile))


class Refitter(Handle):
    """IRefitter. Give all weights that are missing, then ``refit``. One thread at a time; needs a GPU context."""

    _noun = "refitter"

    def __init__(self, engine: Engine) -> None:
        self._borrowed: list[object] = []
        """Weights in the caller's memory, which the library reads in ``refit``."""
        super().__init__(*create("refitter", "refitter_create", engine._pointer), self._borrowed)

    def names(self, *, missing: bool = False) -> tuple[str, ...]:
        """Of all weights that can be replaced, or of those that must still be given."""
        ffi = self._shim.ffi
        names, count = ffi.new("const char *const **"), ffi.new("int32_t *")
        self._call("list", int(missing), names, count)
        return tuple(self._shim.text(names[0][i]) for i in range(count[0]))

    def prototype(self, name: str) -> tuple[int, int]:
        """Data type (its number, as in ``constants.DATA_TYPES``) and number of elements."""
        raw = self._describe("describe", "weight_info", encode(name))
        return raw.data_type, raw.count

    def set(self, name: str, data_type: int, array: np.ndarray[Any, Any], count: int) -> None:
        """``array``: contiguous, laid out as ONNX does; ``count`` elements."""
        self._call("set", encode(name), data_type, self._borrow(array), count)

    def set_from_model(self, model: bytes, path: str | None = None) -> None:
        """All weights of an ONNX model; ``path`` says where it came from, for external data.

        Raises UnsupportedModelError for a model that is none, or of another topology.
        """
        self._call("set_from_model", *self._model(model, path))

    def load_model(self, model: bytes, path: str | None = None) -> None:
        """First of three steps: ``load_model``, ``load_initializer`` for each external one, ``set_from_loaded``.

        Raises FeatureNotSupportedError before TensorRT 10.13.
        """
        self._call("load_model", *self._model(model, path))

    def load_initializer(self, name: str, array: np.ndarray[Any, Any]) -> None:
        self._call("load_initializer", encode(name), self._borrow(array), array.nbytes)

    def set_from_loaded(self) -> None:
        self._call("set_from_loaded")

    def refit(self) -> None:
        """Put what was given into the engine. Raises EngineBuildError, naming what is missing."""
        self._call("refit")

    def _borrow(self, array: np.ndarray[Any, Any]) -> Any:
        if not array.flags.c_contiguous:
            raise ValueError("the weights are not contiguous")
        view = self._shim.ffi.from_buffer(array.reshape(-1).view(np.uint8))
        self._borrowed.append(view)
        return view

    def _model(self, model: bytes, path: str | None) -> tuple[Any, int, Any]:
        self._borrowed.append(model)
        where = self._shim.null if path is None else encode(path)
        return self._shim.ffi.from_buffer(model), len(model), where
