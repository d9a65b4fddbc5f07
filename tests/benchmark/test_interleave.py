"""Summaries, and taking turns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pytest

from pynn.benchmark import interleave as module
from pynn.benchmark.interleave import CallSampler, MapSampler, interleave
from pynn.benchmark.summary import Summary
from pynn.errors import ValidationError


def test_a_summary_has_numpys_percentiles() -> None:
    values = np.random.default_rng(0).exponential(10, 1001)
    summary = Summary.of(list(values))
    assert (summary.count, summary.min, summary.max) == (1001, values.min(), values.max())
    for name, percentile in (("median", 50), ("p90", 90), ("p95", 95), ("p99", 99)):
        assert getattr(summary, name) == pytest.approx(np.percentile(values, percentile))
    assert summary.mean == pytest.approx(values.mean())
    assert set(summary.to_dict()) == {"count", "min", "median", "mean", "p90", "p95", "p99", "max"}
    with pytest.raises(ValidationError, match="raise seconds or iterations"):
        Summary.of([])


class Logged:
    def __init__(self, name: str, log: list[str]) -> None:
        self._name, self._log = name, log

    def sample(self, count: int) -> Mapping[str, Sequence[float]]:
        self._log.append(self._name)
        return {"latency": [1.0] * count, "enqueue": [2.0]}


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WARM_UP_SECONDS", 0)


@pytest.mark.parametrize("iterations", [1, 7, 10, 95])
def test_all_get_at_least_their_iterations(iterations: int) -> None:
    times = interleave({name: Logged(name, []) for name in "abc"}, iterations=iterations)
    for name in "abc":
        assert iterations <= len(times[name]["latency"]) < iterations + 10
        assert set(times[name]) == {"latency", "enqueue"}


def test_turns_are_taken_in_shuffled_order_that_repeats() -> None:
    def order(seed: int) -> list[str]:
        log: list[str] = []
        interleave({name: Logged(name, log) for name in "abc"}, iterations=10, seed=seed)
        return log[9::2]

    log = order(1)
    rounds = [log[i : i + 3] for i in range(0, len(log), 3)]
    assert len(rounds) == 10
    assert all(sorted(one) == ["a", "b", "c"] for one in rounds)
    assert len({tuple(one) for one in rounds}) > 1
    assert order(1) == log
    assert order(2) != log


def test_seconds_bound_the_whole() -> None:
    times = interleave({"a": CallSampler(lambda: None), "b": CallSampler(lambda: sum(range(20000)))}, seconds=0.05)
    assert len(times["a"]["latency"]) > len(times["b"]["latency"]) >= 2
    assert min(times["b"]["latency"]) > min(times["a"]["latency"]) >= 0


def test_map_is_timed_per_run() -> None:
    seen: list[int] = []

    def twice(inputs: Iterable[object]) -> list[object]:
        seen.append(len(list(inputs)))
        return [None] * seen[-1]

    times = MapSampler(twice, {}).sample(5)
    assert seen == [module.OVERLAPPING_RUNS, 5]
    assert set(times) == {"mapped"}
    assert len(times["mapped"]) == 1
