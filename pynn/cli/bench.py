"""Time a model on every back end that is installed, in turns in one run, beside the floor of the GPU.

Times are microseconds of calls from numpy arrays to numpy arrays, on random inputs. Building is timed too: the engine
cache is off without --cache. On a GPU, pynn's engine is also timed on the GPU alone; the floor is its run among many
back to back, without copies.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from ..benchmark.plot import SUFFIXES
from ..benchmark.report import TITLES, BenchReport, Entry
from ..benchmark.run import BACKENDS, bench
from ..converter.precision.choice import PRECISIONS
from ..errors import ValidationError
from . import arguments as common
from .console import Console

HELP = "time a model on every back end beside the floor"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="an ONNX file, or an engine made by pynn build")
    parser.add_argument("--backends", metavar="LIST", help=f"comma list of {', '.join(BACKENDS)} (default: all)")
    parser.add_argument("--backend", choices=common.BACKEND_NAMES, default="auto", help="what pynn itself runs on")
    parser.add_argument("--precision", choices=PRECISIONS, help="pynn's; the others run the model as it is")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--seconds", type=float, metavar="S", help="time for each back end (default: 2)")
    length.add_argument("--iterations", type=int, metavar="N", help="at least this many calls of each back end")
    parser.add_argument("--plot", metavar="FILE", help=f"draw the result ({', '.join(SUFFIXES)})")
    parser.add_argument("--cache", action="store_true", help="take engines from the cache and keep them there")
    parser.add_argument("--device", type=int, default=0, metavar="N", help="number of the GPU")
    parser.add_argument("--random-seed", type=int, default=0, metavar="N", help="seed of inputs and of the order")
    common.add_shapes(parser)
    common.add_library(parser)


def execute(options: argparse.Namespace, console: Console) -> int:
    if options.plot and not options.plot.lower().endswith(SUFFIXES):
        raise ValidationError(f"--plot {options.plot!r} must end in {', '.join(SUFFIXES)}")
    report = bench(
        _model(options.model),
        shapes=common.parse_shapes(options.shapes),
        backends=options.backends.split(",") if options.backends else None,
        seconds=options.seconds,
        iterations=options.iterations,
        seed=options.random_seed,
        backend=options.backend,
        precision=options.precision,
        device=options.device,
        tensorrt_library=options.tensorrt_library,
        cache=options.cache,
    )
    if options.plot:
        report.plot(options.plot)
    _show(console, report)
    console.json({**report.to_dict(), "command": ["pynn", *sys.argv[1:]], "plot": options.plot})
    return 0


def _model(path: str) -> Any:
    if not common.is_engine(path):
        return path
    from ..backends.engine_file import EngineFile

    return EngineFile.load(path)


def _show(console: Console, report: BenchReport) -> None:
    console.text("latency from numpy to numpy in microseconds")
    heads = ("back end", "runs/s", "min", "median", "p90", "p95", "p99", "max", "ready", "error")
    console.table(heads, [_row(entry) for entry in report.entries])
    for entry in report.entries:
        if entry.device:
            console.text("", f"{entry.title} on the GPU, medians in microseconds")
            names = [name for name in TITLES if name in entry.device]
            console.table([TITLES[name] for name in names], [[f"{entry.device[name].median:.1f}" for name in names]])
        parts = [f"{name} {value:.3f} s" for name, value in entry.seconds.items()]
        if entry.gpu_memory_bytes is not None:
            parts.append(f"{entry.gpu_memory_bytes / 1e6:.0f} MB of the GPU")
        console.text(f"{entry.title}: {', '.join(parts)}", style="dim")
    for name, reason in report.skipped.items():
        console.remark(f"skipped: {name}: {reason.splitlines()[0]}")
    console.text("", report.verdict)


def _row(entry: Entry) -> tuple[str, ...]:
    one = entry.latency
    times = (one.min, one.median, one.p90, one.p95, one.p99, one.max)
    ready = f"{entry.seconds['ready']:.3f} s" if "ready" in entry.seconds else "-"
    error = "-" if entry.relative_error is None else f"{entry.relative_error:.1e}"
    return (entry.title, f"{entry.throughput:.1f}", *(f"{value:.1f}" for value in times), ready, error)
