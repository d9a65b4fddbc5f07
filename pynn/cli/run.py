"""Run an ONNX model or an engine on arrays from files, or on random ones.

Inputs: --input all.npz (arrays by input name), --input NAME=x.npy, or --input x.npy if the model has one input. Without
any, each input gets random numbers (integers 0 or 1; dynamic dimensions without --shapes are 1).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import numpy as np

from ..backends.base import Array, Executable
from ..backends.samples import random_inputs
from ..converter.model import TensorSpec
from ..errors import InputError, ValidationError
from ..options import Shapes
from . import arguments as common
from .console import Console
from .precision import add_precision, argument_of
from .precision import show as show_precision
from .progress import Bars, add_control

HELP = "run a model or an engine on files or random data"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="an ONNX file, or an engine made by pynn build")
    parser.add_argument("--input", metavar="FILE", action="append", default=[], help="in.npz, NAME=x.npy or x.npy")
    parser.add_argument("--output", metavar="FILE", help="write the outputs to this .npz file")
    parser.add_argument("--backend", choices=common.BACKEND_NAMES, default="auto")
    parser.add_argument("--device", type=int, default=0, metavar="N", help="number of the GPU")
    parser.add_argument(
        "--weights", metavar="MODEL", help="the ONNX file whose weights an engine built with --refit gets"
    )
    parser.add_argument("--random-seed", type=int, default=0, metavar="N", help="seed of random inputs")
    common.add_shapes(parser)
    add_precision(parser)
    add_control(parser)
    common.add_library(parser)


def execute(options: argparse.Namespace, console: Console) -> int:
    if options.output and not options.output.endswith(".npz"):
        raise ValidationError(f"--output {options.output!r} must end in .npz")
    shapes = common.parse_shapes(options.shapes)
    start = time.perf_counter()
    with _open(options, shapes, console) as executable:
        ready = time.perf_counter()
        inputs = read_inputs(options.input, executable.inputs)
        if not options.input:
            inputs = random_inputs(executable.inputs, shapes, options.random_seed)
            if inputs:
                console.remark(f"no --input: running on random data{_assumed(executable.inputs, shapes)}")
        before = time.perf_counter()
        outputs = executable.run(inputs)
        after = time.perf_counter()
        if options.output:
            write_npz(options.output, outputs)
        seconds = {"compile": round(ready - start, 6), "run": round(after - before, 6)}
        _show(console, executable, outputs, seconds)
        console.json(
            {
                "model": options.model,
                "backend": executable.backend,
                "report": executable.report.to_dict() if executable.report is not None else None,
                "notes": list(executable.notes),
                "precision": executable.precision.to_dict() if executable.precision is not None else None,
                "seconds": seconds,
                "inputs": [_record(name, array) for name, array in inputs.items()],
                "outputs": [_record(name, array) for name, array in outputs.items()],
                "output_file": options.output,
                "stats": dict(executable.stats),
            }
        )
    return 0


def _open(options: argparse.Namespace, shapes: Shapes, console: Console) -> Executable:
    import pynn

    if not common.is_engine(options.model):
        if options.weights is not None:
            raise ValidationError(f"{options.model} has its weights; --weights is for engines built with --refit")
        with Bars(console) as bars:
            return pynn.compile(
                options.model,
                backend=options.backend,
                shapes=shapes,
                device=options.device,
                tensorrt_library=options.tensorrt_library,
                **argument_of(options),
                **bars.control(options),
            )
    if options.backend == "onnxruntime":
        raise ValidationError(f"{options.model} is a TensorRT engine; --backend onnxruntime cannot run it")
    if options.precision is not None:
        raise ValidationError(f"{options.model} is an engine: its precision was settled when it was built")
    if shapes:
        console.remark("--shapes only chooses random inputs here: an engine's shapes were fixed when it was built")
    return pynn.load_engine(
        options.model, device=options.device, tensorrt_library=options.tensorrt_library, weights=options.weights
    )


def _assumed(specs: tuple[TensorSpec, ...], shapes: Shapes) -> str:
    """What is said of inputs with dimensions that neither the model nor --shapes gives a size."""
    named = shapes if isinstance(shapes, Mapping) else shapes[0]
    loose = [
        spec.name
        for spec in specs
        if spec.name not in named and any(not isinstance(dim, int) and dim not in named for dim in spec.shape)
    ]
    return f"; sizes that {', '.join(loose)} leaves open are 1: --shapes gives others" if loose else ""


def read_inputs(sources: list[str], specs: tuple[TensorSpec, ...]) -> dict[str, Array]:
    """The arrays that ``--input`` names."""
    found: dict[str, Array] = {}
    for source in sources:
        name, equals, path = source.partition("=")
        if not equals or Path(source).exists():
            name, path = "", source
        loaded = _load(path)
        if isinstance(loaded, dict):
            if name:
                raise InputError(f"--input {source}: an .npz has its own names; give the file alone", tensor=name)
            found.update(loaded)
        elif name:
            found[name] = loaded
        elif len(specs) == 1:
            found[specs[0].name] = loaded
        else:
            names = ", ".join(spec.name for spec in specs)
            raise InputError(f"--input {source}: say which input this is, as NAME={path}; inputs: {names}")
    by_name = {spec.name: spec for spec in specs}
    return {name: _restore(by_name.get(name), array) for name, array in found.items()}


def _restore(spec: TensorSpec | None, array: Array) -> Array:
    """C-contiguous; and the type that .npy has no name for (bfloat16 and its like are written as plain bytes)."""
    array = array if array.flags.c_contiguous else np.ascontiguousarray(array)
    if spec is not None and array.dtype.kind == "V" and array.dtype.itemsize == spec.numpy.itemsize:
        return array.view(spec.numpy)
    return array


def write_npz(path: str, arrays: dict[str, Array]) -> None:
    """``numpy.savez`` for names that are no Python identifiers; strings as numpy's own, never pickled."""
    with ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                plain = array.astype(np.str_) if array.dtype.kind == "O" else array
                np.lib.format.write_array(file, plain, allow_pickle=False)


def _load(path: str) -> Array | dict[str, Array]:
    try:
        loaded = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, BadZipFile) as error:
        raise InputError(f"{path} is neither a .npy nor an .npz file of plain arrays: {error}") from None
    if isinstance(loaded, np.ndarray):
        return loaded
    with loaded:
        return {name: loaded[name] for name in loaded.files}


def _show(console: Console, executable: Executable, outputs: dict[str, Array], seconds: dict[str, float]) -> None:
    if executable.report is not None:
        console.text(executable.report.reason)
    for note in executable.notes:
        console.remark(note)
    show_precision(console, executable.precision)
    records = [_record(name, array) for name, array in outputs.items()]
    rows = [(r["name"], r["data_type"], r["shape"], r.get("summary", "")) for r in records]
    console.table(("output", "type", "shape", "values"), rows)
    console.text(f"ready in {seconds['compile']:.3f} s, ran in {seconds['run'] * 1000:.3f} ms", style="dim")


def _record(name: str, array: Array) -> dict[str, Any]:
    record: dict[str, Any] = {"name": name, "data_type": array.dtype.name, "shape": list(array.shape)}
    if array.size and (array.dtype.kind in "fiu" or "float" in array.dtype.name):
        wide = array.astype(np.float64)
        record |= {"min": float(wide.min()), "mean": float(wide.mean()), "max": float(wide.max())}
        record["summary"] = f"min {record['min']:.6g}, mean {record['mean']:.6g}, max {record['max']:.6g}"
        if array.size > 1:
            record["argmax"] = int(wide.argmax())
    elif array.size:
        record["summary"] = ", ".join(map(str, array.reshape(-1)[:4]))
    return record
