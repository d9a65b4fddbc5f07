"""Many measured times as one line of numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from ..errors import ValidationError


@dataclass(frozen=True, slots=True)
class Summary:
    """Times in microseconds. Percentiles are linear between the two nearest of ``count`` values."""

    count: int
    min: float
    median: float
    mean: float
    p90: float
    p95: float
    p99: float
    max: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Summary:
        """Raises ValidationError for no values."""
        if not len(values):
            raise ValidationError("there is no time to summarize; raise seconds or iterations")
        times = np.asarray(values, np.float64)
        low, median, p90, p95, p99, high = (float(one) for one in np.percentile(times, (0, 50, 90, 95, 99, 100)))
        return cls(len(times), low, median, float(times.mean()), p90, p95, p99, high)

    def to_dict(self) -> dict[str, float]:
        return {name: value if name == "count" else round(value, 3) for name, value in asdict(self).items()}
