"""What ``MLContext.dispatch`` adds to the launch of a run that is kept ready: medians in microseconds, without a GPU.

    python benchmarks/dispatch_overhead/run.py [--rounds 300] [--output benchmarks/results/dispatch_overhead.json]

The GPU is the tests' fake, the launch a C function that does nothing (``time.perf_counter_ns`` as well, for scale). On
a GPU machine ``benchmarks/dispatch_overhead/gpu.py`` measures the whole.
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import pynn

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.backends.cuda_fakes import FakeApi
from tests.backends.device_fakes import FakeGpu, gpu_context

CALLS = 100
LIMIT_US = 0.8


def per_call_us(call: Callable[[], object]) -> float:
    start = time.perf_counter_ns()
    for _ in range(CALLS):
        call()
    return (time.perf_counter_ns() - start) / CALLS / 1000


def case(names: tuple[str, ...], sets: int = 1) -> Callable[[], object]:
    """A dispatch of a graph with these inputs and one output, whose launch is a C function that does nothing; to
    ``sets`` of tensors in turn."""
    context = gpu_context(FakeGpu(FakeApi(), lambda a: {"z": np.concatenate(list(a.values()))}))
    b = context.create_graph_builder()
    inputs = [b.input(name, [4, 64], "float32") for name in names]
    graph = b.build({"z": b.concat(inputs, 0) if len(inputs) > 1 else b.relu(inputs[0])})
    tensors = [{name: context.create_tensor([4, 64], "float32") for name in names} for _ in range(sets)]
    outputs = [{"z": context.create_tensor(graph.outputs["z"], readable=True)} for _ in range(sets)]
    for inputs_now, outputs_now in zip(tensors, outputs, strict=True):
        context.dispatch(graph, inputs_now, outputs_now)
    for bound in graph._ready.kept.values():
        bound.run.launch = time.perf_counter_ns
    dispatch = context.dispatch
    if sets == 1:
        return lambda: dispatch(graph, tensors[0], outputs[0])
    turns = itertools.cycle(zip(tensors, outputs, strict=True))
    return lambda: dispatch(graph, *next(turns))


def measure(rounds: int) -> dict[str, Any]:
    one, four, two_sets = case(("x",)), case(("a", "b", "c", "d")), case(("x",), sets=2)
    launch = time.perf_counter_ns
    calls: dict[str, Callable[[], object]] = {
        "the launch alone": lambda: launch(),
        "dispatch, 1 input, 1 output": one,
        "dispatch, 4 inputs, 1 output": four,
        "dispatch, 1 input, 1 output, two sets in turn": two_sets,
    }
    times: dict[str, list[float]] = {name: [] for name in calls}
    for i in range(rounds):
        names = list(calls)[i % len(calls) :] + list(calls)[: i % len(calls)]
        for name in names:
            times[name].append(per_call_us(calls[name]))
    raw = times["the launch alone"]
    return {
        "case": "a dispatch that is ready, with a launch that does nothing",
        "unit": "us per call",
        "median": {name: round(statistics.median(values), 3) for name, values in times.items()},
        "overhead": {
            name: round(statistics.median(a - b for a, b in zip(values, raw, strict=True)), 3)
            for name, values in times.items()
            if values is not raw
        },
        "limit": LIMIT_US,
        "rounds": rounds,
        "calls_per_round": CALLS,
        "versions": {
            "pynn": pynn.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
            "machine": platform.machine(),
        },
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=300)
    default = Path(__file__).parent.parent / "results" / "dispatch_overhead.json"
    parser.add_argument("--output", type=Path, default=default)
    arguments = parser.parse_args()
    record = measure(arguments.rounds)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record, indent=2))
    return 0 if all(value <= LIMIT_US for value in record["overhead"].values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
