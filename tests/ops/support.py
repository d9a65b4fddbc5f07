"""What operator tests share: build, check and run a graph; ULP comparison; hypothesis strategies; error checks.

A test is usually three lines::

    x = draw(arrays("float32", draw(shapes())))
    got = run(lambda b, x: b.relu(x), {"x": x})
    assert_close(got, np.maximum(x, 0), ulp=0)
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
import onnx
import onnx.checker
import onnx.shape_inference
import onnxruntime
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from pynn.backends.base import CompileOptions
from pynn.backends.ort import OrtBackend
from pynn.builder import GraphBuilder
from pynn.converter import OnnxGraph, lower_graph
from pynn.converter.passes import backend_passes, run_passes
from pynn.converter.passes.ort_support import release
from pynn.converter.serialize import element_type_name, to_model
from pynn.errors import InvalidStateError, ModelError, UnsupportedModelError, ValidationError
from pynn.graph import Operand
from pynn.ops import operators

Array = np.ndarray[Any, Any]

ALL = ("float32", "float16", "int32", "uint32", "int64", "uint64", "int8", "uint8")
FLOATS = ("float32", "float16")
SIGNED = ("float32", "float16", "int64", "int32", "int8")
INTEGERS = ("int32", "uint32", "int64", "uint64", "int8", "uint8")

KERNELS_ARE_RIGHT = release(onnxruntime.__version__) >= (1, 32)
"""Older kernels than these have faults in what the lowerings use, which the passes answer."""

quick = settings(
    max_examples=20,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)
"""Decorate every property test with this, under ``@given``."""


# -- building and running -------------------------------------------------------------------


@dataclasses.dataclass
class Run:
    """One checked run. ``engine`` is "onnxruntime", or "reference" when ORT has no kernel for a type."""

    outputs: dict[str, Array]
    engine: str
    graph: OnnxGraph

    @property
    def ops(self) -> list[str]:
        """ONNX operators emitted, in order."""
        return [node.op_type for node in self.graph.nodes]


def run(
    build: Callable[..., Any],
    inputs: Mapping[str, Array],
    *,
    constants: Collection[str] = (),
    passes: bool | None = None,
) -> Any:
    """``build(builder, *operands)`` with one operand for each of ``inputs``, in order; those named in ``constants`` are
    builder constants. Returns an array for an Operand, a list of arrays for a sequence, a dict for a mapping.

    The lowering is run as it is, or with ``passes`` after the rewrites for ONNX Runtime, as users get it. Unless told,
    it is run as it is on the releases whose kernels are fit to judge it."""
    shape, result = _run(build, inputs, constants, not KERNELS_ARE_RIGHT if passes is None else passes)
    return shape(result.outputs)


def run_full(build: Callable[..., Any], inputs: Mapping[str, Array], *, constants: Collection[str] = ()) -> Run:
    """Like ``run``, with the ONNX graph and the engine that ran it. Outputs are named out0, out1, ..."""
    return _run(build, inputs, constants, False)[1]


def _run(
    build: Callable[..., Any], inputs: Mapping[str, Array], constants: Collection[str], passes: bool
) -> tuple[Callable[[dict[str, Array]], Any], Run]:
    arrays = {name: np.asarray(value, order="C") for name, value in inputs.items()}
    builder = GraphBuilder()
    operands = [
        builder.constant(a) if name in constants else builder.input(name, a.shape, a.dtype.name)
        for name, a in arrays.items()
    ]
    built = build(builder, *operands)
    pick: Callable[[dict[str, Array]], Any]
    if isinstance(built, Operand):
        named, pick = {"out0": built}, lambda out: out["out0"]
    elif isinstance(built, Mapping):
        named, pick = dict(built), dict
    else:
        named, pick = {f"out{i}": operand for i, operand in enumerate(built)}, lambda out: list(out.values())
    graph = builder.finish(named)
    lowered = check_lowering(lower_graph(graph))
    if passes:
        run_passes(lowered, backend_passes("onnxruntime", onnxruntime.__version__))
        check_lowering(lowered)
    outputs, engine = execute(lowered, {name: arrays[name] for name in graph.inputs})
    for name, operand in named.items():
        assert outputs[name].dtype == operand.data_type.numpy, f"{name}: {outputs[name].dtype}, not {operand!r}"
        assert outputs[name].shape == operand.shape, f"{name}: {outputs[name].shape}, not {operand!r}"
    return pick, Run(outputs, engine, lowered)


def check_lowering(graph: OnnxGraph) -> OnnxGraph:
    """onnx.checker accepts the model, and shape inference agrees with the type and shape declared for every value."""
    proto = to_model(graph).to_proto()
    onnx.checker.check_model(proto, full_check=True)
    inferred = onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True, data_prop=True)
    for info in (*inferred.graph.value_info, *inferred.graph.output):
        declared = graph.values[info.name]
        tensor = info.type.tensor_type
        assert element_type_name(tensor.elem_type) == declared.data_type, f"{declared!r} is {info}"
        if tensor.HasField("shape"):
            dims = tuple(d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim)
            assert len(dims) == len(declared.shape), f"{declared!r} is inferred as {dims}"
            assert all(d in (None, want) for d, want in zip(dims, declared.shape, strict=True)), f"{declared!r}: {dims}"
    return graph


def execute(graph: OnnxGraph, inputs: Mapping[str, Array]) -> tuple[dict[str, Array], str]:
    """Run with ONNX Runtime on the CPU; with onnx's reference evaluator if ORT refuses the model."""
    model = to_model(graph)
    try:
        with OrtBackend(use_gpu=False).compile(model, CompileOptions()) as executable:
            return executable.run(inputs), "onnxruntime"
    except (ModelError, UnsupportedModelError) as refusal:
        if "NOT_IMPLEMENTED" not in str(refusal) and "INVALID_GRAPH" not in str(refusal):
            raise
    from onnx.reference import ReferenceEvaluator

    evaluator = ReferenceEvaluator(model.to_proto())
    with np.errstate(all="ignore"):
        results = evaluator.run(None, {graph.inputs[name]: np.asarray(a) for name, a in inputs.items()})
    outputs = {}
    for (name, value_name), value in zip(graph.outputs.items(), results, strict=True):
        array, declared = np.asarray(value), np.dtype(graph.values[value_name].data_type)
        # numpy sums narrow integers in a wider type; the model's type, which check_lowering checked, wraps
        outputs[name] = array.astype(declared) if declared.kind in "iu" and array.dtype.kind in "iu" else array
    return outputs, "reference"


# -- comparing ------------------------------------------------------------------------------


def ulp_distance(actual: Array, expected: Array) -> Array:
    """Representable values between the two, element by element (float64); integers: absolute difference. NaN is 0 from
    NaN and infinitely far from anything else; -0 equals +0."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    if actual.dtype.kind != "f":
        wide = np.array(
            [abs(int(a) - int(b)) for a, b in zip(actual.ravel(), expected.ravel(), strict=True)], dtype=np.float64
        )
        return wide.reshape(actual.shape)
    distance = np.abs(_ordered(actual) - _ordered(expected)).astype(np.float64)
    nan_a, nan_b = np.isnan(actual), np.isnan(expected)
    distance = np.where(nan_a & nan_b, 0.0, np.where(nan_a | nan_b, np.inf, distance))
    return np.where(np.isinf(expected) & (actual != expected), np.inf, distance)


def _ordered(a: Array) -> Array:
    bits = a.view({2: np.int16, 4: np.int32, 8: np.int64}[a.dtype.itemsize]).astype(np.int64)
    return np.where(bits < 0, -(bits & ((1 << (a.dtype.itemsize * 8 - 1)) - 1)), bits)


def assert_close(actual: Array, expected: Any, *, ulp: float | None = None, atol: float | None = None) -> None:
    """Same data type and shape, and every element within ``ulp`` units in the last place or ``atol`` (either suffices
    when both are given). ``expected`` is rounded to the data type of ``actual``."""
    actual = np.ascontiguousarray(actual).reshape(np.shape(actual))
    with np.errstate(all="ignore"):
        rounded = np.ascontiguousarray(np.asarray(expected).astype(actual.dtype)).reshape(np.shape(expected))
    assert actual.shape == rounded.shape, f"shape {actual.shape}, expected {rounded.shape}"
    if ulp is None and atol is None:
        ulp = 0
    good = np.zeros(actual.shape, dtype=bool)
    if ulp is not None:
        good |= ulp_distance(actual, rounded) <= ulp
    if atol is not None:
        with np.errstate(all="ignore"):
            good |= np.abs(actual.astype(np.float64) - rounded.astype(np.float64)) <= atol
        good |= (actual == rounded) | (np.isnan(actual) & np.isnan(rounded) if actual.dtype.kind == "f" else False)
    if not good.all():
        where = tuple(int(i[0]) for i in np.nonzero(~good)) if good.ndim else ()
        raise AssertionError(
            f"{int((~good).sum())} of {good.size} elements are off (allowed {ulp} ULP, {atol} absolute): {where} "
            f"is {actual[where]!r}, expected {rounded[where]!r}"
        )


# -- strategies -----------------------------------------------------------------------------


def shapes(min_rank: int = 0, max_rank: int = 5, max_dim: int = 4) -> st.SearchStrategy[tuple[int, ...]]:
    return st.lists(st.integers(1, max_dim), min_size=min_rank, max_size=max_rank).map(tuple)


def broadcastable(count: int = 2, max_rank: int = 5, max_dim: int = 4) -> st.SearchStrategy[list[tuple[int, ...]]]:
    """``count`` shapes that broadcast together."""
    return hnp.mutually_broadcastable_shapes(num_shapes=count, max_dims=max_rank, max_side=max_dim, min_side=1).map(
        lambda found: [tuple(s) for s in found.input_shapes]
    )


def broadcastable_to(shape: Sequence[int]) -> st.SearchStrategy[tuple[int, ...]]:
    """A shape that broadcasts one way to ``shape``."""

    @st.composite
    def strategy(draw: st.DrawFn) -> tuple[int, ...]:
        kept = draw(st.integers(0, len(shape)))
        return tuple(d if draw(st.booleans()) else 1 for d in shape[len(shape) - kept :])

    return strategy()


def arrays(
    dtype: str,
    shape: Sequence[int],
    low: float | None = None,
    high: float | None = None,
    *,
    special: Sequence[float] = (),
) -> st.SearchStrategy[Array]:
    """Random values in [low, high]: by default -4..4 for floats, the whole range for integers of 8 bits, -100..100
    (0..200) for wider ones. Now and then one of ``special`` takes the place of an element."""
    return st.integers(0, 2**32 - 1).map(lambda seed: array(dtype, shape, low, high, special=special, seed=seed))


def array(
    dtype: str,
    shape: Sequence[int],
    low: float | None = None,
    high: float | None = None,
    *,
    special: Sequence[float] = (),
    seed: int = 0,
) -> Array:
    """One array as ``arrays`` draws them."""
    rng = np.random.default_rng(seed)
    kind = np.dtype(dtype)
    if kind.kind == "f":
        out = rng.uniform(-4.0 if low is None else low, 4.0 if high is None else high, tuple(shape)).astype(kind)
    else:
        info = np.iinfo(kind)
        tiny = kind.itemsize == 1
        least = int(info.min) if tiny else max(int(info.min), -100)
        most = int(info.max) if tiny else 200 + least if least < 0 else 200
        out = rng.integers(
            least if low is None else int(low), most if high is None else int(high), tuple(shape), kind, endpoint=True
        )
    out = np.asarray(out, dtype=kind)
    if special and out.size and rng.random() < 0.5:
        places = rng.integers(0, out.size, max(1, out.size // 4))
        out = out.reshape(-1).copy()
        for i in places:
            out[i] = special[int(rng.integers(len(special)))]
        out = out.reshape(tuple(shape))
    return out


# -- errors ---------------------------------------------------------------------------------

LABEL = "the label"


def rejected(builder: GraphBuilder, method: str, *args: Any, mentions: Sequence[object] = (), **kwargs: Any) -> str:
    """Assert that the call raises ValidationError naming operator, label and each of ``mentions``, and that the builder
    is as usable as before. Returns the message."""
    before = list(builder._nodes)
    with pytest.raises(ValidationError) as caught:
        getattr(builder, method)(*args, label=LABEL, **kwargs)
    message = str(caught.value)
    assert isinstance(caught.value, TypeError)
    assert caught.value.operator == method and caught.value.label == LABEL, message
    for part in (method, LABEL, *mentions):
        assert str(part) in message, f"{part!s} is not in: {message}"
    assert builder._nodes == before
    x = builder.input(f"still usable {len(builder._inputs)}", [2], "float32")
    assert builder.add(x, x).shape == (2,)
    return message


def rejected_when_finished(builder: GraphBuilder, method: str, *args: Any, **kwargs: Any) -> None:
    """Assert InvalidStateError from ``method`` once ``builder`` has built its graph; it comes before any other
    check."""
    x = builder.input(f"last {len(builder._inputs)}", [1], "float32")
    builder.finish({"y": builder.add(x, x)})
    with pytest.raises(InvalidStateError):
        getattr(builder, method)(*args, **kwargs)
    with pytest.raises(InvalidStateError):
        getattr(builder, method)(*[None for _ in args], **dict.fromkeys(kwargs))


def operand_errors(method: str, shapes: Mapping[str, Sequence[int]], *, dtype: str = "float32", **others: Any) -> None:
    """Provoke every error that an operator's operands can have, one at a time, from a call that is otherwise valid.

    ``shapes`` has every operand, optional ones too; ``others`` are the remaining arguments. Each operand in turn
    belongs to another builder, is no operand, is missing, has a data type that is not allowed or differs from the
    first's, and has a rank outside the table. Last, the builder has finished.
    """
    operator = next(found for found in operators.values() if found.method == method)
    builder, foreign = GraphBuilder(), GraphBuilder()
    count = itertools.count()

    def make(shape: Sequence[int], data_type: str = dtype, owner: GraphBuilder = builder) -> Operand:
        return owner.input(f"operand {next(count)}", list(shape), data_type)

    valid = {name: make(shape) for name, shape in shapes.items()}
    getattr(builder, method)(**valid, **others)
    assert set(shapes) == {param.name for param in operator.params}
    for param in operator.params:
        name, shape = param.name, shapes[param.name]

        def bad(value: object, *mentions: object, name: str = name) -> None:
            rejected(builder, method, mentions=(name, *mentions), **{**valid, name: value}, **others)

        bad(make(shape, owner=foreign), "another builder")
        bad(1.5, "1.5")
        if not param.optional:
            bad(None, "missing")
        for data_type in ALL:
            if data_type not in param.types:
                bad(make(shape, data_type), data_type)
            elif param.like and data_type != dtype:
                bad(make(shape, data_type), data_type, dtype, param.like)
        low, high = param.rank_range
        for rank in (low - 1, high + 1):
            if 0 <= rank <= 8:
                bad(make([1] * rank), f"rank {rank}")
    rejected_when_finished(builder, method, **valid, **others)
