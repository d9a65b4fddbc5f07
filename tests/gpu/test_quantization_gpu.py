"""Calibrated models on a real GPU: values beside those of ONNX Runtime on the CPU, for the same Q/DQ and for floats."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pynn
from pynn import FeatureNotSupportedError
from pynn.backends.base import CompileOptions
from pynn.backends.trt import TensorRTBackend
from pynn.converter import OnnxGraph, lower_graph
from pynn.converter.passes import backend_passes, run_passes
from pynn.converter.precision.choice import Precision
from pynn.converter.precision.qdq import insert_qdq
from pynn.converter.serialize import to_model

from ..quantization.nets import Array, cosine, data, mlp, mobile, run

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def probe() -> Any:
    return next(probe for probe in TensorRTBackend().probe() if probe.usable)


def is_rtx(probe: Any) -> bool:
    return str(probe.details.get("flavor", "RTX")) != "TENSORRT"


def on_the_gpu(graph: OnnxGraph, sample: dict[str, Array]) -> Array:
    """The graph as it stands, without a back end's passes."""
    with TensorRTBackend().compile(to_model(graph), CompileOptions()) as executable:
        return executable.run(sample)["y"]


def quantized(
    net: Any, data_type: str, form: Any, per_channel: bool = True, **more: Any
) -> tuple[pynn.Graph, OnnxGraph, dict[str, Array]]:
    built = net(data_type, **more)
    table = pynn.calibrate(built, data(built, 8), form=form)
    graph = lower_graph(built)
    insert_qdq(graph, table, form, per_channel=per_channel)
    return built, graph, data(built, 1, seed=42)[0]


def judge(built: pynn.Graph, graph: OnnxGraph, sample: dict[str, Array], least: float) -> None:
    """Near ONNX Runtime with the same Q/DQ, and near the float model."""
    got = on_the_gpu(graph, sample)
    same, plain = run(graph, sample)["y"], run(lower_graph(built), sample)["y"]
    print(
        f"cosine to the same Q/DQ {cosine(got, same):.6f}, to floats {cosine(got, plain):.6f}, max {np.abs(got).max()}"
    )
    assert np.isfinite(got).all()
    assert cosine(got, same) > 0.999
    assert cosine(got, plain) > least


INFINITE = "TensorRT for RTX 1.6.1 on 9.0: infinity in float16 where the weight has a scale per channel"
NEVER_TRIED = "float16 with one scale for the weight was never tried on a GPU"


def forms(one_scale: tuple[Any, ...] = ()) -> list[Any]:
    """Types and scales: float32 is right in both forms; float16 is with one scale, unless ``one_scale`` marks it."""
    return [
        pytest.param("float32", True, id="float32-per-channel"),
        pytest.param("float32", False, id="float32-one-scale"),
        pytest.param("float16", True, id="float16-per-channel", marks=pytest.mark.xfail(strict=False, reason=INFINITE)),
        pytest.param("float16", False, id="float16-one-scale", marks=one_scale),
    ]


UNKNOWN = (pytest.mark.xfail(strict=False, reason=NEVER_TRIED),)
WRONG_CONVOLUTIONS = "RTX 1.6.1 on an H200: float32 convolutions between fp8 pairs of one scale had a cosine of 0.72"


@pytest.mark.parametrize(("data_type", "per_channel"), forms())
def test_fp8_products(data_type: str, per_channel: bool) -> None:
    judge(*quantized(mlp, data_type, "fp8", per_channel, rows=16, width=256), least=0.995)


@pytest.mark.xfail(strict=False, reason=WRONG_CONVOLUTIONS)
@pytest.mark.parametrize(("data_type", "per_channel"), forms(UNKNOWN))
def test_fp8_convolutions(data_type: str, per_channel: bool) -> None:
    judge(*quantized(mobile, data_type, "fp8", per_channel), least=0.97)


@pytest.mark.parametrize(("data_type", "per_channel"), forms(UNKNOWN))
def test_int8_products_as_the_library_computes_them(data_type: str, per_channel: bool) -> None:
    judge(*quantized(mlp, data_type, "int8", per_channel, rows=16, width=256), least=0.995)


@pytest.mark.parametrize("net", [mlp, mobile])
def test_int8_written_out_is_right(net: Any, probe: Any) -> None:
    """What pynn's passes make of int8 pairs for this library: arithmetic on RTX, the pairs themselves on TensorRT."""
    built, graph, sample = quantized(net, "float32", "int8")
    run_passes(graph, backend_passes("tensorrt", str(probe.details.get("version", ""))))
    judge(built, graph, sample, least=0.99)


def test_fp8_by_one_argument() -> None:
    built = mlp("float32", rows=16, width=256)
    table = pynn.calibrate(built, data(built, 8), form="fp8", smooth=0.5)
    sample = data(built, 1, seed=42)[0]
    precision = Precision("fp8", calibration=table)
    with pynn.compile(built, backend="tensorrt", precision=precision) as executable:
        got = executable.run(sample)["y"]
    assert got.dtype == np.float32
    assert cosine(got, run(lower_graph(built), sample)["y"]) > 0.995


def test_int8_activations_are_refused_on_rtx(probe: Any) -> None:
    if not is_rtx(probe):
        pytest.skip("this is TensorRT, which runs int8 activations")
    built = mlp()
    table = pynn.calibrate(built, data(built, 2))
    with pytest.raises(FeatureNotSupportedError, match="int8"):
        pynn.compile(built, backend="tensorrt", precision=Precision("int8", calibration=table))
