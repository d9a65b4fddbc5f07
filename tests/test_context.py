"""MLContext, MLGraph, MLGraphBuilder: results, the order of errors, lifetimes and loss."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import pynn
from pynn import InputError, InvalidStateError, MLContext, MLGraph, MLTensor, ValidationError

pytestmark = pytest.mark.ort

F32 = np.float32


@pytest.fixture
def context() -> Iterator[MLContext]:
    with pynn.ML().create_context(backend="onnxruntime") as made:
        yield made


@pytest.fixture
def graph(context: MLContext) -> MLGraph:
    return add_graph(context)


def add_graph(context: MLContext) -> MLGraph:
    """z = x + y, float32[2]."""
    b = context.create_graph_builder()
    return b.build({"z": b.add(b.input("x", [2], "float32"), b.input("y", [2], "float32"))})


def tensor(context: MLContext, *values: float) -> MLTensor:
    made = context.create_tensor([2], "float32", readable=True, writable=True)
    if values:
        context.write_tensor(made, np.array(values, F32))
    return made


# -- what a context says of itself


def test_context_attributes(context: MLContext) -> None:
    assert (context.backend, context.accelerated, context.power_preference) == ("onnxruntime", True, "default")
    assert not context.lost.done
    assert context.lost.message == ""
    assert "onnxruntime" in repr(context)


def test_limits_are_the_registry_narrowed_to_the_back_end(context: MLContext) -> None:
    limits = context.op_support_limits()
    assert limits["preferred_input_layout"] in ("nchw", "nhwc")
    assert limits["max_tensor_byte_length"] >= 2**31 - 1
    assert limits["add"]["a"]["data_types"][:2] == ["float32", "float16"]
    assert limits["add"]["output"]["rank_range"] == {"min": 0, "max": 8}
    assert limits["conv2d"]["input"]["rank_range"] == {"min": 4, "max": 4}
    from pynn.ops import operators

    assert {operator.method for operator in operators.values()} < set(limits)


def test_limits_leave_out_what_the_back_end_refuses() -> None:
    from pynn.backends.base import OperatorLimits
    from pynn.limits import op_support_limits
    from pynn.types import DataType

    narrow = OperatorLimits(
        max_rank=4,
        max_tensor_byte_length=100,
        preferred_input_layout="nhwc",
        data_types=frozenset({DataType.FLOAT32, DataType.INT32}),
        unsupported={("add", ""): frozenset({DataType.INT32}), ("mul", "b"): frozenset({DataType.FLOAT32})},
    )
    limits = op_support_limits(narrow)
    assert limits["input"] == {"data_types": ["float32", "int32"], "rank_range": {"min": 0, "max": 4}}
    assert limits["add"]["a"]["data_types"] == limits["add"]["output"]["data_types"] == ["float32"]
    assert limits["mul"]["a"]["data_types"] == ["float32", "int32"]
    assert limits["mul"]["b"]["data_types"] == ["int32"]
    assert (limits["preferred_input_layout"], limits["max_tensor_byte_length"]) == ("nhwc", 100)


# -- compute


def test_compute_example_of_the_readme(context: MLContext) -> None:
    b = context.create_graph_builder()
    x, y = b.input("x", [2, 3], "float32"), b.input("y", [2, 3], "float32")
    g = b.build({"z": b.add(x, y)})
    z = context.compute(g, {"x": np.ones((2, 3), "f"), "y": np.ones((2, 3), "f")})["z"]
    np.testing.assert_array_equal(z, np.full((2, 3), 2, F32))
    assert z.dtype == F32
    assert z.flags.writeable


def test_compute_into_callers_arrays(context: MLContext, graph: MLGraph) -> None:
    out = {"z": np.zeros(2, F32)}
    result = context.compute(graph, {"x": np.ones(2, F32), "y": np.ones(2, F32)}, out=out)
    assert result["z"] is out["z"]
    assert out["z"].tolist() == [2, 2]


@pytest.mark.parametrize("data_type", ["float32", "float16", "int32", "uint32", "int64", "uint64", "int8", "uint8"])
def test_exact_data_types(context: MLContext, data_type: str) -> None:
    b = context.create_graph_builder()
    x = b.input("x", [3], data_type)
    g = b.build({"y": b.add(x, b.constant(np.array([1, 1, 1], data_type)))})
    y = context.compute(g, {"x": np.array([1, 2, 3], data_type)})["y"]
    assert y.dtype == np.dtype(data_type)
    assert y.tolist() == [2, 3, 4]


def test_scalars_stay_scalars(context: MLContext) -> None:
    b = context.create_graph_builder()
    x = b.input("x", [], "float32")
    g = b.build({"y": b.add(x, b.constant("float32", 1))})
    y = context.compute(g, {"x": np.array(2, F32)})["y"]
    assert isinstance(y, np.ndarray)
    assert y.shape == ()
    assert y == 3


def test_same_name_on_both_sides_and_one_operand_under_two_names(context: MLContext) -> None:
    b = context.create_graph_builder()
    doubled = b.add(x := b.input("x", [2], "float32"), x)
    g = b.build({"x": doubled, "again": doubled})
    result = context.compute(g, {"x": np.array([1, 2], F32)})
    assert result["x"].tolist() == result["again"].tolist() == [2, 4]
    assert list(result) == ["x", "again"]


def test_only_reached_inputs_are_inputs(context: MLContext) -> None:
    b = context.create_graph_builder()
    x, unused = b.input("x", [2], "float32"), b.input("unused", [2], "float32")
    b.mul(unused, unused)
    g = b.build({"y": b.add(x, x)})
    assert list(g.inputs) == ["x"]
    assert g.inputs["x"] == pynn.OperandDescriptor(pynn.DataType.FLOAT32, (2,))
    with pytest.raises(InputError, match="unknown input 'unused'"):
        context.compute(g, {"x": np.ones(2, F32), "unused": np.ones(2, F32)})


def test_graph_without_inputs(context: MLContext) -> None:
    b = context.create_graph_builder()
    one = b.constant(np.ones(2, F32))
    assert context.compute(b.build({"y": b.add(one, one)}), {})["y"].tolist() == [2, 2]


def test_descriptor_forms_of_input(context: MLContext) -> None:
    b = context.create_graph_builder()
    for i, form in enumerate(({"data_type": "int8", "shape": [2]}, pynn.OperandDescriptor(pynn.DataType.INT8, (2,)))):
        operand = b.input(f"x{i}", form)
        assert (operand.data_type, operand.shape) == ("int8", (2,))
    with pytest.raises(ValidationError, match="lacks 'shape'"):
        b.input("bad", {"data_type": "int8"})
    with pytest.raises(ValidationError, match="unknown data type None"):
        b.input("bad", [2])  # type: ignore[call-overload]


def test_many_threads_compute_at_once(context: MLContext, graph: MLGraph) -> None:
    def run(i: int) -> bool:
        z = context.compute(graph, {"x": np.full(2, i, F32), "y": np.ones(2, F32)})["z"]
        return bool((z == i + 1).all())

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(run, range(200)))


# -- bad input at run: its own exception, naming the tensor


@pytest.mark.parametrize(
    ("inputs", "named", "words"),
    [
        ({"x": np.ones(2, F32)}, "y", "input 'y' is missing"),
        ({"x": np.ones(2, F32), "y": np.ones(2, F32), "w": np.ones(2, F32)}, "w", "unknown input 'w'"),
        ({"x": np.ones(2, np.float64), "y": np.ones(2, F32)}, "x", r"'x' is float64, expected float32.*astype"),
        ({"x": np.ones(2, ">f4"), "y": np.ones(2, F32)}, "x", "'x' is >f4, expected float32"),
        ({"x": np.ones(2, F32), "y": np.ones(3, F32)}, "y", r"'y' has shape \[3\], expected y: float32\[2\]"),
        ({"x": np.ones(4, F32)[::2], "y": np.ones(2, F32)}, "x", "'x' is not C-contiguous.*ascontiguousarray"),
        ({"x": [1, "a"], "y": np.ones(2, F32)}, "x", "input 'x'"),
        ({"x": None, "y": np.ones(2, F32)}, "x", "'x' is object"),
    ],
)
def test_bad_arrays(context: MLContext, graph: MLGraph, inputs: dict[str, object], named: str, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        context.compute(graph, inputs)  # type: ignore[arg-type]
    assert caught.value.tensor == named
    assert isinstance(caught.value, TypeError)
    assert context.compute(graph, {"x": np.ones(2, F32), "y": np.ones(2, F32)})["z"].tolist() == [2, 2]


@pytest.mark.parametrize("inputs", [None, [np.ones(2)], np.ones(2)])
def test_inputs_that_are_no_mapping(context: MLContext, graph: MLGraph, inputs: object) -> None:
    with pytest.raises(InputError, match="inputs must map names to arrays"):
        context.compute(graph, inputs)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("out", "words"),
    [
        ({"q": np.empty(2, F32)}, "no output 'q'; outputs: z: float32"),
        ({"z": np.empty(2, np.float64)}, "out 'z' is float64, expected float32"),
        ({"z": np.empty(3, F32)}, r"out 'z' has shape \[3\]"),
        ({"z": np.empty(4, F32)[::2]}, "out 'z' is not C-contiguous"),
        ({"z": [0, 0]}, "out 'z' must be a numpy array, got list"),
    ],
)
def test_bad_out(context: MLContext, graph: MLGraph, out: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        context.compute(graph, {"x": np.ones(2, F32), "y": np.ones(2, F32)}, out=out)  # type: ignore[arg-type]


def test_read_only_out(context: MLContext, graph: MLGraph) -> None:
    frozen = np.empty(2, F32)
    frozen.setflags(write=False)
    with pytest.raises(InputError, match="out 'z' is read-only"):
        context.compute(graph, {"x": np.ones(2, F32), "y": np.ones(2, F32)}, out={"z": frozen})


def test_numbers_and_lists_become_arrays(context: MLContext, graph: MLGraph) -> None:
    assert context.compute(graph, {"x": [1, 2], "y": (3, 4)})["z"].tolist() == [4, 6]  # type: ignore[dict-item]


# -- the builder


def test_build_errors_leave_the_builder_usable(context: MLContext) -> None:
    b = context.create_graph_builder()
    x = b.input("x", [2], "float32")
    y = b.add(x, x)
    other = context.create_graph_builder().input("x", [2], "float32")
    for outputs, words in [
        ({}, "non-empty mapping"),
        ({"": y}, "not a non-empty string"),
        ({"y": other}, "not an operand of this builder"),
        ({"y": x}, "graph input; wrap it in identity"),
        ({"y": b.constant("float32", 1)}, "graph constant; wrap it in identity"),
    ]:
        with pytest.raises(ValidationError, match=words):
            b.build(outputs)  # type: ignore[arg-type]
    assert b.build({"y": y}).outputs["y"].shape == (2,)


@pytest.mark.parametrize("call", ["input", "constant", "operator", "build"])
def test_a_builder_builds_once(context: MLContext, call: str) -> None:
    b = context.create_graph_builder()
    x = b.input("x", [2], "float32")
    y = b.add(x, x)
    b.build({"y": y})
    assert y.shape == (2,)
    with pytest.raises(InvalidStateError, match="already built"):
        {
            "input": lambda: b.input("n", [2], "float32"),
            "constant": lambda: b.constant("float32", 1),
            "operator": lambda: b.add(x, x),
            "build": lambda: b.build({"y": y}),
        }[call]()


@pytest.mark.parametrize("call", ["input", "constant", "operator", "build", "create_graph_builder"])
def test_builders_of_a_lost_context(context: MLContext, call: str) -> None:
    b = context.create_graph_builder()
    x = b.input("x", [2], "float32")
    b.add(x, x)
    context.destroy()
    with pytest.raises(InvalidStateError, match="the context is lost"):
        {
            "input": lambda: b.input("", [2], "bogus"),
            "constant": lambda: b.constant("float32", 1),
            "operator": lambda: b.add(x, x),
            "build": lambda: b.build({}),
            "create_graph_builder": context.create_graph_builder,
        }[call]()


def test_builder_needs_a_context() -> None:
    with pytest.raises(ValidationError, match="expected an MLContext"):
        pynn.MLGraphBuilder("nope")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda b, x: b.input("bad", [2], "float128"), r"input 'bad': unknown data type 'float128'; one of: float32"),
        (lambda b, x: b.input("bad", [2, 0], "float32"), r"input 'bad': shape \[2, 0\]: dimension 0"),
        (lambda b, x: b.input("x", [2], "float32"), "this builder already has an input named 'x'"),
        (lambda b, x: b.conv2d(x, x, label="c"), r"conv2d 'c': input has rank 2 .*rank must be 4"),
        (lambda b, x: b.matmul(x, b.constant(np.ones((2, 2), F32)), label="m"), "matmul 'm': .*3"),
        (lambda b, x: b.add(x, b.constant(np.ones(2, F32)), label="s"), r"add 's': shapes \[2, 3\] and \[2\]"),
        (lambda b, x: b.add(x, b.constant(np.ones(3, np.int32)), label="t"), "add 't': b is int32 but a is float32"),
        (lambda b, x: b.elu(x, alpha=float("inf"), label="e"), "elu 'e': alpha must be a finite number, got inf"),
        (lambda b, x: b.elu(x, alpha=float("nan"), label="e"), "elu 'e': alpha must be a finite number, got nan"),
        (lambda b, x: b.add(x, np.ones(3), label="n"), "add 'n': b must be an operand of this builder, got a ndarray"),
    ],
)
def test_bad_calls_name_operator_and_label_and_leave_the_builder_usable(
    context: MLContext, call: Callable[[pynn.MLGraphBuilder, pynn.Operand], object], words: str
) -> None:
    b = context.create_graph_builder()
    x = b.input("x", [2, 3], "float32")
    with pytest.raises(ValidationError, match=words):
        call(b, x)
    assert context.compute(b.build({"y": b.add(x, x)}), {"x": np.ones((2, 3), F32)})["y"].sum() == 12


def test_operands_of_another_builder(context: MLContext) -> None:
    one, two = context.create_graph_builder(), context.create_graph_builder()
    x, foreign = one.input("x", [2], "float32"), two.input("x", [2], "float32")
    with pytest.raises(ValidationError, match=r"add 'sum#1': b .* belongs to another builder") as caught:
        one.add(x, foreign, label="sum#1")
    assert (caught.value.operator, caught.value.label) == ("add", "sum#1")


# -- constants from tensors


def test_constant_tensor_outlives_its_destruction_after_build(context: MLContext) -> None:
    w = context.create_constant_tensor(np.arange(1024, dtype=F32))
    b = context.create_graph_builder()
    g = b.build({"y": b.mul(b.input("x", [1024], "float32"), b.constant(w))})
    w.destroy()
    del w
    y = context.compute(g, {"x": np.full(1024, 2, F32)})["y"]
    np.testing.assert_array_equal(y, np.arange(1024) * 2)


def test_constant_tensor_destroyed_before_build(context: MLContext) -> None:
    w = context.create_constant_tensor(np.ones(2, F32))
    b = context.create_graph_builder()
    x = b.input("x", [2], "float32")
    weighted, plain = b.mul(x, b.constant(w)), b.add(x, x)
    w.destroy()
    with pytest.raises(ValidationError, match="destroyed before build"):
        b.build({"y": weighted})
    assert context.compute(b.build({"y": plain}), {"x": np.ones(2, F32)})["y"].tolist() == [2, 2]


def test_errors_of_constant_tensors_come_before_the_builders_state(context: MLContext) -> None:
    b = context.create_graph_builder()
    x = b.input("x", [2], "float32")
    b.build({"y": b.add(x, x)})
    destroyed = context.create_constant_tensor(np.ones(2, F32))
    destroyed.destroy()
    with pynn.ML().create_context(backend="onnxruntime") as other:
        foreign = other.create_constant_tensor(np.ones(2, F32))
        for bad, words in [
            (foreign, "belongs to another context"),
            (destroyed, "is destroyed"),
            (tensor(context), "not constant"),
        ]:
            with pytest.raises(ValidationError, match=words):
                b.constant(bad)
    with pytest.raises(InvalidStateError, match="already built"):
        b.constant(context.create_constant_tensor(np.ones(2, F32)))


# -- dispatch


def test_write_dispatch_read(context: MLContext, graph: MLGraph) -> None:
    x, y, z = tensor(context, 1, 2), tensor(context, 3, 4), tensor(context)
    context.dispatch(graph, {"x": x, "y": y}, {"z": z})
    context.write_tensor(x, np.array([10, 10], F32))
    assert context.read_tensor(z).tolist() == [4, 6]
    context.dispatch(graph, {"x": x, "y": z}, {"z": y})
    assert context.read_tensor(y).tolist() == [14, 16]


def test_dispatch_through_a_tensor_without_flags(context: MLContext, graph: MLGraph) -> None:
    state = context.create_tensor([2], "float32")
    x, y, z = tensor(context, 1, 2), tensor(context, 3, 4), tensor(context)
    context.dispatch(graph, {"x": x, "y": y}, {"z": state})
    context.dispatch(graph, {"x": state, "y": x}, {"z": z})
    assert context.read_tensor(z).tolist() == [5, 8]


def test_dispatch_errors_in_order(context: MLContext, graph: MLGraph) -> None:
    x, y, z = tensor(context), tensor(context), tensor(context)
    good_in, good_out = {"x": x, "y": y}, {"z": z}
    dead = tensor(context)
    dead.destroy()
    destroyed_graph = add_graph(context)
    destroyed_graph.destroy()
    fixed = context.create_constant_tensor(np.ones(2, F32))
    wide = context.create_tensor([3], "float32")
    half = context.create_tensor([2], "float16")
    with pynn.ML().create_context(backend="onnxruntime") as other:
        foreign_graph, foreign = add_graph(other), tensor(other)
        foreign_graph.destroy()
        cases: list[tuple[object, object, object, type[Exception], str]] = [
            (foreign_graph, {"x": x, "y": x}, {}, ValidationError, "graph belongs to another context"),
            (destroyed_graph, {"x": x, "y": x}, {}, InvalidStateError, "the graph is destroyed"),
            (
                graph,
                {"x": foreign, "y": foreign},
                good_out,
                ValidationError,
                r"inputs\['x'\] and inputs\['y'\] are the same",
            ),
            (
                graph,
                {"x": x, "y": z},
                good_out,
                ValidationError,
                r"inputs\['y'\] and outputs\['z'\] are the same tensor",
            ),
            (graph, {"x": foreign, "y": dead}, good_out, ValidationError, r"inputs\['x'\] belongs to another context"),
            (graph, {"x": x, "w": dead}, good_out, ValidationError, r"inputs\['w'\] is destroyed"),
            (graph, {"x": x}, good_out, ValidationError, "inputs lack 'y'"),
            (graph, {"x": x, "y": y, "w": dead}, good_out, ValidationError, "destroyed"),
            (graph, {"x": x, "y": y, "w": half}, good_out, ValidationError, r"inputs\['w'\] is not of this graph"),
            (graph, {"x": x, "y": fixed}, good_out, ValidationError, r"inputs\['y'\] is a constant tensor"),
            (
                graph,
                {"x": x, "y": wide},
                good_out,
                ValidationError,
                r"inputs\['y'\] is float32\[3\], the graph has float32\[2\]",
            ),
            (graph, {"x": x, "y": half}, {}, ValidationError, r"inputs\['y'\] is float16\[2\]"),
            (graph, good_in, {}, ValidationError, "outputs lack 'z'"),
            (graph, good_in, {"z": fixed}, ValidationError, r"outputs\['z'\] is a constant tensor"),
            (graph, good_in, {"z": z, "q": wide}, ValidationError, r"outputs\['q'\] is not of this graph"),
            (graph, good_in, {"z": np.ones(2)}, ValidationError, r"outputs\['z'\] must be an MLTensor, got ndarray"),
            (graph, None, good_out, ValidationError, "inputs must map names to tensors"),
            ("graph", good_in, good_out, ValidationError, "expected an MLGraph, got str"),
        ]
        for which, inputs, outputs, kind, words in cases:
            with pytest.raises(kind, match=words):
                context.dispatch(which, inputs, outputs)  # type: ignore[arg-type]
    context.dispatch(graph, good_in, good_out)


# -- ends


def test_graph_destroy(context: MLContext, graph: MLGraph) -> None:
    executable = graph.executable
    assert "onnxruntime" in repr(graph)
    graph.destroy()
    graph.destroy()
    assert "destroyed" in repr(graph)
    with pytest.raises(InvalidStateError, match="the graph is destroyed"):
        context.compute(graph, {})
    with pytest.raises(InvalidStateError, match="closed"):
        executable.run({})
    with pytest.raises(InvalidStateError, match="destroyed"):
        _ = graph.executable
    with add_graph(context) as other:
        assert other.stats["providers"]
    with pytest.raises(InvalidStateError):
        _ = other.stats


def test_destroyed_context(context: MLContext, graph: MLGraph) -> None:
    x = tensor(context)
    heard: list[str] = []
    context.lost.add_done_callback(lambda info: heard.append(info.message))
    context.destroy()
    context.destroy()
    assert context.lost.done
    assert context.lost.wait(0).message == context.lost.message == heard[0]
    assert len(heard) == 1
    assert x.destroyed
    for call in (
        lambda: context.create_tensor([2], "float32"),
        lambda: context.create_constant_tensor(np.ones(2, F32)),
        lambda: context.compute(graph, {}),
        lambda: context.dispatch(graph, {}, {}),
    ):
        with pytest.raises(InvalidStateError, match="lost"):
            call()
    for use in (lambda: context.read_tensor(x), lambda: context.write_tensor(x, np.ones(2, F32))):
        with pytest.raises(ValidationError, match="destroyed"):
            use()


def test_waiting_for_the_loss(context: MLContext) -> None:
    with pytest.raises(TimeoutError):
        context.lost.wait(0.01)
    threading.Timer(0.05, context.destroy).start()
    assert "destroy" in context.lost.wait(5).message


def test_context_manager_destroys() -> None:
    with pynn.ML().create_context(backend="onnxruntime") as context:
        graph = add_graph(context)
    assert context.lost.done
    with pytest.raises(InvalidStateError):
        context.compute(graph, {})
