"""pynn and PyTorch on the same memory, by DLPack: what one writes the other reads, nothing is copied.

    python examples/pytorch_interop.py [--backend tensorrt] [--size 1048576] [--rounds 10]

On a GPU PyTorch fills the input on a stream of its own and pynn runs a gated activation on it, ordered by
``dispatch(stream=...)``. Without a GPU the same happens in main memory; without PyTorch numpy takes its place. The exit
code is 1 when a result differs from the library's own or memory was copied.
"""

from __future__ import annotations

import argparse
import contextlib
import warnings
from typing import Any

import numpy as np
from common import add_backend

import pynn

ALLOWED = 1e-5


def gated(b: pynn.MLGraphBuilder, size: int) -> dict[str, pynn.Operand]:
    """y = sigmoid(x) * x + 1."""
    x = b.input("x", [size], "float32")
    return {"y": b.add(b.mul(b.sigmoid(x), x), b.constant("float32", 1))}


class Numpy:
    """What the example needs of an array library."""

    name, stream = "numpy", None

    def array(self, size: int) -> Any:
        return np.zeros(size, np.float32)

    def fill(self, array: Any, value: float) -> None:
        array[:] = np.linspace(-value, value, len(array), dtype=np.float32)

    def error(self, x: Any, y: Any) -> float:
        return float(np.abs(x / (1 + np.exp(-x)) + 1 - y).max())

    def share(self, tensor: pynn.MLTensor) -> Any:
        return np.from_dlpack(tensor)

    def address(self, array: Any) -> int:
        return int(array.ctypes.data)

    def here(self) -> contextlib.AbstractContextManager[object]:
        return contextlib.nullcontext()


class Torch(Numpy):
    def __init__(self, torch: Any, on_gpu: bool) -> None:
        self._torch = torch
        self._device = "cuda" if on_gpu else "cpu"
        self._stream = torch.cuda.Stream() if on_gpu else None
        self.name = f"PyTorch {torch.__version__} on {self._device}"
        self.stream = self._stream.cuda_stream if on_gpu else None

    def array(self, size: int) -> Any:
        return self._torch.zeros(size, device=self._device)

    def fill(self, array: Any, value: float) -> None:
        self._torch.linspace(-value, value, len(array), out=array)

    def error(self, x: Any, y: Any) -> float:
        return float((self._torch.nn.functional.silu(x) + 1 - y).abs().max())

    def share(self, tensor: pynn.MLTensor) -> Any:
        return self._torch.from_dlpack(tensor)

    def address(self, array: Any) -> int:
        return int(array.data_ptr())

    def here(self) -> contextlib.AbstractContextManager[object]:
        return self._torch.cuda.stream(self._stream) if self._stream is not None else contextlib.nullcontext()


def library(context: pynn.MLContext) -> Numpy:
    """PyTorch where it is installed and can use the memory that this context's tensors have, else numpy."""
    on_gpu = context.create_tensor([1], "float32").location == "gpu"
    try:
        import torch
    except ImportError:
        torch = None
    if torch is not None and (torch.cuda.is_available() or not on_gpu):
        return Torch(torch, on_gpu)
    if on_gpu:
        raise SystemExit("the tensors are on a GPU, and there is no PyTorch with CUDA: try --backend onnxruntime")
    return Numpy()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_backend(parser)
    parser.add_argument("--size", type=int, default=1 << 20)
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args(arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pynn.FallbackWarning)
        context = pynn.ML().create_context(backend=options.backend)
    with context:
        other = library(context)
        builder = context.create_graph_builder()
        graph = builder.build(gated(builder, options.size))
        with other.here():
            source = other.array(options.size)
            x = context.from_dlpack(source)  # their memory, our tensor
            y = context.create_tensor([options.size], "float32", readable=True)
            result = other.share(y)  # our memory, their array
            worst = 0.0
            for i in range(options.rounds):
                other.fill(source, i + 1.0)
                context.dispatch(graph, {"x": x}, {"y": y}, stream=other.stream)
                worst = max(worst, other.error(source, result))
            shared = other.address(other.share(x)) == other.address(source)
            shared = shared and other.address(other.share(y)) == other.address(result)
        print(f"back end: {context.backend}; the other library: {other.name}; tensors: {y.location}")
        print(f"memory is {'shared both ways' if shared else 'COPIED'}")
        print(f"greatest difference in {options.rounds} rounds: {worst:.1e} ({ALLOWED:.0e} allowed)")
        dispatch = graph.stats["dispatch"]
        print(f"dispatch went by: {dispatch}")
        return 0 if shared and worst <= ALLOWED else 1


if __name__ == "__main__":
    raise SystemExit(main())
