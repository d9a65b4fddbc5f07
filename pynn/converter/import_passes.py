"""A back end's passes on models that were given as ONNX: those for quantised numbers, which TensorRT crashes on or gets
wrong. A model without such operators stays byte for byte as it is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ..errors import ModelError
from .model import OnnxModel
from .onnx_graph import OnnxGraph
from .passes import Pass, PassRecord, run_passes

_NAMES = (b"QuantizeLinear", b"DequantizeLinear")


def mentions_quantization(model: OnnxModel) -> bool:
    """Whether operators that quantise may be in the model; it is not parsed."""
    return any(name in model.proto for name in _NAMES)


def settle_quantization(model: OnnxModel, passes: Iterable[Pass]) -> OnnxModel:
    """The model after those of ``passes`` for imported models; ``model`` itself where they change nothing."""
    wanted = [one for one in passes if one.left is not None]
    if not wanted or not mentions_quantization(model):
        return model
    from .import_model import import_model
    from .serialize import to_model

    try:
        graph = import_model(model)
    except ModelError as error:
        return replace(model.read(), notes=(*model.notes, f"its quantised operators were not looked at: {error}"))
    rewrites, notes = run_imported(graph, wanted)
    if not rewrites:
        return replace(model.read(), notes=notes) if notes else model
    return replace(to_model(graph), rewrites=rewrites, notes=notes)


def run_imported(
    graph: OnnxGraph, passes: Iterable[Pass], before: tuple[PassRecord, ...] = ()
) -> tuple[tuple[PassRecord, ...], tuple[str, ...]]:
    """Run those of ``passes`` that are for imported models: ``before`` and their records, and what they left alone."""
    notes: dict[str, None] = {}
    wanted = [one for one in passes if one.left is not None]
    records = run_passes(graph, wanted)
    for one in wanted:
        if one.left is not None:
            notes.update(dict.fromkeys(one.left(graph)))
    return (*before, *records), tuple(notes)
