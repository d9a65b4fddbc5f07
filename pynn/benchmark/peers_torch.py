"""PyTorch, for a model that comes from it: the module itself, and its export to ONNX for all others."""

from __future__ import annotations

import inspect
import io
import sys
from collections.abc import Mapping
from typing import Any

from ..errors import ValidationError
from .contestant import Arrays, Contestant

TORCH = "torch"


def is_module(model: object) -> bool:
    """Whether it is a ``torch.nn.Module``, without importing PyTorch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(model, torch.nn.Module)


def export(module: Any, inputs: Arrays) -> bytes:
    """The module as ONNX, traced on ``inputs``, which are named like the parameters of its ``forward``. Outputs are
    ``output`` or ``output_0``, ``output_1`` ... Raises ValidationError, and what PyTorch raises when it cannot."""
    import torch

    was_training = bool(module.training)
    module.eval()
    try:
        arrays = _ordered(module, inputs)
        where = next(iter(module.parameters()), torch.empty(0)).device
        examples = tuple(torch.from_numpy(array).to(where) for array in arrays.values())
        with torch.inference_mode():
            names = _output_names(module(*examples))
        buffer = io.BytesIO()
        kwargs: dict[str, Any] = {"input_names": list(arrays), "output_names": names, "dynamo": False}
        torch.onnx.export(module, examples, buffer, **kwargs)
    finally:
        module.train(was_training)
    return buffer.getvalue()


def contestant(module: Any, inputs: Arrays, device: int) -> Contestant:
    """The module, eager, on the GPU if PyTorch has one, from numpy to numpy."""
    import torch

    on_gpu = torch.cuda.is_available()
    where = torch.device("cuda", device) if on_gpu else torch.device("cpu")
    home = next(iter(module.parameters()), torch.empty(0)).device
    was_training = bool(module.training)
    module.to(where).eval()
    order = list(_ordered(module, inputs))

    def call(arrays: Arrays) -> Mapping[str, Any]:
        with torch.inference_mode():
            results = module(*(torch.from_numpy(arrays[name]).to(where) for name in order))
        found = results if isinstance(results, (tuple, list)) else [results]
        return {name: one.cpu().numpy() for name, one in zip(_output_names(results), found, strict=True)}

    def close() -> None:
        module.to(home).train(was_training)

    title = f"PyTorch {torch.__version__}, eager, {'GPU' if on_gpu else 'CPU'}"
    return Contestant(TORCH, title, call, close)


def _ordered(module: Any, inputs: Arrays) -> Arrays:
    """The arrays in the order of ``forward``'s parameters."""
    parameters = inspect.signature(module.forward).parameters
    unknown = sorted(set(inputs) - set(parameters))
    if unknown:
        raise ValidationError(f"inputs names {unknown[0]!r}; the module's forward takes {', '.join(parameters)}")
    return {name: inputs[name] for name in parameters if name in inputs}


def _output_names(results: Any) -> list[str]:
    if not isinstance(results, (tuple, list)):
        return ["output"]
    return [f"output_{i}" for i in range(len(results))]
