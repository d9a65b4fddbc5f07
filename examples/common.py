"""What the examples share: options, and ONNX Runtime's CPU as the judge."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import pynn

Array = np.ndarray[Any, Any]
ALLOWED = {"float32": 1e-3, "float16": 1e-2}
"""Greatest relative error that ``check`` lets pass, by the data type that the network computes in."""


def add_backend(parser: argparse.ArgumentParser) -> None:
    choices = ("auto", "tensorrt", "onnxruntime")
    parser.add_argument("--backend", choices=choices, default="auto", help="default: the best one here")


def add_options(parser: argparse.ArgumentParser) -> None:
    add_backend(parser)
    parser.add_argument("--check", action="store_true", help="compare with ONNX Runtime on the CPU in float32")


def compile_model(model: Path | pynn.Graph, backend: str, **options: Any) -> pynn.Executable:
    """``pynn.compile`` without its warning about a fallback, which ``print_backend`` tells at length."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pynn.FallbackWarning)
        return pynn.compile(model, backend=backend, **options)


def print_backend(model: pynn.Executable) -> None:
    """The back end chosen, and what every candidate said."""
    print(f"back end: {model.backend}")
    print(model.report)
    for note in model.notes:
        print(f"note: {note}")


def onnx_runtime(graph: pynn.Graph, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Run ``graph`` by ONNX Runtime's own API on the CPU, past every part of pynn but the converter."""
    import onnxruntime

    session = onnxruntime.InferenceSession(pynn.to_onnx(graph).to_bytes(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(inputs)), strict=True))


def relative_error(got: Array, want: Array) -> float:
    """||got - want|| / ||want||."""
    got, want = got.astype(np.float64), want.astype(np.float64)
    return float(np.linalg.norm(got - want) / np.linalg.norm(want))


def cosine(got: Array, want: Array) -> float:
    """The smallest cosine between rows of the two."""
    got, want = got.astype(np.float64), want.astype(np.float64)
    lengths = np.linalg.norm(got, axis=-1) * np.linalg.norm(want, axis=-1)
    return float(np.min((got * want).sum(axis=-1) / lengths))


def check(got: Array, want: Array, dtype: str) -> int:
    """Print how far ``got`` is from ``want``; the exit code, 1 when that is too far."""
    error = relative_error(got, want)
    passed = error <= ALLOWED[dtype]
    print("against ONNX Runtime on the CPU in float32:")
    print(f"  relative error {error:.2e} ({'ok' if passed else 'TOO FAR'}: {ALLOWED[dtype]:.0e} allowed)")
    print(f"  cosine {cosine(got, want):.7f}")
    return 0 if passed else 1
