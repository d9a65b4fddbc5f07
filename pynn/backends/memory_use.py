"""MemoryUse: what an executable holds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """Bytes that an executable holds. ``weights`` and ``activations`` are on the GPU, ``activations`` only as far as
    pynn allocates them (engines of static shapes; the library does it for others); ``device_staging`` is GPU memory,
    ``host_staging`` pinned host memory, for inputs and outputs."""

    weights: int = 0
    activations: int = 0
    device_staging: int = 0
    host_staging: int = 0

    @property
    def total(self) -> int:
        return self.weights + self.activations + self.device_staging + self.host_staging

    def __add__(self, other: MemoryUse) -> MemoryUse:
        return MemoryUse(
            self.weights + other.weights,
            self.activations + other.activations,
            self.device_staging + other.device_staging,
            self.host_staging + other.host_staging,
        )
