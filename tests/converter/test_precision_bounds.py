"""Random graphs: autocast changes no name, type or shape of inputs and outputs, and no value by more than its bound."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import pynn
from pynn.converter.convert import lower_graph
from pynn.converter.import_model import import_model
from pynn.converter.model import OnnxModel
from pynn.converter.onnx_graph import OnnxGraph
from pynn.converter.passes import run_passes
from pynn.converter.precision import ANY, Precision, Target, apply_precision, precision_passes

from .error_bound import Array, OutOfRangeError, bounds

pytestmark = pytest.mark.ort
ROWS, COLUMNS = 4, 6
CPU = Target("onnxruntime")
STEPS = (
    "dense", "product", "add", "bias", "mul", "scale", "relu", "clamp", "tanh", "sigmoid", "exp", "softmax", "norm",
    "center", "transpose", "reshape", "concat", "gather", "conv", "residual",
)  # fmt: skip


@st.composite
def graphs(draw: st.DrawFn) -> tuple[pynn.Graph, dict[str, Array]]:
    """A graph of operands [4, 6] and inputs for it; all numbers follow from a seed."""
    random = np.random.default_rng(draw(st.integers(0, 2**16)))
    b = pynn.GraphBuilder()
    known = [b.input("x", [ROWS, COLUMNS], "float32"), b.input("y", [ROWS, COLUMNS], "float32")]

    def constant(*shape: int, spread: float = 1.0) -> pynn.Operand:
        return b.constant((random.standard_normal(shape) * spread).astype(np.float32))

    def step(kind: str, x: pynn.Operand, other: pynn.Operand) -> pynn.Operand:
        match kind:
            case "dense":
                return b.matmul(x, constant(COLUMNS, COLUMNS, spread=0.5))
            case "product":
                return b.matmul(b.matmul(x, b.transpose(other)), constant(ROWS, COLUMNS, spread=0.3))
            case "add" | "residual":
                return b.add(x, other)
            case "bias":
                return b.add(x, constant(COLUMNS))
            case "mul":
                return b.mul(x, other)
            case "scale":
                return b.mul(x, b.constant("float32", float(random.choice([0.125, 3.0, 1e-7]))))
            case "relu" | "tanh" | "sigmoid":
                made: pynn.Operand = getattr(b, kind)(x)
                return made
            case "clamp":
                return b.clamp(x, min_value=-1.5, max_value=2.0)
            case "exp":
                return b.exp(b.clamp(x, min_value=-4.0, max_value=3.0))
            case "softmax":
                return b.softmax(x, 1)
            case "norm":
                return b.layer_normalization(x, scale=constant(COLUMNS), bias=constant(COLUMNS), axes=[1])
            case "center":
                return b.sub(x, b.reduce_mean(x, axes=[1], keep_dimensions=True))
            case "transpose":
                return b.reshape(b.transpose(x), [ROWS, COLUMNS])
            case "reshape":
                return b.reshape(b.reshape(x, [2, 12]), [ROWS, COLUMNS])
            case "concat":
                halves = [b.slice(one, [0, 0], [ROWS, COLUMNS // 2]) for one in (x, other)]
                return b.concat(halves, 1)
            case "gather":
                return b.gather(x, b.constant(np.array([2, 0, 3, 3], np.int32)), axis=0)
        image = b.reshape(x, [1, 1, ROWS, COLUMNS])
        made = b.conv2d(image, constant(4, 1, 2, 3, spread=0.4), bias=constant(4))
        return b.reshape(b.slice(made, [0, 0, 0, 0], [1, 4, 3, 2]), [ROWS, COLUMNS])

    for kind in draw(st.lists(st.sampled_from(STEPS), min_size=1, max_size=9)):
        x, other = (known[draw(st.integers(0, len(known) - 1))] for _ in range(2))
        known.append(step(kind, known[-1] if draw(st.booleans()) else x, other))
    outputs = {"z": known[-1]}
    middle = known[draw(st.integers(2, len(known) - 1))]
    if middle is not known[-1]:
        outputs["middle"] = middle
    graph = b.finish(outputs)
    arrays = {name: random.standard_normal((ROWS, COLUMNS)).astype("f") for name in graph.inputs}
    return graph, arrays


def converted(source: pynn.Graph | OnnxModel, precision: str) -> tuple[OnnxGraph, OnnxGraph]:
    """The graph before and after the passes."""
    before, after = ((import_model if isinstance(source, OnnxModel) else lower_graph)(source) for _ in range(2))  # type: ignore[operator]
    run_passes(after, precision_passes(Precision(precision), ANY).passes)  # type: ignore[arg-type]
    return before, after


def compute(model: OnnxModel, arrays: dict[str, Array]) -> dict[str, Array]:
    with pynn.compile(model, backend="onnxruntime", accelerated=False) as executable:
        return executable.run({name: arrays[name] for name in (spec.name for spec in executable.inputs)})


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("as_file", [False, True], ids=["graph", "file"])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(case=graphs())
def test_values_stay_within_the_bound(case: tuple[pynn.Graph, dict[str, Array]], precision: Any, as_file: bool) -> None:
    graph, arrays = case
    source = OnnxModel.load(pynn.to_onnx(graph).to_bytes()) if as_file else graph
    model = apply_precision(source, Precision(precision), CPU)
    plain = source if isinstance(source, OnnxModel) else pynn.to_onnx(source)
    assert [str(spec) for spec in (*model.inputs, *model.outputs)] == [
        str(spec) for spec in (*plain.inputs, *plain.outputs)
    ]
    before, after = converted(source, precision)
    try:
        allowed = bounds(after, before, arrays)
    except OutOfRangeError:
        assume(False)
    for name, array in compute(model, arrays).items():
        exact, error = allowed[name].value, allowed[name].error
        assert array.dtype == np.float32 and array.shape == exact.shape
        off = np.abs(array - exact)
        assert (off <= error).all(), f"{name}: {off.max():.3g} off, {error.flat[(off - error).argmax()]:.3g} allowed"


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(case=graphs())
def test_casts_do_not_bounce(case: tuple[pynn.Graph, dict[str, Array]]) -> None:
    """No value is cast twice to one type, none back to the type it came from, and none for nothing."""
    _, after = converted(case[0], "fp16")
    made = {node.outputs[0]: node for node in after.nodes if node.op_type == "Cast"}
    seen = set()
    readers = {name for node in after.nodes for name in node.inputs} | set(after.outputs.values())
    for name, node in made.items():
        source = node.inputs[0]
        assert name in readers
        assert after.values[source].data_type != node.attributes["to"]
        assert source not in made, "a cast of a cast"
        assert (source, node.attributes["to"]) not in seen
        seen.add((source, node.attributes["to"]))
