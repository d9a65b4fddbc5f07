"""The pass that moves unsigned and narrow integers into types that TensorRT computes with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ...ops.emitter import Tensor
from ..onnx_graph import OnnxGraph, OnnxNode
from . import Rewriter, graph_pass, rewrite
from . import tensorrt_integers as integers
from .tensorrt_integers import CARRIERS, integer_range

_HOST_VIEWS = {"uint32": "int32", "uint64": "int64", "uint16": "int16"}
"""Engine inputs and outputs of these types are bound as the same bytes of another type."""

_TABLE_BYTES = 2**20
_STAYS_IN_RANGE = frozenset(
    (
        *(
            "Identity",
            "Reshape",
            "Transpose",
            "Slice",
            "Concat",
            "Split",
            "Expand",
            "Tile",
            "Pad",
            "Squeeze",
            "Unsqueeze",
        ),
        *("Gather", "GatherElements", "GatherND", "ScatterElements", "ScatterND", "Trilu", "Where", "Resize"),
        *("Max", "Min", "Clip", "ReduceMax", "ReduceMin", "MaxPool", "TopK", "Relu", "Sign", "Mod"),
    )
)
"""Operators whose results are no larger than their operands: nothing to wrap."""
_PAIR = ("QuantizeLinear", "DequantizeLinear")
"""The only operators between which int8 is computed with: those left by the passes before."""
_IDENTITY_IF_UNSIGNED = frozenset(("Abs", "Relu"))


@graph_pass
def carry_integers(graph: OnnxGraph) -> None:
    """TensorRT (RTX 1.4 to 1.7) takes uint8 only as an engine's input or output, int8 constants only before
    DequantizeLinear, and uint32, uint64, int16 and uint16 nowhere.

    int8 and uint8 are carried inside as int32, uint32 as int64, uint64 as the bits of an int64, wrapped after
    arithmetic. uint8 and int8 stay at the boundary; uint32 and uint64 are bound there as int32 and int64, noted in
    ``carriers``. A bool cast to an integer and back stays a bool. A large table of bytes that Gather reads stays one:
    as an int8 constant behind DequantizeLinear.
    """
    if any(tensor.data_type in CARRIERS for tensor in graph.values.values()):
        _Carriers(graph, _HOST_VIEWS).run()


@graph_pass
def carry_integers_without_int8(graph: OnnxGraph) -> None:
    """TensorRT for RTX 1.4 does not build an engine with a plain int8 input or output ("cannot be quantized by
    input. You might want to add a DQ node"), besides all that ``carry_integers`` says.

    As ``carry_integers``, with int8 bound as uint8: the same bytes.
    """
    if any(tensor.data_type in CARRIERS for tensor in graph.values.values()):
        _Carriers(graph, {**_HOST_VIEWS, "int8": "uint8"}).run()


class _Carriers:
    """One run of the pass. ``public`` has the data types before it; ``carried`` what stands for an input or constant;
    ``truths`` the bool that a value was cast from; ``clipped`` the bounds of Clip's results."""

    def __init__(self, graph: OnnxGraph, views: Mapping[str, str]) -> None:
        self.graph = graph
        self.views = views
        self.public = {name: tensor.data_type for name, tensor in graph.values.items()}
        self.carried: dict[str, Tensor] = {}
        self.truths: dict[str, Tensor] = {}
        self.clipped: dict[str, tuple[int, int]] = {}
        self.entrances = set(graph.inputs.values())

    def run(self) -> None:
        graph = self.graph
        body, graph.nodes = graph.nodes, []
        for name in graph.inputs.values():
            if self.public[name] in CARRIERS:
                self._enter(name)
        entrance, graph.nodes = graph.nodes, body
        rewrite(graph, self.rule, retype=True)
        graph.nodes[:0] = entrance
        for name in graph.outputs.values():
            if self.public[name] in CARRIERS:
                self._leave(name)
        sweep(graph)

    def _enter(self, name: str) -> None:
        """Turn what the engine takes in into a carrier."""
        graph, data_type = self.graph, self.public[name]
        view = self.views.get(data_type)
        if view:
            graph.carriers[name] = data_type
            graph.values[name] = Tensor(name, view, graph.values[name].shape)
        e = Rewriter(graph)
        e.at(OnnxNode("", [], [], {}, f"{name}/enter", "input"))
        wide = e.cast(graph.values[name], CARRIERS[data_type])
        if view and data_type != "uint64":
            wide = integers.wrap(e, wide, data_type)
        self.carried[name] = wide

    def _leave(self, name: str) -> None:
        """Turn a carrier that is a graph output into what the engine gives out."""
        graph, data_type = self.graph, self.public[name]
        inside = graph.values[name]
        if data_type == "uint64":
            graph.carriers[name] = data_type
            return
        producer = next(node for node in reversed(graph.nodes) if name in node.outputs)
        hidden = graph.fresh(f"{name}/carried")
        graph.values[hidden] = Tensor(hidden, inside.data_type, inside.shape)
        for node in graph.nodes:
            node.inputs = [hidden if x == name else x for x in node.inputs]
        producer.outputs = [hidden if x == name else x for x in producer.outputs]
        e = Rewriter(graph)
        e.at(OnnxNode("", [], [], {}, f"{name}/leave", producer.origin))
        source = graph.values[hidden]
        if name in self.truths and data_type == "uint8":
            source = self.truths[name]
        elif data_type in self.views:
            source = integers.wrap(e, source, self.views[data_type])
            graph.carriers[name] = data_type
        outside = self.views.get(data_type, data_type)
        del graph.values[name]
        cast = OnnxNode("Cast", [source.name], [name], {"to": outside}, f"{name}/leave/Cast", producer.origin)
        graph.nodes.append(cast)
        graph.values[name] = Tensor(name, outside, inside.shape)

    # -- inside

    def carrier(self, e: Rewriter, name: str) -> Tensor:
        """What stands for value ``name``: itself, the widened graph input, or the converted constant."""
        data_type = self.public.get(name, "")
        if data_type not in CARRIERS:
            return e.value(name)
        if name not in self.carried:
            array = e.array(name)
            if array is not None:
                signed = array.view(np.int64) if data_type == "uint64" else array.astype(CARRIERS[data_type])
                self.carried[name] = e.constant(signed)
            else:
                self.carried[name] = e.value(name)
        return self.carried[name]

    def rule(self, e: Rewriter, node: OnnxNode) -> Tensor | Sequence[Tensor | None] | None:
        if node.op_type == "Clip":
            self._note_bounds(node)
        kinds = [self.public.get(name, "") for name in node.inputs]
        results = [self.public.get(name, "") for name in node.outputs]
        if not any(kind in CARRIERS for kind in (*kinds, *results)) or node.op_type in _PAIR:
            return None
        if node.op_type == "Cast":
            return self._cast(e, node, kinds[0], results[0])
        if node.op_type == "Gather" and self._is_table(node.inputs[0]):
            return self._look_up(e, node)
        inputs = [self.carrier(e, name) if name else None for name in node.inputs]
        kind = next(kind for kind in (*kinds, *results) if kind in CARRIERS)
        present = [x for x in inputs if x is not None]
        if kind.startswith("u"):
            if node.op_type in _IDENTITY_IF_UNSIGNED:
                return e.op("Identity", present[0])
            if node.op_type == "Sign":
                return e.cast(e.cast(present[0], "bool"), CARRIERS[kind])
        if kind == "uint64" and kinds[0] == kind:
            special = _UINT64.get(node.op_type)
            if special is not None:
                return special(e, node, present)
        op_type = "ReduceSum" if kind == "uint64" and node.op_type == "ReduceL1" else node.op_type
        if op_type == "Pow":
            return integers.wrap(e, integers.integer_power(e, present[0], present[1]), kind)
        outputs = [
            (CARRIERS.get(self.public[name], self.public[name]), self.graph.values[name].shape) if name else None
            for name in node.outputs
        ]
        made = e.multi(op_type, *inputs, outputs=outputs, **node.attributes)
        if op_type in _STAYS_IN_RANGE or (op_type == "Div" and kind.startswith("u")):
            return made
        return [
            integers.wrap(e, x, self.public[name]) if self.public.get(name) in CARRIERS else x
            for name, x in zip(node.outputs, made, strict=True)
        ]

    def _is_table(self, name: str) -> bool:
        array = self.graph.initializers.get(name)
        return array is not None and array.dtype.name in ("int8", "uint8") and array.nbytes >= _TABLE_BYTES

    def _look_up(self, e: Rewriter, node: OnnxNode) -> Tensor:
        table, indices = self.graph.initializers[node.inputs[0]], self.carrier(e, node.inputs[1])
        shape, unsigned = self.graph.values[node.outputs[0]].shape, table.dtype == np.uint8
        stored = e.constant((table ^ 0x80).view(np.int8) if unsigned else table)
        numbers = e.op("DequantizeLinear", stored, e.scalar(1.0, "float32"), data_type="float32")
        found = e.cast(e.op("Gather", numbers, indices, shape=shape, **node.attributes), "int32")
        return integers.binary(e, "Add", found, 128) if unsigned else found

    def _note_bounds(self, node: OnnxNode) -> None:
        if self.public[node.outputs[0]] not in _INTEGERS:
            return
        bounds = [array for array in map(self.graph.initializers.get, node.inputs[1:]) if array is not None]
        if len(bounds) == 2:
            self.clipped[node.outputs[0]] = int(bounds[0]), int(bounds[1])

    def _cast(self, e: Rewriter, node: OnnxNode, source: str, target: str) -> Tensor:
        name = node.inputs[0]
        if target == "bool" and name in self.truths:
            return self.truths[name]
        if source == "bool":
            self.truths[node.outputs[0]] = e.value(name)
            return e.cast(e.value(name), CARRIERS[target])
        array = e.array(name)
        if array is not None and target not in CARRIERS:
            with np.errstate(over="ignore"):
                return e.constant(array.astype(target))
        bound = e.value(name).data_type
        if name in self.entrances and source == bound and target in ("float32", "float16"):
            return e.cast(e.value(name), target)
        x = self.carrier(e, name)
        if target == "bool" and source == "uint8":
            # RTX 1.6 takes a uint8 for the bool as it is: 255 came out of And(Cast(x), true) on a GPU.
            return e.op("Not", e.op("Equal", x, e.scalar(0, x.data_type), data_type="bool"))
        if target == "bool":
            return e.cast(x, "bool")
        if target not in _INTEGERS:
            return integers.integer_to_float(e, x, source, target)
        if source not in _INTEGERS:
            return integers.float_to_integer(e, x, target)
        if name in self.clipped and target in CARRIERS:
            low, high = self.clipped[name]
            if integer_range(target)[0] <= low and high <= integer_range(target)[1]:
                return e.cast(x, CARRIERS[target])
        return integers.to_integer(e, x, source, target)


_INTEGERS = frozenset((*CARRIERS, "int32", "int64"))

# uint64: the operators whose answer depends on the top bit being a number and not a sign


_Special = Callable[[Rewriter, OnnxNode, list[Tensor]], Tensor]


def _ordered(op_type: str) -> _Special:
    def rule(e: Rewriter, node: OnnxNode, x: list[Tensor]) -> Tensor:
        swapped = op_type in ("Greater", "LessOrEqual")
        less = integers.unsigned_less(e, x[1], x[0]) if swapped else integers.unsigned_less(e, x[0], x[1])
        return less if op_type in ("Less", "Greater") else e.op("Not", less)

    return rule


def _clip(e: Rewriter, node: OnnxNode, x: list[Tensor]) -> Tensor:
    has_low = len(node.inputs) > 1 and bool(node.inputs[1])
    result = integers.unsigned_extreme(e, x[:2], largest=True) if has_low else x[0]
    return integers.unsigned_extreme(e, [result, x[-1]], largest=False) if len(node.inputs) > 2 else result


def _reduce(largest: bool) -> _Special:
    """The extreme high half first; then the extreme low half of those that have it."""

    def rule(e: Rewriter, node: OnnxNode, x: list[Tensor]) -> Tensor:
        op_type = "ReduceMax" if largest else "ReduceMin"
        high, low = integers.unsigned_halves(e, x[0])
        axes = x[1:]
        shape = e.value(node.outputs[0]).shape
        kept_shape = _kept_shape(e, node, x[0].shape)
        noop = {"noop_with_empty_axes": node.attributes.get("noop_with_empty_axes", 0)}
        best = e.op(op_type, high, *axes, shape=kept_shape, keepdims=1, **noop)
        loser = e.scalar(-1 if largest else 2**32, "int64")
        rest = integers.select(e, integers.compare(e, "Equal", high, best), low, loser)
        last = e.op(op_type, rest, *axes, shape=kept_shape, keepdims=1, **noop)
        return e.reshape(integers.from_halves(e, best, last), shape)

    return rule


def _kept_shape(e: Rewriter, node: OnnxNode, shape: tuple[int, ...]) -> tuple[int, ...]:
    axes = e.array(node.inputs[1]) if len(node.inputs) > 1 else None
    if axes is None or (axes.size == 0 and not node.attributes.get("noop_with_empty_axes", 0)):
        return (1,) * len(shape)
    reduced = {int(axis) % len(shape) for axis in axes}
    return tuple(1 if i in reduced else dim for i, dim in enumerate(shape))


def _arg(largest: bool) -> _Special:
    """The first place that holds the extreme."""

    def rule(e: Rewriter, node: OnnxNode, x: list[Tensor]) -> Tensor:
        axis = node.attributes.get("axis", 0) % x[0].rank
        axes = e.ints([axis])
        shape = tuple(1 if i == axis else dim for i, dim in enumerate(x[0].shape))
        op_type = "ReduceMax" if largest else "ReduceMin"
        high, low = integers.unsigned_halves(e, x[0])
        best = e.op(op_type, high, axes, shape=shape, keepdims=1)
        loser = e.scalar(-1 if largest else 2**32, "int64")
        rest = integers.select(e, integers.compare(e, "Equal", high, best), low, loser)
        last = e.op(op_type, rest, axes, shape=shape, keepdims=1)
        hit = e.cast(integers.compare(e, "Equal", rest, last), "int32")
        return e.op("ArgMax", hit, data_type="int64", shape=e.value(node.outputs[0]).shape, **node.attributes)

    return rule


_UINT64: dict[str, _Special] = {
    "Less": _ordered("Less"),
    "LessOrEqual": _ordered("LessOrEqual"),
    "Greater": _ordered("Greater"),
    "GreaterOrEqual": _ordered("GreaterOrEqual"),
    "Max": lambda e, node, x: integers.unsigned_extreme(e, x, largest=True),
    "Min": lambda e, node, x: integers.unsigned_extreme(e, x, largest=False),
    "Div": lambda e, node, x: integers.unsigned_divide(e, x[0], x[1]),
    "Clip": _clip,
    "ReduceMax": _reduce(True),
    "ReduceMin": _reduce(False),
    "ArgMax": _arg(True),
    "ArgMin": _arg(False),
}


def sweep(graph: OnnxGraph) -> None:
    """Drop Identity nodes inside the graph, then nodes that nothing reads."""
    public = set(graph.outputs.values())
    source: dict[str, str] = {}
    kept: list[OnnxNode] = []
    for node in graph.nodes:
        node.inputs = [source.get(x, x) for x in node.inputs]
        if node.op_type == "Identity" and node.outputs[0] not in public:
            source[node.outputs[0]] = node.inputs[0]
        else:
            kept.append(node)
    read = set(public)
    graph.nodes = []
    for node in reversed(kept):
        if any(name in read for name in node.outputs):
            read.update(node.inputs)
            graph.nodes.append(node)
    graph.nodes.reverse()
