"""Find the ranges of a float model's activations over data, for int8 and fp8 (docs/quantization.md).

DATA: .npz files (one sample each, arrays by input name), .npy files if the model has one input, or folders of them.
Ctrl-C keeps what was seen if --resume names a file; the same command goes on from there.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..converter.precision.scales import LARGEST
from ..errors import ValidationError
from ..quantization.thresholds import METHODS
from .console import Console

if TYPE_CHECKING:
    from ..converter.precision.table import CalibrationTable
    from ..quantization.calibrate import Progress

HELP = "find the ranges of activations for int8 and fp8"
_SHOWN = 10


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="an ONNX file, in floating point")
    parser.add_argument("data", metavar="DATA", nargs="*", help=".npz or .npy files, or folders of them")
    parser.add_argument(
        "-o", "--output", metavar="TABLE", help="the table to write (default: MODEL with .calibration.json)"
    )
    parser.add_argument("--method", choices=METHODS, default="minmax", help="how a range is chosen (default: minmax)")
    parser.add_argument("--percentile", type=float, metavar="P", help="for --method percentile (default: 99.99)")
    parser.add_argument("--form", choices=tuple(LARGEST), default="int8", help="for --method mse: the type to round to")
    parser.add_argument("--smooth", type=float, metavar="ALPHA", help="prepare SmoothQuant of this strength, 0 to 1")
    parser.add_argument("--limit", type=int, metavar="N", help="use the first N samples")
    parser.add_argument("--resume", metavar="FILE", help="keep what was seen in this file, and go on from it")
    parser.add_argument(
        "--from-tensorrt-cache", metavar="FILE", help="instead of DATA: the scales of an old TensorRT calibration cache"
    )


def execute(options: argparse.Namespace, console: Console) -> int:
    if bool(options.data) == bool(options.from_tensorrt_cache):
        raise ValidationError("give either DATA to calibrate with or --from-tensorrt-cache FILE")
    output = Path(options.output) if options.output else Path(options.model).with_suffix(".calibration.json")
    table = _imported(options) if options.from_tensorrt_cache else _calibrated(options, console)
    table.save(output)
    for note in table.notes:
        console.remark(note)
    samples = f" from {table.details['samples']} samples" if "samples" in table.details else ""
    console.text(f"{output}: {len(table.amax)} activations{samples}, method {table.details['method']}")
    widest = sorted(table.amax.items(), key=lambda item: -item[1])
    console.table(("widest activations", "range"), [(name, f"±{amax:.6g}") for name, amax in widest[:_SHOWN]])
    console.json(
        {
            "model": options.model,
            "output": str(output),
            "digest": table.model,
            **table.details,
            "amax": dict(table.amax),
        }
    )
    return 0


def _imported(options: argparse.Namespace) -> CalibrationTable:
    import pynn

    return pynn.import_calibration_cache(options.from_tensorrt_cache, options.model)


def _calibrated(options: argparse.Namespace, console: Console) -> CalibrationTable:
    import pynn

    from ..quantization.dataset import Files

    if options.percentile is not None and options.method != "percentile":
        raise ValidationError(f"--percentile is for --method percentile, not {options.method}")
    with _bar(console) as progress:
        return pynn.calibrate(
            options.model,
            Files(options.data),
            method=options.method,
            percentile=99.99 if options.percentile is None else options.percentile,
            form=options.form,
            smooth=options.smooth,
            limit=options.limit,
            resume=options.resume,
            progress=progress,
        )


@contextmanager
def _bar(console: Console) -> Iterator[Progress | None]:
    """A progress bar on a terminal, else nothing."""
    if not console.is_terminal:
        yield None
        return
    import rich.console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=rich.console.Console(stderr=True), transient=True) as bars:
        task = bars.add_task("calibrating", total=None)

        def update(done: int, total: int | None) -> None:
            bars.update(task, completed=done, total=total)

        yield update
