"""A TensorRT that refuses what it is told to, and lets ONNX Runtime run the rest; a real one that only builds."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
import pytest

import pynn
from pynn.backends.base import Array, Backend, CompileOptions, Executable, Probe
from pynn.backends.ort import OrtBackend
from pynn.backends.partition_search import Partitioned, partition
from pynn.backends.trt_build import build_plan, check_model
from pynn.converter import OnnxModel, backend_passes, to_onnx
from pynn.errors import EngineBuildError, UnsupportedModelError
from pynn.graph import Graph, Operand
from pynn.native import Library

Build = Callable[[pynn.GraphBuilder], dict[str, Operand]]
ORT = OrtBackend(use_gpu=False)
USABLE = Probe("tensorrt", "Fake", True, "a fake of TensorRT-RTX 1.6.1", details={"version": "1.6.1.120"})


class Wrapped(Executable):
    """Another back end's executable as TensorRT's; remembers what it was given, and whether it was closed."""

    backend = "tensorrt"

    def __init__(self, inner: Executable) -> None:
        super().__init__(inner.inputs, inner.outputs)
        self.inner = inner
        self.notes = ("a fake",)
        self.given: list[dict[str, Array]] = []
        self.made: list[dict[str, Array]] = []

    def _run(self, arrays: dict[str, Array], out: Mapping[str, Array] | None) -> dict[str, Array]:
        self.given.append(dict(arrays))
        self.made.append(self.inner.run(arrays, out=out))
        return dict(self.made[-1])

    @property
    def stats(self) -> Mapping[str, Any]:
        return {"runs": len(self.given)}

    def _close(self) -> None:
        self.inner.close()


class FakeTensorRT(Backend):
    """Refuses every model with a node of an operator or a label in ``refused``.

    ``parse`` says whether the parser finds out or only the build; ``names`` whether the error says which node it is;
    ``pairs`` are refused only when both of them are in one model.
    """

    name = "tensorrt"

    def __init__(self, *refused: str, parse: bool = True, names: bool = True, pairs: tuple[str, ...] = ()) -> None:
        self.refused, self.parse, self.names, self.pairs = refused, parse, names, pairs
        self.checks = self.compiles = 0
        self.executables: list[Wrapped] = []

    def probe(self) -> tuple[Probe, ...]:
        return (USABLE,)

    def _fault(self, model: OnnxModel) -> str:
        nodes = [node.name for node in onnx.load_model_from_string(model.proto).graph.node]
        nodes = [name for name in nodes if not re.search("/(enter|leave)/", name)]  # named after values, not operators
        hits = {word: [name for name in nodes if _speaks_of(name, word)] for word in (*self.refused, *self.pairs)}
        for word in self.refused:
            if hits[word]:
                return hits[word][0]
        return hits[self.pairs[0]][0] if self.pairs and all(hits[word] for word in self.pairs) else ""

    def check(self, model: OnnxModel, options: CompileOptions) -> None:
        self.checks += 1
        self._parse(model)

    def _parse(self, model: OnnxModel) -> None:
        fault = self._fault(model) if self.parse else ""
        if fault and self.names:
            raise UnsupportedModelError(f"the parser dislikes {fault}", node=fault, op_type="Foo")
        if fault:
            raise UnsupportedModelError("the parser dislikes something")

    def compile(self, model: OnnxModel, options: CompileOptions) -> Executable:
        self._parse(model)
        self.compiles += 1
        fault = self._fault(model)
        if fault:
            raise EngineBuildError(f"no tactic for {fault}" if self.names else "no tactic")
        self.executables.append(Wrapped(OrtBackend(use_gpu=False).compile(model, options)))
        return self.executables[-1]


class RealParser(Backend):
    """A real library on a machine without a GPU: it checks and builds, and ONNX Runtime runs what it built."""

    name = "tensorrt"

    def __init__(self, library: Library) -> None:
        self.library = library

    def probe(self) -> tuple[Probe, ...]:
        info = self.library.info
        return (Probe("tensorrt", info.title, True, info.title, details={"version": info.version}),)

    def check(self, model: OnnxModel, options: CompileOptions) -> None:
        check_model(model, self.library, options)

    def compile(self, model: OnnxModel, options: CompileOptions) -> Executable:
        build_plan(model, self.library, options, (86,))
        return Wrapped(OrtBackend(use_gpu=False).compile(model, options))


def _speaks_of(name: str, word: str) -> bool:
    return any(re.fullmatch(rf"{re.escape(word)}(_\d+)?", part) for part in name.split("/"))


def arrays_of(specs: Mapping[str, Any], seed: int = 0) -> dict[str, np.ndarray[Any, Any]]:
    """Random arrays for inputs by name: anything with ``data_type`` and ``shape``."""
    rng = np.random.default_rng(seed)
    made = {}
    for name, spec in specs.items():
        dtype = np.dtype(str(spec.data_type))
        shape = tuple(spec.shape)
        values = rng.standard_normal(shape) if dtype.kind == "f" else rng.integers(0, 100, shape)
        made[name] = np.asarray(values, dtype=dtype)
    return made


def graph_of(build: Build) -> Graph:
    builder = pynn.GraphBuilder()
    return builder.finish(build(builder))


def lower(backend: Any, graph: Graph) -> OnnxModel:
    return to_onnx(graph, backend_passes(backend.name, backend.version()))


def run_whole(graph: Graph, arrays: dict[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
    with ORT.compile(lower(ORT, graph), CompileOptions()) as executable:
        return executable.run(arrays)


def refusal_of(backend: Any, graph: Graph) -> pynn.PynnError:
    with pytest.raises((UnsupportedModelError, EngineBuildError)) as caught:
        backend.compile(lower(backend, graph), CompileOptions())
    error = caught.value
    assert isinstance(error, pynn.PynnError)
    return error


def in_parts(graph: Graph, backend: Any, min_work: int = 0) -> Partitioned:
    refusal = refusal_of(backend, graph)
    return partition(graph, backend, ORT, lower, CompileOptions(), refusal, min_work=min_work)


def agree(graph: Graph, executable: Executable, seed: int = 0) -> None:
    arrays = arrays_of(graph.inputs, seed)
    expected, found = run_whole(graph, arrays), executable.run(arrays)
    assert list(found) == list(graph.outputs)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        if array.dtype.kind == "f":
            np.testing.assert_allclose(found[name], array, rtol=1e-5, atol=1e-6)
        else:
            np.testing.assert_array_equal(found[name], array)
