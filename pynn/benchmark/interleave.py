"""Taking turns: each contestant is timed in short blocks, in shuffled order, so that drift of the machine hits all."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from .contestant import Arrays

BLOCK_SECONDS = 0.02
WARM_UP_SECONDS = 0.1
WARM_UP_CALLS = 3
ROUNDS_OF_ITERATIONS = 10
OVERLAPPING_RUNS = 32

Times = dict[str, list[float]]


class Sampler(Protocol):
    """Something to time."""

    def sample(self, count: int) -> Mapping[str, Sequence[float]]:
        """Run about ``count`` times; microseconds by quantity ("latency", "enqueue", ...)."""


class CallSampler:
    """Times single calls from the outside: ``latency``."""

    def __init__(self, call: Callable[[], object]) -> None:
        self._call = call

    def sample(self, count: int) -> Mapping[str, Sequence[float]]:
        call, clock, times = self._call, time.perf_counter_ns, []
        for _ in range(count):
            start = clock()
            call()
            times.append((clock() - start) / 1000)
        return {"latency": times}


class MapSampler:
    """Times ``map``, whose runs overlap: ``mapped`` is microseconds per run."""

    def __init__(self, call: Callable[[Iterable[Arrays]], Iterable[object]], inputs: Arrays) -> None:
        """Runs a few at once, so that whatever carries them is there."""
        self._call, self._inputs = call, inputs
        self.sample(OVERLAPPING_RUNS)

    def sample(self, count: int) -> Mapping[str, Sequence[float]]:
        start = time.perf_counter_ns()
        done = sum(1 for _ in self._call([self._inputs] * count))
        return {"mapped": [(time.perf_counter_ns() - start) / 1000 / done]}


def interleave(
    samplers: Mapping[str, Sampler],
    *,
    seconds: float | None = None,
    iterations: int | None = None,
    seed: int = 0,
) -> dict[str, Times]:
    """Time all in turns, after a warm-up, until each had about ``seconds`` or at least ``iterations`` calls.

    The order is shuffled anew in each round; ``seed`` makes it repeatable. The first call of a block is not counted:
    it finds the caches that another left.
    """
    shares = {name: _share(sampler) for name, sampler in samplers.items()}
    counts = dict(shares)
    if iterations is not None:
        counts = {name: math.ceil(iterations / min(iterations, ROUNDS_OF_ITERATIONS)) for name in samplers}
    rounds = None if iterations is None else math.ceil(iterations / min(counts.values(), default=1))
    until = time.perf_counter() + (seconds or 0) * len(samplers)
    shuffle = random.Random(seed).shuffle
    order = list(samplers)
    times: dict[str, Times] = {name: {} for name in samplers}
    done = 0
    while done < rounds if rounds is not None else done < 2 or time.perf_counter() < until:
        shuffle(order)
        for name in order:
            samplers[name].sample(1)
            for quantity, values in samplers[name].sample(counts[name]).items():
                times[name].setdefault(quantity, []).extend(values)
        done += 1
    return times


def _share(sampler: Sampler) -> int:
    """How many calls fill a block. Warms up on the way."""
    start, calls = time.perf_counter(), 0
    while calls < WARM_UP_CALLS or time.perf_counter() - start < WARM_UP_SECONDS:
        sampler.sample(1)
        calls += 1
        if time.perf_counter() - start > 1:
            break
    each = (time.perf_counter() - start) / calls
    return max(1, int(BLOCK_SECONDS / each))
