"""Three graphs in one: a model in float32, beside it the same in a lower precision, and each operator of that by itself
on the exact inputs. Values of the first keep their names.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..converter.onnx_graph import OnnxGraph, OnnxNode
from ..converter.precision.casts import CAST_ORIGIN
from ..ops.emitter import Tensor

FLOATS = ("float32", "float16", "bfloat16", "float64")


@dataclass(frozen=True, slots=True)
class Pair:
    """One result of an operator, by the names of values in the shadow's graph: exact, in the reduced model (None: it
    has no such value), and of the operator alone (None: the reduced model computes it in the same way)."""

    node: OnnxNode
    exact: str
    reduced: str | None
    own: str | None


class Shadow:
    """``graph`` computes everything, the nodes of ``exact`` first. ``reduced`` is the model behind the precision's
    passes: they keep the names of values. ``constants``: values that follow from initializers alone."""

    def __init__(self, exact: OnnxGraph, reduced: OnnxGraph) -> None:
        self.exact, self.reduced = exact, reduced
        self.graph = OnnxGraph()
        self.graph.opsets, self.graph.ir_version = reduced.opsets, max(exact.ir_version, reduced.ir_version)
        self.graph.values.update(exact.values)
        self.graph.unshaped |= exact.unshaped
        self.graph.initializers.update(exact.initializers)
        self.graph.inputs.update(exact.inputs)
        self.graph.nodes += exact.nodes
        self._prefix = _unused("reduced", exact)
        self._own_prefix = _unused("own", exact)
        self._makers = {name: i for i, node in enumerate(reduced.nodes) for name in node.outputs if name}
        self._changed = _changed_meaning(reduced)
        self._fixed = _constants(reduced)
        self._inputs = set(exact.inputs.values())
        self._copy_reduced()
        self.pairs = [pair for number, node in enumerate(exact.nodes) for pair in self._pairs(number, node)]
        self.constants = _constants(self.graph)

    # -- the reduced model

    def _copy_reduced(self) -> None:
        for name in self._inputs:
            self._cast_input(name)
        for node in self.reduced.nodes:
            self._add(node, {name: self._in_reduced(name) for name in (*node.inputs, *node.outputs)})

    def _cast_input(self, name: str) -> None:
        """An input that the reduced model takes in another type."""
        data_type = self.reduced.values[name].data_type if name in self.reduced.values else ""
        if data_type and data_type != self.exact.values[name].data_type:
            self._cast(name, f"{self._prefix}/{name}", data_type)

    def _in_reduced(self, name: str) -> str:
        """The name of a value of the reduced model."""
        array = self.reduced.initializers.get(name)
        if array is not None and self.exact.initializers.get(name) is array:
            return name
        made = f"{self._prefix}/{name}"
        if not name or (name in self._inputs and made not in self.graph.values):
            return name
        if array is not None:
            self.graph.initializers[made] = array
        self._declare(made, name)
        return made

    # -- single operators

    def _pairs(self, number: int, node: OnnxNode) -> Iterable[Pair]:
        wanted = [name for name in node.outputs if name and self.exact.values[name].data_type in FLOATS]
        made = [name for name in wanted if name in self._makers and name not in self._changed]
        own = self._own(number, node, made) if made else {}
        for name in wanted:
            reduced = self._in_reduced(name) if name in made else None
            yield Pair(node, name, reduced, own.get(name))

    def _own(self, number: int, node: OnnxNode, outputs: list[str]) -> dict[str, str]:
        """Add what the reduced model puts in the place of ``node``, on exact inputs; the new names of its results.
        Nothing where it is the same."""
        places, cuts = self._chain(outputs)
        renamed = {"": ""}
        nodes = []
        for place in places:
            one = self.reduced.nodes[place]
            if one.origin == CAST_ORIGIN and one.inputs[0] in cuts and self._is_exact(one):
                renamed[one.outputs[0]] = one.inputs[0]
            else:
                nodes.append(one)
        read = {name for one in nodes for name in one.inputs}
        if len(nodes) == 1 and self._is_same(node, nodes[0], renamed):
            return {}
        for name in cuts & read:
            was, now = self.exact.values[name].data_type, self.reduced.values[name].data_type
            if now in ("", was):
                renamed[name] = name
            else:
                renamed[name] = self._cast(name, f"{self._own_prefix} {number}/in/{name}", now)
        for one in nodes:
            for name in one.outputs:
                if name:
                    renamed[name] = f"{self._own_prefix} {number}/{name}"
                    self._declare(renamed[name], name)
            names = {x: renamed[x] if x in renamed else self._in_reduced(x) for x in (*one.inputs, *one.outputs)}
            self._add(one, names)
        return {name: renamed[name] for name in outputs}

    def _chain(self, outputs: list[str]) -> tuple[list[int], set[str]]:
        """The nodes of the reduced model, by place, that compute ``outputs`` from values that the exact model has, and
        these values."""
        places: set[int] = set()
        cuts: set[str] = set()
        waiting = [self._makers[name] for name in outputs]
        while waiting:
            place = waiting.pop()
            if place in places:
                continue
            places.add(place)
            for name in self.reduced.nodes[place].inputs:
                if not name or name in self.reduced.initializers or name in self._fixed:
                    continue
                known = name in self.exact.values and name not in self.exact.initializers
                if name not in self._makers or (known and name not in self._changed and name not in outputs):
                    cuts.add(name)
                else:
                    waiting.append(self._makers[name])
        return sorted(places), cuts

    def _is_exact(self, cast: OnnxNode) -> bool:
        """Whether an inserted cast gives a value the type it has in the exact model."""
        return bool(cast.attributes["to"] == self.exact.values[cast.inputs[0]].data_type)

    def _is_same(self, node: OnnxNode, other: OnnxNode, renamed: dict[str, str]) -> bool:
        exact, reduced = self.exact, self.reduced
        inputs = [renamed.get(name, name) for name in other.inputs]
        if (node.op_type, node.outputs, node.inputs) != (other.op_type, other.outputs, inputs):
            return False
        if node.attributes != other.attributes or not self._fixed.isdisjoint(inputs):
            return False
        arrays = (exact.initializers.get(name) is reduced.initializers.get(name) for name in inputs)
        direct = [name for name in (*other.inputs, *other.outputs) if name]
        return all(arrays) and all(
            _type(exact, name) in ("", _type(reduced, name)) for name in direct if name in exact.values
        )

    # -- building

    def _add(self, node: OnnxNode, names: dict[str, str]) -> None:
        inputs, outputs = [names[x] for x in node.inputs], [names[x] for x in node.outputs]
        name = next((x for x in outputs if x), node.name)
        self.graph.nodes.append(
            OnnxNode(node.op_type, inputs, outputs, node.attributes, name, node.origin, node.domain, node.captures)
        )

    def _declare(self, name: str, like: str) -> None:
        known = self.reduced.values[like]
        self.graph.values[name] = Tensor(name, known.data_type, known.shape)
        if like in self.reduced.unshaped:
            self.graph.unshaped.add(name)

    def _cast(self, name: str, made: str, data_type: str) -> str:
        self.graph.values[made] = Tensor(made, data_type, self.exact.values[name].shape)
        if name in self.exact.unshaped:
            self.graph.unshaped.add(made)
        self.graph.nodes.append(OnnxNode("Cast", [name], [made], {"to": data_type}, made, CAST_ORIGIN))
        return made


def _type(graph: OnnxGraph, name: str) -> str:
    return graph.values[name].data_type


def _constants(graph: OnnxGraph) -> set[str]:
    """Values that nodes compute from initializers alone."""
    found: set[str] = set()
    for node in graph.nodes:
        reads = [x for x in node.inputs if x]
        if reads and not node.captures and all(x in graph.initializers or x in found for x in reads):
            found.update(node.outputs)
    return found - {""}


def _unused(stem: str, graph: OnnxGraph) -> str:
    while any(name.startswith(stem) for name in graph.values):
        stem += "_"
    return stem


def _changed_meaning(graph: OnnxGraph) -> set[str]:
    """Values that SmoothQuant divided by factors where they are made: their name now stands for something else."""
    return {
        node.outputs[0]
        for node in graph.nodes
        if node.op_type in ("LayerNormalization", "Mul") and any(x.endswith("/smoothed") for x in node.inputs)
    }
