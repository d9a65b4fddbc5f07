"""Recurrent networks out of primitive ONNX operators: single steps, and whole LSTMs that ONNX's own LSTM cannot
express.

``xw`` is always the input's share ``x @ W.T + b`` of all gates of one step: [batch, gates * hidden].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .emitter import Emitter, Tensor
from .manipulation import split

ONNX_ACTIVATIONS = {"relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh"}


def linear(e: Emitter, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``x @ weight.T + bias`` for rank-2 ``x`` and ``weight``."""
    return e.op("Gemm", x, weight, bias, shape=(x.shape[0], weight.shape[0]), transB=1)


def zeros(e: Emitter, data_type: str, shape: tuple[int, ...]) -> Tensor:
    return e.constant(np.zeros(shape, dtype=data_type))


def rows(e: Emitter, x: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """``x`` cut along dimension 0 into its first ``count`` rows and the rest; a constant is not copied."""
    value = e.constant_value(x)
    if value is not None:
        return e.constant(value[:count]), e.constant(value[count:])
    first, rest = split(e, x, (count, x.shape[0] - count), 0)
    return first, rest


@dataclass(frozen=True, slots=True)
class GruStep:
    """One step of a GRU. ``layout`` is "zrn" or "rzn", activations are ONNX operators for gates and new state."""

    recurrent_weight: Tensor
    recurrent_bias: Tensor | None
    layout: str
    reset_after: bool
    activations: Sequence[str]

    def emit(self, e: Emitter, xw: Tensor, h: Tensor) -> Tensor:
        """The next hidden state."""
        gate, new = self.activations
        size = h.shape[1]
        x_gates, x_new = split(e, xw, (2 * size, size), 1)
        if self.reset_after:
            hw = linear(e, h, self.recurrent_weight, self.recurrent_bias)
            h_gates, h_new = split(e, hw, (2 * size, size), 1)
            reset, update = self._gates(e, gate, x_gates, h_gates)
            recurrent = e.op("Mul", reset, h_new)
        else:
            gates_weight, new_weight = rows(e, self.recurrent_weight, 2 * size)
            gates_bias = new_bias = None
            if self.recurrent_bias is not None:
                gates_bias, new_bias = rows(e, self.recurrent_bias, 2 * size)
            h_gates = linear(e, h, gates_weight, gates_bias)
            reset, update = self._gates(e, gate, x_gates, h_gates)
            recurrent = linear(e, e.op("Mul", reset, h), new_weight, new_bias)
        candidate = e.op(new, e.op("Add", x_new, recurrent))
        rest = e.op("Sub", e.scalar(1, h.data_type), update, shape=update.shape)
        return e.op("Add", e.op("Mul", update, h), e.op("Mul", rest, candidate))

    def _gates(self, e: Emitter, activation: str, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """Reset and update gate."""
        size = x.shape[1] // 2
        first, second = split(e, e.op(activation, e.op("Add", x, h)), (size, size), 1)
        return (first, second) if self.layout == "rzn" else (second, first)


@dataclass(frozen=True, slots=True)
class LstmStep:
    """One step of an LSTM. ``layout`` is "iofg" or "ifgo"; activations are ONNX operators for gates, cell and output.

    The three peephole vectors are those of input, output and forget gate, and all see the previous cell state. (ONNX
    shows its output gate the new one, so its LSTM is another function as soon as there are peepholes.)
    """

    recurrent_weight: Tensor
    recurrent_bias: Tensor | None
    peepholes: Sequence[Tensor]
    layout: str
    activations: Sequence[str]

    def emit(self, e: Emitter, xw: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """The next hidden and cell state."""
        gate, cell, output = self.activations
        gates = e.op("Add", xw, linear(e, h, self.recurrent_weight, self.recurrent_bias))
        pieces = dict(zip(self.layout, split(e, gates, (h.shape[1],) * 4, 1), strict=True))
        for name, peephole in zip("iof", self.peepholes):  # noqa: B905 (none, or three)
            pieces[name] = e.op("Add", pieces[name], e.op("Mul", c, peephole))
        i, o, f = (e.op(gate, pieces[name]) for name in "iof")
        g = e.op(cell, pieces["g"])
        new_c = e.op("Add", e.op("Mul", f, c), e.op("Mul", i, g))
        return e.op("Mul", o, e.op(output, new_c)), new_c


@dataclass(frozen=True, slots=True)
class LstmOperands:
    """The operands of an LSTM over a sequence, all with a leading dimension of directions except ``input``."""

    input: Tensor
    weight: Tensor
    recurrent_weight: Tensor
    bias: Tensor | None
    recurrent_bias: Tensor | None
    peephole_weight: Tensor
    hidden: Tensor | None
    cell: Tensor | None


def unrolled_lstm(
    e: Emitter, lstm: LstmOperands, *, direction: str, layout: str, activations: Sequence[str], sequence: bool
) -> list[Tensor]:
    """The LSTM step by step: [hidden, cell] or [hidden, cell, sequence]. The input's share is one product for all
    steps."""
    steps, batch, _ = lstm.input.shape
    directions, _, size = lstm.recurrent_weight.shape
    data_type = lstm.input.data_type
    flat = e.reshape(lstm.input, (steps * batch, lstm.input.shape[2]))
    results: list[list[Tensor]] = []
    for d in range(directions):
        peepholes = peephole_vectors(e, _of_direction(e, lstm.peephole_weight, d))
        recurrent_bias = None if lstm.recurrent_bias is None else _of_direction(e, lstm.recurrent_bias, d)
        recurrent_weight = _of_direction(e, lstm.recurrent_weight, d)
        step = LstmStep(recurrent_weight, recurrent_bias, peepholes, layout, activations)
        bias = None if lstm.bias is None else _of_direction(e, lstm.bias, d)
        shares = split(e, linear(e, flat, _of_direction(e, lstm.weight, d), bias), (batch,) * steps, 0)
        h, c = (
            zeros(e, data_type, (batch, size)) if state is None else _of_direction(e, state, d)
            for state in (lstm.hidden, lstm.cell)
        )
        backward = direction == "backward" or d == 1
        history: list[Tensor] = []
        for xw in reversed(shares) if backward else shares:
            h, c = step.emit(e, xw, h, c)
            history.append(h)
        finals = [e.reshape(state, (1, batch, size)) for state in (h, c)]
        if sequence:
            ordered = history[::-1] if backward else history
            finals.append(e.reshape(_concat(e, ordered, 0), (steps, 1, batch, size)))
        results.append(finals)
    axes = (0, 0, 1)
    return [_concat(e, pieces, axis) for axis, pieces in zip(axes, zip(*results, strict=True), strict=False)]


def peephole_vectors(e: Emitter, weight: Tensor) -> list[Tensor]:
    """The vectors of input, output and forget gate from [3 * hidden]; a constant is not copied."""
    size = weight.shape[0] // 3
    value = e.constant_value(weight)
    if value is not None:
        return [e.constant(value[k * size : (k + 1) * size]) for k in range(3)]
    return split(e, weight, (size,) * 3, 0)


def _of_direction(e: Emitter, x: Tensor, d: int) -> Tensor:
    """``x[d]``; a constant is not copied."""
    if x.shape[0] == 1:
        return e.reshape(x, x.shape[1:])
    value = e.constant_value(x)
    if value is not None:
        return e.constant(value[d])
    return e.op("Gather", x, e.scalar(d, "int64"), shape=x.shape[1:], axis=0)


def _concat(e: Emitter, pieces: Sequence[Tensor], axis: int) -> Tensor:
    if len(pieces) == 1:
        return pieces[0]
    shape = list(pieces[0].shape)
    shape[axis] = sum(p.shape[axis] for p in pieces)
    return e.op("Concat", *pieces, shape=tuple(shape), axis=axis)
