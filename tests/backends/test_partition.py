"""Partitioning: how a graph is cut, what is learnt of a refusal, and that the parts together compute the whole."""

from __future__ import annotations

import itertools
from collections.abc import Collection

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pynn
from pynn import UnsupportedModelError
from pynn.backends import partition_search
from pynn.backends.base import CompileOptions, Executable
from pynn.backends.ort import OrtBackend
from pynn.backends.partition import Net, Part, cut_out, plan, work
from pynn.backends.partition_executable import PartitionedExecutable
from pynn.backends.partition_report import LeftOut
from pynn.backends.partition_search import Partitioned, partition, refused_operators
from pynn.converter import OnnxModel
from pynn.converter.onnx_graph import base_names
from pynn.graph import Graph, Operand

from .partition_fakes import FakeTensorRT, agree, graph_of, in_parts, lower, refusal_of

pytestmark = pytest.mark.ort


def parts_of(made: Partitioned) -> list[tuple[str, list[str]]]:
    """What runs where: "T" or "O" and the operators' names."""
    return [(part.backend[0].upper(), list(part.operators)) for part in made.report.parts]


# -- cutting


def chain(*labels: str) -> Graph:
    def build(b: pynn.GraphBuilder) -> dict[str, Operand]:
        x = b.input("x", [4], "float32")
        for label in labels:
            x = b.sin(x, label=label)
        return {"y": x}

    return graph_of(build)


def layout(graph: Graph, refused: Collection[str], min_work: int = 0) -> list[str]:
    """The plan as words: "T:a b" for a part with the nodes labelled a and b on TensorRT."""
    nodes = graph.nodes
    indices = [i for i, node in enumerate(nodes) if node.label in refused]
    parts = plan(Net(graph), indices, min_work)
    return [("T:" if part.preferred else "O:") + " ".join(nodes[i].label for i in part.nodes) for part in parts]


@pytest.mark.parametrize(
    ("refused", "expected"),
    [
        ("", ["T:a b c d"]),
        ("abcd", ["O:a b c d"]),
        ("a", ["O:a", "T:b c d"]),
        ("d", ["T:a b c", "O:d"]),
        ("bc", ["T:a", "O:b c", "T:d"]),
        ("ac", ["O:a", "T:b", "O:c", "T:d"]),
    ],
)
def test_a_chain(refused: str, expected: list[str]) -> None:
    assert layout(chain(*"abcd"), refused) == expected


def test_branches_share_their_parts() -> None:
    """Two branches of which one is refused: two parts, and not three, because the refused one can go first."""

    def build(b: pynn.GraphBuilder) -> dict[str, Operand]:
        x = b.input("x", [4], "float32")
        left, right = b.sin(x, label="left"), b.cos(x, label="right")
        return {"y": b.add(left, right, label="sum")}

    assert layout(graph_of(build), {"right"}) == ["O:right", "T:left sum"]
    assert layout(graph_of(build), {"left", "right"}) == ["O:left right", "T:sum"]
    assert layout(graph_of(build), {"sum"}) == ["T:left right", "O:sum"]


def test_no_part_is_left_and_entered_again() -> None:
    """a and c are taken and b between them is not: a and c may not be one part although an edge joins them."""

    def build(b: pynn.GraphBuilder) -> dict[str, Operand]:
        a = b.sin(b.input("x", [4], "float32"), label="a")
        return {"y": b.add(a, b.cos(a, label="b"), label="c")}

    assert layout(graph_of(build), {"b"}) == ["T:a", "O:b", "T:c"]


def test_what_only_a_later_part_reads_goes_there() -> None:
    """The broadcast is read by the last part alone: made there, its four thousand numbers stay inside."""

    def build(b: pynn.GraphBuilder) -> dict[str, Operand]:
        x = b.input("x", [4], "float32")
        wide = b.expand(b.input("z", [4], "float32"), [1000, 4], label="wide")
        refused = b.cos(b.sin(x, label="first"), label="refused")
        return {"y": b.add(wide, refused, label="last")}

    assert layout(graph_of(build), {"refused"}) == ["T:first", "O:refused", "T:wide last"]


def test_small_parts_are_not_worth_a_hand_over() -> None:
    def build(b: pynn.GraphBuilder) -> dict[str, Operand]:
        x = b.sin(b.input("x", [4], "float32"), label="tiny")
        x = b.expand(b.cos(x, label="refused"), [512, 4], label="wide")
        return {"y": b.tan(x, label="large")}

    graph = graph_of(build)
    assert layout(graph, {"refused"}, 0) == ["T:tiny", "O:refused", "T:wide large"]
    assert layout(graph, {"refused"}, 1000) == ["O:tiny refused", "T:wide large"]
    assert layout(graph, {"refused"}, 10**6) == ["O:tiny refused wide large"]
    assert layout(graph, {}, 1000) == ["T:tiny refused wide large"]


def test_work_counts_multiplications() -> None:
    def build(b: pynn.GraphBuilder) -> dict[str, Operand]:
        x = b.input("x", [8, 64], "float32")
        return {"y": b.relu(b.matmul(x, b.constant(np.ones((64, 32), np.float32))))}

    matmul, relu = graph_of(build).nodes
    assert work(relu) == 2 * 8 * 32
    assert work(matmul) == 8 * 64 + 64 * 32 + 8 * 32 + 8 * 64 * 32


def test_a_cut_keeps_public_names_and_shares_constants() -> None:
    weights = np.arange(4, dtype=np.float32)

    def build(b: pynn.GraphBuilder) -> dict[str, Operand]:
        x = b.input("x", [4], "float32")
        a = b.add(x, b.constant(weights), label="a")
        c = b.sin(a, label="c")
        d = b.mul(c, a)
        return {"x": c, "twice": c, "y": d}

    graph = graph_of(build)
    net = Net(graph)
    first, second = cut_out(net, [0, 1]), cut_out(net, [2])
    assert list(first.graph.inputs) == ["x"]
    assert list(first.graph.outputs) == ["a/add_0:0", "x", "twice"]
    assert dict(first.handed) == {"a/add_0:0": "a/add_0:0", "x": "c/sin_0:0"}
    assert sorted(second.graph.inputs) == ["a/add_0:0", "c/sin_0:0"]
    assert list(second.graph.outputs) == ["y"] and not second.handed
    assert first.graph.nodes == graph.nodes[:2]
    assert first.graph.constants[0] is graph.constants[0]


def test_names_of_values_never_meet_public_ones() -> None:
    def build(b: pynn.GraphBuilder) -> dict[str, Operand]:
        x = b.sin(b.input("sin_0:0", [4], "float32"))
        return {"sin_0:0'": b.cos(x)}

    graph = graph_of(build)
    (name,) = cut_out(Net(graph), [1]).graph.inputs
    assert name not in ("sin_0:0", "sin_0:0'")
    made = in_parts(graph, FakeTensorRT("cos"))
    assert made.executable is not None
    agree(graph, made.executable)


# -- random graphs

UNARY = ("sin", "neg", "abs", "tanh")
BINARY = ("add", "max", "equal", "concat", "where")


@st.composite
def graphs(draw: st.DrawFn) -> tuple[Graph, frozenset[str]]:
    """A graph of up to 14 operators over [2, 3] and the labels that are refused; some results have several readers,
    some operators several results, some values are uint8 or uint32, which TensorRT's passes carry in other types."""
    b = pynn.GraphBuilder()
    floats = [b.input("x", [2, 3], "float32"), b.input("z", [2, 3], "float32")]
    integers = [b.input("k", [2, 3], "uint32")]
    refused = set()
    results: list[Operand] = []
    for i in range(draw(st.integers(1, 14))):
        label = f"n{i}"
        kind = draw(st.sampled_from((*UNARY, *BINARY, "split", "integer", "constant")))
        x, y = (draw(st.sampled_from(floats)) for _ in range(2))
        if kind in UNARY:
            made = [getattr(b, kind)(x, label=label)]
        elif kind == "concat":
            made = [b.slice(b.concat([x, y], 0, label=label), [1, 0], [2, 3])]
        elif kind == "equal":
            made = [b.cast(b.equal(x, y, label=label), "float32")]
        elif kind == "where":
            made = [b.where(b.greater(x, y), x, y, label=label)]
        elif kind == "split":
            pieces = b.split(x, [1, 1], label=label)
            made = [b.add(pieces[0], y), b.mul(pieces[1], y)]
        elif kind == "integer":
            made = [b.add(draw(st.sampled_from(integers)), draw(st.sampled_from(integers)), label=label)]
        elif kind == "constant":
            made = [b.mul(x, b.constant(np.full((2, 3), i + 0.5, np.float32)), label=label)]
        else:
            made = [getattr(b, kind)(x, y, label=label)]
        (integers if kind == "integer" else floats).extend(made)
        results.extend(made)
        if draw(st.booleans()):
            refused.add(label)
    wanted = draw(st.lists(st.sampled_from(results), min_size=1, max_size=4))
    outputs = {("x" if i == 0 else f"y{i}"): operand for i, operand in enumerate(wanted)}
    return b.finish(outputs), frozenset(refused)


def worst_alternation(graph: Graph, refused: Collection[int]) -> int:
    """The parts that the worst single way through the graph needs."""
    net = Net(graph)
    length: list[int] = []
    for i, before in enumerate(net.before):
        ways = [length[p] + ((p in refused) != (i in refused)) for p in before]
        length.append(max(ways, default=1))
    return max(length)


def check_plan(graph: Graph, parts: tuple[Part, ...], refused: Collection[int]) -> None:
    net = Net(graph)
    assert sorted(i for part in parts for i in part.nodes) == list(range(len(graph.nodes)))
    at = {i: number for number, part in enumerate(parts) for i in part.nodes}
    for i, before in enumerate(net.before):
        assert all(at[p] <= at[i] for p in before), "an arrow points backwards: some part is not convex"
    assert not any(part.preferred and i in refused for part in parts for i in part.nodes)
    assert all(one.preferred != other.preferred for one, other in itertools.pairwise(parts))


@settings(max_examples=200, deadline=None)
@given(graphs())
def test_plans_are_convex_and_short(drawn: tuple[Graph, frozenset[str]]) -> None:
    graph, labels = drawn
    refused = {i for i, node in enumerate(graph.nodes) if node.label in labels}
    parts = plan(Net(graph), refused, 0)
    check_plan(graph, parts, refused)
    assert {i for part in parts if not part.preferred for i in part.nodes} == refused
    needed = worst_alternation(graph, refused)
    assert needed <= len(parts) <= needed + 1
    check_plan(graph, plan(Net(graph), refused, 60), refused)


@settings(max_examples=60, deadline=None)
@given(graphs(), st.booleans(), st.booleans(), st.integers(0, 3))
def test_parts_compute_what_the_whole_does(
    drawn: tuple[Graph, frozenset[str]], parse: bool, names: bool, seed: int
) -> None:
    graph, labels = drawn
    labels = frozenset(node.label for node in graph.nodes if node.label in labels)
    if not labels:
        return
    backend = FakeTensorRT(*labels, parse=parse, names=names)
    made = in_parts(graph, backend)
    found = {one.label for one in made.report.left_out}
    if parse or names:
        assert found == labels
    if made.executable is None:
        assert {part.backend for part in made.report.parts} == {"onnxruntime"}
        return
    with made.executable as executable:
        agree(graph, executable, seed)
    assert all(one.inner._closed for one in backend.executables), "an engine was forgotten"


def test_an_output_may_have_the_name_of_an_input_of_another_type() -> None:
    def build(b: pynn.GraphBuilder) -> dict[str, Operand]:
        x, k = b.input("x", [2, 3], "float32"), b.input("k", [2, 3], "uint32")
        first = b.sin(x, label="refused")
        return {"x": b.add(b.add(k, k), b.cast(b.abs(b.neg(x)), "uint32")), "k": b.cos(first)}

    graph = graph_of(build)
    made = in_parts(graph, FakeTensorRT("refused", parse=False, names=False))
    assert [one.label for one in made.report.left_out] == ["refused"]
    assert made.executable is not None
    agree(graph, made.executable)


def test_where_a_value_enters_is_not_called_as_an_operator_of_the_part() -> None:
    """Both additions are the first of their part: nodes made at the entrance are not blamed on the second."""

    def build(b: pynn.GraphBuilder) -> dict[str, Operand]:
        first = b.add(b.input("x", [4], "uint32"), b.input("z", [4], "uint32"))
        return {"y": b.add(first, b.cast(b.cos(b.cast(first, "float32")), "uint32"))}

    second = cut_out(Net(graph_of(build)), [4]).graph
    assert base_names(second) == ("add_0",)
    assert "add_0" not in second.inputs and "add_0:0" in second.inputs


# -- what is learnt of a refusal


def net(b: pynn.GraphBuilder) -> dict[str, Operand]:
    x = b.input("x", [2, 3], "float32")
    y = b.softmax(b.sin(x, label="first"), 1, label="bad")
    return {"y": b.tanh(b.cos(y), label="last"), "z": b.softmax(x, 1, label="worse")}


@pytest.mark.parametrize("parse", [True, False])
@pytest.mark.parametrize("names", [True, False])
def test_refused_operators_are_found(parse: bool, names: bool) -> None:
    backend = FakeTensorRT("softmax", parse=parse, names=names)
    made = in_parts(graph_of(net), backend)
    assert [one.name for one in made.report.left_out] == ["softmax 'bad'", "softmax 'worse'"]
    words = ("the parser dislikes" if parse else "no tactic",) + (("softmax",) if names else ())
    assert all(word in one.reason for one in made.report.left_out for word in words)
    assert parts_of(made) == [("T", ["sin"]), ("O", ["softmax"]), ("T", ["cos", "tanh"])]
    assert isinstance(made.executable, PartitionedExecutable)
    agree(graph_of(net), made.executable)
    if parse:
        assert backend.compiles == 2, "asking is enough, nothing is built in vain"


def test_two_that_are_refused_only_together() -> None:
    def build(b: pynn.GraphBuilder) -> dict[str, Operand]:
        x = b.input("x", [4], "float32")
        return {"y": b.tanh(b.cos(b.abs(b.sin(x)))), "z": b.neg(x)}

    for names in (True, False):
        made = in_parts(graph_of(build), FakeTensorRT(pairs=("sin", "cos"), names=names))
        assert len(made.report.left_out) == 1
        assert made.executable is not None
        agree(graph_of(build), made.executable)


def test_a_part_that_stays_refused_goes_away_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partition_search, "MAX_SEARCHES", 1)
    backend = FakeTensorRT("cos", "tan", parse=False, names=False)

    def build(b: pynn.GraphBuilder) -> dict[str, Operand]:
        x = b.abs(b.cos(b.sin(b.input("x", [4], "float32"))))
        return {"y": b.neg(b.tan(x))}

    made = in_parts(graph_of(build), backend)
    assert parts_of(made) == [("T", ["sin"]), ("O", ["cos", "abs", "tan", "neg"])]
    assert made.report.left_out[0] == LeftOut("cos", "", "no tactic")
    assert {one.reason for one in made.report.left_out[1:]} == {"in a part of 3 operators that is refused: no tactic"}


def test_the_number_of_attempts_is_bounded() -> None:
    backend = FakeTensorRT("cos", parse=False)
    graph = chain(*(f"l{i}" for i in range(100)))

    def build(b: pynn.GraphBuilder) -> dict[str, Operand]:
        x = b.input("x", [4], "float32")
        for _ in range(100):
            x = b.cos(b.sin(x))
        return {"y": x}

    graph = graph_of(build)
    made = in_parts(graph, backend)
    assert len(made.report.left_out) >= 100
    assert backend.compiles < 250
    if made.executable is not None:
        agree(graph, made.executable)


def test_other_errors_are_not_taken_for_refusals() -> None:
    class Broken(FakeTensorRT):
        def compile(self, model: OnnxModel, options: CompileOptions) -> Executable:
            if self.compiles:
                raise pynn.DeviceOutOfMemoryError("no memory")
            return super().compile(model, options)

    backend = Broken("softmax", parse=False)
    with pytest.raises(pynn.DeviceOutOfMemoryError):
        in_parts(graph_of(net), backend)


def test_refused_by_the_other_back_end_too() -> None:
    class Refusing(OrtBackend):
        def compile(self, model: OnnxModel, options: CompileOptions) -> Executable:
            raise UnsupportedModelError("no kernel")

    backend = FakeTensorRT("softmax")
    refusal = refusal_of(backend, graph_of(net))
    with pytest.raises(UnsupportedModelError, match="no kernel"):
        partition(graph_of(net), backend, Refusing(), lower, CompileOptions(), refusal, min_work=0)
    assert all(one._closed for one in backend.executables)


def test_asking_without_building() -> None:
    backend = FakeTensorRT("softmax")
    refusal = refusal_of(backend, graph_of(net))
    compiles = backend.compiles
    found = refused_operators(graph_of(net), backend, lower, CompileOptions(), refusal)
    assert [one.label for one in found] == ["bad", "worse"] and backend.compiles == compiles
