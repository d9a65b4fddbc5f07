"""Show what is in an ONNX model, a WebNN graph in Python code or an engine file: inputs, outputs, operators, weights,
which GPUs it is for, and what of it TensorRT would refuse."""

from __future__ import annotations

import argparse
from collections import Counter
from typing import TYPE_CHECKING, Any

from ..converter.model import OnnxModel
from ..errors import ValidationError
from ..graph import Graph, Operand
from . import arguments as common
from .console import Console
from .convert import call_function, named_function

if TYPE_CHECKING:
    from ..backends.partition_report import PartitionReport

HELP = "show inputs, outputs and operators of a model or an engine"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="an ONNX file, an engine made by pynn build, or FILE.py:FUNCTION or package.module:FUNCTION, which makes "
        "a WebNN graph",
    )
    parser.add_argument(
        "--partition",
        action="store_true",
        help="ask TensorRT's parser (no GPU needed) what it refuses, and show what would run where",
    )
    common.add_library(parser)


def execute(options: argparse.Namespace, console: Console) -> int:
    named = named_function(options.model)
    source = None if named is None else call_function(*named)
    if source is None and common.is_engine(options.model):
        if options.partition:
            raise ValidationError(f"{options.model} is an engine: TensorRT takes all of it")
        record = _engine(options.model)
    else:
        record = _graph(source) if isinstance(source, Graph) else _model(source or OnnxModel.load(options.model))
    report = (
        _partition(source or OnnxModel.load(options.model), options.tensorrt_library) if options.partition else None
    )
    if report is not None:
        record["partition"] = report.to_dict()
    console.json(record)
    console.text(f"{options.model}: {record['summary']}")
    console.table(
        ("", "name", "type", "shape"),
        [
            (side[:-1], spec["name"], spec["data_type"], "[" + ", ".join(map(_dim, spec["shape"])) + "]")
            for side in ("inputs", "outputs")
            for spec in record[side]
        ],
    )
    if record.get("operators"):
        console.heading("operators")
        console.table(("count", "operator"), [(count, name) for name, count in record["operators"].items()])
    if report is not None:
        console.heading("partition")
        console.text(str(report))
    return 0


def _partition(source: Graph | OnnxModel, library_dir: str | None) -> PartitionReport:
    from ..backends.partition_ask import foresee_partition
    from ..backends.trt import open_library

    with open_library(library_dir) as library:
        return foresee_partition(source, library)


def _graph(graph: Graph) -> dict[str, Any]:
    counts = Counter(node.op for node in graph.nodes)
    weights = sum(operand.descriptor.element_count for operand in graph.constants)
    return {
        "kind": "webnn",
        "summary": f"WebNN graph of {len(graph.nodes)} operators, {weights:,} weights",
        "inputs": [_operand_record(name, operand) for name, operand in graph.inputs.items()],
        "outputs": [_operand_record(name, operand) for name, operand in graph.outputs.items()],
        "nodes": len(graph.nodes),
        "operators": dict(counts.most_common()),
        "weights": weights,
    }


def _operand_record(name: str, operand: Operand) -> dict[str, Any]:
    return {"name": name, "data_type": operand.data_type.value, "shape": list(operand.shape)}


def _dim(dim: object) -> str:
    return "?" if dim is None else str(dim)


def _model(model: OnnxModel) -> dict[str, Any]:
    import onnx

    proto = onnx.load_model_from_string(model.proto)
    counts = Counter(f"{node.domain}.{node.op_type}" if node.domain else node.op_type for node in proto.graph.node)
    opsets = {entry.domain or "ai.onnx": entry.version for entry in proto.opset_import}
    weights = proto.graph.initializer
    elements = sum(_product(tensor.dims) for tensor in weights)
    made_by = f"{proto.producer_name} {proto.producer_version}".strip() or "an unknown producer"
    opset_text = ", ".join(f"{domain} {number}" for domain, number in opsets.items())
    return {
        "kind": "onnx",
        "summary": f"ONNX by {made_by}, opset {opset_text}, {len(proto.graph.node)} nodes, {elements:,} weights",
        "producer": made_by,
        "ir_version": proto.ir_version,
        "opsets": opsets,
        "inputs": [common.spec_record(spec) for spec in model.inputs],
        "outputs": [common.spec_record(spec) for spec in model.outputs],
        "nodes": len(proto.graph.node),
        "operators": dict(counts.most_common()),
        "initializers": len(weights),
        "weights": elements,
        "external_data": any(tensor.external_data for tensor in weights),
    }


def _product(dims: Any) -> int:
    total = 1
    for dim in dims:
        total *= dim
    return total


def _engine(path: str) -> dict[str, Any]:
    from ..backends.engine_file import EngineFile

    engine = EngineFile.load(path)
    return {
        "kind": "engine",
        "summary": engine.provenance,
        "library": engine.library,
        "flavor": engine.flavor,
        "version": engine.version,
        "compute_capabilities": [f"{c // 10}.{c % 10}" for c in engine.compute_capabilities],
        "gpu": engine.gpu,
        "pynn_version": engine.pynn_version,
        "plan_bytes": len(engine.plan),
        "inputs": [common.spec_record(spec) for spec in engine.inputs],
        "outputs": [common.spec_record(spec) for spec in engine.outputs],
        "ranges": dict(engine.ranges),
        "notes": list(engine.notes),
        "options": dict(engine.options),
    }
