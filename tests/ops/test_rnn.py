"""gru gruCell lstm lstmCell."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pynn.builder import GraphBuilder
from pynn.converter import lower_graph

from . import reference_part2 as reference
from .support import (
    FLOATS,
    INTEGERS,
    array,
    arrays,
    assert_close,
    quick,
    rejected,
    rejected_when_finished,
    run,
    run_full,
)

Array = np.ndarray[Any, Any]
ATOL = {"float32": 1e-5, "float16": 2.0**-7}
GATES = {"gru": 3, "lstm": 4}
LAYOUTS = {"gru": ("zrn", "rzn"), "lstm": ("iofg", "ifgo")}
NAMES = ("relu", "sigmoid", "tanh")


@st.composite
def networks(draw: st.DrawFn, kind: str, *, cell: bool) -> tuple[dict[str, Array], dict[str, Any]]:
    """Operands by parameter name (optional ones sometimes missing), and the options."""
    gates = GATES[kind]
    dtype = draw(st.sampled_from(FLOATS))
    steps, batch, features, size = (draw(st.integers(1, n)) for n in (4, 3, 3, 4))
    options: dict[str, Any] = {
        "layout": draw(st.sampled_from(LAYOUTS[kind])),
        "activations": draw(st.tuples(*[st.sampled_from(NAMES)] * (gates - 1))),
    }
    if kind == "gru":
        options["reset_after"] = draw(st.booleans())
    lead: tuple[int, ...] = ()
    if not cell:
        options["direction"] = draw(st.sampled_from(["forward", "backward", "both"]))
        options["return_sequence"] = draw(st.booleans())
        lead = (2,) if options["direction"] == "both" else (1,)
    shapes = {
        "input": (batch, features) if cell else (steps, batch, features),
        "weight": (*lead, gates * size, features),
        "recurrent_weight": (*lead, gates * size, size),
    }
    states = ("hidden_state", "cell_state") if cell else ("initial_hidden_state", "initial_cell_state")
    optional = {"bias": (*lead, gates * size), "recurrent_bias": (*lead, gates * size)}
    if kind == "lstm":
        optional["peephole_weight"] = (*lead, 3 * size)
    for name in states[: 1 if kind == "gru" else 2]:
        (shapes if cell else optional)[name] = (*lead, batch, size)
    shapes |= {name: shape for name, shape in optional.items() if draw(st.booleans())}
    return {name: draw(arrays(dtype, shape, -1, 1)) for name, shape in shapes.items()}, options


def expected_results(
    kind: str, given_operands: dict[str, Array], options: dict[str, Any], *, cell: bool
) -> list[Array]:
    """[state..., sequence] in float64."""
    o = {name: value.astype(np.float64) for name, value in given_operands.items()}
    rows, size = o["recurrent_weight"].shape[-2:]
    lead = o["recurrent_weight"].shape[:-2]
    for name, shape in {"bias": (rows,), "recurrent_bias": (rows,), "peephole_weight": (3 * size,)}.items():
        o.setdefault(name, np.zeros((*lead, *shape)))
    prefix = "" if cell else "initial_"
    names = [f"{prefix}hidden_state", f"{prefix}cell_state"][: 1 if kind == "gru" else 2]
    states = [o.get(name, np.zeros((*lead, o["input"].shape[-2], size))) for name in names]
    kwargs = {k: options[k] for k in ("layout", "activations", "reset_after") if k in options}

    def step(d: int, x: Array, now: tuple[Array, ...]) -> tuple[Array, ...]:
        def of(name: str) -> Array:
            return o[name] if cell else o[name][d]

        shared = (x, of("weight"), of("recurrent_weight"), *now, of("bias"), of("recurrent_bias"))
        if kind == "gru":
            return (reference.gru_cell(*shared, **kwargs),)
        return reference.lstm_cell(*shared, of("peephole_weight"), **kwargs)

    if cell:
        return list(step(0, o["input"], tuple(states)))
    finals, sequence = reference.over_sequence(step, o["input"], states, options["direction"])
    return [*finals, sequence] if options["return_sequence"] else finals


def call(method: str, steps: int | None, size: int, names: list[str], options: dict[str, Any]) -> Any:
    """A ``build`` function for ``run``: operands by name, required ones first."""

    def build(b: GraphBuilder, *operands: Any) -> Any:
        by_name = dict(zip(names, operands, strict=True))
        required = [by_name.pop(n) for n in REQUIRED[method]]
        counts = [size] if steps is None else [steps, size]
        return getattr(b, method)(*required, *counts, **by_name, **options)

    return build


REQUIRED = {
    "gru": ["input", "weight", "recurrent_weight"],
    "lstm": ["input", "weight", "recurrent_weight"],
    "gru_cell": ["input", "weight", "recurrent_weight", "hidden_state"],
    "lstm_cell": ["input", "weight", "recurrent_weight", "hidden_state", "cell_state"],
}


@pytest.mark.parametrize("method", REQUIRED)
@quick
@given(st.data())
def test_against_numpy(method: str, data: st.DataObject) -> None:
    kind, _, cell = method.partition("_")
    operands, options = data.draw(networks(kind, cell=bool(cell)))
    size = operands["recurrent_weight"].shape[-1]
    steps = None if cell else operands["input"].shape[0]
    fixed = [name for name in operands if name != "input" and data.draw(st.booleans())]
    got = run(call(method, steps, size, list(operands), options), operands, constants=fixed)
    expected = expected_results(kind, operands, options, cell=bool(cell))
    assert isinstance(got, list) is (method != "gru_cell")
    for actual, wanted in zip(got if isinstance(got, list) else [got], expected, strict=True):
        assert_close(actual, wanted, atol=ATOL[operands["input"].dtype.name] * max(1.0, float(np.abs(wanted).max())))


def test_output_peephole_sees_the_previous_cell_state() -> None:
    """One unit, cell gate saturated: the new cell state is far from the old one, so that the difference shows."""
    operands = {
        "input": np.ones((1, 1, 1), np.float32),
        "weight": np.array([[[0.0], [0.0], [0.0], [5.0]]], np.float32),
        "recurrent_weight": np.zeros((1, 4, 1), np.float32),
        "peephole_weight": np.array([[0.0, 3.0, 0.0]], np.float32),
        "initial_hidden_state": np.zeros((1, 1, 1), np.float32),
        "initial_cell_state": np.full((1, 1, 1), -1, np.float32),
    }
    hidden, cell = run(call("lstm", 1, 1, list(operands), {}), operands)
    new_cell = 0.5 * -1 + 0.5 * np.tanh(5)
    assert_close(cell.ravel(), np.array([new_cell]), atol=1e-6)
    assert_close(hidden.ravel(), np.array([np.tanh(new_cell) / (1 + np.exp(3))]), atol=1e-6)


def _sequence(kind: str, **extra: tuple[int, ...]) -> dict[str, Array]:
    rows = GATES[kind] * 3
    shapes = {"input": (2, 1, 2), "weight": (1, rows, 2), "recurrent_weight": (1, rows, 3), **extra}
    return {name: array("float32", shape, seed=i) for i, (name, shape) in enumerate(shapes.items())}


@pytest.mark.parametrize(("kind", "op_type"), [("gru", "GRU"), ("lstm", "LSTM")])
def test_sequences_are_one_onnx_operator(kind: str, op_type: str) -> None:
    operands = _sequence(kind, bias=(1, GATES[kind] * 3))
    fixed = [name for name in operands if name != "input"]
    for layout in LAYOUTS[kind]:
        made = run_full(call(kind, 2, 3, list(operands), {"layout": layout}), operands, constants=fixed)
        assert made.ops == [op_type]


def test_peephole_lstm_is_unrolled() -> None:
    operands = _sequence("lstm", peephole_weight=(1, 9))
    assert "LSTM" not in run_full(call("lstm", 2, 3, list(operands), {}), operands).ops


def test_constant_weights_in_onnx_order_are_not_copied() -> None:
    b = GraphBuilder()
    operands = _sequence("gru")
    x = b.input("x", operands["input"].shape, "float32")
    weights = [b.constant(operands[name]) for name in ("weight", "recurrent_weight")]
    graph = b.finish({"y": b.gru(x, *weights, 2, 3)[0]})
    made = lower_graph(graph)
    for constant, name in zip(graph.constants, made.nodes[0].inputs[1:3], strict=True):
        assert made.initializers[name] is constant._data


# -- errors ---------------------------------------------------------------------------------


class Case:
    """Operands of a valid call, to be spoilt one at a time."""

    def __init__(self, method: str) -> None:
        self.method, self.kind = method, method.partition("_")[0]
        self.cell = method.endswith("cell")
        self.b = GraphBuilder()
        rows, lead = GATES[self.kind] * 3, () if self.cell else (1,)
        self.shapes: dict[str, tuple[int, ...]] = {
            "input": (2, 4) if self.cell else (5, 2, 4),
            "weight": (*lead, rows, 4),
            "recurrent_weight": (*lead, rows, 3),
            "bias": (*lead, rows),
            "recurrent_bias": (*lead, rows),
        }
        prefix = "" if self.cell else "initial_"
        for state in ("hidden_state", "cell_state")[: GATES[self.kind] - 2]:
            self.shapes[prefix + state] = (*lead, 2, 3)
        if self.kind == "lstm":
            self.shapes["peephole_weight"] = (*lead, 9)
        self.operands = {n: self.b.input(n, shape, "float32") for n, shape in self.shapes.items()}
        self.counts: dict[str, Any] = {"hidden_size": 3} if self.cell else {"steps": 5, "hidden_size": 3}

    def arguments(self, **changes: Any) -> dict[str, Any]:
        return {**self.operands, **self.counts, **changes}

    def rejected(self, *mentions: object, **changes: Any) -> None:
        rejected(self.b, self.method, mentions=mentions, **self.arguments(**changes))


@pytest.fixture(params=list(REQUIRED))
def case(request: pytest.FixtureRequest) -> Case:
    return Case(request.param)


def test_the_valid_call_is_valid(case: Case) -> None:
    results = getattr(case.b, case.method)(**case.arguments())
    shapes = [o.shape for o in results] if isinstance(results, list) else results.shape
    state = (2, 3) if case.cell else (1, 2, 3)
    assert shapes == (state if case.method == "gru_cell" else [state] * (GATES[case.kind] - 2))


def test_data_types(case: Case) -> None:
    for name, shape in case.shapes.items():
        for dtype in ("float16", *INTEGERS) if name != "input" else INTEGERS:
            bad = case.b.input(f"{name} {dtype}", shape, dtype)
            case.rejected(name, dtype, **{name: bad})


def test_ranks_and_shapes(case: Case) -> None:
    for name, shape in case.shapes.items():
        deeper = case.b.input(f"deep {name}", (*shape, 1), "float32")
        case.rejected(name, list(deeper.shape), **{name: deeper})
        if name == "input":
            continue
        for axis in range(len(shape)):
            longer = (*shape[:axis], shape[axis] + 1, *shape[axis + 1 :])
            bad = case.b.input(f"{name} {axis}", longer, "float32")
            case.rejected(name, list(longer), list(shape), **{name: bad})


def test_foreign_operands_and_finished_builders(case: Case) -> None:
    other = GraphBuilder()
    for name, shape in case.shapes.items():
        case.rejected(name, "another builder", **{name: other.input(name, shape, "float32")})
    rejected_when_finished(case.b, case.method, *[], **case.arguments())


def test_sizes(case: Case) -> None:
    for bad in (0, -3, 3.0, 2**32, "3", None):
        case.rejected("hidden_size", repr(bad), hidden_size=bad)
    limit = (2**31 - 1) // (2 * GATES[case.kind])
    case.rejected("hidden_size", limit + 1, 2 * GATES[case.kind], hidden_size=limit + 1)
    case.rejected("weight", hidden_size=limit)
    if not case.cell:
        for bad in (0, -1, 2.5):
            case.rejected("steps", bad, steps=bad)
        case.rejected("steps", 4, [5, 2, 4], steps=4)


def test_options(case: Case) -> None:
    count = GATES[case.kind] - 1
    case.rejected("activations", ["relu"], activations=["relu"])
    case.rejected("activations", activations=["relu"] * (count + 1))
    case.rejected("activations", "'gelu'", activations=["relu"] * (count - 1) + ["gelu"])
    case.rejected("activations", activations="relu")
    case.rejected("layout", "'ozn'", layout="ozn")
    if case.kind == "gru":
        case.rejected("reset_after", 1, reset_after=1)
    if not case.cell:
        case.rejected("direction", "'both ways'", direction="both ways")
        case.rejected("weight", [1, GATES[case.kind] * 3, 4], direction="both")
        case.rejected("return_sequence", "'yes'", return_sequence="yes")


def test_missing_operand(case: Case) -> None:
    case.rejected("weight is missing", weight=None)
