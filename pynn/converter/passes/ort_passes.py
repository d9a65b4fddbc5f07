"""The list of passes for ONNX Runtime."""

from __future__ import annotations

from . import Pass


def passes_for(version: str) -> tuple[Pass, ...]:
    """The passes that ONNX Runtime ``version`` needs, in order."""
    return ()
