"""From a wish to passes: which rewrites make a model compute in a precision on a target, and what they did."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from ...graph import Graph
from ..convert import to_onnx
from ..import_passes import run_imported, settle_quantization
from ..model import OnnxModel
from ..onnx_graph import OnnxGraph
from ..passes import Pass, run_passes
from ..passes.tensorrt_recurrent import shield_recurrent_casts
from .autocast_passes import (
    Ledger,
    autocast,
    check_bfloat16_casts,
    check_names,
    declare_bfloat16,
    emulate_bfloat16,
    spread_batch_normalization,
)
from .casts import CAST_ORIGIN
from .choice import Precision
from .operators import BFLOAT16_GAPS
from .report import Decision, PrecisionReport, decisions_of
from .target import ANY, Target, resolve

_CALIBRATED = ("int8", "fp8")
_PLAIN = (None, "fp32", "tf32")


class PrecisionPlan:
    """The passes of one conversion, in order, and after they ran the report. For one graph.

    ``used`` is the name of what is done ("auto" decided; None: the types of the model). ``whole`` is False for a part
    of a graph, where ``keep`` may name operators of other parts.

    Raises FeatureNotSupportedError for what the target cannot do, naming what it can; ValidationError.
    """

    def __init__(self, precision: Precision, target: Target, *, whole: bool = True) -> None:
        self.precision, self.target = precision, target
        self.used = resolve(precision, target)
        self._ledger = Ledger()
        self._weights: list[Any] = []
        self._quantized: list[Any] = []
        self._decisions: tuple[Decision, ...] = ()
        self._casts = 0
        self.passes = tuple(self._passes(whole)) if self.used not in _PLAIN else ()

    def _passes(self, whole: bool) -> Iterable[Pass]:
        precision, target, used = self.precision, self.target, str(self.used)
        keep, calibrated = precision.keep, precision.calibration is not None and self.used in _CALIBRATED
        if whole and keep:
            yield check_names(keep)
        if calibrated:
            yield self._quantize_operands(whole)
        on_cpu = target.backend == "onnxruntime"
        half = used if used == "bf16" else "fp16"
        if used in ("fp16", "bf16") or not on_cpu:
            gaps = BFLOAT16_GAPS if used == "bf16" and target.backend != "onnxruntime" else frozenset[str]()
            if half == "bf16" and target.backend != "tensorrt":
                yield check_bfloat16_casts
            yield spread_batch_normalization(keep)
            yield autocast(half, self._ledger, keep=keep, gaps=gaps, io=precision.io)
            if half == "bf16" and not on_cpu:
                yield declare_bfloat16
        if used in ("int4", "fp4") or (used in _CALIBRATED and not calibrated):
            yield self._quantize_weights()
        yield Pass("report", self._record)
        if used == "bf16" and on_cpu:
            yield emulate_bfloat16

    def _quantize_operands(self, whole: bool) -> Pass:
        table, form, target = self.precision.calibration, self.used, self.target

        def quantize_operands(graph: OnnxGraph) -> None:
            """Products of 8-bit operands, by the ranges of a calibration table."""
            from .qdq import insert_qdq

            keep = self.precision.keep
            self._quantized += insert_qdq(graph, table, form, keep, target=target, whole=whole)  # type: ignore[arg-type]

        return Pass("quantize_operands", quantize_operands)

    def _quantize_weights(self) -> Pass:
        from .weights import weight_pass

        precision, capabilities = self.precision, self.target.capabilities
        options: dict[str, Any] = {"block": precision.block, "method": precision.method, "keep": precision.keep}
        options["activations"] = precision.activations
        return weight_pass(self.used, self._weights, target=capabilities, **options)  # type: ignore[arg-type]

    def _record(self, graph: OnnxGraph) -> None:
        """Changes nothing: keeps what each operator computes in."""
        reasons = dict(self._ledger.reasons)
        for one in self._quantized:
            if one.precision:
                reasons[one.node] = f"operands in {one.precision}: {one.reason}"
        self._decisions = decisions_of(graph, reasons)
        self._casts = sum(node.origin == CAST_ORIGIN for node in graph.nodes)

    def report(self) -> PrecisionReport:
        """What the graph that ``passes`` ran on computes in after them. Without passes, operators are not listed."""
        notes = self._ledger.notes.copy()
        on_cpu = self.target.backend == "onnxruntime"
        if self.used == "bf16" and on_cpu:
            notes.append("the CPU has no bfloat16: computed in float32, rounded to bfloat16 after each operator")
        if self.used == "tf32" and on_cpu:
            notes.append("the CPU has no TF32: computed in float32")
        if self.precision.name == "auto" and self.used is None:
            notes.append("auto: nothing is gained by a narrow type here")
        if not self.passes:
            notes.append("the types are the model's own; pynn.explain_precision(model) lists them")
        return PrecisionReport(
            asked=self.precision.name,
            used=self.used,
            target="" if self.precision.name is None else str(self.target),
            decisions=self._decisions,
            casts=self._casts,
            weights=tuple(dict.fromkeys(map(str, self._weights))),
            notes=tuple(dict.fromkeys(notes)),
        )


def precision_passes(precision: Precision, target: Target = ANY, *, whole: bool = True) -> PrecisionPlan:
    """The named passes that make a graph compute in ``precision``: ``plan.passes`` to run, then ``plan.report``."""
    return PrecisionPlan(precision, target, whole=whole)


def apply_precision(
    source: Graph | OnnxModel,
    precision: Precision,
    target: Target = ANY,
    passes: Iterable[Pass] = (),
    *,
    whole: bool = True,
) -> OnnxModel:
    """``source`` as a model that computes in ``precision``; ``passes`` (a back end's) run after those of the precision,
    on a model that was given only those that are for imported ones. A model in which nothing is to change is returned
    as it is.

    Raises FeatureNotSupportedError for what the target cannot do, naming what it can; ValidationError for unknown names
    in ``keep``; ModelError for a model that is not valid.
    """
    plan = precision_passes(precision, target, whole=whole)
    if isinstance(source, Graph):
        return replace(to_onnx(source, (*plan.passes, *passes)), precision=plan.report())
    if not plan.passes:
        return settle_quantization(source, passes).with_precision(plan.report())
    from ..import_model import import_model
    from ..serialize import to_model

    graph = import_model(source)
    more = (shield_recurrent_casts,) if target.backend == "tensorrt" else ()
    rewrites = run_passes(graph, (*plan.passes, *more))
    rewrites, notes = run_imported(graph, passes, rewrites)
    return replace(to_model(graph), rewrites=rewrites, precision=plan.report(), notes=notes)


def explain_given(model: OnnxModel, report: PrecisionReport) -> PrecisionReport:
    """``report`` with what each operator of a model computes in as it is."""
    from ..import_model import import_model

    return replace(report, decisions=decisions_of(import_model(model), {}))
