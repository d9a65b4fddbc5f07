"""Say what a precision costs in accuracy, of the whole model and of each operator, and which ones to keep out of it.

The model runs in the precision on the best back end, and in float32 on ONNX Runtime's CPU (docs/comparison.md).
DATA: .npz files (one sample each, arrays by input name), .npy files if the model has one input, or folders of them.
Without, inputs are standard normal numbers (integers 0 or 1; dynamic dimensions without --shapes are 1).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ..errors import ValidationError
from . import arguments as common
from .console import Console
from .precision import add_precision, precision_of, show

if TYPE_CHECKING:
    from ..comparison.report import Comparison

HELP = "say what a precision costs in accuracy"
_SUFFIXES = (".svg", ".png", ".pdf")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="an ONNX file in float32")
    parser.add_argument("data", metavar="DATA", nargs="*", help=".npz or .npy files, or folders of them")
    parser.add_argument(
        "--against", choices=("fp32",), default="fp32", help="what is exact: fp32 on ONNX Runtime's CPU"
    )
    parser.add_argument("--samples", type=int, default=4, metavar="N", help="without DATA: random samples (default 4)")
    parser.add_argument("--limit", type=int, default=100, metavar="N", help="use the first N of DATA (default 100)")
    parser.add_argument("--random-seed", type=int, default=0, metavar="N", help="seed of random inputs")
    parser.add_argument(
        "--operators", type=int, default=20, metavar="N", help="show the N worst; 0 judges none (default 20)"
    )
    parser.add_argument(
        "--auto-keep",
        type=float,
        metavar="TOLERANCE",
        help="search the smallest keep-list with which every sample's --metric is within TOLERANCE",
    )
    parser.add_argument(
        "--metric",
        choices=("relative", "cosine"),
        default="relative",
        help="for --auto-keep: norm of the error over that of the output (default), or the cosine of both",
    )
    parser.add_argument(
        "--evaluations", type=int, default=40, metavar="N", help="for --auto-keep: compile N times at most"
    )
    parser.add_argument("--plot", metavar="FILE", help=f"draw the errors ({', '.join(_SUFFIXES)})")
    parser.add_argument("--backend", choices=common.BACKEND_NAMES, default="auto")
    parser.add_argument("--device", type=int, default=0, metavar="N", help="number of the GPU")
    common.add_shapes(parser)
    add_precision(parser, io=True)
    common.add_library(parser)


def execute(options: argparse.Namespace, console: Console) -> int:
    import pynn

    from ..quantization.dataset import Files

    precision = precision_of(options)
    if precision is None:
        raise ValidationError("give --precision: what is to be compared with fp32")
    if options.plot and not options.plot.lower().endswith(_SUFFIXES):
        raise ValidationError(f"--plot {options.plot!r} must end in {', '.join(_SUFFIXES)}")
    if common.is_engine(options.model):
        raise ValidationError(f"{options.model} is an engine: give the ONNX file that it was built from")
    with _status(console) as progress:
        found = pynn.compare(
            options.model,
            precision,
            against=options.against,
            inputs=Files(options.data) if options.data else None,
            shapes=common.parse_shapes(options.shapes),
            samples=options.samples,
            limit=options.limit,
            seed=options.random_seed,
            operators=options.operators,
            auto_keep=options.auto_keep,
            metric=options.metric,
            evaluations=options.evaluations,
            backend=options.backend,
            device=options.device,
            tensorrt_library=options.tensorrt_library,
            progress=progress,
        )
    if options.plot:
        found.plot(options.plot)
    _print(console, found)
    console.json({**found.to_dict(), "plot": options.plot})
    return 1 if found.auto_keep is not None and not found.auto_keep.met else 0


def _print(console: Console, found: Comparison) -> None:
    from ..comparison.report import HEADS, OPERATOR_HEADS, deviation_row, operator_row

    console.text(f"{found.verdict}; worst of {found.samples} samples")
    show(console, found.report)
    console.table(("output", *HEADS), [(name, *deviation_row(one)) for name, one in found.outputs.items()])
    if found.operators:
        console.text("", f"worst operators of {found.judged} by relative error")
        console.table(OPERATOR_HEADS, [operator_row(one) for one in found.operators])
    if found.advice():
        console.text("", *found.advice())
    for note in found.notes:
        if note not in found.report.notes:
            console.remark(note)


@contextmanager
def _status(console: Console) -> Iterator[Callable[[str], object] | None]:
    """A line that says what is under way on a terminal, else nothing."""
    if not console.is_terminal:
        yield None
        return
    import rich.console

    with rich.console.Console(stderr=True).status("reading the model") as status:
        yield status.update
