"""Graphs with named dimensions become one ONNX model: every operator at several sizes against its static graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pynn
from pynn.backends.base import CompileOptions
from pynn.backends.trt_build import check_model
from pynn.builder import GraphBuilder
from pynn.converter import OnnxGraph, backend_passes, lower_graph, to_onnx
from pynn.errors import ValidationError
from pynn.graph import Graph, Operand
from pynn.native import Library
from pynn.ops.dimensions import bind_dimensions
from pynn.ops.registry import operators
from pynn.types import DataType

from ..ops.support import quick

Array = np.ndarray[Any, Any]
SIZES = (1, 3, 8)

_POOL = "T(N, 3, 9, 8), window_dimensions=[2, 3], strides=[2, 2], padding=[1, 0, 1, 1]"
EXAMPLES = {
    "softmax": "T(N, 3), axis=0",
    "clamp": "T(N, 3), min_value=0, max_value=6",
    "linear": "T(N, 3), alpha=2.0, beta=1.0",
    "prelu": "T(N, 3), T(1, 3)",
    "conv2d": "T(N, 3, 8, 8), W(4, 3, 3, 3), bias=W(4), padding=[1, 1, 1, 1], strides=[2, 2]",
    "conv_transpose2d": "T(N, 3, 8, 8), W(3, 4, 2, 2), bias=W(4), strides=[2, 2]",
    "average_pool2d": _POOL,
    "l2_pool2d": _POOL,
    "max_pool2d": _POOL,
    "batch_normalization": "T(N, 3, 8, 8), W(3), W(3), scale=W(3), bias=W(3)",
    "instance_normalization": "T(N, 3, 8, 8), scale=W(3), bias=W(3)",
    "layer_normalization": "T(N, 8), scale=W(8), bias=W(8)",
    "arg_min": "T(N, 3), axis=0",
    "arg_max": "T(N, 3), axis=0",
    "cumulative_sum": "T(N, 3), axis=0, reversed=True",
    "gemm": "T(N, 4), W(3, 4), c=W(3), b_transpose=True, alpha=0.5",
    "matmul": "T(N, 2, 4), W(4, 3)",
    "gru": "T(2, N, 4), W(1, 9, 4), W(1, 9, 3), steps=2, hidden_size=3, return_sequence=True",
    "gru_cell": "T(N, 4), W(9, 4), W(9, 3), T(N, 3), hidden_size=3",
    "lstm": "T(2, N, 4), W(2, 12, 4), W(2, 12, 3), steps=2, hidden_size=3, direction='both', peephole_weight=W(2, 9)",
    "lstm_cell": "T(N, 4), W(12, 4), W(12, 3), T(N, 3), T(N, 3), hidden_size=3",
    "cast": "T(N, 3), 'int32'",
    "dequantize_linear": "T(N, 8), scale=float32(1, 4), zero_point=T(1, 4)",
    "quantize_linear": "float32(N, 8), scale=float32(1, 8), zero_point=T(1, 8)",
    "concat": "[T(N, 3), T(2, 3), T(N, 3)], axis=0",
    "expand": "T(N, 1, 3), [N, 2, 3]",
    "pad": "T(N, 3), [0, 1], [2, 2]",
    "reshape": "T(N, 6), [2, N, 3]",
    "resample2d": "T(N, 3, 8, 8), mode='linear', scales=[2.0, 2.0]",
    "reverse": "T(N, 3)",
    "slice": "T(N, 6), [0, 1], [N, 4], strides=[2, 2]",
    "split": "T(N, 6), [2, 4], axis=1",
    "tile": "T(N, 3), [2, 1]",
    "triangular": "T(N, 3, 3), diagonal=1",
    "where": "uint8(N, 3), T(1, 3), T(N, 1)",
    "gather": "T(N, 3), int32(4)",
    "gather_elements": "T(4, N), int32(2, N)",
    "gather_nd": "T(N, 3), int32(2, 2)",
    "scatter_elements": "T(N, 3), int32(N, 3), T(N, 3), axis=1",
    "scatter_nd": "T(N, 3), int32(2, 1), T(2, 3)",
}
"""Arguments by method; T is an input of the operator's first data type, W a constant of it, N the named dimension."""
VARIED = {"where": "true_value", "quantize_linear": "zero_point"}


def example(method: str, n: int | str) -> Graph:
    """The example with ``n`` elements, or with a name in their place."""
    operator = next(one for one in operators.values() if one.method == method)
    types = next(p.types for p in operator.params if p.name == VARIED.get(method, operator.params[0].name))
    first = next(data_type for data_type in DataType if data_type in types)
    builder, serial = GraphBuilder(), count()
    size = builder.input("n", [n], "float32").shape[0]

    def given(of: str, *, constant: bool = False) -> Callable[..., Operand]:
        def operand(*shape: int) -> Operand:
            if constant:
                return builder.constant(values(shape, of, 7))
            return builder.input(f"x{next(serial)}", shape, of)

        return operand

    names: dict[str, Any] = {member.value: given(member.value) for member in DataType}
    names |= {"T": given(first.value), "W": given(first.value, constant=True), "N": size}
    arguments = EXAMPLES.get(method) or ", ".join("T(N, 3)" for p in operator.params if not p.optional)
    made = eval(
        f"method({arguments})", {"__builtins__": {}, "True": True}, names | {"method": getattr(builder, method)}
    )
    results = made if isinstance(made, list) else [made]
    return builder.finish({f"y{i}": result for i, result in enumerate(results)})


def values(shape: Sequence[int], data_type: str, seed: int) -> Array:
    rng = np.random.default_rng(seed)
    if "float" in data_type:
        return rng.uniform(0.1, 1, tuple(shape)).astype(data_type)
    return rng.integers(0, 3, tuple(shape)).astype(data_type)


def same_as_static(graph: Graph, sets: Sequence[Mapping[str, int]]) -> pynn.Executable:
    """Run ``graph`` at each of the sizes, and its static graph too."""
    model = pynn.compile(graph, backend="onnxruntime")
    for sizes in sets:
        bound = bind_dimensions(graph, sizes)
        feeds = {name: values(x.shape, x.data_type.value, 3) for name, x in bound.inputs.items()}
        with pynn.compile(bound, backend="onnxruntime") as static:
            wanted = static.run(feeds)
        got = model.run(feeds)
        for name, array in wanted.items():
            assert got[name].dtype == array.dtype
            np.testing.assert_allclose(got[name], array, rtol=1e-6, atol=1e-7, err_msg=f"{name} with {sizes}")
    return model


def reshape_targets(graph: OnnxGraph) -> list[list[int]]:
    return [graph.initializers[n.inputs[1]].tolist() for n in graph.nodes if n.op_type == "Reshape"]


# -- every operator -------------------------------------------------------------------------

every_operator = pytest.mark.parametrize("method", [operator.method for operator in operators.values()])


@every_operator
def test_operator_at_several_sizes(method: str) -> None:
    graph = example(method, "n")
    assert graph.dimensions == ("n",)
    onnx.checker.check_model(to_onnx(graph).to_proto(), full_check=True)
    same_as_static(graph, [{"n": n} for n in SIZES])
    for n in SIZES:
        static = example(method, n)
        bound = bind_dimensions(graph, {"n": n})
        assert [x.shape for x in bound.outputs.values()] == [x.shape for x in static.outputs.values()]


@every_operator
@pytest.mark.trt
def test_tensorrt_parses_operator(method: str, newest_library: Library) -> None:
    model = to_onnx(example(method, "n"), backend_passes("tensorrt", newest_library.info.version))
    check_model(model, newest_library, CompileOptions(shapes={"n": (1, 4, 8)}))


# -- what is made of the sizes --------------------------------------------------------------


def test_images_of_any_size() -> None:
    b = GraphBuilder()
    x = b.input("x", ["batch", 3, "height", "width"], "float32")
    w = b.constant(values((4, 3, 3, 3), "float32", 1))
    y = b.relu(b.conv2d(x, w, padding=[1, 1, 1, 1], strides=[2, 2]))
    bigger = b.resample2d(y, scales=[2, 2])
    pooled = b.max_pool2d(bigger, window_dimensions=[2, 2], strides=[2, 2])
    rows = b.reshape(y, [x.shape[0], 4, y.shape[2] * y.shape[3]])
    graph = b.finish({"bigger": bigger, "pooled": pooled, "rows": b.transpose(rows, permutation=[0, 2, 1])})
    sets = [
        {"batch": 1, "height": 8, "width": 16},
        {"batch": 5, "height": 7, "width": 4},
        {"batch": 2, "height": 33, "width": 2},
    ]
    with same_as_static(graph, sets) as model:
        assert model.outputs[0].shape == ("batch", 4, None, None)
        assert model.outputs[2].shape == ("batch", None, 4)


def test_attention_over_a_sequence() -> None:
    b = GraphBuilder()
    ids = b.input("ids", ["batch", "seq"], "int64")
    mask = b.input("mask", ["batch", "seq"], "float32")
    table, places = b.constant(values((10, 8), "float32", 1)), b.constant(values((64, 8), "float32", 2))
    batch, seq = ids.shape
    x = b.add(b.gather(table, ids), b.slice(places, [0, 0], [seq, 8]))
    heads = b.transpose(b.reshape(x, [batch, seq, 2, 4]), permutation=[0, 2, 1, 3])
    scores = b.matmul(heads, b.transpose(heads, permutation=[0, 1, 3, 2]))
    scores = b.add(scores, b.expand(b.reshape(mask, [batch, 1, 1, seq]), [batch, 2, seq, seq]))
    mixed = b.matmul(b.softmax(scores, 3), heads)
    out = b.layer_normalization(b.reshape(b.transpose(mixed, permutation=[0, 2, 1, 3]), [batch, seq, 8]), axes=[2])
    graph = b.finish({"out": out, "last": b.slice(out, [0, seq - 1, 0], [batch, 1, 8])})
    with same_as_static(graph, [{"batch": n, "seq": s} for n, s in ((1, 1), (1, 64), (3, 5), (8, 2))]) as model:
        assert model.outputs[0].shape == ("batch", "seq", 8) and model.outputs[1].shape == ("batch", 1, 8)


def test_pieces_of_named_sizes() -> None:
    b = GraphBuilder()
    x, y = b.input("x", ["n", 3], "float32"), b.input("y", ["m", 3], "float32")
    both = b.concat([x, y, b.constant(values((2, 3), "float32", 1))], axis=0)
    first, second, third = b.split(both, [x.shape[0], y.shape[0] + 1, 1], axis=0)
    graph = b.finish({"first": first, "second": second, "third": third, "back": b.reverse(both)})
    same_as_static(graph, [{"n": 1, "m": 1}, {"n": 4, "m": 2}, {"n": 2, "m": 9}])


def test_indices_are_limited_by_the_size_at_run() -> None:
    b = GraphBuilder()
    x, indices = b.input("x", ["n", 3], "float32"), b.input("indices", ["k"], "int32")
    pairs = b.input("pairs", ["k", 2], "int64")
    graph = b.finish({"rows": b.gather(x, indices), "points": b.gather_nd(x, pairs)})
    with pynn.compile(graph, backend="onnxruntime") as model:
        for n in (1, 4):
            data = values((n, 3), "float32", n)
            wild = np.array([-100, -1, 0, 3, 100], np.int32)
            got = model.run({"x": data, "indices": wild, "pairs": np.stack([wild, wild], 1).astype(np.int64)})
            rows = np.clip(np.where(wild < 0, wild + n, wild), 0, n - 1)
            columns = np.clip(np.where(wild < 0, wild + 3, wild), 0, 2)
            np.testing.assert_array_equal(got["rows"], data[rows])
            np.testing.assert_array_equal(got["points"], data[rows, columns])


def test_reshapes_calculate_nothing_where_minus_one_and_zero_do() -> None:
    b = GraphBuilder()
    x = b.input("x", ["n", "m", 6], "float32")
    n, m = x.shape[:2]
    y = b.reshape(b.reshape(x, [n, m, 2, 3]), [n, m * 6])
    graph = lower_graph(b.finish({"y": y, "z": b.reshape(x, [n * m * 6])}))
    assert reshape_targets(graph) == [[0, 0, 2, 3], [0, -1], [-1]]
    assert {node.op_type for node in graph.nodes} == {"Reshape"}
    assert graph.dims["x"] == ("n", "m", 6) and graph.dims["y"] == ("n", None)


def test_sizes_are_read_from_an_input_once() -> None:
    b = GraphBuilder()
    x = b.input("x", [1, "n"], "float32")
    y = [b.expand(b.constant(np.ones((1, 1), np.float32)), [rows, x.shape[1]]) for rows in (2, 3)]
    graph = lower_graph(b.finish({"y": b.concat([b.add(y[0], x), b.add(y[1], x)], axis=0)}))
    assert [node.op_type for node in graph.nodes].count("Shape") == 1


def test_a_name_in_a_scalar_of_another_type_and_in_a_filled_tensor() -> None:
    """int32 indices are limited by scalars; an LSTM with peepholes begins with zeros of the batch's size."""
    graph = lower_graph(example("gather_elements", "n"))
    assert "Squeeze" not in {node.op_type for node in graph.nodes}
    b = GraphBuilder()
    x, indices = b.input("x", ["n"], "float32"), b.input("indices", [4], "int32")
    ops = [node.op_type for node in lower_graph(b.finish({"y": b.gather(x, indices)})).nodes]
    assert ops[0] == "Shape" and "Squeeze" in ops and "Cast" in ops
    assert [node.op_type for node in lower_graph(example("lstm", "n")).nodes][:2] == ["Shape", "Concat"]


def test_static_graphs_are_lowered_once() -> None:
    graph = lower_graph(example("reshape", 4))
    assert not graph.dims and all(node.origin != "named dimensions" for node in graph.nodes)


@pytest.mark.parametrize("rows", [60, 1000])
def test_quotients_that_are_mostly_equal_are_told_apart(rows: int) -> None:
    """height // 7 and (height - 1) // 7 differ at one size in seven; a table of 60 rows leaves few sizes to look at."""
    b = GraphBuilder()
    x = b.input("x", [1, 1, "height", 4], "float32")
    one, seven = (b.conv2d(x, b.constant(values((1, 1, k, 1), "float32", k)), strides=[7, 1]) for k in (1, 7))
    made = [b.expand(b.constant(np.ones((1, 1), np.float32)), [y.shape[2], 2]) for y in (one, seven)]
    assert [str(y.shape[0]) for y in made] == ["(height - 1)//7 + 1", "height//7"]
    table = b.slice(b.constant(values((rows, 2), "float32", 1)), [0, 0], [x.shape[2], 2])
    graph = b.finish({"first": made[0], "second": made[1], "table": table, "sum": b.reduce_sum(x)})
    same_as_static(graph, [{"height": h} for h in (*range(7, 15), 42, 49, 50)])


@given(st.data())
@quick
def test_random_stacks_of_windows(data: st.DataObject) -> None:
    """Convolutions and pools of any kernel and stride, then sizes calculated from what is left."""
    b = GraphBuilder()
    x = y = b.input("x", ["batch", 1, "height", 6], "float32")
    for i in range(data.draw(st.integers(1, 3))):
        kernel, stride = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 9))
        if data.draw(st.booleans()):
            pad = data.draw(st.integers(0, 2))
            w = b.constant(values((1, 1, kernel, 1), "float32", i))
            y = b.conv2d(y, w, strides=[stride, 1], padding=[pad, 0, 0, 0])
        else:
            y = b.max_pool2d(y, window_dimensions=[kernel, 1], strides=[stride, 1])
    batch, rows = y.shape[0], y.shape[2]
    spread = b.expand(b.constant(np.ones((1, 1, 1), np.float32)), [batch, rows + 1, 2 * rows])
    graph = b.finish({"y": b.reshape(y, [batch, rows, 6]), "spread": spread, "x": b.reduce_sum(x)})
    sets = []
    for _ in range(3):
        sizes = {"batch": data.draw(st.integers(1, 3)), "height": data.draw(st.integers(1, 200))}
        try:
            bind_dimensions(graph, sizes)
        except ValidationError:
            continue
        sets.append(sizes)
    same_as_static(graph, sets)


# -- what ONNX fixes ------------------------------------------------------------------------


def refused(graph: Graph, *parts: str) -> None:
    with pytest.raises(ValidationError) as caught:
        to_onnx(graph, backend_passes("onnxruntime", "1.23.0"))
    assert all(part in str(caught.value) for part in parts), str(caught.value)


def test_pooling_rounded_up_needs_a_fixed_size() -> None:
    b = GraphBuilder()
    x = b.input("x", ["batch", 3, "height", 8], "float32")
    y = b.average_pool2d(x, window_dimensions=[2, 2], strides=[2, 2], output_shape_rounding="ceil", label="half")
    graph = b.finish({"y": y})
    refused(graph, "averagePool2d 'half': dimension 'height' may not decide", "shapes={'height': N}")
    with pynn.compile(graph, backend="onnxruntime", shapes={"height": 7}) as model:
        for n in (1, 4):
            assert model.run({"x": np.ones((n, 3, 7, 8), np.float32)})["y"].shape == (n, 3, 4, 4)


def test_steps_that_are_written_out_need_a_fixed_number() -> None:
    b = GraphBuilder()
    x = b.input("x", ["steps", 2, 4], "float32")
    weights = {
        name: b.constant(values(shape, "float32", 1))
        for name, shape in (("weight", (1, 12, 4)), ("recurrent_weight", (1, 12, 3)))
    }
    peepholes = b.constant(values((1, 9), "float32", 2))
    steps = x.shape[0]
    plain = b.lstm(x, **weights, steps=steps, hidden_size=3, return_sequence=True)
    graph = b.finish(dict(zip(("hidden", "cell", "all"), plain, strict=True)))
    with same_as_static(graph, [{"steps": n} for n in (1, 4)]) as model:
        assert model.outputs[2].shape == ("steps", 1, 2, 3)
    b = GraphBuilder()
    x = b.input("x", ["steps", 2, 4], "float32")
    weights = {name: b.constant(w._data) for name, w in weights.items()}
    y = b.lstm(x, **weights, steps=x.shape[0], hidden_size=3, peephole_weight=b.constant(peepholes._data))
    refused(b.finish({"y": y[0]}), "lstm", "'steps' may not decide")


def test_the_dimension_at_fault_is_named() -> None:
    b = GraphBuilder()
    x = b.input("x", ["batch", 3, "height", "width"], "float32")
    y = b.max_pool2d(x, window_dimensions=[2, 2], strides=[1, 2], output_shape_rounding="ceil")
    refused(b.finish({"y": y}), "dimension 'width' may not decide")


def test_a_reversed_dimension_ends_before_its_first_element() -> None:
    """By a constant: TensorRT takes a calculated -(size + 1) for the last element."""
    b = GraphBuilder()
    x = b.input("x", ["n", 3], "float32")
    graph = lower_graph(b.finish({"y": b.reverse(x)}))
    (node,) = graph.nodes
    assert graph.initializers[node.inputs[2]].tolist() == [-(2**63) + 1] * 2
