"""CalibrationTable: the ranges that activations were seen to have, for one model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class CalibrationTable:
    """``scales`` has, by value name of the ONNX graph, the symmetric range (the largest magnitude worth keeping).

    ``model`` is the digest of the model it was made of: another model refuses it. ``details`` say how it was made.
    """

    model: str
    amax: Mapping[str, float]
    details: Mapping[str, Any] = field(default_factory=dict)
