"""What a lowering may use to emit ONNX, without knowing the ``onnx`` package. Implemented by the converter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from ..graph import Node, Operand
from ..types import DataType, Shape


class Tensor:
    """A value of the ONNX graph: its name, ONNX element type ("float32", "bool", ...) and static shape."""

    __slots__ = ("data_type", "name", "shape")

    def __init__(self, name: str, data_type: str, shape: Shape) -> None:
        self.name = name
        self.data_type = data_type
        self.shape = shape

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def is_float(self) -> bool:
        return self.data_type in ("float32", "float16", "bfloat16")

    def __repr__(self) -> str:
        return f"<Tensor {self.name} {self.data_type}{list(self.shape)}>"


class Emitter(Protocol):
    """Emits ONNX nodes (opset of ``pynn.converter``) for one WebNN node at a time.

    A ``lower`` rule gets its operands with ``e.input(node, "name")``, emits nodes, and returns the result tensors; the
    converter gives the last one the operand's name. ``e.op`` assumes the first input's type and shape for its output:
    pass ``data_type=`` or ``shape=`` whenever they differ (a test compares every declaration with ONNX shape
    inference).
    """

    def input(self, node: Node, name: str) -> Tensor: ...

    def optional(self, node: Node, name: str) -> Tensor | None: ...

    def tensor(self, operand: Operand) -> Tensor: ...

    def op(
        self,
        op_type: str,
        *inputs: Tensor | None,
        data_type: str | None = None,
        shape: Shape | None = None,
        **attributes: Any,
    ) -> Tensor:
        """Emit one node with one output. Missing optional inputs are None; None attributes are left out."""
        ...

    def multi(
        self, op_type: str, *inputs: Tensor | None, outputs: Sequence[tuple[str, Shape] | None], **attributes: Any
    ) -> list[Tensor]:
        """Emit one node with several outputs, each given as (data type, shape); None is an unused output."""
        ...

    def constant(self, value: np.ndarray[Any, Any]) -> Tensor:
        """An initializer. Equal small ones are shared."""
        ...

    # Shorthands: each emits nothing when there is nothing to do; reshape and transpose change a constant on the host.

    def scalar(self, value: float | np.generic, data_type: str | DataType) -> Tensor:
        """A rank-0 constant."""
        ...

    def ints(self, values: Sequence[int]) -> Tensor:
        """A rank-1 int64 constant: shapes, axes, pads."""
        ...

    def cast(self, x: Tensor, data_type: str | DataType) -> Tensor: ...

    def reshape(self, x: Tensor, shape: Shape) -> Tensor: ...

    def transpose(self, x: Tensor, permutation: Sequence[int]) -> Tensor: ...

    def constant_value(self, x: Tensor) -> np.ndarray[Any, Any] | None:
        """The value of ``x`` if it is an initializer, else None. Do not modify it."""
        ...
