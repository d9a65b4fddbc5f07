"""What the operator families share: the step from a builder method's arguments to a checked node."""

from __future__ import annotations

from typing import Any

from ..errors import ValidationError
from ..graph import Node, Operand
from ..types import OperandDescriptor
from .call import Call
from .dimensions import infer_at_other_samples
from .registry import Operator


class OperatorMethods:
    """Base of the families in this package, mixed into the builder."""

    _owner: object
    _nodes: list[Node]
    _dimensions: dict[str, int]
    """By name of a dimension, the sample that stands for it."""

    def _check_can_build(self) -> None:
        """Raise InvalidStateError when the builder has built or its context is lost."""

    def _add(self, operator: Operator, label: str, operands: dict[str, Any], **attributes: Any) -> Operand:
        return self._add_all(operator, label, operands, **attributes)[0]

    def _add_all(self, operator: Operator, label: str, operands: dict[str, Any], **attributes: Any) -> list[Operand]:
        self._check_can_build()
        if not isinstance(label, str):
            raise ValidationError(f"{operator.method}: label must be a string, got {label!r}", operator=operator.method)
        call = Call(operator, attributes, label)
        call.bind(self._owner, operands)
        try:
            inferred = operator.infer(call)
        except ValidationError:
            elsewhere = infer_at_other_samples(call, self._dimensions) if self._dimensions else None
            if elsewhere is None:
                raise
            inferred = elsewhere
        if isinstance(inferred, OperandDescriptor):
            inferred = (inferred,)
        node = Node(operator.name, call.operands, attributes, label)
        node.outputs = tuple(Operand(self._owner, d.data_type, d.shape, node=node) for d in inferred)
        self._nodes.append(node)
        return list(node.outputs)
