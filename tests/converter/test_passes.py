"""The pass framework: records, replaced values keep their names, mistakes of a pass are caught."""

from __future__ import annotations

import numpy as np
import pytest

from pynn.builder import GraphBuilder
from pynn.converter import OnnxGraph, OnnxNode, backend_passes, lower_graph, to_onnx
from pynn.converter.passes import Pass, Rewriter, graph_pass, rewrite, run_passes
from pynn.graph import Graph
from pynn.ops.emitter import Tensor


def add_then_relu() -> Graph:
    b = GraphBuilder()
    x = b.input("x", [2, 3], "float32")
    return b.finish({"y": b.relu(b.add(x, x, label="twice")), "z": b.split(x, [1, 2], axis=1)[1]})


@graph_pass
def doubles_by_mul(graph: OnnxGraph) -> None:
    """Add of equal operands is unknown to the library of this test, in all versions."""

    def rule(r: Rewriter, node: OnnxNode) -> Tensor | None:
        if node.op_type != "Add":
            return None
        return r.op("Mul", r.value(node.inputs[0]), r.scalar(2, "float32"))

    rewrite(graph, rule)


def test_replaced_values_keep_their_names_and_origin() -> None:
    graph = lower_graph(add_then_relu())
    old = next(node for node in graph.nodes if node.op_type == "Add")
    run_passes(graph, [doubles_by_mul])
    new = next(node for node in graph.nodes if node.op_type == "Mul")
    assert (new.outputs, new.origin) == (old.outputs, old.origin)
    assert new.name.startswith(old.name + "/")
    made = [name for node in graph.nodes for name in node.outputs]
    assert len(made) == len(set(made))
    assert set(made) | set(graph.inputs.values()) | set(graph.initializers) == set(graph.values)


def test_the_record_says_what_changed_where() -> None:
    model = to_onnx(add_then_relu(), [doubles_by_mul])
    assert [str(record) for record in model.rewrites] == ["doubles_by_mul: add 'twice': Add -> Mul"]
    assert to_onnx(add_then_relu()).rewrites == ()


def test_a_pass_without_effect_leaves_no_record() -> None:
    model = to_onnx(add_then_relu(), [doubles_by_mul, doubles_by_mul])
    assert len(model.rewrites) == 1


def test_a_pass_tells_its_limit() -> None:
    assert doubles_by_mul.limit.startswith("Add of equal operands")

    def silent(graph: OnnxGraph) -> None:
        pass

    with pytest.raises(ValueError, match="docstring"):
        graph_pass(silent)


def test_a_replacement_of_another_type_or_shape_is_refused() -> None:
    def to_half(r: Rewriter, node: OnnxNode) -> Tensor | None:
        return r.cast(r.value(node.inputs[0]), "float16") if node.op_type == "Relu" else None

    with pytest.raises(AssertionError, match="replaced"):
        rewrite(lower_graph(add_then_relu()), to_half)


def test_a_retyped_value_is_recorded() -> None:
    def to_half(r: Rewriter, node: OnnxNode) -> Tensor | None:
        return r.cast(r.value(node.inputs[0]), "float16") if node.op_type == "Relu" else None

    graph = lower_graph(add_then_relu())
    rewrite(graph, to_half, retype=True)
    assert graph.values[graph.outputs["y"]].data_type == "float16"


def test_a_result_that_is_an_input_gets_an_identity() -> None:
    def skip(r: Rewriter, node: OnnxNode) -> Tensor | None:
        return r.value(node.inputs[0]) if node.op_type == "Relu" else None

    graph = lower_graph(add_then_relu())
    rewrite(graph, skip)
    assert graph.nodes[-2].op_type == "Identity" or graph.nodes[-1].op_type == "Identity"
    assert any(graph.outputs["y"] in node.outputs for node in graph.nodes)


def test_several_outputs_are_replaced_in_order() -> None:
    def swap_split(r: Rewriter, node: OnnxNode) -> list[Tensor | None] | None:
        if node.op_type != "Split":
            return None
        outputs = [(r.value(name).data_type, r.value(name).shape) for name in node.outputs]
        return list(r.multi("Split", *r.inputs(node), outputs=outputs, **node.attributes))

    graph = lower_graph(add_then_relu())
    before = [node.outputs for node in graph.nodes if node.op_type == "Split"]
    rewrite(graph, swap_split)
    assert [node.outputs for node in graph.nodes if node.op_type == "Split"] == before


@pytest.mark.parametrize(("backend", "version"), [("onnxruntime", "1.32.0"), ("tensorrt", "1.6.1.120")])
def test_every_pass_of_a_back_end_names_itself_and_its_limit(backend: str, version: str) -> None:
    passes = backend_passes(backend, version)
    assert passes and all(isinstance(one, Pass) and one.name and one.limit for one in passes)
    assert len({one.name for one in passes}) == len(passes)


def test_an_unknown_back_end_is_refused() -> None:
    with pytest.raises(ValueError, match="abacus"):
        backend_passes("abacus", "1")


def test_weights_are_not_copied_by_passes() -> None:
    b = GraphBuilder()
    x = b.input("x", [1, 1024], "float32")
    weight = b.constant(np.ones((1024, 1024), np.float32))
    graph = b.finish({"y": b.sigmoid(b.matmul(x, weight))})
    model = to_onnx(graph, backend_passes("onnxruntime", "1.32.0"))
    (kept,) = model.weights.values()
    assert np.shares_memory(kept, graph.constants[0]._data)
