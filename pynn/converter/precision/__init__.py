"""Precision: named rewrites of an OnnxGraph that change the types it computes in.

``precision_passes`` says which ones a precision needs on a target, ``apply_precision`` runs them on a model,
``PrecisionReport`` tells for each operator what came of it.
"""

from __future__ import annotations

from .choice import AS_GIVEN, Precision, parse_precision
from .plan import PrecisionPlan, apply_precision, precision_passes
from .report import Decision, PrecisionReport
from .target import ANY, Target

__all__ = [
    "ANY",
    "AS_GIVEN",
    "Decision",
    "Precision",
    "PrecisionPlan",
    "PrecisionReport",
    "Target",
    "apply_precision",
    "parse_precision",
    "precision_passes",
]
