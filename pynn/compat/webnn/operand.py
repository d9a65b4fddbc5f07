"""MLOperand as pywebnn shows it, and the step from its operands to pynn's."""

from __future__ import annotations

from typing import Any

from ...graph import Operand
from ...types import DataType
from .errors import translated
from .lenient import LenientBuilder


class MLOperand:
    """One value of a graph under construction; made by MLGraphBuilder's methods."""

    __slots__ = ("_core", "_data_type", "_name")

    def __init__(self, core: Operand, name: str | None = None, data_type: DataType | None = None) -> None:
        self._core = core
        self._name = name
        self._data_type = data_type or core.data_type

    @property
    def data_type(self) -> str:
        return self._data_type.value

    @property
    def shape(self) -> list[int]:
        return list(self._core.shape)

    @property
    def name(self) -> str | None:
        """An input's name, else None."""
        return self._name

    def __repr__(self) -> str:
        return f"MLOperand(name={self._name or 'unnamed'!r}, dtype={self.data_type!r}, shape={self.shape})"


def unwrap(value: Any) -> Any:
    """pynn's operand of one of pywebnn's; of a list, each."""
    if isinstance(value, MLOperand):
        return value._core
    if isinstance(value, (list, tuple)):
        return [unwrap(item) for item in value]
    return value


class OperatorMethods:
    """Base of the operator families in this package, mixed into MLGraphBuilder."""

    _core: LenientBuilder

    def _one(self, method: str, *arguments: Any, **options: Any) -> MLOperand:
        with translated():
            call = getattr(self._core, method)
            return MLOperand(call(*map(unwrap, arguments), **_given(options)))

    def _many(self, method: str, *arguments: Any, **options: Any) -> list[MLOperand]:
        with translated():
            call = getattr(self._core, method)
            return [MLOperand(core) for core in call(*map(unwrap, arguments), **_given(options))]


def _given(options: dict[str, Any]) -> dict[str, Any]:
    """Without those that are None: pynn has the spec's default for each."""
    return {name: unwrap(value) for name, value in options.items() if value is not None}
