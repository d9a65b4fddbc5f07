"""What the tests of TensorRT's passes share: a graph through all passes, run as it stands, built by TensorRT."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from copy import deepcopy
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx.reference import ReferenceEvaluator

from pynn.backends.trt_build import build_plan
from pynn.builder import GraphBuilder
from pynn.converter import OnnxGraph, lower_graph
from pynn.converter.passes import Pass, PassRecord, backend_passes, run_passes
from pynn.converter.serialize import element_type_name, to_model
from pynn.graph import Operand
from pynn.native import Library

Array = np.ndarray[Any, Any]
NARROW = ("int8", "uint8", "uint32", "uint64")
INTEGERS = (*NARROW, "int32", "int64")
PASSES = backend_passes("tensorrt", "1.6.1.120")
BOUND = {"float32", "float16", "int32", "int64", "bool", "uint8", "int8"}


class Legal:
    """A WebNN graph lowered and rewritten. ``ops`` are the ONNX operators left, in order."""

    def __init__(
        self,
        build: Callable[..., Any],
        inputs: Mapping[str, Array],
        constants: Collection[str] = (),
        passes: Collection[Pass] | None = None,
    ) -> None:
        self.passes = PASSES if passes is None else passes
        builder = GraphBuilder()
        operands = [
            builder.constant(a) if name in constants else builder.input(name, a.shape, a.dtype.name)
            for name, a in inputs.items()
        ]
        built = build(builder, *operands)
        if isinstance(built, Mapping):
            named = dict(built)
        else:
            named = {"out": built} if isinstance(built, Operand) else {f"out{i}": x for i, x in enumerate(built)}
        graph = builder.finish(named)
        self.feeds = {name: inputs[name] for name in graph.inputs}
        self.graph = lower_graph(graph)
        self.records: tuple[PassRecord, ...] = run_passes(self.graph, self.passes)
        check(self.graph)

    @property
    def ops(self) -> list[str]:
        return [node.op_type for node in self.graph.nodes]

    def run(self, reference: bool = False) -> list[Array]:
        """The outputs in the user's types, by ONNX Runtime unoptimised; tests/gpu puts a GPU in its place."""
        return self.run_on_cpu(reference)

    def run_on_cpu(self, reference: bool = False) -> list[Array]:
        """What the back end's boundary does with carriers is done here; ONNX Runtime's own passes answer its faults."""
        session: Any
        if reference:
            session = ReferenceEvaluator(to_model(self.graph).to_proto())
        else:
            judged = deepcopy(self.graph)
            run_passes(judged, backend_passes("onnxruntime", ort.__version__))
            options = ort.SessionOptions()
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
            options.log_severity_level = 4
            session = ort.InferenceSession(to_model(judged).to_bytes(), options)
        feeds = {}
        for name, array in self.feeds.items():
            value = self.graph.inputs[name]
            feeds[value] = np.ascontiguousarray(array).view(self.graph.values[value].data_type).reshape(array.shape)
        with np.errstate(all="ignore"):
            results = session.run(list(self.graph.outputs.values()), feeds)
        return [
            np.asarray(array).view(self.graph.carriers.get(value, array.dtype))
            for value, array in zip(self.graph.outputs.values(), results, strict=True)
        ]

    def build(self, library: Library) -> None:
        """An engine for compute capability 8.6, whose inputs and outputs have the types that the graph declares."""
        build_plan(to_model(self.graph), library, compute_capabilities=(86,))


def check(graph: OnnxGraph) -> None:
    """Valid ONNX whose declared types and shapes are those of shape inference, with nothing that TensorRT does not take
    at its boundary or inside."""
    proto = to_model(graph).to_proto()
    onnx.checker.check_model(proto, full_check=True)
    inferred = onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True, data_prop=True)
    for info in (*inferred.graph.value_info, *inferred.graph.output):
        tensor, declared = info.type.tensor_type, graph.values[info.name]
        assert element_type_name(tensor.elem_type) == declared.data_type, info
        assert tuple(dim.dim_value for dim in tensor.shape.dim) == declared.shape, info
    names = [node.name for node in graph.nodes]
    assert len(set(names)) == len(names)
    assert {graph.values[v].data_type for v in (*graph.inputs.values(), *graph.outputs.values())} <= BOUND
    entrances = set(graph.inputs.values())
    exits = set(graph.outputs.values())
    for name, tensor in graph.values.items():
        if tensor.data_type in ("uint8", "int8") and any(name in node.outputs for node in graph.nodes):
            assert name in exits, f"{tensor!r} is inside"
    for node in graph.nodes:
        for name in node.inputs:
            if name and graph.values[name].data_type in ("uint8", "int8", "int4"):
                assert name in entrances or node.op_type == "DequantizeLinear", node
    assert all(
        tensor.data_type not in ("uint32", "uint64") for name, tensor in graph.values.items() if _used(graph, name)
    )


def _used(graph: OnnxGraph, name: str) -> bool:
    return any(name in (*node.inputs, *node.outputs) for node in graph.nodes)


def edges(data_type: str, count: int = 120, seed: int = 0) -> tuple[Array, Array]:
    """Two vectors: every pair of the type's interesting numbers, above the sign bit too, then random ones."""
    info = np.iinfo(data_type)
    middle = info.max // 2
    special = sorted({info.min, info.min + 1, 0, 1, 2, 3, 7, middle - 1, middle, middle + 1, info.max - 1, info.max})
    points = np.array(special, dtype=data_type)
    rng = np.random.default_rng(seed)
    a, b = (rng.integers(info.min, info.max, count, data_type, endpoint=True) for _ in range(2))
    return np.concatenate([np.repeat(points, len(points)), a]), np.concatenate([np.tile(points, len(points)), b])


def exact(legal: Legal, *expected: Array, reference: bool = False) -> None:
    """Bit for bit. ``reference``: by onnx's evaluator, where ONNX Runtime's sums of large integers are not exact."""
    for got, want in zip(legal.run(reference), expected, strict=True):
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got, want)


def wrapped(values: Any, data_type: str) -> Array:
    """Python integers, modulo two to the bits of ``data_type``."""
    bits = np.dtype(data_type).itemsize * 8
    flat = [int(v) % 2**bits for v in np.asarray(values, dtype=object).ravel()]
    return np.array(flat, dtype=np.uint64).astype(f"u{bits // 8}").view(data_type).reshape(np.shape(values))


def passes_of(library: Library) -> tuple[Pass, ...]:
    return backend_passes("tensorrt", library.info.version)
