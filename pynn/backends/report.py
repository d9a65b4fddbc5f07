"""BackendReport: which back end was taken, why, and what every candidate said. Print it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .base import Probe
    from .partition_report import PartitionReport

TITLES = {"tensorrt": "TensorRT", "onnxruntime": "ONNX Runtime"}


@dataclass(frozen=True)
class BackendReport:
    """``chosen`` is the back end's name, ``reason`` one sentence; ``probes`` has every candidate's verdict.

    ``refused`` has, for one compiled model, the back ends that refused it, each with the library's reason. ``fallback``
    is true when the preferred back end could not be used, or not for the whole model, and the user did not ask for
    another. ``partition`` says what runs where when a model is compiled in parts.
    """

    requested: str
    power_preference: str
    accelerated: bool
    chosen: str
    reason: str
    fallback: bool = False
    probes: tuple[Probe, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    partition: PartitionReport | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values only, ready for JSON."""
        record = asdict(self)
        record["probes"] = [asdict(probe) | {"details": dict(probe.details)} for probe in self.probes]
        record["refused"] = dict(self.refused)
        record["partition"] = None if self.partition is None else self.partition.to_dict()
        return record

    def __str__(self) -> str:
        lines = [f"using {self.chosen}: {self.reason}"]
        for name, reason in self.refused.items():
            lines.append(f"  {name} refused the model: {_indent(reason)}")
        if self.partition is not None:
            lines.append(f"  {_indent(str(self.partition))}")
        for probe in self.probes:
            mark = "+" if probe.usable else "-"
            lines.append(f"  {mark} {probe.backend} {probe.candidate}: {_indent(probe.reason)}")
            if probe.hint and not probe.usable:
                lines.append(f"      {_indent(probe.hint)}")
        return "\n".join(lines)

    __repr__ = __str__


def _indent(text: str) -> str:
    return text.strip().replace("\n", "\n      ")
