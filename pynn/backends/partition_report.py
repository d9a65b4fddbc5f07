"""PartitionReport: which operators of a graph run where, and why the preferred back end does not run the rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

DYNAMIC_IS_WHOLE = (
    "graphs with named dimensions are not partitioned; those with one size for each of them (shapes={name: size}) are"
)
_REASON_IN_A_WARNING = 200
_NAMED_IN_A_WARNING = 5


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An operator that the preferred back end does not run, with the library's reason.

    ``operator`` and ``label`` are WebNN's; of an ONNX file the operator type and the name of the node.
    """

    operator: str
    label: str
    reason: str

    @property
    def name(self) -> str:
        return f"{self.operator} {self.label!r}" if self.label else self.operator


@dataclass(frozen=True, slots=True)
class PartSummary:
    """One part: its back end, how many of each operator, and the bytes that other parts hand to it at each run."""

    backend: str
    operators: Mapping[str, int] = field(default_factory=dict)
    handed_bytes: int = 0

    @property
    def size(self) -> int:
        return sum(self.operators.values())


@dataclass(frozen=True)
class PartitionReport:
    """``parts`` in the order in which they run; ``left_out`` names what the preferred back end does not run. Print it.

    ``kept_off`` counts the operators that the back end would take, but in parts too small to be worth a hand-over.
    """

    parts: tuple[PartSummary, ...]
    left_out: tuple[LeftOut, ...] = ()
    kept_off: int = 0
    note: str = ""

    @property
    def is_partitioned(self) -> bool:
        return len(self.parts) > 1

    def to_dict(self) -> dict[str, Any]:
        """Plain values only, ready for JSON."""
        record = asdict(self)
        for part, plain in zip(self.parts, record["parts"], strict=True):
            plain["operators"] = dict(part.operators)
        return record

    def warning(self) -> str:
        """The operators left out in a sentence or two, each kind once with the reason's first line."""
        lines: dict[str, str] = {}
        for one in self.left_out:
            lines.setdefault(one.name, _shorten(one.reason))
        named = [f"{name} ({reason})" for name, reason in list(lines.items())[:_NAMED_IN_A_WARNING]]
        more = len(lines) - len(named)
        return "; ".join(named) + (f"; and {more} more, see partition_report()" if more else "")

    def __str__(self) -> str:
        if self.is_partitioned:
            lines = [f"{len(self.parts)} parts, in this order:"]
        else:
            lines = [f"not partitioned: the whole runs on {self.parts[0].backend}"]
        for i, part in enumerate(self.parts if self.is_partitioned else ()):
            handed = f", {part.handed_bytes:,} bytes handed to it" if part.handed_bytes else ""
            counts = " ".join(op if n == 1 else f"{n}x{op}" for op, n in part.operators.items())
            lines.append(f"  {i} {part.backend}: {counts}{handed}")
        for one in self.left_out:
            lines.append(f"  left out: {one.name}: {one.reason.strip()}".replace("\n", "\n      "))
        if self.kept_off:
            lines.append(f"  {self.kept_off} more operators are in parts too small to be worth a hand-over")
        if self.note:
            lines.append(f"  {self.note}")
        return "\n".join(lines)

    __repr__ = __str__


def whole(
    backend: str, operators: Iterable[str] = (), left_out: Iterable[LeftOut] = (), kept_off: int = 0, note: str = ""
) -> PartitionReport:
    """The report of a model that one back end runs."""
    part = PartSummary(backend, dict(Counter(operators)))
    return PartitionReport((part,), tuple(left_out), kept_off, note)


def _shorten(reason: str) -> str:
    line = " ".join(reason.split())
    return line if len(line) <= _REASON_IN_A_WARNING else line[: _REASON_IN_A_WARNING - 3] + "..."
