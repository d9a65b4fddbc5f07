"""What building and converting graphs costs: time of an operator, of 10 000 of them, memory of 3 GiB of constants.

    python benchmarks/converter_speed/run.py [--rounds 7] [--output benchmarks/results/converter_speed.json]

Times are CPU time of this process, the best of the rounds, so that a busy machine tells the same. Memory is the peak
resident set of a process of its own (VmHWM, Linux) that makes the constants, builds, converts and saves: it counts
the interpreter, the libraries and the caller's own arrays. Ends with status 1 when a limit of ``LIMITS`` is missed.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import onnx

import pynn
from pynn.converter import to_onnx
from pynn.converter.passes import backend_passes

LIMITS = {"operator_us": 20.0, "graph_s": 0.5, "memory_ratio": 1.15}
OPERATORS = 10_000
CALLS = 1000
BACKENDS = {"onnxruntime": "1.23.0", "tensorrt": "1.6.1.120"}
CONSTANTS, SIDE = 48, 4096
"""3 GiB of float32."""
KINDS = ("bytes", "mapped", "copied", "transposed")
"""Where the constants' memory comes from. "transposed" are filters in another layout than ONNX's: while the graph is
kept there are two copies of them, so that they are measured but outside the limit."""

Result = TypeVar("Result")


def cpu_time(work: Callable[[], Result]) -> tuple[float, Result]:
    """Seconds, with the garbage collector running as it does for everybody, but without earlier rounds' garbage."""
    gc.collect()
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


# -- one operator ---------------------------------------------------------------------------


def operator_us(rounds: int) -> dict[str, float]:
    """Microseconds of one builder call, the best of the rounds of 1000 calls."""

    def calls(name: str) -> Callable[[], object]:
        b = pynn.GraphBuilder()
        x = b.input("x", [1, 8, 16, 16], "float32")
        w, bias = b.constant(np.ones((8, 8, 3, 3), np.float32)), b.constant(np.ones((1, 8, 1, 1), np.float32))
        once: dict[str, Callable[[], object]] = {
            "add": lambda: b.add(x, bias),
            "conv2d": lambda: b.conv2d(x, w, padding=[1, 1, 1, 1], label="convolution"),
            "clamp": lambda: b.clamp(x, min_value=0, max_value=6),
            "reshape": lambda: b.reshape(x, [1, 8, 256]),
        }

        def many() -> None:
            for _ in range(CALLS):
                once[name]()

        return many

    names = ("add", "conv2d", "clamp", "reshape")
    return {name: round(min(cpu_time(calls(name))[0] for _ in range(rounds)) / CALLS * 1e6, 2) for name in names}


# -- many operators -------------------------------------------------------------------------


def mixed_graph(operators: int) -> pynn.Graph:
    """Convolutions with their own weights, additions, clamps and reshapes, one after the other."""
    b = pynn.GraphBuilder()
    x = b.input("x", [1, 8, 16, 16], "float32")
    bias = b.constant(np.ones((1, 8, 1, 1), np.float32))
    for i in range(operators // 5):
        w = b.constant(np.full((8, 8, 3, 3), i, np.float32))
        x = b.clamp(b.add(b.conv2d(x, w, padding=[1, 1, 1, 1]), bias), min_value=0, max_value=6)
        x = b.reshape(b.reshape(x, [8, 256]), [1, 8, 16, 16])
    return b.finish({"y": x})


def graph_s(rounds: int) -> dict[str, dict[str, float]]:
    """Seconds of building and converting, the best of the rounds, without passes and with those of each back end."""
    passes = {"plain": ()} | {name: backend_passes(name, version) for name, version in BACKENDS.items()}
    table: dict[str, dict[str, float]] = {}
    for name, chosen in passes.items():
        to_onnx(mixed_graph(100), chosen)
        totals = []
        for _ in range(rounds):
            building, graph = cpu_time(partial(mixed_graph, OPERATORS))
            converting, _ = cpu_time(partial(to_onnx, graph, chosen))
            totals.append((building + converting, building, converting))
        table[name] = dict(zip(("total", "build", "convert"), (round(s, 3) for s in min(totals)), strict=True))
    return table


# -- memory ---------------------------------------------------------------------------------


def arrays(kind: str, folder: Path) -> Iterator[np.ndarray[Any, Any]]:
    """The constants, one at a time: over a mapped file, writable ("copied"), else over ``bytes``."""
    rng = np.random.default_rng(0)
    shape = (SIDE, SIDE)
    if kind == "mapped":
        path = folder / "constants.bin"
        with path.open("wb") as file:
            for _ in range(CONSTANTS):
                file.write(rng.bytes(4 * SIDE * SIDE))
        yield from np.memmap(path, np.float32, "r", shape=(CONSTANTS, *shape))
        return
    for _ in range(CONSTANTS):
        array = np.frombuffer(rng.bytes(4 * SIDE * SIDE), np.float32).reshape(shape)
        yield array.copy() if kind == "copied" else array


def convert_constants(kind: str) -> None:
    """In a process of its own. Those over immutable memory stay with the caller, writable ones are let go."""
    with tempfile.TemporaryDirectory() as folder:
        b = pynn.GraphBuilder()
        x = b.input("x", [1, SIDE], "float32")
        kept = []
        for array in arrays(kind, Path(folder)):
            if kind == "transposed":
                w = b.constant(array.reshape(SIDE, 2, 2, SIDE // 4))
                x = b.reshape(b.conv2d(b.reshape(x, [1, SIDE // 4, 2, 2]), w, filter_layout="ohwi"), [1, SIDE])
            else:
                x = b.matmul(x, b.constant(array))
            if kind != "copied":
                kept.append(array)
            del array
        model = to_onnx(b.finish({"y": x}))
        converted = peak_rss()
        model.save(Path(folder) / "model.onnx")
        size = sum(weight.nbytes for weight in model.weights.values())
        print(json.dumps({"constants": size, "peak_rss_converted": converted, "peak_rss_saved": peak_rss()}))


def peak_rss() -> int:
    status = Path("/proc/self/status").read_text("utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def memory() -> dict[str, dict[str, float]]:
    table: dict[str, dict[str, float]] = {}
    for kind in KINDS:
        command = [sys.executable, __file__, "--constants", kind]
        row = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        row["ratio"] = round(row["peak_rss_saved"] / row["constants"], 3)
        table[kind] = row
    return table


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--constants", choices=KINDS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.constants:
        convert_constants(arguments.constants)
        return 0
    operators, graphs, constants = operator_us(arguments.rounds), graph_s(arguments.rounds), memory()
    met = {
        "operator_us": max(operators.values()) <= LIMITS["operator_us"],
        "graph_s": max(row["total"] for row in graphs.values()) <= LIMITS["graph_s"],
        "memory_ratio": all(
            row["ratio"] <= LIMITS["memory_ratio"] for kind, row in constants.items() if kind != "transposed"
        ),
    }
    result = {
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {platform.system()}",
        "versions": {"pynn": pynn.__version__, "numpy": np.__version__, "onnx": onnx.__version__},
        "operator_us": operators,
        "graph_of_10000_s": graphs,
        "constants_of_3_gib": constants,
        "limits": LIMITS,
        "met": met,
    }
    text = json.dumps(result, indent=2)
    print(text)
    if arguments.output:
        arguments.output.write_text(text + "\n", "utf-8")
    return 0 if all(met.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
