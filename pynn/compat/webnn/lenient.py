"""LenientBuilder: pynn's GraphBuilder with spec names, plus what pywebnn and its files take beyond the spec.

Truth values of any data type, 4-bit inputs, inputs and constants as outputs, squeeze, unsqueeze, shape, the global
pools, symmetric padding, quantization by one number, recurrent weights without the dimension of directions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...builder import GraphBuilder
from ...errors import ValidationError
from ...graph import Graph, Operand
from ...types import DataType, OperandDescriptor

CARRIERS = {DataType.INT4: DataType.INT8, DataType.UINT4: DataType.UINT8}
"""What an input or a tensor of a 4-bit type really is; its values stay in the narrow range."""


class LenientBuilder(GraphBuilder):
    """Keeps its declared inputs in ``declared``, also those that no output needs, and the 4-bit ones in ``narrow``."""

    def __init__(self) -> None:
        super().__init__()
        self.narrow: dict[str, DataType] = {}

    def input(self, name: str, shape: Any, data_type: Any = None) -> Operand:
        """As ``GraphBuilder.input``; int4 and uint4 are int8 and uint8 that ``narrow`` remembers."""
        if isinstance(shape, OperandDescriptor) and data_type is None:
            shape, data_type = shape.shape, shape.data_type
        carrier = CARRIERS.get(data_type) if isinstance(data_type, str) else None  # type: ignore[call-overload]
        operand = super().input(name, shape, data_type if carrier is None else carrier)
        if carrier is not None:
            self.narrow[name] = DataType.parse(data_type)
        return operand

    @property
    def declared(self) -> dict[str, Operand]:
        return dict(self._inputs)

    def finish(self, outputs: Mapping[str, Operand]) -> Graph:
        """As ``GraphBuilder.finish``; an input or a constant may be an output too."""
        if isinstance(outputs, Mapping):
            outputs = {name: self._result(operand) for name, operand in outputs.items()}
        return super().finish(outputs)

    def _result(self, operand: Operand) -> Operand:
        plain = isinstance(operand, Operand) and (operand.is_input or operand.is_constant)
        return self.identity(operand) if plain else operand

    # -- truth values

    def _truth(self, x: Operand, label: str) -> Operand:
        """uint8 as it is; of any other data type, whether it differs from zero (NaN does)."""
        if not isinstance(x, Operand) or x.data_type is DataType.UINT8:
            return x
        return self.not_equal(x, self.constant(x.data_type, 0), label=label)

    def logical_and(self, a: Operand, b: Operand, *, label: str = "") -> Operand:
        return super().logical_and(self._truth(a, label), self._truth(b, label), label=label)

    def logical_or(self, a: Operand, b: Operand, *, label: str = "") -> Operand:
        return super().logical_or(self._truth(a, label), self._truth(b, label), label=label)

    def logical_xor(self, a: Operand, b: Operand, *, label: str = "") -> Operand:
        return super().logical_xor(self._truth(a, label), self._truth(b, label), label=label)

    def logical_not(self, a: Operand, *, label: str = "") -> Operand:
        return super().logical_not(self._truth(a, label), label=label)

    def where(self, condition: Operand, true_value: Operand, false_value: Operand, *, label: str = "") -> Operand:
        return super().where(self._truth(condition, label), true_value, false_value, label=label)

    # -- shapes

    def squeeze(self, input: Operand, *, axes: Sequence[int] | None = None, label: str = "") -> Operand:
        """Without the dimensions ``axes``, which must be 1; by default without all that are 1."""
        shape = _shape("squeeze", input)
        if not axes:
            kept = [d for d in shape if d != 1]
        else:
            drop = _axes("squeeze", axes, len(shape), label)
            wrong = [a for a in drop if shape[a] != 1]
            if wrong:
                raise ValidationError(
                    f"squeeze: dimension {wrong[0]} of shape {list(shape)} is not 1", operator="squeeze", label=label
                )
            kept = [d for i, d in enumerate(shape) if i not in drop]
        return self.reshape(input, kept, label=label)

    def unsqueeze(self, input: Operand, axes: Sequence[int], *, label: str = "") -> Operand:
        """With dimensions of 1 where ``axes`` counts in the result."""
        rest = iter(_shape("unsqueeze", input))
        rank = len(input.shape) + len(axes)
        new = _axes("unsqueeze", axes, rank, label)
        return self.reshape(input, [1 if i in new else next(rest) for i in range(rank)], label=label)

    def shape(self, input: Operand, *, label: str = "") -> Operand:
        """The shape as an int64 constant of rank 1."""
        return self.constant(np.array(_shape("shape", input), np.int64))

    # -- padding and pools

    def pad(
        self,
        input: Operand,
        beginning_padding: Sequence[int],
        ending_padding: Sequence[int],
        *,
        mode: str = "constant",
        value: float = 0,
        label: str = "",
    ) -> Operand:
        if mode != "symmetric":
            return super().pad(input, beginning_padding, ending_padding, mode=mode, value=value, label=label)
        rank = len(_shape("pad", input))
        if len(beginning_padding) != rank or len(ending_padding) != rank:
            raise ValidationError(
                f"pad: {len(beginning_padding)} beginning and {len(ending_padding)} ending paddings for rank {rank}",
                operator="pad",
                label=label,
            )
        result = input
        for axis, (before, after) in enumerate(zip(beginning_padding, ending_padding, strict=True)):
            result = self._mirror(result, axis, before, after, label)
        return result if result is not input else self.identity(input, label=label)

    def _mirror(self, x: Operand, axis: int, before: int, after: int, label: str) -> Operand:
        length = x.shape[axis]
        if max(before, after) > length:
            raise ValidationError(
                f"pad: symmetric padding of {max(before, after)} is more than dimension {axis} of {list(x.shape)}",
                operator="pad",
                label=label,
            )

        def edge(start: int, size: int) -> Operand:
            starts = [start if i == axis else 0 for i in range(x.rank)]
            sizes = [size if i == axis else d for i, d in enumerate(x.shape)]
            return self.reverse(self.slice(x, starts, sizes, label=label), axes=[axis], label=label)

        parts = [edge(0, before)] if before else []
        parts.append(x)
        if after:
            parts.append(edge(length - after, after))
        return self.concat(parts, axis, label=label) if len(parts) > 1 else x

    def global_average_pool(self, input: Operand, *, layout: str = "nchw", label: str = "") -> Operand:
        """The mean over height and width, both kept as 1."""
        return self.average_pool2d(input, layout=layout, label=label)

    def global_max_pool(self, input: Operand, *, layout: str = "nchw", label: str = "") -> Operand:
        """The maximum over height and width, both kept as 1."""
        return self.max_pool2d(input, layout=layout, label=label)

    def layer_normalization(
        self,
        input: Operand,
        *,
        scale: Operand | None = None,
        bias: Operand | None = None,
        axes: Sequence[int] | None = None,
        epsilon: float = 1e-5,
        label: str = "",
    ) -> Operand:
        """As the spec's; without ``axes``, as many of the last ones as ``scale`` or ``bias`` has."""
        given = scale if scale is not None else bias
        if axes is None and isinstance(given, Operand) and isinstance(input, Operand) and 0 < given.rank <= input.rank:
            axes = range(input.rank - given.rank, input.rank)
        return super().layer_normalization(input, scale=scale, bias=bias, axes=axes, epsilon=epsilon, label=label)

    # -- quantization

    def quantize_linear(
        self, input: Operand, scale: Operand, zero_point: Operand | None = None, *, label: str = ""
    ) -> Operand:
        scale = self._ranked(scale, input, label)
        point = self._zeros(scale, DataType.UINT8) if zero_point is None else self._ranked(zero_point, input, label)
        return super().quantize_linear(input, scale, point, label=label)

    def dequantize_linear(
        self, input: Operand, scale: Operand, zero_point: Operand | None = None, *, label: str = ""
    ) -> Operand:
        scale = self._ranked(scale, input, label)
        point = self._zeros(scale, input.data_type) if zero_point is None else self._ranked(zero_point, input, label)
        source = input
        if isinstance(source, Operand) and min(point.data_type.bits, source.data_type.bits) < 8:
            point = self._as(point, source.data_type)
            source = self._as(source, point.data_type)
        return super().dequantize_linear(source, scale, point, label=label)

    def _as(self, x: Operand, data_type: DataType) -> Operand:
        """A constant in another integer type, if that holds its values."""
        if x._data is None or x.data_type is data_type:
            return x
        converted = x._data.astype(data_type.numpy)
        same = bool((converted.astype(np.int64) == x._data.astype(np.int64)).all())
        return self.constant(converted) if same else x

    def _ranked(self, x: Operand, like: Operand, label: str) -> Operand:
        """One number for a tensor of any rank, as that many dimensions of 1. Constants stay constants."""
        if not isinstance(x, Operand) or not isinstance(like, Operand) or math.prod(x.shape) != 1:
            return x
        if x.rank >= like.rank:
            return x
        if x._data is not None:
            return self.constant(x._data.reshape((1,) * like.rank))
        return self.reshape(x, [1] * like.rank, label=label)

    def _zeros(self, like: Operand, data_type: DataType) -> Operand:
        return self.constant(np.zeros(like.shape, data_type.numpy))

    # -- recurrent networks

    def _directed(self, x: Operand | None, rank: int) -> Operand | None:
        """An operand of one direction without that dimension gets it."""
        if isinstance(x, Operand) and x.rank == rank - 1:
            return self.reshape(x, [1, *x.shape])
        return x

    def _step(self, x: Operand, steps: int) -> Operand:
        """A single step's input without the dimension of steps gets it."""
        if isinstance(x, Operand) and x.rank == 2 and steps == 1:
            return self.reshape(x, [1, *x.shape])
        return x

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
        reset_after: bool = False,
        return_sequence: bool = False,
        direction: str = "forward",
        layout: str = "zrn",
        activations: Sequence[str] = ("sigmoid", "tanh"),
        label: str = "",
    ) -> list[Operand]:
        """As the spec's; ``reset_after`` is False by default, as rustnn has it."""
        return super().gru(
            self._step(input, steps),
            self._directed(weight, 3) or weight,
            self._directed(recurrent_weight, 3) or recurrent_weight,
            steps,
            hidden_size,
            bias=self._directed(bias, 2),
            recurrent_bias=self._directed(recurrent_bias, 2),
            initial_hidden_state=self._directed(initial_hidden_state, 3),
            reset_after=reset_after,
            return_sequence=return_sequence,
            direction=direction,
            layout=layout,
            activations=activations,
            label=label,
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
        reset_after: bool = False,
        layout: str = "zrn",
        activations: Sequence[str] = ("sigmoid", "tanh"),
        label: str = "",
    ) -> Operand:
        """As the spec's; ``reset_after`` is False by default, as rustnn has it."""
        return super().gru_cell(
            input,
            weight,
            recurrent_weight,
            hidden_state,
            hidden_size,
            bias=bias,
            recurrent_bias=recurrent_bias,
            reset_after=reset_after,
            layout=layout,
            activations=activations,
            label=label,
        )

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
        return super().lstm(
            self._step(input, steps),
            self._directed(weight, 3) or weight,
            self._directed(recurrent_weight, 3) or recurrent_weight,
            steps,
            hidden_size,
            bias=self._directed(bias, 2),
            recurrent_bias=self._directed(recurrent_bias, 2),
            peephole_weight=self._directed(peephole_weight, 2),
            initial_hidden_state=self._directed(initial_hidden_state, 3),
            initial_cell_state=self._directed(initial_cell_state, 3),
            return_sequence=return_sequence,
            direction=direction,
            layout=layout,
            activations=activations,
            label=label,
        )


def _shape(where: str, operand: object) -> tuple[int, ...]:
    if not isinstance(operand, Operand):
        raise ValidationError(f"{where}: input must be an operand of this builder, got {operand!r}", operator=where)
    return operand.shape


def _axes(where: str, axes: Sequence[int], rank: int, label: str) -> set[int]:
    """Distinct axes below ``rank``; a negative one counts from the end."""
    found = {a + rank if a < 0 else a for a in axes}
    if len(found) != len(axes) or not all(0 <= a < rank for a in found):
        raise ValidationError(
            f"{where}: axes {list(axes)} must be distinct and below {rank}, the rank", operator=where, label=label
        )
    return found
