"""ML: the entry point of the WebNN face. Spec: https://www.w3.org/TR/webnn/#api-ml."""

from __future__ import annotations

from typing_extensions import Unpack

from .aio import in_thread
from .backends.base import CompileOptions
from .backends.cuda_ahead import cuda_ahead
from .backends.selection import Selection, Wish, select, warn_fallback
from .context import MLContext
from .options import Options, parse_options


class ML:
    """``pynn.ML().create_context()`` is the beginning of everything. Has no state of its own."""

    def create_context(self, **options: Unpack[Options]) -> MLContext:
        """A context on the back end that the preferences and this machine lead to.

        ``power_preference`` and ``accelerated`` are WebNN's wishes: "high-performance", or "default" with
        ``accelerated``, takes TensorRT where it can be used; otherwise ONNX Runtime, with one FallbackWarning if
        TensorRT was wanted. ``pynn.options.Options`` describes these and all other arguments; they hold for all graphs.

        Raises ValidationError for a bad argument, BackendUnavailableError (a NotSupportedError) with every candidate's
        reason when no back end can be used. Spec: https://www.w3.org/TR/webnn/#api-ml-createcontext.
        """
        wish, compile_options = parse_options("create_context", options)
        return _context(_select(wish), compile_options)

    async def create_context_async(self, **options: Unpack[Options]) -> MLContext:
        """``create_context``, looking for back ends in a thread."""
        wish, compile_options = parse_options("create_context", options)
        return _context(await in_thread(_select, wish), compile_options)


def _select(wish: Wish) -> Selection:
    with cuda_ahead(wish.device if wish.may_use_gpu else None):
        return select(wish)


def _context(selection: Selection, options: CompileOptions) -> MLContext:
    message = selection.fallback_message
    context = MLContext(selection, options, warned=message is not None)
    if message is not None:
        warn_fallback(message)
    return context
