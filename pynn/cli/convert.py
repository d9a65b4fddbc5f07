"""Write an ONNX file from a WebNN graph in Python code, or a checked and tidied copy of an ONNX file.

SOURCE is FILE.py:FUNCTION or package.module:FUNCTION, where FUNCTION takes no arguments and returns a pynn.Graph (or an
OnnxModel); or an ONNX file, whose copy has its shapes inferred and its weights inside (beside it above 2 GB).
With --precision the copy computes in other types; --explain tells for each operator which, and why. With --for an ONNX
file's quantised operators are rewritten as they are when it is compiled.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..converter import backend_passes, to_onnx
from ..converter.import_passes import settle_quantization
from ..converter.model import OnnxModel
from ..converter.precision import ANY, Precision, PrecisionReport, Target, apply_precision
from ..converter.precision.plan import explain_given
from ..errors import ModelError, ValidationError
from ..graph import Graph
from . import arguments as common
from .console import Console
from .precision import add_precision, precision_of
from .precision import show as show_precision

if TYPE_CHECKING:
    from types import ModuleType

HELP = "write a WebNN graph as an ONNX file, or tidy an ONNX file"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SOURCE", help="FILE.py:FUNCTION, package.module:FUNCTION, or an ONNX file")
    parser.add_argument("-o", "--output", metavar="FILE", required=True, help="the ONNX file to write")
    parser.add_argument(
        "--for",
        dest="backend",
        metavar="BACKEND=VERSION",
        help="also rewrite what this back end's library cannot take, as tensorrt=1.6.1.120 or onnxruntime=1.32.0",
    )
    add_precision(parser, io=True)
    parser.add_argument("--explain", action="store_true", help="list what each operator computes in, and why")


def execute(options: argparse.Namespace, console: Console) -> int:
    named, precision = named_function(options.source), precision_of(options)
    if named is not None:
        model = convert_graph(call_function(*named), options.backend, precision)
    elif options.backend or precision is not None:
        given = OnnxModel.load(options.source)
        model = convert_graph(given, options.backend, precision)
        model = tidy(options.source) if model is given else model
    else:
        model = tidy(options.source)
    written = model.save(options.output)
    for record in model.rewrites:
        if not record.name.startswith("autocast"):  # --explain says it better
            console.remark(str(record))
    for note in model.notes:
        console.remark(note)
    show_precision(console, model.precision)
    if options.explain:
        _explain(console, model)
    size = len(model.proto) + sum(weight.nbytes for weight in model.weights.values())
    console.text(f"{written}: {size:,} bytes")
    console.table(
        ("", "name", "type", "shape"),
        [("input", s.name, s.data_type, common.shape_text(s)) for s in model.inputs]
        + [("output", s.name, s.data_type, common.shape_text(s)) for s in model.outputs],
    )
    console.json(
        {
            "source": options.source,
            "output": str(written),
            "bytes": size,
            "inputs": [common.spec_record(spec) for spec in model.inputs],
            "outputs": [common.spec_record(spec) for spec in model.outputs],
            "rewrites": [str(record) for record in model.rewrites],
            "precision": model.precision.to_dict() if model.precision is not None else None,
        }
    )
    return 0


def named_function(source: str) -> tuple[str, str] | None:
    """The module and the function that SOURCE names; None when it names a file."""
    module, colon, function = source.rpartition(":")
    return (module, function) if colon and function.isidentifier() and not Path(source).exists() else None


def call_function(module: str, function: str) -> Graph | OnnxModel:
    """What FUNCTION of a file or an importable module returns. Its own exceptions pass through."""
    loaded = _load_file(Path(module)) if module.endswith(".py") else _import(module)
    target = getattr(loaded, function, None)
    if not callable(target):
        raise ValidationError(f"{module} has no function {function!r}")
    result = target()
    if not isinstance(result, (Graph, OnnxModel)):
        raise ValidationError(f"{module}:{function} returned {type(result).__name__}, expected a pynn.Graph")
    return result


def convert_graph(graph: Graph | OnnxModel, backend: str | None, precision: Precision | None = None) -> OnnxModel:
    target = _target(backend)
    passes = backend_passes(target.backend, target.version) if backend is not None else ()
    if precision is not None:
        return apply_precision(graph, precision, target, passes)
    return settle_quantization(graph, passes) if isinstance(graph, OnnxModel) else to_onnx(graph, passes)


def _target(backend: str | None) -> Target:
    if backend is None:
        return ANY
    name, equals, version = backend.partition("=")
    if not equals or name not in ("tensorrt", "onnxruntime"):
        raise ValidationError(f"--for {backend!r} is not tensorrt=VERSION or onnxruntime=VERSION")
    is_full = name == "tensorrt" and version.split(".")[0].isdigit() and int(version.split(".")[0]) >= 8
    return Target(name, "TENSORRT" if is_full else "RTX" if name == "tensorrt" else "", version)


def _explain(console: Console, model: OnnxModel) -> None:
    report = model.precision or PrecisionReport()
    for one in (report if report.decisions else explain_given(model, report)).decisions:
        console.text(f"{one.name} ({one.origin or one.op_type}): {one.data_type}: {one.reason}")


def tidy(source: str) -> OnnxModel:
    """An ONNX file checked, with inferred shapes. Raises ModelError."""
    import onnx

    from ..converter.import_model import INITIALIZERS_ARE_NO_INPUTS

    OnnxModel.load(source)
    try:
        proto = onnx.load(source)
        proto.ir_version = max(proto.ir_version, INITIALIZERS_ARE_NO_INPUTS)
        onnx.checker.check_model(proto)
        proto = onnx.shape_inference.infer_shapes(proto)
    except Exception as error:
        raise ModelError(f"{source} is not a valid ONNX model: {error}") from error
    return OnnxModel.load(proto)


def _load_file(path: Path) -> ModuleType:
    spec: Any = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(folder)
    return module


def _import(name: str) -> ModuleType:
    sys.path.insert(0, "")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ValidationError(f"cannot import {name}: {error}") from None
    finally:
        sys.path.remove("")
