"""ONNX files with quantised numbers on a real GPU: values beside those of ONNX Runtime for the file as it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

import pynn

from ..converter.quantized_files import activations_file, weights_file
from ..converter.test_quantized_files import PRODUCTS, ZEROS, by_ort

pytestmark = pytest.mark.gpu


def near(model: pynn.OnnxModel, allowed: float, size: int = 5, **options: Any) -> None:
    (spec,) = model.inputs
    dims = [size if not isinstance(d, int) else d for d in spec.shape]
    x = np.random.default_rng(0).standard_normal(dims).astype(spec.data_type)
    want = by_ort(model, x=x).astype(np.float64)
    with pynn.compile(model.to_bytes(), backend="tensorrt", allow_partition=False, **options) as executable:
        got = executable.run({"x": x})["y"].astype(np.float64)
    assert np.isfinite(got).all()
    error = np.linalg.norm(got - want) / np.linalg.norm(want)
    print(f"relative error {error:.1e}")
    assert error <= allowed


@contextmanager
def kernels_may_lack(scale_type: str, block: int) -> Iterator[None]:
    """An expected failure, in the library's words: no kernel on 9.0 for float32 products of 4-bit blocks."""
    try:
        yield
    except pynn.EngineBuildError as error:
        if (scale_type, block) != ("float32", 32) or "No valid engine configs for Matmul" not in str(error):
            raise
        pytest.xfail(str(error)[:300])


@pytest.mark.parametrize("scale_type", ["float32", "float16"])
@pytest.mark.parametrize("product", PRODUCTS)
@pytest.mark.parametrize("block", [0, 32])
@pytest.mark.parametrize(("data_type", "zero"), ZEROS)
def test_weights(data_type: str, zero: int | None, block: int, product: str, scale_type: str) -> None:
    """Float32 products may be computed in TF32. Left operands have 4 columns: as many as there are rows else."""
    with kernels_may_lack(scale_type, block):
        near(weights_file(data_type, zero, block, product, scale_type), 2e-3 if scale_type == "float32" else 1e-2)


@pytest.mark.parametrize(("data_type", "zero"), [("uint8", 3), ("uint8", 0), ("int8", 3), ("int8", 0), ("uint8", None)])
@pytest.mark.parametrize("opset", [13, 21])
def test_activations(data_type: str, zero: int | None, opset: int) -> None:
    near(activations_file(data_type, opset, zero=zero), 2e-3)


@pytest.mark.parametrize("data_type", ["int4", "uint4"])
def test_named_dimensions(data_type: str) -> None:
    with kernels_may_lack("float32", 32):
        near(weights_file(data_type, None, 32, dims=("batch", 128)), 2e-3, shapes={"batch": (1, 4, 8)})
