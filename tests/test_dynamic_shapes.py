"""Named dimensions in builders and contexts: what a name may be, what operators make of it, sizes for compiling."""

from __future__ import annotations

import copy
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pynn
from pynn.builder import GraphBuilder
from pynn.errors import InputError, ValidationError
from pynn.graph import Graph
from pynn.ops.dimensions import bind_dimensions
from pynn.sizes import Size, max_size, min_size, value_at

from .ops.support import quick

NAMES = ("batch", "height", "width")


def sizes_of(sample: int = 1009) -> list[Size]:
    return [Size.named(name, sample + 10 * i) for i, name in enumerate(NAMES)]


# -- arithmetic -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda n, h, w: n, "batch"),
        (lambda n, h, w: n * 2 + 1, "2*batch + 1"),
        (lambda n, h, w: 1 - n, "-batch + 1"),
        (lambda n, h, w: n * h * 3 - w, "3*batch*height - width"),
        (lambda n, h, w: (h - 1) // 2, "(height - 1)//2"),
        (lambda n, h, w: 3 * ((h - 1) // 2), "3*((height - 1)//2)"),
        (lambda n, h, w: -(-h // 2), "(height + 1)//2"),
        (lambda n, h, w: (4 * h + 3) // 2, "2*height + 1"),
        (lambda n, h, w: (h - 3 + 1 + 1) // 1 + 1, "height"),
        (lambda n, h, w: n % 8, "batch%8"),
        (lambda n, h, w: max_size(n, 8), "max(batch, 8)"),
        (lambda n, h, w: min_size(h, h + 1), "height"),
        (lambda n, h, w: math.prod((n, 3, h)), "3*batch*height"),
        (lambda n, h, w: sum((n, 3, h)), "batch + height + 3"),
        (lambda n, h, w: np.int64(3) * n, "3*batch"),
    ],
)
def test_expressions_read_as_they_are_written(make: Any, text: str) -> None:
    made = make(*sizes_of())
    assert isinstance(made, Size) and repr(made) == str(made) == f"{made}" == text


def test_names_that_cancel_leave_a_number() -> None:
    n = sizes_of()[0]
    for made in (n - n, n * 0, n // n, n % n, (2 * n + 1) % 2):
        assert type(made) is int


def test_a_size_is_its_sample() -> None:
    n = sizes_of()[0]
    assert n == 1009 and hash(n) == hash(1009) and n < 1010
    assert (n.name, (n + 1).name, (n * sizes_of()[1]).names) == ("batch", None, {"batch", "height"})
    for again in (copy.deepcopy(n * 2), pickle.loads(pickle.dumps(n * 2))):
        assert isinstance(again, Size) and str(again) == "2*batch" and again == 2018


Expression = tuple[Any, ...]
LEAVES = st.sampled_from(NAMES) | st.integers(1, 9)
EXPRESSIONS = st.recursive(
    LEAVES,
    lambda inner: st.tuples(st.sampled_from(("+", "-", "*", "//", "%", "min", "max")), inner, inner),
    max_leaves=8,
)


def calculate(expression: Any, values: dict[str, Any]) -> Any:
    if isinstance(expression, tuple):
        operation, a, b = expression[0], *(calculate(side, values) for side in expression[1:])
        if operation in ("//", "%") and b == 0:
            return a
        functions = {
            "+": lambda: a + b, "-": lambda: a - b, "*": lambda: a * b, "//": lambda: a // b, "%": lambda: a % b,
            "min": lambda: min_size(a, b), "max": lambda: max_size(a, b),
        }  # fmt: skip
        return functions[operation]()
    return values[expression] if isinstance(expression, str) else expression


@given(st.data())
@quick
def test_the_expression_gives_what_numbers_give(data: st.DataObject) -> None:
    """Calculated with names and evaluated, or calculated with the numbers: the same; the sample too."""
    expression = data.draw(EXPRESSIONS)
    made = calculate(expression, dict(zip(NAMES, sizes_of(), strict=True)))
    assert int(made) == calculate(expression, dict(zip(NAMES, map(int, sizes_of()), strict=True)))
    numbers = dict(zip(NAMES, data.draw(st.tuples(*[st.integers(1, 40)] * 3)), strict=True))
    try:
        found = value_at(made, numbers)
    except ZeroDivisionError:
        return
    divisors = [e for e in subexpressions(expression) if e[0] in ("//", "%")]
    if any(
        calculate(e[2], numbers) == 0 or calculate(e[2], dict(zip(NAMES, sizes_of(), strict=True))) == 0
        for e in divisors
    ):
        return
    assert found == calculate(expression, numbers)


def subexpressions(expression: Any) -> list[Expression]:
    if not isinstance(expression, tuple):
        return []
    return [expression, *subexpressions(expression[1]), *subexpressions(expression[2])]


# -- the builder ----------------------------------------------------------------------------


def test_shapes_and_graphs_show_names() -> None:
    b = GraphBuilder()
    x = b.input("x", ["batch", 3, "height", "width"], "float32")
    w = b.constant(np.ones((8, 3, 3, 3), np.float32))
    y = b.conv2d(x, w, padding=[1, 1, 1, 1], strides=[2, 2])
    assert str(list(y.shape)) == "[batch, 8, (height - 1)//2 + 1, (width - 1)//2 + 1]"
    pooled = b.reshape(b.average_pool2d(y), [x.shape[0], 8])
    flat = b.reshape(x, [x.shape[0], math.prod(x.shape[1:])])
    assert "float32[batch, 3*height*width]" in repr(flat)
    graph = b.finish({"y": pooled, "flat": flat})
    assert graph.dimensions == ("batch", "height", "width")
    assert "x: float32[batch, 3, height, width]" in repr(graph) and "y: float32[batch, 8]" in repr(graph)


def test_equal_names_are_equal_sizes() -> None:
    b = GraphBuilder()
    x, y = b.input("x", ["n", 4], "float32"), b.input("y", ["n", 4], "float32")
    z = b.input("z", [x.shape[0], "m"], "float32")
    assert b.add(x, y).shape == x.shape
    assert str(b.concat([x, z], axis=1).shape[1]) == "m + 4"
    with pytest.raises(ValidationError, match=r"shapes \[n, 4\] and \[n, m\]"):
        b.add(x, z)


def test_a_dimension_of_one_broadcasts_with_a_name() -> None:
    b = GraphBuilder()
    x, y = b.input("x", ["n", 4], "float32"), b.input("y", [1, 4], "float32")
    assert b.add(x, y).shape == b.add(y, x).shape == b.expand(y, x.shape).shape == x.shape


@pytest.mark.parametrize("dim", ["", "2n", "a b", "n*2", None, 0, -1, 1.5])
def test_what_is_no_dimension(dim: Any) -> None:
    b = GraphBuilder()
    with pytest.raises(ValidationError, match="input 'x'"):
        b.input("x", ["n", dim], "float32")
    b.input("x", ["n"], "float32")


def test_an_expression_is_no_input_dimension() -> None:
    b = GraphBuilder()
    x = b.input("x", ["n"], "float32")
    with pytest.raises(ValidationError, match=r"2\*n.*neither a number nor a name"):
        b.input("y", [x.shape[0] * 2], "float32")


def test_inputs_alone_have_names() -> None:
    with pytest.raises(ValidationError, match="dimension 'n'"):
        GraphBuilder().constant({"data_type": "float32", "shape": ["n"]}, b"1234")
    with pynn.ML().create_context(accelerated=False) as context, pytest.raises(ValidationError, match="dimension 'n'"):
        context.create_tensor(["n"], "float32")


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda b, x: b.add(x, b.constant(np.ones((5, 4), np.float32))), r"add.*\[n, 4\] and \[5, 4\]"),
        (
            lambda b, x: b.reshape(x, [5, 4]),
            r"reshape: new_shape \[5, 4\] has 20 elements, input of shape \[n, 4\] has 4\*n",
        ),
        (lambda b, x: b.split(x, x.shape[0], axis=0), "splits must be an integer in 1..8192, got n"),
        (lambda b, x: b.split(x, 2, axis=0), "splits 2 does not divide dimension 0 of input, which is n"),
        (lambda b, x: b.slice(x, [0, 0], [x.shape[0] + 1, 4]), r"0 \+ n \+ 1 > n"),
        (lambda b, x: b.gemm(x, b.constant(np.ones((7, 2), np.float32))), r"\[n, 4\] by \[7, 2\]"),
    ],
)
def test_what_holds_for_no_size_is_refused_at_once(build: Any, message: str) -> None:
    b = GraphBuilder()
    x = b.input("x", ["n", 4], "float32")
    with pytest.raises(ValidationError, match=message):
        build(b, x)
    assert b.relu(x).shape == x.shape


def test_what_holds_for_some_sizes_is_checked_when_compiled() -> None:
    """A table of positions has 16 rows; the first 4 elements of a sequence are cut off: 4 to 16 is right."""
    b = GraphBuilder()
    x = b.input("x", ["seq", 8], "float32")
    table = b.constant(np.arange(128, dtype=np.float32).reshape(16, 8))
    positions = b.slice(table, [0, 0], x.shape, label="positions")
    first = b.slice(x, [0, 0], [4, 8], label="first")
    graph = b.finish({"y": b.add(x, positions), "first": first})
    with pynn.compile(graph, backend="onnxruntime", shapes={"seq": (4, 8, 16)}) as model:
        assert model.run({"x": np.zeros((16, 8), np.float32)})["y"][15, 7] == 127
    for sizes, label in (((4, 8, 17), "positions"), ((3, 8, 16), "first"), (20, "positions")):
        with pytest.raises(ValidationError, match=f"{label}.*with seq=") as caught:
            pynn.compile(graph, backend="onnxruntime", shapes={"seq": sizes})
        assert (caught.value.operator, caught.value.label) == ("slice", label)


def test_a_name_that_no_input_of_the_graph_has() -> None:
    b = GraphBuilder()
    x, unused = b.input("x", [1, 4], "float32"), b.input("unused", ["n"], "float32")
    y = b.expand(x, [unused.shape[0], 4])
    with pytest.raises(ValidationError, match=r"expand.*dimension 'n'"):
        b.finish({"y": y})
    b.finish({"y": y, "z": b.relu(unused)})


# -- sizes when compiled --------------------------------------------------------------------


def doubled(*dims: int | str) -> Graph:
    b = GraphBuilder()
    x = b.input("x", list(dims), "float32")
    return b.finish({"y": b.mul(x, b.constant("float32", 2))})


def zeros(*shape: int) -> dict[str, np.ndarray[Any, Any]]:
    return {"x": np.zeros(shape, np.float32)}


def test_without_shapes_any_size_runs_on_onnxruntime() -> None:
    with pynn.compile(doubled("batch", 3), backend="onnxruntime") as model:
        assert model.inputs[0].shape == model.outputs[0].shape == ("batch", 3)
        for n in (1, 2, 7):
            assert model.run(zeros(n, 3))["y"].shape == (n, 3)


def test_a_size_outside_names_the_dimension_and_the_range() -> None:
    with pynn.compile(doubled("batch", 3), backend="onnxruntime", shapes={"batch": (1, 8, 32)}) as model:
        model.run(zeros(32, 3))
        with pytest.raises(InputError, match=r"dimension 0 \('batch'\) is 33, outside the compiled 1\.\.32") as caught:
            model.run(zeros(33, 3))
    assert caught.value.tensor == "x"


def test_one_size_makes_a_static_graph() -> None:
    with pynn.compile(doubled("batch", "n"), backend="onnxruntime", shapes={"batch": 4}) as model:
        assert model.inputs[0].shape == (4, "n")
        with pytest.raises(InputError, match=r"shape \[5, 2\]"):
            model.run(zeros(5, 2))


def test_several_profiles() -> None:
    shapes = [{"n": 1, "m": (1, 2, 3)}, {"n": (4, 6, 8), "m": (10, 10, 12)}]
    with pynn.compile(doubled("n", "m"), backend="onnxruntime", shapes=shapes) as model:
        for shape in ((1, 1), (1, 3), (4, 12), (8, 10)):
            assert model.run(zeros(*shape))["y"].shape == shape
        with pytest.raises(InputError, match=r"'n'\) is 2, outside the compiled profiles, which take 1 or 4\.\.8"):
            model.run(zeros(2, 2))
        with pytest.raises(InputError, match=r"no profile takes these sizes together: dimension 'n' is 1 .*'m' is 11"):
            model.run(zeros(1, 11))
        with pytest.raises(InputError, match=r"'m'\) is 13, outside the compiled 1\.\.12"):
            model.run(zeros(4, 13))


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"m": 3}, "'m', which is neither an input nor a symbolic dimension"),
        ({"n": (3, 2, 1)}, "not in order"),
        ([{"n": 1}, {"m": 3}], "profile 1: shapes names 'm'"),
        ([{"n": 1}, {}], "profile 1 gives dimension 'n' no size"),
        ("n=3", "must map names to sizes"),
        ([], "must map names to sizes"),
        ([3], "no mapping"),
    ],
)
def test_wrong_shapes(shapes: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        pynn.compile(doubled("n", 3), backend="onnxruntime", shapes=shapes)


def test_contexts_take_shapes_and_tensors_of_any_size_in_range() -> None:
    with pynn.ML().create_context(accelerated=False) as context:
        b = context.create_graph_builder()
        x = b.input("x", ["batch", 3], "float32")
        graph = b.build({"y": b.mul(x, b.constant("float32", 2))}, shapes={"batch": (1, 2, 4)})
        assert str(graph.inputs["x"].shape) == "(batch, 3)" and "float32[batch, 3]" in repr(graph)
        for n in (1, 4):
            source = context.create_tensor([n, 3], "float32", writable=True)
            target = context.create_tensor([n, 3], "float32", readable=True)
            context.write_tensor(source, np.full((n, 3), n, np.float32))
            context.dispatch(graph, {"x": source}, {"y": target})
            assert (context.read_tensor(target) == 2 * n).all()
        with pytest.raises(InputError, match=r"'batch'\) is 5"):
            context.compute(graph, zeros(5, 3))
        wide, tall = context.create_tensor([1, 4], "float32"), context.create_tensor([4, 3], "float32")
        with pytest.raises(ValidationError, match=r"float32\[1, 4\], the graph has float32\[batch, 3\]"):
            context.dispatch(graph, {"x": wide}, {"y": tall})
        with pytest.raises(ValidationError, match=r"dispatch: outputs\['y'\] is float32\[4, 3\]"):
            context.dispatch(graph, {"x": context.create_tensor([2, 3], "float32")}, {"y": tall})
        fixed = context.compile(doubled("batch", 3), shapes={"batch": 4})
        assert fixed.inputs["x"].shape == (4, 3) and type(fixed.inputs["x"].shape[0]) is int


def test_binding_shares_constants() -> None:
    b = GraphBuilder()
    x, w = b.input("x", ["n", 4], "float32"), b.constant(np.ones((4, 4), np.float32))
    graph = b.finish({"y": b.matmul(x, w)})
    bound = bind_dimensions(graph, {"n": 3})
    assert bound.dimensions == () and bound.outputs["y"].shape == (3, 4)
    assert bound.constants[0] is graph.constants[0]


@pytest.mark.filterwarnings("ignore::pynn.FallbackWarning")
def test_the_example_of_the_documentation() -> None:
    text = (Path(__file__).parents[1] / "docs" / "dynamic-shapes.md").read_text("utf-8")
    code = text.partition("```python\n")[2].partition("```")[0]
    names: dict[str, Any] = {}
    exec(code, names)
    assert f"{names['y']!r}".endswith("float32[batch, 8, 1, 1]>")
    assert names["model"].run({"x": np.zeros((5, 3, 224, 224), np.float32)})["y"].shape == (5, 8)
