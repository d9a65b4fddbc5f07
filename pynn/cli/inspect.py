"""Show what is in an ONNX model or an engine file: inputs, outputs, operators, weights, and which GPUs it is for."""

from __future__ import annotations

import argparse
from collections import Counter
from typing import Any

from ..converter.model import OnnxModel
from . import arguments as common
from .console import Console

HELP = "show inputs, outputs and operators of a model or an engine"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="an ONNX file, or an engine made by pynn build")


def execute(options: argparse.Namespace, console: Console) -> int:
    record = _engine(options.model) if common.is_engine(options.model) else _model(options.model)
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
    return 0


def _dim(dim: object) -> str:
    return "?" if dim is None else str(dim)


def _model(path: str) -> dict[str, Any]:
    import onnx

    model = OnnxModel.load(path)
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
