"""Up to which size the GPU should read and write pinned host memory itself, and above which copies are faster.

    python benchmarks/mapped_threshold/run.py [--sizes 1024,4096,...] [--seconds 0.3] [--output FOLDER]

Three engines for each size: a large input and one number out, one number in and a large output, and both large. Each
is made twice, with ``MAPPED_INPUT_BYTES`` and ``MAPPED_OUTPUT_BYTES`` of ``pynn.backends.trt_memory`` above and below
the size, and both are timed in turns, numpy to numpy into ``out=``. Printed: medians, and the crossover of each kind.
Needs a GPU; elsewhere it says so and ends with code 2.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import statistics
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import pynn
from pynn.backends import trt_memory
from pynn.benchmark.environment import environment
from pynn.benchmark.interleave import CallSampler, Sampler, interleave

SIZES = tuple(1024 << i for i in range(13))
KINDS = ("input", "output", "both")
LIMITS = {"mapped": 1 << 40, "copied": 0}


def graph(kind: str, size: int) -> tuple[pynn.Graph, dict[str, np.ndarray[Any, Any]]]:
    """float32 tensors of ``size`` bytes where the kind says so, of one number elsewhere."""
    count = size // 4
    b = pynn.GraphBuilder()
    x = b.input("x", [1] if kind == "output" else [count], "float32")
    if kind == "input":
        y = b.reduce_max(x, axes=[0], keep_dimensions=True)
    elif kind == "output":
        y = b.mul(x, b.constant(np.ones(count, np.float32)))
    else:
        y = b.relu(x)
    return b.finish({"y": y}), {"x": np.ones(x.shape, np.float32)}


@contextlib.contextmanager
def limit(size: int) -> Iterator[None]:
    """What is made inside maps tensors up to ``size`` bytes."""
    before = trt_memory.MAPPED_INPUT_BYTES, trt_memory.MAPPED_OUTPUT_BYTES
    trt_memory.MAPPED_INPUT_BYTES = trt_memory.MAPPED_OUTPUT_BYTES = size
    try:
        yield
    finally:
        trt_memory.MAPPED_INPUT_BYTES, trt_memory.MAPPED_OUTPUT_BYTES = before


def measure(kind: str, size: int, seconds: float, cache: str) -> dict[str, Any]:
    """Medians in microseconds by way."""
    model, inputs = graph(kind, size)
    with contextlib.ExitStack() as stack:
        samplers: dict[str, Sampler] = {}
        for way, most in LIMITS.items():
            with limit(most):
                executable = stack.enter_context(
                    pynn.compile(model, backend="tensorrt", concurrency=1, cache_dir=cache)
                )
                out = executable.run(inputs)
            samplers[way] = CallSampler(lambda run=executable.run, out=out: run(inputs, out=out))
        times = interleave(samplers, seconds=seconds)
    medians = {way: round(statistics.median(times[way]["latency"]), 3) for way in LIMITS}
    return {"kind": kind, "bytes": size, **medians}


def crossover(rows: Sequence[dict[str, Any]]) -> int:
    """The largest size up to which, from the smallest on, mapped memory is at least as fast; 0 if never."""
    best = 0
    for row in rows:
        if row["mapped"] > row["copied"]:
            break
        best = row["bytes"]
    return best


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="bytes, smallest first")
    parser.add_argument("--seconds", type=float, default=0.3, help="for each of the two ways")
    parser.add_argument("--output", type=Path, help="folder for mapped_threshold.json")
    options = parser.parse_args(arguments)
    sizes = sorted(int(size) for size in options.sizes.split(","))
    warnings.simplefilter("ignore", pynn.FallbackWarning)
    rows: list[dict[str, Any]] = []
    try:
        with tempfile.TemporaryDirectory(prefix="pynn-threshold-") as cache:
            for kind, size in itertools.product(KINDS, sizes):
                rows.append(measure(kind, size, options.seconds, cache))
                mapped, copied = rows[-1]["mapped"], rows[-1]["copied"]
                print(f"{kind:6} {size:8} bytes: mapped {mapped:8.1f} us, copied {copied:8.1f} us", flush=True)
    except pynn.BackendUnavailableError as error:
        print(f"this needs a GPU: {error}")
        return 2
    found = {kind: crossover([row for row in rows if row["kind"] == kind]) for kind in KINDS}
    for kind, size in found.items():
        print(f"{kind}: mapped memory is at least as fast up to {size} bytes")
    if options.output is not None:
        record = {"unit": "us", "rows": rows, "crossover_bytes": found, "environment": environment()}
        options.output.mkdir(parents=True, exist_ok=True)
        (options.output / "mapped_threshold.json").write_text(json.dumps(record, indent=2) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
