"""The activations of a graph, computed by ONNX Runtime, some at a time so that memory stays bounded."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..backends.base import Backend, CompileOptions, Executable
from ..converter.model import numpy_dtype
from ..converter.onnx_graph import OnnxGraph
from ..converter.passes import Pass, run_passes
from ..converter.serialize import to_model

Array = np.ndarray[Any, Any]

_MOST_AT_ONCE = 256
"""Outputs of one session: sizes of dynamic activations are not known beforehand."""


class Activations:
    """Runs of a graph that give the values ``names``. A context manager.

    ``memory_bytes`` limits what one run hands out, by the static shapes (a single larger value is still a run).
    """

    def __init__(
        self, graph: OnnxGraph, names: Sequence[str], backend: Backend, passes: Sequence[Pass], memory_bytes: int
    ) -> None:
        self._inputs = {value: name for name, value in graph.inputs.items()}
        self._from_inputs = [name for name in names if name in self._inputs]
        computed = [name for name in names if name not in self._inputs]
        groups = list(_groups(graph, computed, memory_bytes)) or [list(graph.outputs.values())[:1]]
        self._sessions: list[tuple[list[str], Executable]] = []
        try:
            for group in groups:
                model = to_model(_with_outputs(graph, group, passes))
                self._sessions.append((group if computed else [], backend.compile(model, CompileOptions())))
        except BaseException:
            self.close()
            raise

    @property
    def groups(self) -> int:
        """How many runs one sample takes."""
        return len(self._sessions)

    def check(self, sample: Mapping[str, Array]) -> dict[str, Array]:
        """The sample's arrays by input name. Raises InputError for names, dtypes or shapes that the model lacks."""
        return self._sessions[0][1].check_inputs(sample)

    def run(self, sample: Mapping[str, Array]) -> Iterator[tuple[str, Array]]:
        """Each wanted value of a checked sample, by name."""
        for name in self._from_inputs:
            yield name, sample[self._inputs[name]]
        for group, session in self._sessions:
            if group:
                results = session.run(sample)
                for i, name in enumerate(group):
                    yield name, results.pop(_public(i))

    def close(self) -> None:
        for _, session in self._sessions:
            session.close()

    def __enter__(self) -> Activations:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _public(number: int) -> str:
    return f"activation {number}"


def _with_outputs(graph: OnnxGraph, names: Sequence[str], passes: Sequence[Pass]) -> OnnxGraph:
    """The graph with ``names`` as its only outputs; weights are shared, nodes are copies that passes may change."""
    copy = graph.copy()
    copy.outputs = {_public(i): name for i, name in enumerate(names)}
    run_passes(copy, passes)
    return copy


def _groups(graph: OnnxGraph, names: Sequence[str], memory_bytes: int) -> Iterator[list[str]]:
    group: list[str] = []
    held = 0
    for name in names:
        tensor = graph.values[name]
        size = math.prod(max(1, dim) for dim in tensor.shape) * numpy_dtype(tensor.data_type).itemsize
        if group and (held + size > memory_bytes or len(group) == _MOST_AT_ONCE):
            yield group
            group, held = [], 0
        group.append(name)
        held += size
    if group:
        yield group
