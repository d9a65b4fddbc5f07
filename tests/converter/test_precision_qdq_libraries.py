"""Every variant of Q/DQ with the real TensorRT for RTX libraries, for three GPUs: built, or refused in their words."""

from __future__ import annotations

from typing import Any

import pytest

from pynn.backends.trt_build import build_plan
from pynn.converter import OnnxGraph, lower_graph
from pynn.converter.model import OnnxModel
from pynn.converter.precision.qdq import insert_qdq
from pynn.converter.serialize import to_model
from pynn.errors import DeviceUnsupportedError, EngineBuildError
from pynn.native import Library

from ..quantization.nets import Net, flat_table, mlp

pytestmark = pytest.mark.trt

CAPABILITIES = (86, 89, 120)
VARIANTS = (("float16", True), ("float32", True), ("float16", False))
"""Data type, and whether weights have a scale per channel."""
NO_FP8 = "Cannot compile for target(s) sm86, because the model contains HW-specific datatypes: fp8_e4m3"
NO_INT8_CONVOLUTION = "CHECK(dtype == myelinTypeFloat || dtype == myelinTypeHalf"
NEEDS_A_GPU = "Cuda Runtime (In generateForCurrent"


def convolution(data_type: str, kind: str) -> OnnxGraph:
    n = Net(data_type)
    b = n.b
    x = b.input("x", [1, 16, 12, 12], data_type)
    if kind == "transposed":
        return lower_graph(b.finish({"y": b.conv_transpose2d(x, n.weight(16, 8, 2, 2), strides=[2, 2])}))
    groups, depth = (16, 1) if kind == "depthwise" else (1, 16)
    y = b.conv2d(x, n.weight(16, depth, 3, 3), padding=[1, 1, 1, 1], groups=groups, bias=n.vector(16))
    return lower_graph(b.finish({"y": b.relu(b.add(y, x) if kind == "residual" else y)}))


def product(data_type: str, kind: str) -> OnnxGraph:
    n = Net(data_type)
    b = n.b
    if kind == "mlp":
        return lower_graph(mlp(data_type))
    x = b.input("x", [16, 32], data_type)
    return lower_graph(b.finish({"y": b.gemm(x, n.weight(48, 32), c=n.vector(48), b_transpose=True)}))


NETS = {
    **{name: (product, name) for name in ("mlp", "gemm")},
    **{name: (convolution, name) for name in ("depthwise", "residual", "transposed")},
}


def refusal(version: tuple[int, ...], form: str, name: str, capability: int) -> str:
    """What the library says where it does not build the variant; "" where it does."""
    if form == "fp8" and capability == 86:
        return NO_FP8
    return NO_INT8_CONVOLUTION if form == "int8" and NETS[name][0] is convolution and version < (1, 7) else ""


@pytest.mark.parametrize("form", ["int8", "fp8"])
@pytest.mark.parametrize("name", NETS)
def test_every_variant_builds_or_is_refused_as_known(trt_library: Library, name: str, form: Any) -> None:
    """All variants by 1.6 and newer; the first one by those before, of which 1.4 needs a GPU to build 8 bits."""
    version = tuple(int(part) for part in trt_library.info.version.split(".")[:2])
    make, kind = NETS[name]
    for data_type, per_channel in VARIANTS if version >= (1, 6) else VARIANTS[:1]:
        graph = make(data_type, kind)
        decisions = insert_qdq(graph, flat_table(graph), form, per_channel=per_channel)
        assert all(decision.precision == form for decision in decisions)
        model = to_model(graph)
        for capability in CAPABILITIES:
            said = words(model, trt_library, capability)
            if not (version < (1, 5) and NEEDS_A_GPU in said):
                expected = refusal(version, form, name, capability)
                assert bool(said) == bool(expected) and expected in said


def words(model: OnnxModel, library: Library, capability: int) -> str:
    """What the library says while it refuses to build; "" when it builds."""
    try:
        build_plan(model, library, compute_capabilities=(capability,))
    except (EngineBuildError, DeviceUnsupportedError) as error:
        return f"{error}\n{error.log}"
    return ""


@pytest.mark.parametrize("form", ["int8", "fp8"])
def test_smoothed_models_build(newest_library: Library, form: Any) -> None:
    graph = lower_graph(mlp("float16", outliers=True))
    names = ("layerNormalization_0/LayerNormalization", "gelu_0/Gelu")
    channels = {names[0]: (2.0,) * 64, names[1]: (3.0,) * 128}
    decisions = insert_qdq(graph, flat_table(graph, channels=channels, smooth=0.5), form)
    assert all("smoothed" in decision.reason for decision in decisions)
    build_plan(to_model(graph), newest_library, compute_capabilities=(89, 120))
