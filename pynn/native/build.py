"""From ONNX to a plan: builder, network, config, profile, parser, progress."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .binding import Shim
from .constants import BuilderFlag, MemoryPool, ProfileSelector
from .handle import Handle, create, encode
from .library import Blob, Logger, TensorInfo, blob_of, tensor_info


@dataclass(frozen=True, slots=True)
class LayerInfo:
    name: str
    type: int
    input_count: int
    output_count: int


class Builder(Handle):
    """IBuilder. ``build`` makes plans; it is slow and releases the interpreter lock."""

    _noun = "builder"

    def __init__(self, logger: Logger, *, max_threads: int | None = None) -> None:
        super().__init__(*create("builder", "builder_create", logger._pointer))
        if max_threads is not None:
            self._call("set_max_threads", max_threads)

    def build(self, network: Network, config: Config) -> Blob:
        """The plan. Raises EngineBuildError, BuildCancelledError."""
        return blob_of(self, "build", network._pointer, config._pointer)


class Network(Handle):
    """INetworkDefinition, always strongly typed."""

    _noun = "network"

    def __init__(self, builder: Builder) -> None:
        self._borrowed: list[object] = []
        """Initializers in the caller's memory; freed only after the native network is."""
        super().__init__(*create("network", "network_create", builder._pointer), self._borrowed)

    def _count(self) -> tuple[int, int, int]:
        counts = self._shim.ffi.new("int32_t[3]")
        self._call("count", counts, counts + 1, counts + 2)
        return counts[0], counts[1], counts[2]

    def _tensor(self, verb: str, *arguments: int) -> TensorInfo:
        return tensor_info(self._shim, self._describe(verb, "tensor_info", *arguments))

    @property
    def inputs(self) -> tuple[TensorInfo, ...]:
        return tuple(self._tensor("describe_input", i) for i in range(self._count()[0]))

    @property
    def outputs(self) -> tuple[TensorInfo, ...]:
        return tuple(self._tensor("describe_output", i) for i in range(self._count()[1]))

    @property
    def layer_count(self) -> int:
        return self._count()[2]

    def layer(self, index: int) -> LayerInfo:
        raw = self._describe("describe_layer", "layer_info", index)
        return LayerInfo(self._shim.text(raw.name), raw.type, raw.input_count, raw.output_count)

    def layer_inputs(self, index: int) -> tuple[TensorInfo, ...]:
        return tuple(self._tensor("describe_layer_input", index, i) for i in range(self.layer(index).input_count))

    def layer_outputs(self, index: int) -> tuple[TensorInfo, ...]:
        return tuple(self._tensor("describe_layer_output", index, i) for i in range(self.layer(index).output_count))

    def mark_output(self, tensor: str) -> None:
        self._call("mark_output", encode(tensor))

    def unmark_output(self, tensor: str) -> None:
        self._call("unmark_output", encode(tensor))


class Config(Handle):
    """IBuilderConfig."""

    _noun = "config"

    def __init__(self, builder: Builder) -> None:
        super().__init__(*create("config", "config_create", builder._pointer))

    def set_flag(self, flag: BuilderFlag, on: bool = True) -> None:
        """Raises FeatureNotSupportedError where the library's version has no such flag."""
        self._call("set_flag", int(flag), int(on))

    def flag(self, flag: BuilderFlag) -> bool:
        return bool(self._ask("get_flag", "int32_t", int(flag)))

    def set_memory_pool(self, pool: MemoryPool, size: int) -> None:
        self._call("set_memory_pool", int(pool), size)

    def memory_pool(self, pool: MemoryPool) -> int:
        return int(self._ask("get_memory_pool", "uint64_t", int(pool)))

    @property
    def optimization_level(self) -> int:
        return int(self._ask("get_optimization_level", "int32_t"))

    @optimization_level.setter
    def optimization_level(self, level: int) -> None:
        self._call("set_optimization_level", level)

    @property
    def profiling_verbosity(self) -> int:
        return int(self._ask("get_profiling_verbosity", "int32_t"))

    @profiling_verbosity.setter
    def profiling_verbosity(self, verbosity: int) -> None:
        self._call("set_profiling_verbosity", verbosity)

    def set_max_aux_streams(self, streams: int) -> None:
        self._call("set_max_aux_streams", streams)

    def set_compute_capabilities(self, capabilities: Sequence[int]) -> None:
        """RTX only. 86 is 8.6; 0 is the GPU of this machine."""
        self._call("set_compute_capabilities", list(capabilities), len(capabilities))

    def set_timing_cache(self, data: bytes = b"") -> None:
        self._call("set_timing_cache", self._shim.ffi.from_buffer(data) if data else self._shim.null, len(data))

    def timing_cache(self) -> Blob:
        return blob_of(self, "get_timing_cache")

    def add_profile(self, profile: Profile) -> int:
        """The profile's index. Raises when the profile is not valid."""
        return int(self._ask("add_profile", "int32_t", profile._pointer))

    def set_progress(self, progress: Progress) -> None:
        self._call("set_progress", progress._pointer)


class Profile(Handle):
    """IOptimizationProfile: the range of shapes an engine is built for."""

    _noun = "profile"

    def __init__(self, builder: Builder) -> None:
        super().__init__(*create("profile", "profile_create", builder._pointer))

    def set_dimensions(self, tensor: str, selector: ProfileSelector, shape: Sequence[int]) -> None:
        self._call("set_dimensions", encode(tensor), int(selector), list(shape), len(shape))

    def set_shape_values(self, tensor: str, selector: ProfileSelector, values: Sequence[int]) -> None:
        self._call("set_shape_values", encode(tensor), int(selector), list(values), len(values))

    @property
    def is_valid(self) -> bool:
        return bool(self._ask("is_valid", "int32_t"))


@dataclass(frozen=True, slots=True)
class ParserError:
    description: str
    node: int
    node_name: str
    node_operator: str
    code: int
    file: str
    line: int
    function: str


class Parser(Handle):
    """The library's ONNX parser, filling ``network``. Refusals are UnsupportedModelError with node and operator."""

    _noun = "parser"

    def __init__(self, network: Network) -> None:
        self._borrowed = network._borrowed
        super().__init__(*create("parser", "parser_create", network._pointer), network._borrowed)

    def set_flag(self, flag: int, on: bool = True) -> None:
        self._call("set_flag", flag, int(on))

    def flag(self, flag: int) -> bool:
        return bool(self._ask("get_flag", "int32_t", flag))

    def parse(self, model: bytes, path: str | None = None) -> None:
        """``path`` says where the model came from, for external data."""
        self._call("parse", *self._model(model, path))

    def load_model(self, model: bytes, path: str | None = None) -> None:
        """First of three steps: ``load_model``, ``load_initializer`` for each, ``parse_loaded``.

        Raises FeatureNotSupportedError before TensorRT 10.13. The model's bytes are kept until the network is gone.
        """
        self._borrowed.append(model)
        self._call("load_model", *self._model(model, path))

    def load_initializer(self, name: str, data: np.ndarray[Any, Any]) -> None:
        """Give an external initializer by reference: the array is not copied, and kept until the network is gone."""
        if not data.flags.c_contiguous:
            raise ValueError(f"initializer {name!r} is not contiguous")
        view = self._shim.ffi.from_buffer(data.reshape(-1).view(np.uint8))
        self._borrowed.append(view)
        self._call("load_initializer", encode(name), view, data.nbytes)

    def parse_loaded(self) -> None:
        self._call("parse_loaded")

    def _model(self, model: bytes, path: str | None) -> tuple[Any, int, Any]:
        where = self._shim.null if path is None else encode(path)
        return self._shim.ffi.from_buffer(model), len(model), where

    def supports_model(self, model: bytes, path: str | None = None) -> tuple[bool, list[tuple[bool, list[int]]]]:
        """Whether the whole model is taken, and the parts without refused nodes: (flag, indices of nodes).

        TensorRT for RTX leaves refused nodes out of all parts, and its flag is only true for a whole model.
        """
        ffi = self._shim.ffi
        supported, count = ffi.new("int32_t *"), ffi.new("int64_t *")
        self._call("supports_model", *self._model(model, path), supported, count)
        nodes = ffi.new("int64_t **")
        parts: list[tuple[bool, list[int]]] = []
        for index in range(count[0]):
            taken, size = ffi.new("int32_t *"), ffi.new("int64_t *")
            self._call("describe_subgraph", index, taken, nodes, size)
            parts.append((bool(taken[0]), list(nodes[0][0 : size[0]])))
        return bool(supported[0]), parts

    def supports_operator(self, op_type: str) -> bool:
        return bool(self._ask("supports_operator", "int32_t", encode(op_type)))

    @property
    def errors(self) -> tuple[ParserError, ...]:
        text = self._shim.text
        found = []
        for index in range(self._ask("error_count", "int32_t")):
            raw = self._describe("describe_error", "parser_error_info", index)
            found.append(
                ParserError(
                    description=text(raw.description),
                    node=raw.node,
                    node_name=text(raw.node_name),
                    node_operator=text(raw.node_operator),
                    code=raw.code,
                    file=text(raw.file),
                    line=raw.line,
                    function=text(raw.function),
                )
            )
        return tuple(found)


@dataclass(frozen=True, slots=True)
class ProgressEvent:
    """A step of a build. ``kind``: "start" (of a phase with ``steps`` steps inside ``parent``), "step", "finish"."""

    kind: str
    phase: str
    parent: str = ""
    step: int = 0
    steps: int = 0


_KINDS = ("start", "step", "finish")
_POLL = 64


class Progress(Handle):
    """Follows a build from another thread: ``poll`` what happened, or ``cancel``."""

    _noun = "progress"

    def __init__(self) -> None:
        super().__init__(*create("progress", "progress_create"))

    def cancel(self) -> None:
        self._shim.lib.pynn_trt_progress_cancel(self._pointer)

    def poll(self) -> tuple[list[ProgressEvent], int]:
        """The events since the last poll, and how many were lost because nobody polled in time."""
        ffi = self._shim.ffi
        events, count, dropped = ffi.new("pynn_trt_progress_event[]", _POLL), ffi.new("int32_t *"), ffi.new("int32_t *")
        for event in events:
            event.struct_size = ffi.sizeof("pynn_trt_progress_event")
        found: list[ProgressEvent] = []
        lost = 0
        while True:
            self._call("poll", events, _POLL, count, dropped)
            found += _events(self._shim, events, count[0])
            lost += dropped[0]
            if count[0] < _POLL:
                return found, lost


def _events(native: Shim, events: Any, count: int) -> Iterable[ProgressEvent]:
    for i in range(count):
        raw, text = events[i], native.text
        yield ProgressEvent(_KINDS[raw.kind], text(raw.phase), text(raw.parent), raw.step, raw.steps)
