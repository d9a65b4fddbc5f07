"""PartitionedExecutable: parts of a graph on two back ends, run one after another, arrays handed over as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..converter.model import TensorSpec
from ..errors import OperationError
from .base import Array, Executable
from .partition_report import PartitionReport

PARTITIONED = "tensorrt+onnxruntime"


@dataclass(frozen=True, slots=True)
class Step:
    """A compiled part. ``handed`` maps names of its outputs to the names under which later steps read them; ``dead``
    are the values that no later step reads."""

    executable: Executable
    handed: Mapping[str, str]
    dead: tuple[str, ...] = ()


class PartitionedExecutable(Executable):
    """Runs the steps in order. An array that one step returns is the next one's input, without a copy; what the caller
    wants in arrays of his own is written there by the step that makes it. Calls from several threads may overlap where
    the back ends allow it."""

    backend = PARTITIONED

    def __init__(
        self,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
        steps: Sequence[Step],
        partition: PartitionReport,
    ) -> None:
        super().__init__(inputs, outputs)
        self._steps = _with_dead(steps)
        self.partition = self._partition = partition
        self.notes = tuple(
            f"part {i} on {step.executable.backend}: {note}"
            for i, step in enumerate(steps)
            for note in step.executable.notes
        )

    def _run(self, arrays: dict[str, Array], out: Mapping[str, Array] | None) -> dict[str, Array]:
        results: dict[str, Array] = {}
        for i, step in enumerate(self._steps):
            executable = step.executable
            wanted = {spec.name: out[spec.name] for spec in executable.outputs if spec.name in out} if out else None
            try:
                made = executable.run({spec.name: arrays[spec.name] for spec in executable.inputs}, out=wanted or None)
            except OperationError as error:
                error.args = (f"part {i} of {len(self._steps)}, on {executable.backend}: {error}", *error.args[1:])
                raise
            for name in step.dead:
                del arrays[name]
            for name, array in made.items():
                if name in self._out_plan:
                    results[name] = array
                if name in step.handed:
                    arrays[step.handed[name]] = array
        return {spec.name: results[spec.name] for spec in self.outputs}

    @property
    def stats(self) -> Mapping[str, Any]:
        """Each part's back end, number of operators and own stats, in the order in which they run."""
        parts = [
            {"backend": step.executable.backend, "operators": part.size, "handed_bytes": part.handed_bytes}
            | {"stats": dict(step.executable.stats)}
            for step, part in zip(self._steps, self._partition.parts, strict=True)
        ]
        return {"backend": self.backend, "parts": parts}

    def _close(self) -> None:
        for step in self._steps:
            step.executable.close()


def _with_dead(steps: Sequence[Step]) -> tuple[Step, ...]:
    """Each step with the values that it is the last to read."""
    done: list[Step] = []
    seen: set[str] = set()
    for step in reversed(steps):
        dead = tuple(spec.name for spec in step.executable.inputs if spec.name not in seen)
        seen.update(dead)
        done.append(replace(step, dead=dead))
    return tuple(reversed(done))
