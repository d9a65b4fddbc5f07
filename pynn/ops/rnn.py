"""gru, gruCell, lstm, lstmCell. Spec: https://www.w3.org/TR/webnn/#api-mlgraphbuilder-gru and its neighbours.

Sequences become ONNX's GRU and LSTM, single steps and peephole LSTMs primitive operators (``rnn_steps``).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..graph import Node, Operand
from ..types import FLOAT_TYPES, MAX_DIMENSION, OperandDescriptor, Shape
from .call import Call
from .emitter import Emitter, Tensor
from .manipulation import split
from .methods import OperatorMethods
from .registry import Param, define
from .rnn_steps import ONNX_ACTIVATIONS, GruStep, LstmOperands, LstmStep, linear, peephole_vectors, unrolled_lstm, zeros

SECTION = "rnn"

_ONNX_DIRECTIONS = {"forward": "forward", "backward": "reverse", "both": "bidirectional"}
_ONNX_GATES = {"zrn": (0, 1, 2), "rzn": (1, 0, 2), "iofg": (0, 1, 2, 3), "ifgo": (0, 3, 1, 2)}
"""Where ONNX's gates (update, reset, new; input, output, forget, cell) are in each layout."""


def _param(name: str, rank: int, *, optional: bool = False) -> Param:
    return Param(name, FLOAT_TYPES, rank=rank, like="" if name == "input" else "input", optional=optional)


# -- validation -----------------------------------------------------------------------------


def _check_shapes(c: Call, expected: dict[str, Shape]) -> None:
    for name, shape in expected.items():
        operand = c.optional(name)
        if operand is not None and operand.shape != shape:
            c.fail(f"{name} has shape {list(operand.shape)}, expected {list(shape)}")


def _check_hidden_size(c: Call, gates: int) -> int:
    size = c.uint("hidden_size", minimum=1)
    if size * 2 * gates > MAX_DIMENSION:
        c.fail(f"hidden_size {size}: {2 * gates} times it must be at most {MAX_DIMENSION}")
    return size


def _check_activations(c: Call, count: int) -> None:
    names = c.attributes["activations"]
    if isinstance(names, (str, bytes)) or not isinstance(names, Sequence) or len(names) != count:
        c.fail(f"activations must hold {count} names, got {names!r}")
    for name in names:
        if not isinstance(name, str) or name not in ONNX_ACTIVATIONS:
            c.fail(f"activations {list(names)}: {name!r} is none of {', '.join(map(repr, ONNX_ACTIVATIONS))}")
    c.attributes["activations"] = tuple(str(name) for name in names)


def _infer_sequence(c: Call, gates: int, layouts: tuple[str, str], states: int) -> list[OperandDescriptor]:
    x = c.operand("input")
    size = _check_hidden_size(c, gates)
    count = c.uint("steps", minimum=1, named=True)
    steps, batch, features = x.shape
    if steps != count:
        c.fail(f"steps is {count}, but input has shape {list(x.shape)}, that is {steps} steps")
    directions = 2 if c.enum("direction", *_ONNX_DIRECTIONS) == "both" else 1
    c.enum("layout", *layouts)
    _check_activations(c, gates - 1)
    state = (directions, batch, size)
    rows = gates * size
    _check_shapes(
        c,
        {
            "weight": (directions, rows, features),
            "recurrent_weight": (directions, rows, size),
            "bias": (directions, rows),
            "recurrent_bias": (directions, rows),
            "peephole_weight": (directions, 3 * size),
            "initial_hidden_state": state,
            "initial_cell_state": state,
        },
    )
    results = [c.descriptor(x.data_type, state)] * states
    if c.flag("return_sequence"):
        results.append(c.descriptor(x.data_type, (steps, *state)))
    return results


def _infer_cell(c: Call, gates: int, layouts: tuple[str, str]) -> OperandDescriptor:
    x = c.operand("input")
    size = _check_hidden_size(c, gates)
    batch, features = x.shape
    c.enum("layout", *layouts)
    _check_activations(c, gates - 1)
    state = (batch, size)
    rows = gates * size
    _check_shapes(
        c,
        {
            "weight": (rows, features),
            "recurrent_weight": (rows, size),
            "hidden_state": state,
            "cell_state": state,
            "bias": (rows,),
            "recurrent_bias": (rows,),
            "peephole_weight": (3 * size,),
        },
    )
    return c.descriptor(x.data_type, state)


# -- lowering to ONNX's GRU and LSTM --------------------------------------------------------


def _onnx_gates(e: Emitter, x: Tensor | None, layout: str) -> Tensor | None:
    """The gate blocks along dimension 1 in ONNX's order."""
    order = _ONNX_GATES[layout]
    if x is None or order == tuple(range(len(order))):
        return x
    value = e.constant_value(x)
    if value is not None:
        blocks = np.split(value, len(order), axis=1)
        return e.constant(np.concatenate([blocks[k] for k in order], axis=1))
    pieces = split(e, x, (x.shape[1] // len(order),) * len(order), 1)
    return e.op("Concat", *(pieces[k] for k in order), shape=x.shape, axis=1)


def _onnx_bias(e: Emitter, bias: Tensor | None, recurrent: Tensor | None) -> Tensor | None:
    """Both biases side by side, in the order of gates they come in; None if there is neither."""
    present = bias or recurrent
    if present is None:
        return None
    if bias is None or recurrent is None:
        missing = zeros(e, present.data_type, present.shape)
        bias, recurrent = bias or missing, recurrent or missing
    values = [e.constant_value(b) for b in (bias, recurrent)]
    if values[0] is not None and values[1] is not None:
        return e.constant(np.concatenate([values[0], values[1]], axis=1))
    return e.op("Concat", bias, recurrent, shape=(bias.shape[0], 2 * bias.shape[1]), axis=1)


def _onnx_sequence(
    e: Emitter, n: Node, op_type: str, *more: Tensor | None, states: int, **attributes: int
) -> list[Tensor]:
    """ONNX's GRU or LSTM: final states, then the sequence if asked for. ``more`` follows the initial hidden state."""
    a = n.attributes
    layout = a["layout"]
    weights = [_onnx_gates(e, e.input(n, name), layout) for name in ("weight", "recurrent_weight")]
    biases = [_onnx_gates(e, e.optional(n, name), layout) for name in ("bias", "recurrent_bias")]
    results = [(str(o.data_type), o.shape) for o in n.outputs]
    made = e.multi(
        op_type,
        e.input(n, "input"),
        *weights,
        _onnx_bias(e, *biases),
        None,
        e.optional(n, "initial_hidden_state"),
        *more,
        outputs=[results[states] if a["return_sequence"] else None, *results[:states]],
        hidden_size=a["hidden_size"],
        direction=_ONNX_DIRECTIONS[a["direction"]],
        activations=_onnx_activations(n) * n.outputs[0].shape[0],
        **attributes,
    )
    return made[1:] + made[:1] if a["return_sequence"] else made[1:]


def _onnx_activations(n: Node) -> list[str]:
    return [ONNX_ACTIVATIONS[name] for name in n.attributes["activations"]]


# -- gru, gruCell ---------------------------------------------------------------------------

_GRU_LAYOUTS = ("zrn", "rzn")


def _infer_gru(c: Call) -> list[OperandDescriptor]:
    c.flag("reset_after")
    return _infer_sequence(c, 3, _GRU_LAYOUTS, states=1)


def _lower_gru(e: Emitter, n: Node) -> list[Tensor]:
    return _onnx_sequence(e, n, "GRU", states=1, linear_before_reset=int(n.attributes["reset_after"]))


GRU = define(
    "gru",
    SECTION,
    _param("input", 3),
    _param("weight", 3),
    _param("recurrent_weight", 3),
    _param("bias", 2, optional=True),
    _param("recurrent_bias", 2, optional=True),
    _param("initial_hidden_state", 3, optional=True),
    infer=_infer_gru,
    lower=_lower_gru,
    returns_list=True,
)


def _infer_gru_cell(c: Call) -> OperandDescriptor:
    c.flag("reset_after")
    return _infer_cell(c, 3, _GRU_LAYOUTS)


def _lower_gru_cell(e: Emitter, n: Node) -> Tensor:
    a = n.attributes
    step = GruStep(
        e.input(n, "recurrent_weight"),
        e.optional(n, "recurrent_bias"),
        a["layout"],
        a["reset_after"],
        _onnx_activations(n),
    )
    xw = linear(e, e.input(n, "input"), e.input(n, "weight"), e.optional(n, "bias"))
    return step.emit(e, xw, e.input(n, "hidden_state"))


GRU_CELL = define(
    "gruCell",
    SECTION,
    _param("input", 2),
    _param("weight", 2),
    _param("recurrent_weight", 2),
    _param("hidden_state", 2),
    _param("bias", 1, optional=True),
    _param("recurrent_bias", 1, optional=True),
    infer=_infer_gru_cell,
    lower=_lower_gru_cell,
)


# -- lstm, lstmCell -------------------------------------------------------------------------

_LSTM_LAYOUTS = ("iofg", "ifgo")


def _infer_lstm(c: Call) -> list[OperandDescriptor]:
    return _infer_sequence(c, 4, _LSTM_LAYOUTS, states=2)


def _lower_lstm(e: Emitter, n: Node) -> list[Tensor]:
    peephole_weight = e.optional(n, "peephole_weight")
    if peephole_weight is None:
        return _onnx_sequence(e, n, "LSTM", e.optional(n, "initial_cell_state"), states=2)
    operands = LstmOperands(
        e.input(n, "input"),
        e.input(n, "weight"),
        e.input(n, "recurrent_weight"),
        e.optional(n, "bias"),
        e.optional(n, "recurrent_bias"),
        peephole_weight,
        e.optional(n, "initial_hidden_state"),
        e.optional(n, "initial_cell_state"),
    )
    a = n.attributes
    return unrolled_lstm(
        e,
        operands,
        direction=a["direction"],
        layout=a["layout"],
        activations=_onnx_activations(n),
        sequence=a["return_sequence"],
    )


LSTM = define(
    "lstm",
    SECTION,
    _param("input", 3),
    _param("weight", 3),
    _param("recurrent_weight", 3),
    _param("bias", 2, optional=True),
    _param("recurrent_bias", 2, optional=True),
    _param("peephole_weight", 2, optional=True),
    _param("initial_hidden_state", 3, optional=True),
    _param("initial_cell_state", 3, optional=True),
    infer=_infer_lstm,
    lower=_lower_lstm,
    returns_list=True,
)


def _infer_lstm_cell(c: Call) -> list[OperandDescriptor]:
    return [_infer_cell(c, 4, _LSTM_LAYOUTS)] * 2


def _lower_lstm_cell(e: Emitter, n: Node) -> tuple[Tensor, Tensor]:
    peephole_weight = e.optional(n, "peephole_weight")
    step = LstmStep(
        e.input(n, "recurrent_weight"),
        e.optional(n, "recurrent_bias"),
        [] if peephole_weight is None else peephole_vectors(e, peephole_weight),
        n.attributes["layout"],
        _onnx_activations(n),
    )
    xw = linear(e, e.input(n, "input"), e.input(n, "weight"), e.optional(n, "bias"))
    return step.emit(e, xw, e.input(n, "hidden_state"), e.input(n, "cell_state"))


LSTM_CELL = define(
    "lstmCell",
    SECTION,
    _param("input", 2),
    _param("weight", 2),
    _param("recurrent_weight", 2),
    _param("hidden_state", 2),
    _param("cell_state", 2),
    _param("bias", 1, optional=True),
    _param("recurrent_bias", 1, optional=True),
    _param("peephole_weight", 1, optional=True),
    infer=_infer_lstm_cell,
    lower=_lower_lstm_cell,
    returns_list=True,
)


class Rnn(OperatorMethods):
    """All operands are float32 or all float16. Activations are "relu", "sigmoid" or "tanh"; absent biases and states
    are 0.

    Each raises ValidationError (a TypeError) for operands of another builder, other data types or ranks, a shape that
    does not follow from ``input``, ``hidden_size`` and the number of directions, an unknown option value, or a list
    of activations of another length.
    """

    def gru(
        self,
        input: Operand,
        weight: Operand,
        recurrent_weight: Operand,
        steps: int,
        hidden_size: int,
        *,
        bias: Operand | None = None,
        recurrent_bias: Operand | None = None,
        initial_hidden_state: Operand | None = None,
        reset_after: bool = True,
        return_sequence: bool = False,
        direction: str = "forward",
        layout: str = "zrn",
        activations: Sequence[str] = ("sigmoid", "tanh"),
        label: str = "",
    ) -> list[Operand]:
        """A gated recurrent unit over ``input`` [steps, batch, features].

        ``weight`` is [directions, 3 * hidden_size, features], ``recurrent_weight`` [directions, 3 * hidden_size,
        hidden_size], the biases [directions, 3 * hidden_size], the state [directions, batch, hidden_size];
        ``direction`` "both" has 2 directions, "forward" and "backward" 1. ``layout`` orders the gates: update, reset,
        new ("zrn") or "rzn". ``reset_after`` applies the reset gate after the recurrent product. ``activations`` are
        those of gates and new state. Returns [hidden state], and the hidden states of all steps [steps, directions,
        batch, hidden_size] if ``return_sequence``. Spec: https://www.w3.org/TR/webnn/#api-mlgraphbuilder-gru.
        """
        operands = {
            "input": input,
            "weight": weight,
            "recurrent_weight": recurrent_weight,
            "bias": bias,
            "recurrent_bias": recurrent_bias,
            "initial_hidden_state": initial_hidden_state,
        }
        return self._add_all(
            GRU,
            label,
            operands,
            steps=steps,
            hidden_size=hidden_size,
            reset_after=reset_after,
            return_sequence=return_sequence,
            direction=direction,
            layout=layout,
            activations=activations,
        )

    def gru_cell(
        self,
        input: Operand,
        weight: Operand,
        recurrent_weight: Operand,
        hidden_state: Operand,
        hidden_size: int,
        *,
        bias: Operand | None = None,
        recurrent_bias: Operand | None = None,
        reset_after: bool = True,
        layout: str = "zrn",
        activations: Sequence[str] = ("sigmoid", "tanh"),
        label: str = "",
    ) -> Operand:
        """One step of ``gru`` without the dimensions of steps and directions: the new hidden state [batch,
        hidden_size].

        Spec: https://www.w3.org/TR/webnn/#api-mlgraphbuilder-grucell.
        """
        operands = {
            "input": input,
            "weight": weight,
            "recurrent_weight": recurrent_weight,
            "hidden_state": hidden_state,
            "bias": bias,
            "recurrent_bias": recurrent_bias,
        }
        options = {"reset_after": reset_after, "layout": layout, "activations": activations}
        return self._add(GRU_CELL, label, operands, hidden_size=hidden_size, **options)

    def lstm(
        self,
        input: Operand,
        weight: Operand,
        recurrent_weight: Operand,
        steps: int,
        hidden_size: int,
        *,
        bias: Operand | None = None,
        recurrent_bias: Operand | None = None,
        peephole_weight: Operand | None = None,
        initial_hidden_state: Operand | None = None,
        initial_cell_state: Operand | None = None,
        return_sequence: bool = False,
        direction: str = "forward",
        layout: str = "iofg",
        activations: Sequence[str] = ("sigmoid", "tanh", "tanh"),
        label: str = "",
    ) -> list[Operand]:
        """A long short-term memory over ``input`` [steps, batch, features].

        ``weight`` is [directions, 4 * hidden_size, features], ``recurrent_weight`` [directions, 4 * hidden_size,
        hidden_size], the biases [directions, 4 * hidden_size], ``peephole_weight`` [directions, 3 * hidden_size]
        (input, output, forget), the states [directions, batch, hidden_size]; ``direction`` "both" has 2 directions,
        "forward" and "backward" 1. ``layout`` orders the gates: input, output, forget, cell ("iofg") or "ifgo". Every
        peephole sees the previous cell state. ``activations`` are those of gates, cell gate and output. Returns
        [hidden state, cell state], and the hidden states of all steps [steps, directions, batch, hidden_size] if
        ``return_sequence``. Spec: https://www.w3.org/TR/webnn/#api-mlgraphbuilder-lstm.
        """
        operands = {
            "input": input,
            "weight": weight,
            "recurrent_weight": recurrent_weight,
            "bias": bias,
            "recurrent_bias": recurrent_bias,
            "peephole_weight": peephole_weight,
            "initial_hidden_state": initial_hidden_state,
            "initial_cell_state": initial_cell_state,
        }
        return self._add_all(
            LSTM,
            label,
            operands,
            steps=steps,
            hidden_size=hidden_size,
            return_sequence=return_sequence,
            direction=direction,
            layout=layout,
            activations=activations,
        )

    def lstm_cell(
        self,
        input: Operand,
        weight: Operand,
        recurrent_weight: Operand,
        hidden_state: Operand,
        cell_state: Operand,
        hidden_size: int,
        *,
        bias: Operand | None = None,
        recurrent_bias: Operand | None = None,
        peephole_weight: Operand | None = None,
        layout: str = "iofg",
        activations: Sequence[str] = ("sigmoid", "tanh", "tanh"),
        label: str = "",
    ) -> list[Operand]:
        """One step of ``lstm`` without the dimensions of steps and directions: the new [hidden state, cell state].

        Spec: https://www.w3.org/TR/webnn/#api-mlgraphbuilder-lstmcell.
        """
        operands = {
            "input": input,
            "weight": weight,
            "recurrent_weight": recurrent_weight,
            "hidden_state": hidden_state,
            "cell_state": cell_state,
            "bias": bias,
            "recurrent_bias": recurrent_bias,
            "peephole_weight": peephole_weight,
        }
        options = {"layout": layout, "activations": activations}
        return self._add_all(LSTM_CELL, label, operands, hidden_size=hidden_size, **options)
