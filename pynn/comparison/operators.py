"""The error of each operator, its own and the one that has gathered, over samples."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..backends.base import Backend
from ..converter.onnx_graph import OnnxGraph
from ..converter.passes import Pass
from ..converter.precision import Decision
from ..converter.precision.report import type_of
from .measures import Deviation, deviation, worst
from .parts import Parts
from .report import OperatorError
from .shadow import Pair, Shadow

Array = np.ndarray[Any, Any]

_OUTSTANDING = 4.0
"""Own errors above so many times the median, and above so many roundings to half, stand out."""
_ROUNDING = {"fp16": 2.0**-11, "bf16": 2.0**-8}
_SUGGESTED = 10
_GONE = "the precision's passes merged it with another operator, or changed what its result means"


def judge(
    shadow: Shadow,
    decisions: Sequence[Decision],
    samples: Iterable[Mapping[str, Array]],
    backend: Backend,
    passes: Sequence[Pass],
    memory_bytes: int,
    used: str | None,
) -> list[OperatorError]:
    """Every operator with a result in floating point, worst own error first, then by its gathered error. ``used`` is
    the precision's name."""
    totals: dict[str, list[Deviation]] = {}
    owns: dict[str, list[Deviation]] = {}
    pairs: dict[str, Pair] = {}
    with Parts(shadow, backend, passes, memory_bytes) as parts:
        for sample in samples:
            for pair, exact, reduced, own in parts.run(sample):
                name = pair.exact
                pairs[name] = pair
                if reduced is not None:
                    totals[name] = [worst([*totals.get(name, ()), deviation(exact, reduced, scores=False)])]
                    found = Deviation() if own is None else deviation(exact, own, scores=False)
                    owns[name] = [worst([*owns.get(name, ()), found])]
    by_node: dict[int, list[Pair]] = {}
    for pair in pairs.values():
        by_node.setdefault(id(pair.node), []).append(pair)
    known = {one.name: one for one in decisions}
    found_errors = [_of_node(group, owns, totals, known, shadow.exact, used) for group in by_node.values()]
    return sorted(found_errors, key=lambda one: (-_size(one.own), -_size(one.total)))


def _of_node(
    group: Sequence[Pair],
    owns: Mapping[str, list[Deviation]],
    totals: Mapping[str, list[Deviation]],
    decisions: Mapping[str, Decision],
    exact: OnnxGraph,
    used: str | None,
) -> OperatorError:
    """The worst of its results."""
    node = group[0].node
    judged = [pair.exact for pair in group if pair.exact in owns]
    own = worst(owns[name][0] for name in judged) if judged else None
    total = worst(totals[name][0] for name in judged) if judged else None
    decision = decisions.get(node.name) or _of_origin(node.name, decisions)
    reason = "" if decision is None else decision.reason
    if used not in _ROUNDING and own is not None and own.relative and "operands" not in reason:
        reason = f"weights stored in {used}" + (f"; {reason}" if reason != "as the model says" else "")
    return OperatorError(
        node.name,
        node.op_type,
        "" if node.origin == node.name else node.origin,
        max(judged, key=lambda name: _size(owns[name][0]), default=group[0].exact),
        decision.data_type if decision is not None else type_of(exact, node),
        own,
        total,
        reason,
        "" if judged else _GONE,
    )


def _of_origin(name: str, decisions: Mapping[str, Decision]) -> Decision | None:
    """Of the operators that came in its place, one."""
    return next((one for known, one in decisions.items() if known.startswith(f"{name}/")), None)


def _size(one: Deviation | None) -> float:
    return -1.0 if one is None else one.relative


def suggest(operators: Sequence[OperatorError], used: str | None) -> tuple[str, ...]:
    """Names of operators whose own error stands out, worst first."""
    changed = [one for one in operators if one.own is not None and not one.is_exact]
    finite = [one.own.relative for one in changed if one.own is not None and np.isfinite(one.own.relative)]
    usual = statistics.median(finite) if finite else 0.0
    least = _OUTSTANDING * max(usual, _ROUNDING.get(used or "", 2.0**-11))
    return tuple(one.name for one in changed if one.own is not None and one.own.relative > least)[:_SUGGESTED]
