"""Build a TensorRT engine file from an ONNX model, ahead of time: TensorRT for RTX needs no GPU for it.

Ctrl-C cancels, and so does the deadline; no half-written engine stays behind.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from ..errors import ValidationError
from . import arguments as common
from .console import Console
from .precision import add_precision, argument_of
from .progress import Bars, add_control

HELP = "build a TensorRT engine file, for GPUs that need not be here"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="an ONNX file")
    parser.add_argument("-o", "--output", metavar="ENGINE", help="the engine file (default: MODEL with .engine)")
    parser.add_argument(
        "--target",
        metavar="CC",
        action="append",
        default=[],
        help="compute capability to build for, as 8.6 or 12.0; repeatable (default: pynn's list of common ones)",
    )
    parser.add_argument("--optimization-level", type=int, metavar="N", help="0 (fast build) to 5 (fast engine)")
    parser.add_argument("--workspace", type=int, metavar="BYTES", help="limit of scratch memory")
    parser.add_argument("--tf32", action="store_true", help="allow TF32 in float32 arithmetic")
    parser.add_argument("--refit", action="store_true", help="leave the weights out: pynn run --weights gives them")
    parser.add_argument(
        "--weight-streaming", type=int, metavar="BYTES", help="GPU memory for weights; the rest stays in host memory"
    )
    common.add_shapes(parser)
    add_precision(parser)
    add_control(parser)
    common.add_library(parser)


def execute(options: argparse.Namespace, console: Console) -> int:
    import pynn

    if common.is_engine(options.model):
        raise ValidationError(f"{options.model} is an engine already")
    output = Path(options.output) if options.output else Path(options.model).with_suffix(".engine")
    shapes = common.parse_shapes(options.shapes)
    start = time.perf_counter()
    with Bars(console) as bars:
        engine = pynn.build_engine(
            options.model,
            output,
            compute_capabilities=options.target or None,
            shapes=shapes,
            tensorrt_library=options.tensorrt_library,
            tf32=options.tf32 or None,
            optimization_level=options.optimization_level,
            workspace_bytes=options.workspace,
            refit=options.refit,
            weight_streaming_bytes=options.weight_streaming,
            **argument_of(options),
            **bars.control(options),
        )
    seconds = time.perf_counter() - start
    for note in engine.notes:
        console.remark(note)
    size = output.stat().st_size
    console.text(f"{output}: {size:,} bytes, {engine.provenance}, {seconds:.1f} s")
    console.json(
        {
            "model": options.model,
            "engine": str(output),
            "bytes": size,
            "library": engine.library,
            "compute_capabilities": list(engine.compute_capabilities),
            "inputs": [common.spec_record(spec) for spec in engine.inputs],
            "outputs": [common.spec_record(spec) for spec in engine.outputs],
            "ranges": dict(engine.ranges),
            "notes": list(engine.notes),
            "seconds": {"total": seconds, **engine.seconds},
        }
    )
    return 0
