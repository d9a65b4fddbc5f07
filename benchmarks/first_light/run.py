"""First light: numpy to numpy, pynn beside its floor, in one interleaved run; medians in microseconds.

    python benchmarks/first_light/run.py [--rounds 40] [--output benchmarks/results] [--quick]

Cases: a tiny net (4x64 @ 64x32, ReLU) and MobileNetV2 1.0/224, float32 and float16, batch 1. Peers: NVIDIA's own
Python binding used by hand, the same captured in one CUDA graph, ONNX Runtime's CPU. What cannot run here is named with
the reason. Every peer's answer is compared with ONNX Runtime's on the CPU first; too far from it ends with exit code 1.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import functools
import json
import os
import platform
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

import pynn

HERE = Path(__file__).resolve()
sys.path[:0] = [str(HERE.parent), str(HERE.parents[2] / "examples")]

import by_hand  # noqa: E402
import mobilenetv2  # noqa: E402

Array = np.ndarray[Any, Any]
Call = Callable[[], dict[str, Array]]
ALLOWED = {"float32": 1e-3, "float16": 2e-2}
ROUND_SECONDS = 0.02
FLOORS = ("by hand", "by hand, one CUDA graph", "ONNX Runtime CPU")
PEERS = ("pynn", "pynn, out=", *FLOORS)


def tiny_net() -> tuple[pynn.Graph, dict[str, Array]]:
    """4x64 @ 64x32, ReLU."""
    random = np.random.default_rng(0)
    b = pynn.GraphBuilder()
    x = b.input("x", [4, 64], "float32")
    graph = b.finish({"y": b.relu(b.matmul(x, b.constant(random.standard_normal((64, 32), np.float32))))})
    return graph, {"x": random.standard_normal((4, 64), np.float32)}


def mobilenet(dtype: str) -> tuple[pynn.Graph, dict[str, Array]]:
    b = pynn.GraphBuilder()
    graph = b.finish(mobilenetv2.build(b, mobilenetv2.seeded_weights(), dtype=dtype))
    return graph, {"image": mobilenetv2.seeded_image().astype(dtype)}


CASES: dict[str, tuple[str, Callable[[], tuple[pynn.Graph, dict[str, Array]]]]] = {
    "tiny net": ("float32", tiny_net),
    "MobileNetV2 float32": ("float32", lambda: mobilenet("float32")),
    "MobileNetV2 float16": ("float16", lambda: mobilenet("float16")),
}


@contextlib.contextmanager
def contestants(graph: pynn.Graph, inputs: dict[str, Array]) -> Iterator[tuple[dict[str, Call], dict[str, str], Any]]:
    """The calls to time by name, why others are missing, and pynn's executable."""
    import onnxruntime

    calls: dict[str, Call] = {}
    skipped: dict[str, str] = {}
    model = pynn.to_onnx(graph).to_bytes()
    with contextlib.ExitStack() as stack:
        executable = stack.enter_context(pynn.compile(graph))
        calls["pynn"] = lambda: executable.run(inputs)
        out = {name: np.empty_like(array) for name, array in executable.run(inputs).items()}
        calls["pynn, out="] = lambda: executable.run(inputs, out=out)
        try:
            floor = by_hand.Floor(model)
            stack.callback(floor.close)
        except Exception as error:
            skipped["by hand"] = skipped["by hand, one CUDA graph"] = f"{type(error).__name__}: {error}"
        else:
            for name, call in (("by hand", floor.run), ("by hand, one CUDA graph", floor.run_graph)):
                try:
                    call(inputs)
                except Exception as error:
                    skipped[name] = f"{type(error).__name__}: {error}"
                else:
                    calls[name] = functools.partial(call, inputs)
        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        calls["ONNX Runtime CPU"] = lambda: dict(zip(names, session.run(names, inputs), strict=True))
        yield calls, skipped, executable


def relative_errors(calls: dict[str, Call]) -> dict[str, float]:
    """How far each peer's first output is from ONNX Runtime's."""
    (name, want), *_ = calls["ONNX Runtime CPU"]().items()
    exact = want.astype(np.float64)
    return {peer: float(np.linalg.norm(call()[name] - exact) / np.linalg.norm(exact)) for peer, call in calls.items()}


def interleaved(calls: dict[str, Call], rounds: int) -> dict[str, list[float]]:
    """Microseconds of single calls, peers taking turns: each gets as many calls a round as fit its share of time."""
    share = {}
    for name, call in calls.items():
        until, count = time.perf_counter() + 5 * ROUND_SECONDS, 0
        while time.perf_counter() < until or count < 3:
            call()
            count += 1
        share[name] = max(1, count // 5)
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds):
        order = list(calls.items())
        for name, call in order if turn % 2 == 0 else reversed(order):
            call()
            for _ in range(share[name]):
                start = time.perf_counter_ns()
                call()
                times[name].append((time.perf_counter_ns() - start) / 1000)
    return times


def measure(rounds: int, chosen: Sequence[str]) -> list[dict[str, Any]]:
    records = []
    for case in chosen:
        dtype, make = CASES[case]
        graph, inputs = make()
        with contestants(graph, inputs) as (calls, skipped, executable):
            errors = relative_errors(calls)
            times = interleaved(calls, rounds)
            records.append(
                {
                    "case": case,
                    "backend": executable.backend,
                    "reason": executable.report.reason if executable.report else "",
                    "notes": list(executable.notes),
                    "stats": {key: str(value) for key, value in executable.stats.items()},
                    "skipped": skipped,
                    "too_far": {name: error for name, error in errors.items() if not error <= ALLOWED[dtype]},
                    "peers": {
                        name: {
                            "median_us": round(statistics.median(values), 2),
                            "p10_us": round(float(np.percentile(values, 10)), 2),
                            "p90_us": round(float(np.percentile(values, 90)), 2),
                            "calls": len(values),
                            "relative_error": errors[name],
                        }
                        for name, values in times.items()
                    },
                }
            )
    return records


def table(records: Sequence[dict[str, Any]]) -> str:
    """Markdown: medians in microseconds, and how many times as long as each floor pynn takes."""
    heads = ["case", "back end", *PEERS, *(f"pynn / {floor}" for floor in FLOORS)]
    lines = ["| " + " | ".join(heads) + " |", "|---|---|" + "---:|" * (len(heads) - 2)]
    for record in records:
        medians = {name: peer["median_us"] for name, peer in record["peers"].items()}
        cells = [record["case"], record["backend"]]
        cells += [f"{medians[name]:.1f}" if name in medians else "-" for name in PEERS]
        cells += [f"{medians['pynn'] / medians[name]:.2f}" if name in medians else "-" for name in FLOORS]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def machine() -> dict[str, Any]:
    """What the numbers hang on: versions, GPU, driver, processor."""
    facts: dict[str, Any] = {"python": platform.python_version(), "cpu": platform.machine(), "cores": os.cpu_count()}
    for package in ("pynn", "numpy", "onnx", "onnxruntime", "cuda-bindings"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            facts[package] = metadata.version(package)
    with contextlib.suppress(ImportError):
        facts["tensorrt_rtx"] = by_hand.binding().__version__
    with contextlib.suppress(OSError):
        version = re.search(r"\d+\.\d+(\.\d+)?", Path("/proc/driver/nvidia/version").read_text("utf-8"))
        facts["driver"] = version.group() if version else "unknown"
    try:
        cuda = by_hand.driver()
        by_hand.ok(cuda.cuInit(0))
        facts["gpu"] = by_hand.ok(cuda.cuDeviceGetName(128, by_hand.ok(cuda.cuDeviceGet(0)))).split(b"\0")[0].decode()
    except (ImportError, RuntimeError) as error:
        facts["gpu"] = f"none ({error})"
    return facts


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Time pynn beside NVIDIA's own binding and ONNX Runtime.")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--case", action="append", choices=CASES, help="only this case (may be repeated)")
    parser.add_argument("--quick", action="store_true", help="three rounds: shows that it works, measures nothing")
    parser.add_argument(
        "--output", type=Path, help="folder for first_light.json (default: benchmarks/results, not if quick)"
    )
    options = parser.parse_args(arguments)
    records = measure(3 if options.quick else options.rounds, options.case or list(CASES))
    print(table(records))
    for record in records:
        for name, reason in record["skipped"].items():
            print(f"skipped: {record['case']}, {name}: {reason.splitlines()[0]}")
        for name, error in record["too_far"].items():
            print(f"TOO FAR from ONNX Runtime on the CPU: {record['case']}, {name}: relative error {error:.2e}")
    folder = options.output or (None if options.quick else HERE.parents[1] / "results")
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        result = {
            "benchmark": "first_light",
            "date": dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
            "command": " ".join([Path(sys.executable).name, str(HERE.relative_to(HERE.parents[2])), *sys.argv[1:]]),
            "quick": options.quick,
            "machine": machine(),
            "cases": records,
        }
        (folder / "first_light.json").write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", "utf-8")
        print(f"written: {folder / 'first_light.json'}")
    return 1 if any(record["too_far"] for record in records) else 0


if __name__ == "__main__":
    raise SystemExit(main())
