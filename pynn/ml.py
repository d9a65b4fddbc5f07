"""ML: the entry point of the WebNN face. Spec: https://www.w3.org/TR/webnn/#api-ml."""

from __future__ import annotations

import os
from typing import Literal

from .aio import in_thread
from .backends.base import CompileOptions
from .backends.selection import Selection, check_wish, select, warn_fallback
from .context import MLContext

PowerPreference = Literal["default", "high-performance", "low-power"]
BackendName = Literal["auto", "tensorrt", "onnxruntime"]


class ML:
    """``pynn.ML().create_context()`` is the beginning of everything. Has no state of its own."""

    def create_context(
        self,
        *,
        power_preference: PowerPreference = "default",
        accelerated: bool = True,
        backend: BackendName | None = None,
        device: int = 0,
        tensorrt_library: str | os.PathLike[str] | None = None,
        cuda_graph: bool = True,
        tf32: bool | None = None,
        optimization_level: int | None = None,
        workspace_bytes: int | None = None,
        allow_partition: bool = True,
    ) -> MLContext:
        """A context on the back end that the preferences and this machine lead to.

        ``power_preference`` and ``accelerated`` are WebNN's wishes: "high-performance", or "default" with
        ``accelerated``, takes TensorRT where it can be used; otherwise ONNX Runtime, with one FallbackWarning if
        TensorRT was wanted. ``backend`` decides instead of them and forbids a fallback. ``device`` is the GPU's number,
        ``tensorrt_library`` a directory to take TensorRT from. ``allow_partition``: of a graph that TensorRT takes only
        in part, the rest runs on ONNX Runtime, with one FallbackWarning (``graph.partition_report()`` says what); False
        forbids it. The rest are compile options for all graphs.

        Raises ValidationError for a bad argument, BackendUnavailableError (a NotSupportedError) with every candidate's
        reason when no back end can be used. Spec: https://www.w3.org/TR/webnn/#api-ml-createcontext.
        """
        wish = check_wish(backend, power_preference, accelerated, device, tensorrt_library, allow_partition, bool(tf32))
        options = CompileOptions({}, device, cuda_graph, optimization_level, workspace_bytes, tf32)
        return _context(select(wish), options)

    async def create_context_async(
        self,
        *,
        power_preference: PowerPreference = "default",
        accelerated: bool = True,
        backend: BackendName | None = None,
        device: int = 0,
        tensorrt_library: str | os.PathLike[str] | None = None,
        cuda_graph: bool = True,
        tf32: bool | None = None,
        optimization_level: int | None = None,
        workspace_bytes: int | None = None,
        allow_partition: bool = True,
    ) -> MLContext:
        """``create_context``, looking for back ends in a thread."""
        wish = check_wish(backend, power_preference, accelerated, device, tensorrt_library, allow_partition, bool(tf32))
        options = CompileOptions({}, device, cuda_graph, optimization_level, workspace_bytes, tf32)
        return _context(await in_thread(select, wish), options)


def _context(selection: Selection, options: CompileOptions) -> MLContext:
    message = selection.fallback_message
    context = MLContext(selection, options, warned=message is not None)
    if message is not None:
        warn_fallback(message)
    return context
