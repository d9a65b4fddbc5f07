"""Host time of ``MLContext.dispatch`` on a GPU: medians in microseconds, the bare launch of the same run beside it.

    python benchmarks/dispatch_overhead/gpu.py [--rounds 100] [--output benchmarks/results/h200/dispatch_overhead.json]

A round sends a few runs one after another, timed each, and then waits, so that nothing piles up on the stream.
"""

from __future__ import annotations

import argparse
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

HERE = Path(__file__).resolve()
sys.path.insert(0, str(HERE.parents[2] / "examples"))

import mobilenetv2  # noqa: E402

LIMIT_US = 5.0
BURST = 4


def tiny(b: pynn.MLGraphBuilder) -> dict[str, pynn.Operand]:
    """4x64 @ 64x32, ReLU."""
    w = np.random.default_rng(0).standard_normal((64, 32), np.float32)
    return {"y": b.relu(b.matmul(b.input("x", [4, 64], "float32"), b.constant(w)))}


def mobilenet(b: pynn.MLGraphBuilder) -> dict[str, pynn.Operand]:
    return mobilenetv2.build(b, mobilenetv2.seeded_weights(), dtype="float16")


CASES: dict[str, Callable[[pynn.MLGraphBuilder], dict[str, pynn.Operand]]] = {
    "tiny net": tiny,
    "MobileNetV2 float16": mobilenet,
}


def measure(name: str, rounds: int) -> dict[str, Any]:
    with pynn.ML().create_context(backend="tensorrt") as context, pynn.ML().create_context(backend="tensorrt") as other:
        b = context.create_graph_builder()
        graph = b.build(CASES[name](b))
        inputs = {n: context.create_tensor(d, readable=True) for n, d in graph.inputs.items()}
        outputs = {n: context.create_tensor(d, readable=True) for n, d in graph.outputs.items()}
        last = next(iter(outputs.values()))
        for _ in range(20):
            context.dispatch(graph, inputs, outputs)
        context.read_tensor(last)
        (bound,) = graph._ready.kept.values()
        launch = bound.run.launch
        _, stream = other.__cuda_stream__()
        calls: dict[str, Callable[[], object]] = {
            "launch": launch,
            "dispatch": lambda: context.dispatch(graph, inputs, outputs),
            "dispatch(stream=)": lambda: context.dispatch(graph, inputs, outputs, stream=stream),
        }
        times: dict[str, list[float]] = {call: [] for call in calls}
        clock = time.perf_counter_ns
        for i in range(rounds * len(calls)):
            call = list(calls)[i % len(calls)]
            run = calls[call]
            for _ in range(BURST):
                start = clock()
                run()
                times[call].append((clock() - start) / 1000)
            context.read_tensor(last)
        stats = graph.stats
        return {
            "median": {call: round(statistics.median(values), 2) for call, values in times.items()},
            "p95": {call: round(float(np.percentile(values, 95)), 2) for call, values in times.items()},
            "cuda_graph": bool(getattr(bound.run, "cuda_graph", False)),
            "gpu": stats["gpu"],
            "library": stats["library"],
        }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100)
    default = HERE.parents[1] / "results" / "h200" / "dispatch_overhead.json"
    parser.add_argument("--output", type=Path, default=default)
    arguments = parser.parse_args()
    cases = {name: measure(name, arguments.rounds) for name in CASES}
    record = {
        "unit": "us of host time per call",
        "cases": cases,
        "limit": LIMIT_US,
        "rounds": arguments.rounds,
        "command": "python benchmarks/dispatch_overhead/gpu.py",
        "versions": {"pynn": pynn.__version__, "numpy": np.__version__, "python": platform.python_version()},
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record, indent=2))
    return 0 if all(case["median"]["dispatch"] <= LIMIT_US for case in cases.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
