"""Which kernels ONNX Runtime's CPU provider has, by version: the table of ort_kernels.py with questions to ask."""

from __future__ import annotations

from functools import lru_cache

from ..onnx_graph import OPSET, OnnxNode
from .ort_kernels import LACKS

UNSIGNED = frozenset({"uint8", "uint32", "uint64"})
SIGNED = frozenset({"int8", "int32", "int64"})
INTEGERS = UNSIGNED | SIGNED


class Kernels:
    """The kernels of one version. A version between two probed ones has at least the kernels of the older one."""

    def __init__(self, version: str) -> None:
        wanted = release(version)
        known = [probed for probed in sorted(LACKS) if probed <= wanted]
        self._lacks = LACKS[known[-1] if known else min(LACKS)]

    def right(self, node: OnnxNode, data_type: str) -> bool:
        """A kernel is there, and integers come out modulo their range."""
        return not {data_type, f"{data_type}!"}.intersection(self._types(node))

    def there(self, node: OnnxNode, data_type: str) -> bool:
        """A kernel is there."""
        return data_type not in self._types(node)

    def _types(self, node: OnnxNode) -> list[str]:
        name = node.op_type
        if name == "Resize":
            name = f"Resize.{node.attributes.get('mode', 'nearest')}"
        return self._lacks.get(name, "").split()


def release(version: str) -> tuple[int, int]:
    major, minor = [*version.split("."), "0"][:2]
    return int(major), int(minor)


@lru_cache(maxsize=256)
def type_positions(op_type: str) -> tuple[tuple[bool, ...], tuple[bool, ...], bool]:
    """Which inputs and outputs have the operator's main type parameter by ONNX's schema; whether the last input
    repeats."""
    import onnx

    schema = onnx.defs.get_schema(op_type, OPSET)
    sides = [x.type_str for x in schema.inputs], [x.type_str for x in schema.outputs]
    main = "T" if "T" in sides[0] else sides[0][0]
    variadic = bool(schema.inputs) and schema.inputs[-1].option == onnx.defs.OpSchema.FormalParameterOption.Variadic
    return tuple(t == main for t in sides[0]), tuple(t == main for t in sides[1]), variadic


def main_inputs(node: OnnxNode) -> list[int]:
    """The positions of the node's present inputs of the main type."""
    positions, _, variadic = type_positions(node.op_type)
    last = len(positions) - 1
    return [i for i, name in enumerate(node.inputs) if name and positions[min(i, last) if variadic else i]]


def main_outputs(node: OnnxNode) -> list[int]:
    """The positions of the node's outputs of the main type."""
    return [
        i
        for i, (name, main) in enumerate(zip(node.outputs, type_positions(node.op_type)[1], strict=False))
        if name and main
    ]
