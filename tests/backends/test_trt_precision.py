"""Narrow models with the real TensorRT for RTX: they parse and build for three generations of GPUs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pynn
from pynn import FeatureNotSupportedError, Precision
from pynn.converter.model import OnnxModel

from ..conftest import library_folder
from ..converter.test_precision_autocast import model, node, weight

pytestmark = pytest.mark.trt
TARGETS = ("8.6", "8.9", "12.0")
RANDOM = np.random.default_rng(3)


def blocks() -> pynn.Graph:
    """A convolution block with a residual addition, pooling, and an attention head behind it."""
    b = pynn.GraphBuilder()

    def constant(*shape: int) -> pynn.Operand:
        return b.constant((RANDOM.standard_normal(shape) / 8).astype(np.float32))

    x = b.input("x", [1, 16, 8, 8], "float32")
    y = b.clamp(b.conv2d(x, constant(16, 16, 3, 3), bias=constant(16), padding=[1] * 4), min_value=0, max_value=6)
    y = b.add(b.conv2d(y, constant(16, 1, 3, 3), groups=16, padding=[1] * 4), x)
    y = b.batch_normalization(y, constant(16), b.constant(np.full(16, 0.5, np.float32)), scale=constant(16))
    y = b.average_pool2d(b.max_pool2d(y, window_dimensions=[2, 2], strides=[2, 2]), window_dimensions=[2, 2])
    tokens = b.transpose(b.reshape(y, [16, 9]))
    tokens = b.layer_normalization(tokens, scale=constant(16), bias=constant(16), axes=[1])
    query, key, value = (b.matmul(tokens, constant(16, 16)) for _ in range(3))
    scores = b.mul(b.matmul(query, b.transpose(key)), b.constant("float32", 0.25))
    hidden = b.add(scores, b.constant("float32", -3e38))
    mixed = b.matmul(b.softmax(b.max(scores, hidden), 1), value)
    wide = b.gelu(b.matmul(mixed, constant(16, 32)))
    total = b.reduce_sum(b.exp(b.tanh(wide)), axes=[1], keep_dimensions=True)
    return b.finish({"y": b.div(wide, total), "tokens": tokens})


def recurrent() -> OnnxModel:
    nodes = [node("MatMul", "x w", "p"), node("GRU", "p k r", "y", hidden_size=4)]
    weights = {"w": weight(6, 6), "k": weight(1, 12, 6), "r": weight(1, 12, 4)}
    return model(nodes, {"x": [3, 2, 6]}, {"y": [3, 1, 2, 4]}, weights)


def dynamic() -> OnnxModel:
    nodes = [node("MatMul", "x w", "p"), node("LayerNormalization", "p g", "n"), node("MatMul", "n w", "y")]
    return model(nodes, {"x": ["batch", 8]}, {"y": ["batch", 8]}, {"w": weight(8, 8), "g": weight(8)})


@pytest.fixture
def folder(newest_folder: Path) -> Path:
    """The release that was measured on a GPU, where it is here; else the newest."""
    measured = library_folder("1.6.1.120")
    return measured if measured.is_dir() else newest_folder


MODELS = {"blocks": blocks, "recurrent": recurrent, "dynamic": dynamic}


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("name", MODELS)
def test_narrow_models_build(folder: Path, name: str, precision: Any) -> None:
    source = MODELS[name]()
    options: Any = {"shapes": {"batch": (1, 4, 8)}} if name == "dynamic" else {}
    engine = pynn.build_engine(
        source, compute_capabilities=TARGETS, precision=precision, tensorrt_library=folder, **options
    )
    assert {spec.data_type for spec in (*engine.inputs, *engine.outputs)} == {"float32"}


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("name", ["classify_files", "mobilenetv2", "minilm"])
def test_the_examples_build_narrow(folder: Path, name: str, precision: Any) -> None:
    options: Any = {}
    if name == "classify_files":
        magika = pytest.importorskip("magika")
        source: Any = next(Path(magika.__file__).parent.rglob("model.onnx"))
        options = {"shapes": {"bytes": (1, 2048)}}
    else:
        source = example(name)
    wide = pynn.build_engine(source, compute_capabilities=["8.6"], tensorrt_library=folder, **options)
    half = pynn.build_engine(
        source, compute_capabilities=["8.6"], precision=precision, tensorrt_library=folder, **options
    )
    assert len(half.plan) < 0.7 * len(wide.plan)
    assert [str(s) for s in (*half.inputs, *half.outputs)] == [str(s) for s in (*wide.inputs, *wide.outputs)]


def example(name: str) -> pynn.Graph:
    """The example's graph with made-up weights; MiniLM with two layers and few words."""
    from ..examples import conftest  # noqa: F401  (makes the examples importable)

    b = pynn.GraphBuilder()
    if name == "mobilenetv2":
        import mobilenetv2

        return b.finish(mobilenetv2.build(b, mobilenetv2.seeded_weights()))
    import minilm

    config = minilm.Config(layers=2, vocabulary=1000)
    return b.finish(minilm.build(b, minilm.seeded_weights(config), 2, 16, config))


def test_float16_io_is_the_engine_s(folder: Path) -> None:
    engine = pynn.build_engine(
        blocks(), compute_capabilities=["8.6"], precision=Precision("fp16", io=True), tensorrt_library=folder
    )
    assert {spec.data_type for spec in (*engine.inputs, *engine.outputs)} == {"float16"}


def test_what_a_target_lacks_is_refused_before_the_build(folder: Path) -> None:
    with pytest.raises(FeatureNotSupportedError, match=r"fp8 needs compute capability 8\.9, this is 8\.6"):
        pynn.build_engine(blocks(), compute_capabilities=TARGETS, precision="fp8", tensorrt_library=folder)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_every_release_builds_them(trt_folder: Path, precision: Any) -> None:
    pynn.build_engine(blocks(), compute_capabilities=TARGETS, precision=precision, tensorrt_library=trt_folder)


@pytest.mark.trt
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_a_maximum_over_padded_windows(newest_folder: Path, precision: str) -> None:
    builder = pynn.GraphBuilder()
    x = builder.input("x", [1, 4, 16, 16], "float32")
    y = builder.conv2d(x, builder.constant(np.ones((4, 4, 3, 3), np.float32)), padding=[1, 1, 1, 1])
    y = builder.max_pool2d(y, window_dimensions=[3, 3], padding=[1, 1, 1, 1], strides=[2, 2])
    wide = builder.max_pool2d(y, window_dimensions=[2, 2], dilations=[2, 2])
    graph = builder.finish({"y": builder.relu(wide)})
    built = pynn.build_engine(graph, compute_capabilities=[86], precision=precision, tensorrt_library=newest_folder)
    assert built.outputs[0].data_type == "float32"
