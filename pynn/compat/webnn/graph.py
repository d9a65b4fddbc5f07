"""MLGraph as pywebnn has it: names, counts, files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from ...graph import Graph, Operand
from ...types import DataType
from . import weights as sidecar
from .errors import ArgumentError, GraphFileError
from .graph_file import read_json, write_json
from .interchange import from_file, to_file
from .text import read_text, write_text


class MLGraph:
    """A graph, compiled for each context at its first use there: at once for the context of its builder.

    Made by ``MLGraphBuilder.build`` and ``MLGraph.load``.
    """

    def __init__(
        self, graph: Graph, inputs: Mapping[str, Operand], narrow: Mapping[str, DataType], *, quantized: bool = False
    ) -> None:
        self._graph = graph
        self._inputs = dict(inputs)
        self._narrow = dict(narrow)
        self._quantized = quantized

    @property
    def operand_count(self) -> int:
        """Inputs, constants and results."""
        results = sum(len(node.outputs) for node in self._graph.nodes)
        return len(self._inputs) + len(self._graph.constants) + results

    @property
    def operation_count(self) -> int:
        return len(self._graph.nodes)

    def get_input_names(self) -> list[str]:
        return list(self._inputs)

    def get_output_names(self) -> list[str]:
        return list(self._graph.outputs)

    def __repr__(self) -> str:
        return f"MLGraph(operands={self.operand_count}, operations={self.operation_count})"

    # -- looking inside: pywebnn's helpers for graphs whose shapes it could not infer; pynn knows all shapes

    def _operands(self) -> list[Operand]:
        results = [operand for node in self._graph.nodes for operand in node.outputs]
        return [*self._inputs.values(), *self._graph.constants, *results]

    def debug_operand(self, idx: int) -> str:
        operands = self._operands()
        return f"Operand[{idx}]: " + (repr(operands[idx]) if 0 <= idx < len(operands) else "not found")

    def count_empty_shapes(self) -> int:
        """Operands of rank 0."""
        return sum(not operand.shape for operand in self._operands())

    def count_scalar_constants(self) -> int:
        """Constants of rank 0."""
        return sum(not operand.shape for operand in self._graph.constants)

    def count_unknown_shapes(self) -> int:
        """Operands of rank 0 that are no constants."""
        return self.count_empty_shapes() - self.count_scalar_constants()

    def count_unknown_shapes_excluding_scalar_ops(self) -> int:
        """0: no shape is unknown."""
        return 0

    def debug_unknown_shapes(self) -> list[str]:
        """Empty: no shape is unknown."""
        return []

    def debug_unknown_shapes_structured(self) -> list[dict[str, object]]:
        """Empty: no shape is unknown."""
        return []

    # -- files

    def save(
        self,
        path: str | os.PathLike[str],
        quantized: bool = False,
        *,
        format: Literal["json", "text"] = "json",
        weights: Literal["inline", "manifest", "safetensors"] = "inline",
    ) -> None:
        """Write the graph, as JSON with all data inside unless told otherwise, as pywebnn does.

        ``weights`` moves the constants' data beside the file: "manifest" to ``NAME.weights`` and
        ``NAME.manifest.json``, "safetensors" to ``NAME.safetensors``. ``quantized`` sets the mark of that name in the
        file. Raises GraphFileError (an OSError) for names that the text notation cannot hold, and for 4-bit constants
        in safetensors.
        """
        if format not in ("json", "text") or weights not in ("inline", "manifest", "safetensors"):
            raise ArgumentError(
                f"save: format {format!r}, weights {weights!r}; format is 'json' or 'text', weights 'inline', "
                "'manifest' or 'safetensors'"
            )
        target = Path(path)
        file = to_file(self._graph, self._inputs, self._narrow, quantized=quantized or self._quantized)
        data = sidecar.detach(file, weights) if weights != "inline" else {}
        content = write_text(file) if format == "text" else write_json(file)
        if weights != "inline":
            sidecar.write(data, target, weights)
        target.write_text(content, encoding="utf-8", newline="\n")

    @staticmethod
    def load(
        path: str | os.PathLike[str],
        manifest_path: str | os.PathLike[str] | None = None,
        weights_path: str | os.PathLike[str] | None = None,
    ) -> MLGraph:
        """Read a graph file, JSON or text; it is compiled at its first use.

        Data kept outside is looked for beside the file: ``model.safetensors``, ``NAME.safetensors``, ``NAME.weights``,
        ``model.weights``, the latter with ``manifest.json`` or ``NAME.manifest.json``; or where the arguments say,
        relative to the file's folder. A ``.weights`` file is mapped, not read: replace it, but do not write into it,
        while the graph lives. Raises GraphFileError (an OSError) that names the line, node or constant.
        """
        source = Path(path)
        try:
            text = source.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise GraphFileError(f"{source} is no graph file: {error}") from error
        try:
            file = read_json(text) if text.lstrip().startswith("{") else read_text(text)
            sidecar.resolve(file, source, manifest_path, weights_path)
            graph, inputs, narrow = from_file(file)
        except GraphFileError as error:
            raise GraphFileError(f"{source.name}: {error}") from error
        return MLGraph(graph, inputs, narrow, quantized=file.quantized)
