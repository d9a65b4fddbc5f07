"""MLGraphBuilder as pywebnn has it: operators with its signatures, constants from anything that numpy takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import ValidationError
from ...types import DataType, check_shape
from .errors import StateError, translated
from .graph import MLGraph
from .lenient import LenientBuilder
from .operand import MLOperand, unwrap
from .recurrent import RecurrentMethods

if TYPE_CHECKING:
    from .context import MLContext

Array = np.ndarray[Any, Any]


class MLGraphBuilder(RecurrentMethods):
    """Builds one graph; made by ``MLContext.create_graph_builder``."""

    def __init__(self) -> None:
        raise StateError("MLGraphBuilder: make it with MLContext.create_graph_builder()")

    @classmethod
    def _of(cls, context: MLContext) -> MLGraphBuilder:
        builder = cls.__new__(cls)
        builder._context = context
        builder._core = LenientBuilder()
        return builder

    _context: MLContext

    def input(self, name: str, shape: Sequence[int], data_type: str = "float32") -> MLOperand:
        """A named graph input."""
        with translated():
            return MLOperand(self._core.input(name, shape, data_type), name, self._core.narrow.get(name))

    def constant(self, value: object, shape: Sequence[int] | None = None, data_type: str | None = None) -> MLOperand:
        """A constant from an array, or from numbers in lists.

        Numbers in lists become ``data_type``, by default float32, int64 or uint8 (truth values). An array keeps its
        data type; a ``data_type`` of the same size reinterprets its bits, as pywebnn does, another one converts the
        values.
        """
        with translated():
            array = _typed(value, None if data_type is None else DataType.parse(data_type))
            if shape is not None:
                wanted = check_shape(list(shape), what="constant: shape")
                if int(np.prod(wanted, dtype=np.int64)) != array.size:
                    raise ValidationError(
                        f"constant: {array.size} elements of shape {list(array.shape)} given, but the shape is "
                        f"{list(wanted)}",
                        operator="constant",
                    )
                array = array.reshape(wanted)
            return MLOperand(self._core.constant(array))

    def build(self, outputs: Mapping[str, MLOperand]) -> MLGraph:
        """Compile the graph that computes ``outputs``; inputs and constants may be outputs too."""
        with translated():
            plain = isinstance(outputs, Mapping)
            graph = self._core.finish({k: unwrap(v) for k, v in outputs.items()} if plain else outputs)  # type: ignore[arg-type]
            built = MLGraph(graph, self._core.declared, self._core.narrow)
            self._context._compiled(built)
            return built

    def operand_shape(self, operand: MLOperand) -> list[int]:
        return operand.shape

    def operand_data_type(self, operand: MLOperand) -> str:
        return operand.data_type


def _typed(value: object, data_type: DataType | None) -> Array:
    array = np.asarray(value)
    if data_type is None:
        default = {"f": np.float32, "i": np.int64, "u": np.uint64, "b": np.uint8}.get(array.dtype.kind)
        listed = not isinstance(value, (np.ndarray, np.generic))
        return array.astype(default) if default is not None and (listed or array.dtype == np.bool_) else array
    wanted = data_type.numpy
    if array.dtype == wanted:
        return array
    if data_type.bits < 8:
        return check_narrow("constant", array, data_type).astype(wanted)
    if isinstance(value, np.ndarray) and array.dtype.itemsize == wanted.itemsize and array.dtype != np.bool_:
        return np.ascontiguousarray(array).view(wanted)
    return convert("constant", array, wanted)


def check_narrow(where: str, array: Array, data_type: DataType) -> Array:
    """The array, if its values are those of a 4-bit type."""
    low, high = (0, 15) if data_type is DataType.UINT4 else (-8, 7)
    wrong = array if array.dtype.kind not in "iu" else array[(array < low) | (array > high)]
    if wrong.size:
        raise ValidationError(f"{where}: {data_type} values must be in [{low}, {high}]; got {wrong.reshape(-1)[0]}")
    return array


def convert(where: str, array: Array, wanted: np.dtype[Any]) -> Array:
    """The values in another data type, as ``astype`` does it. Raises ValidationError for what are no numbers."""
    if array.dtype.kind not in "biuf":
        raise ValidationError(f"{where}: {array.dtype} values are no numbers; {wanted} is wanted")
    with np.errstate(over="ignore", invalid="ignore"):
        return array.astype(wanted)
