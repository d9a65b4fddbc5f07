"""The smallest keep-list that meets a tolerance, with a bounded number of evaluations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from .report import AutoKeep

Evaluate = Callable[[tuple[str, ...]], float]


@dataclass
class _Search:
    evaluate: Evaluate
    metric: str
    tolerance: float
    most: int
    known: dict[tuple[str, ...], float] = field(default_factory=dict)

    @property
    def left(self) -> int:
        return self.most - len(self.known)

    def meets(self, keep: tuple[str, ...]) -> bool:
        if keep not in self.known:
            self.known[keep] = self.evaluate(keep)
        error = self.known[keep]
        return error <= self.tolerance if self.metric == "relative" else error >= self.tolerance

    def result(self, keep: tuple[str, ...], *, met: bool, minimal: bool) -> AutoKeep:
        return AutoKeep(keep, self.metric, self.tolerance, self.known[keep], met, minimal, len(self.known))


def search(ranked: Sequence[str], evaluate: Evaluate, metric: str, tolerance: float, most: int) -> AutoKeep:
    """Keep the first of ``ranked``, worst first: their least number is found by halving, then each is tried to be left
    out. ``evaluate`` gives the error of the whole model with a keep-list; at most ``most`` calls (3 or more)."""
    one = _Search(evaluate, metric, tolerance, most)
    if one.meets(()):
        return one.result((), met=True, minimal=True)
    names = tuple(dict.fromkeys(ranked))
    if not names or not one.meets(names):
        better = min if metric == "relative" else max
        return one.result(better(one.known, key=lambda keep: one.known[keep]), met=False, minimal=False)
    return _pruned(one, names[: _least_count(one, names)])


def _least_count(search: _Search, names: tuple[str, ...]) -> int:
    """How many of the first are enough. Doubled from one, then halved between."""
    low, high, step = 0, len(names), 1
    while step < high and search.left > 0:
        if search.meets(names[:step]):
            high = step
        else:
            low, step = step, 2 * step
    while high - low > 1 and search.left > 0:
        middle = (low + high) // 2
        if search.meets(names[:middle]):
            high = middle
        else:
            low = middle
    return high


def _pruned(search: _Search, keep: tuple[str, ...]) -> AutoKeep:
    """Leave out groups of half the size each time, the least errors first, down to single names."""
    size = max(1, len(keep) // 2)
    while True:
        end, changed = len(keep), False
        while end > 0:
            start = max(0, end - size)
            rest = keep[:start] + keep[end:]
            if rest not in search.known and search.left <= 0:
                return search.result(keep, met=True, minimal=False)
            if search.meets(rest):
                keep, changed = rest, True
            end = start
        if size == 1 and not changed:
            return search.result(keep, met=True, minimal=True)
        size = max(1, size // 2)
