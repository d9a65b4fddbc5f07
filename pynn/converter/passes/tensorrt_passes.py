"""The list of passes for TensorRT and TensorRT-RTX."""

from __future__ import annotations

from . import Pass


def passes_for(version: str) -> tuple[Pass, ...]:
    """The passes that TensorRT ``version`` needs, in order."""
    return ()
