"""MLGraph: a graph that a context has compiled. Spec: https://www.w3.org/TR/webnn/#api-mlgraph."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any

from typing_extensions import Self

from .backends.base import Executable
from .backends.partition_report import PartitionReport, whole
from .backends.report import BackendReport
from .converter.model import TensorSpec
from .dispatch import ReadyRuns, end_all
from .errors import InvalidStateError
from .graph import Graph, Operand
from .types import OperandDescriptor

if TYPE_CHECKING:
    from .context import MLContext


def _descriptors(operands: Mapping[str, Operand], specs: Sequence[TensorSpec]) -> dict[str, OperandDescriptor]:
    """By name; a named dimension that was compiled for one size has that number."""
    shapes = {spec.name: spec.shape for spec in specs}
    found = {}
    for name, operand in operands.items():
        dims = zip(operand.shape, shapes.get(name, operand.shape), strict=True)
        fixed = (size if isinstance(size, int) else dim for dim, size in dims)
        found[name] = OperandDescriptor(operand.data_type, tuple(fixed))
    return found


class MLGraph:
    """A compiled graph, bound to its context. ``inputs`` and ``outputs`` hold the descriptors by name.

    ``inputs`` has only what some output depends on. ``executable`` is the back end's own object. A context manager.
    Spec: https://www.w3.org/TR/webnn/#api-mlgraph.
    """

    def __init__(self, context: MLContext, graph: Graph, executable: Executable) -> None:
        self._context = context
        self._executable: Executable | None = executable
        self._ready = ReadyRuns()
        forgotten = weakref.finalize(self, end_all, self._ready.kept)
        forgotten.atexit = False
        self._host_reason: str | None = None
        self.inputs = MappingProxyType(_descriptors(graph.inputs, executable.inputs))
        self.outputs = MappingProxyType(_descriptors(graph.outputs, executable.outputs))
        self.backend = executable.backend
        report = executable.report
        assert report is not None
        self.backend_report: BackendReport = report
        found = executable.partition
        self._partition = found or whole(executable.backend, (node.op for node in graph.nodes))

    @property
    def executable(self) -> Executable:
        """Raises InvalidStateError once the graph is destroyed."""
        if self._executable is None:
            raise InvalidStateError("the graph is destroyed")
        return self._executable

    @property
    def stats(self) -> Mapping[str, Any]:
        """Those of the executable; "dispatch" is None before the first one, "gpu", or "host" and
        "dispatch_reason" why."""
        reason = self._host_reason
        way = None if reason is None else "host" if reason else "gpu"
        return {**self.executable.stats, "dispatch": way, "dispatch_reason": reason or ""}

    def partition_report(self) -> PartitionReport:
        """Which operators run on which back end, and why the preferred one does not run the rest. Print it."""
        return self._partition

    def destroy(self) -> None:
        """Give the executable back. Idempotent; queued work still completes."""
        executable, self._executable = self._executable, None
        self._ready.end()
        if executable is not None:
            self._context._timeline.after_pending(executable.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.destroy()

    def __repr__(self) -> str:
        def side(values: Mapping[str, OperandDescriptor]) -> str:
            return ", ".join(f"{name}: {d.data_type}{list(d.shape)}" for name, d in values.items())

        state = " destroyed" if self._executable is None else ""
        return f"<MLGraph ({side(self.inputs)}) -> ({side(self.outputs)}) on {self.backend}{state}>"
