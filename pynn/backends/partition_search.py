"""What a library refuses of a graph, found by asking it; the rest compiled for it in parts, and what it refuses beside.

Asking is cheap (a parse), building is not. First each operator is asked for alone. What is still refused in its part
afterwards is named by the library's error; or the error's text mentions one operator, which is believed if it is
refused alone or the rest is taken without it; or it is found by halving: the last operator of the shortest beginning of
the part that is refused. All is bounded; a part that stays refused goes to the other back end as a whole.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..converter.model import OnnxModel, TensorSpec
from ..converter.onnx_graph import base_names
from ..errors import EngineBuildError, PynnError, UnsupportedModelError
from ..graph import Graph, Node, Operand
from .base import Backend, CompileOptions, Executable
from .partition import MIN_WORK, Cut, Net, Part, cut_out, plan, size_of
from .partition_executable import PartitionedExecutable, Step
from .partition_report import DYNAMIC_IS_WHOLE, LeftOut, PartitionReport, PartSummary, whole

MAX_REFUSALS = 32
"""So many refused parts are looked into; after that a refused part goes to the other back end as a whole."""
MAX_SEARCHES = 4
"""So many of them by halving with builds, which are slow."""
_SMALL_CONSTANT = 1024

Refusal = (UnsupportedModelError, EngineBuildError)
Lower = Callable[[Backend, Graph], OnnxModel]
"""The model of a graph with a back end's passes."""


@dataclass(frozen=True)
class Partitioned:
    """What came of it. Without an executable, no part is worth running on the preferred back end."""

    executable: Executable | None
    report: PartitionReport


def partition(
    graph: Graph,
    first: Backend,
    second: Backend,
    lower: Lower,
    options: CompileOptions,
    refusal: PynnError,
    *,
    min_work: int | None = None,
) -> Partitioned:
    """Compile ``graph``, which ``first`` refused with ``refusal``, for both back ends.

    Raises what ``second`` raises for a part that it refuses too, and every error that is not a refusal.
    """
    search = _Search(graph, first, lower, options)
    search.learn(range(len(graph.nodes)), refusal)
    try:
        parts = search.settle(MIN_WORK if min_work is None else min_work)
        report = search.report(parts, second.name)
        if not any(part.preferred for part in parts):
            return Partitioned(None, report)
        with ExitStack() as undo:
            steps = []
            for part in parts:
                cut = search.cut(part)
                executable = search.compiled.pop(part, None) or second.compile(lower(second, cut.graph), options)
                undo.callback(executable.close)
                steps.append(Step(executable, cut.handed))
            executable = PartitionedExecutable(_specs(graph.inputs), _specs(graph.outputs), steps, report)
            undo.pop_all()
        return Partitioned(executable, report)
    finally:
        for executable in search.compiled.values():
            executable.close()


def refused_operators(
    graph: Graph, backend: Backend, lower: Lower, options: CompileOptions, refusal: PynnError
) -> tuple[LeftOut, ...]:
    """The operators of ``graph`` that are known to be refused, without building anything."""
    search = _Search(graph, backend, lower, options, builds=False)
    search.learn(range(len(graph.nodes)), refusal)
    return search.left_out()


def foresee(graph: Graph, first: Backend, second: str, lower: Lower, options: CompileOptions) -> PartitionReport:
    """What ``partition`` would do, as far as ``first`` can tell without building anything."""
    search = _Search(graph, first, lower, options, builds=False)
    error = search.check(range(len(graph.nodes)))
    if error is None:
        return whole(first.name, (node.op for node in graph.nodes))
    if graph.dimensions:
        return whole(second, (node.op for node in graph.nodes), note=DYNAMIC_IS_WHOLE)
    search.learn(range(len(graph.nodes)), error)
    return search.report(search.settle(MIN_WORK), second)


def _specs(operands: Mapping[str, Operand]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(name, name, x.data_type.value, x.shape) for name, x in operands.items())


@dataclass
class _Search:
    graph: Graph
    backend: Backend
    lower: Lower
    options: CompileOptions
    builds: bool = True
    """Whether parts are built, or only asked for."""
    reasons: dict[int, str] = field(default_factory=dict)
    """Why each refused node is."""
    compiled: dict[Part, Executable] = field(default_factory=dict)
    searches: int = 0
    surveyed: bool = False

    def __post_init__(self) -> None:
        self.net = Net(self.graph)

    # -- asking

    def check(self, nodes: Sequence[int]) -> PynnError | None:
        """What the library says against these nodes as a graph of their own, without building it."""
        try:
            self.backend.check(self.lower(self.backend, cut_out(self.net, nodes).graph), self.options)
        except Refusal as error:
            return error
        return None

    def build(self, nodes: Sequence[int]) -> PynnError | None:
        if not self.builds:
            return self.check(nodes)
        part = Part(True, tuple(nodes))
        if part in self.compiled:
            return None
        try:
            model = self.lower(self.backend, cut_out(self.net, nodes).graph)
            self.compiled[part] = self.backend.compile(model, self.options)
        except Refusal as error:
            return error
        return None

    def learn(self, nodes: Sequence[int], error: PynnError) -> bool:
        """Note at least one of ``nodes`` that is refused, and why. False when that would take too much building."""
        if isinstance(error, UnsupportedModelError) and not self.surveyed and self._survey():
            return True
        ordered = sorted(nodes)
        named = self._named(ordered, error)
        if named is not None:
            self.reasons[named] = str(error)
            return True
        ask = self.build if self.builds and self.check(ordered) is None else self.check
        guess = self._guess(ordered, error)
        if guess is not None:
            alone = ask([guess])
            if alone is not None or ask([i for i in ordered if i != guess]) is None:
                self.reasons[guess] = str(alone or error)
                return True
        if ask == self.build:
            if self.searches == MAX_SEARCHES:
                return False
            self.searches += 1
        culprit, why = self._halve(ordered, ask, error)
        self.reasons[culprit] = str(why)
        return True

    def _survey(self) -> bool:
        """Ask for each operator alone; a form that is taken is not asked for again. Whether any is refused."""
        self.surveyed = True
        taken: set[tuple[Any, ...]] = set()
        for i, node in enumerate(self.graph.nodes):
            form = _form(node)
            verdict = None if form in taken else self.check([i])
            if verdict is None:
                taken.add(form)
            else:
                self.reasons[i] = str(verdict)
        return bool(self.reasons)

    def _bases(self, ordered: Sequence[int]) -> dict[str, int]:
        return dict(zip(base_names(cut_out(self.net, ordered).graph), ordered, strict=True))

    def _named(self, ordered: Sequence[int], error: PynnError) -> int | None:
        """The node that the error is about, by its own word."""
        at = self._bases(ordered)
        name = getattr(error, "node", "")
        while name and name not in at:
            name = name.rpartition("/")[0]
        return at.get(name)

    def _guess(self, ordered: Sequence[int], error: PynnError) -> int | None:
        """The only node that the error's text mentions; it need not be the one at fault."""
        text, at = str(error), self._bases(ordered)
        found = [i for base, i in at.items() if re.search(rf"(?<!\w){re.escape(base)}/", text)]
        return found[0] if len(found) == 1 else None

    def _halve(
        self, ordered: Sequence[int], ask: Callable[[Sequence[int]], PynnError | None], error: PynnError
    ) -> tuple[int, PynnError]:
        """The last node of the shortest refused beginning, and the refusal."""
        taken, refused = 0, len(ordered)
        while refused - taken > 1:
            middle = (taken + refused) // 2
            why = ask(ordered[:middle])
            if why is None:
                taken = middle
            else:
                refused, error = middle, why
        return ordered[refused - 1], error

    # -- settling

    def settle(self, min_work: int) -> tuple[Part, ...]:
        """The plan whose parts for the preferred back end are all compiled."""
        refusals = 0
        while True:
            parts = plan(self.net, self.reasons, min_work)
            for unused in self.compiled.keys() - set(parts):
                self.compiled.pop(unused).close()
            for part in parts:
                error = self.build(part.nodes) if part.preferred else None
                if error is None:
                    continue
                refusals += 1
                if refusals > MAX_REFUSALS or not self.learn(part.nodes, error):
                    why = f"in a part of {len(part.nodes)} operators that is refused: {error}"
                    for i in part.nodes:
                        self.reasons.setdefault(i, why)
                break
            else:
                return parts

    # -- the result

    def cut(self, part: Part) -> Cut:
        return cut_out(self.net, part.nodes)

    def left_out(self) -> tuple[LeftOut, ...]:
        nodes = self.graph.nodes
        return tuple(LeftOut(nodes[i].op, nodes[i].label, self.reasons[i]) for i in sorted(self.reasons))

    def report(self, parts: Sequence[Part], second: str) -> PartitionReport:
        nodes = self.graph.nodes
        elsewhere = sum(len(part.nodes) for part in parts if not part.preferred)
        kept_off = elsewhere - len(self.reasons)
        if not any(part.preferred for part in parts):
            return whole(second, (node.op for node in nodes), self.left_out(), kept_off)
        summaries = []
        for part in parts:
            members = set(part.nodes)
            entering = [x for x in self.cut(part).graph.inputs.values() if id(x) in self.net.maker]
            summaries.append(
                PartSummary(
                    self.backend.name if part.preferred else second,
                    dict(Counter(nodes[i].op for i in sorted(members))),
                    sum(map(size_of, entering)),
                )
            )
        return PartitionReport(tuple(summaries), self.left_out(), kept_off)


def _form(node: Node) -> tuple[Any, ...]:
    """What a library's verdict on an operator alone can depend on: equal forms have equal verdicts."""
    operands = tuple(
        (name, tuple(_operand_form(x) for x in (value if isinstance(value, tuple) else (value,))))
        for name, value in node.inputs.items()
    )
    results = tuple((x.data_type, x.shape) for x in node.outputs)
    return node.op, operands, results, repr(sorted(node.attributes.items()))


def _operand_form(x: Operand) -> tuple[Any, ...]:
    value: object = None
    if x._data is not None:
        value = np.asarray(x._data).tobytes() if x._data.nbytes <= _SMALL_CONSTANT else id(x._data)
    return x.data_type, x.shape, value
