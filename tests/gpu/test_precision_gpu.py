"""Precision on a real GPU: values against float32 on ONNX Runtime's CPU.

python -m pytest tests/gpu/test_precision_gpu.py --require=gpu
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pynn
from pynn import Precision

from ..backends.test_trt_precision import blocks, example
from ..converter.test_precision_autocast import model, node, weight

pytestmark = pytest.mark.gpu
Array = np.ndarray[Any, Any]


def relative(found: Array, expected: Array) -> float:
    """The norm of the difference over the norm of the expected values."""
    difference = found.astype(np.float64) - expected.astype(np.float64)
    return float(np.linalg.norm(difference) / np.linalg.norm(expected.astype(np.float64)))


def cosines(found: Array, expected: Array) -> Array:
    """By row, in float64 and whatever the lengths are: an inner product of normalised rows also has the error of their
    lengths, which is of first order in the rounding, where that of the direction is of second."""
    x, y = found.astype(np.float64), expected.astype(np.float64)
    return np.asarray(np.sum(x * y, axis=1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1))


def on_cpu(source: Any, arrays: dict[str, Array]) -> dict[str, Array]:
    with pynn.compile(source, backend="onnxruntime", accelerated=False) as executable:
        return executable.run(arrays)


def on_gpu(source: Any, arrays: dict[str, Array], **options: Any) -> tuple[dict[str, Array], pynn.PrecisionReport]:
    with pynn.compile(source, backend="tensorrt", allow_partition=False, **options) as executable:
        return executable.run(arrays), executable.explain_precision()


@pytest.fixture(scope="module")
def mobilenet() -> tuple[pynn.Graph, dict[str, Array], Array]:
    graph = example("mobilenetv2")
    arrays = {"image": np.random.default_rng(1).standard_normal((1, 3, 224, 224)).astype(np.float32)}
    return graph, arrays, on_cpu(graph, arrays)["scores"]


@pytest.mark.parametrize(("precision", "limit"), [("fp32", 1e-4), ("fp16", 2e-3), ("bf16", 2e-2), ("auto", 2e-3)])
def test_mobilenet(mobilenet: Any, precision: Any, limit: float) -> None:
    graph, arrays, expected = mobilenet
    found, report = on_gpu(graph, arrays, precision=precision)
    assert found["scores"].dtype == np.float32
    assert relative(found["scores"], expected) <= limit
    assert report.used == ("fp16" if precision == "auto" else precision)


def test_the_same_as_a_file(mobilenet: Any) -> None:
    graph, arrays, expected = mobilenet
    found, _ = on_gpu(pynn.to_onnx(graph).to_bytes(), arrays, precision="fp16")
    assert relative(found["scores"], expected) <= 2e-3


def test_fp16_is_the_plan_of_a_model_built_in_fp16(mobilenet: Any) -> None:
    """As large within 1 %, which says that the same kernels run. ``benchmarks/precision/run.py`` measures the time,
    with nothing beside it."""
    import mobilenetv2

    graph, _, _ = mobilenet
    b = pynn.GraphBuilder()
    made = b.finish(mobilenetv2.build(b, mobilenetv2.seeded_weights(), dtype="float16"))
    with (
        pynn.compile(graph, backend="tensorrt", precision="fp16") as ours,
        pynn.compile(made, backend="tensorrt") as theirs,
    ):
        assert ours.stats["plan_bytes"] <= 1.01 * theirs.stats["plan_bytes"]


@pytest.mark.parametrize(("precision", "limit"), [("fp16", 5e-3), ("bf16", 4e-2)])
def test_convolutions_and_attention(precision: Any, limit: float) -> None:
    graph = blocks()
    arrays = {"x": np.random.default_rng(2).standard_normal((1, 16, 8, 8)).astype(np.float32)}
    expected = on_cpu(graph, arrays)
    found, _ = on_gpu(graph, arrays, precision=precision)
    for name, array in expected.items():
        assert relative(found[name], array) <= limit, name


@pytest.mark.parametrize(("precision", "limit"), [("fp16", 2e-3), ("bf16", 2e-2)])
def test_minilm(precision: Any, limit: float) -> None:
    graph = example("minilm")
    random = np.random.default_rng(4)
    mask = np.ones((2, 16), np.int32)
    mask[1, 9:] = 0
    arrays = {"ids": random.integers(0, 1000, (2, 16)).astype(np.int32), "mask": mask}
    expected = on_cpu(graph, arrays)["embedding"]
    found, _ = on_gpu(graph, arrays, precision=precision)
    assert relative(found["embedding"], expected) <= limit
    assert (cosines(found["embedding"], expected) >= 1 - limit**2).all()


def test_keep_makes_it_more_exact() -> None:
    """A product whose sum cancels: float16 loses it, a kept operator does not."""
    w = np.concatenate([np.full((128, 8), 1.001, np.float32), np.full((128, 8), -1.0, np.float32)])
    given = model([node("MatMul", "x w", "p"), node("Relu", "p", "y")], {"x": [4, 256]}, {"y": [4, 8]}, {"w": w})
    arrays = {"x": np.ones((4, 256), np.float32)}
    expected = on_cpu(given, arrays)["y"]
    lossy, _ = on_gpu(given, arrays, precision="fp16")
    exact, report = on_gpu(given, arrays, precision=Precision("fp16", keep=("p",)))
    assert relative(lossy["y"], expected) > 1e-2
    assert relative(exact["y"], expected) < 5e-3
    assert [one.data_type for one in report.decisions] == ["float32", "float16"]


def test_constants_that_overflow_are_protected() -> None:
    nodes = [
        node("MatMul", "x w", "p"),
        node("Mul", "p big", "q"),
        node("Mul", "q small", "r"),
        node("MatMul", "r w", "y"),
    ]
    weights = {"w": weight(8, 8), "big": np.array(1e6, np.float32), "small": np.array(1e-6, np.float32)}
    given = model(nodes, {"x": [4, 8]}, {"y": [4, 8]}, weights)
    arrays = {"x": weight(4, 8)}
    found, _ = on_gpu(given, arrays, precision="fp16")
    assert relative(found["y"], on_cpu(given, arrays)["y"]) <= 5e-3


def test_a_recurrent_network_behind_a_narrow_product() -> None:
    nodes = [node("MatMul", "x w", "p"), node("GRU", "p k r", "y", hidden_size=4)]
    weights = {"w": weight(6, 6), "k": weight(1, 12, 6), "r": weight(1, 12, 4)}
    given = model(nodes, {"x": [3, 2, 6]}, {"y": [3, 1, 2, 4]}, weights)
    arrays = {"x": weight(3, 2, 6)}
    found, _ = on_gpu(given, arrays, precision="fp16")
    assert relative(found["y"], on_cpu(given, arrays)["y"]) <= 5e-3


def test_dynamic_batches() -> None:
    nodes = [node("MatMul", "x w", "p"), node("LayerNormalization", "p g", "n"), node("MatMul", "n w", "y")]
    given = model(nodes, {"x": ["batch", 8]}, {"y": ["batch", 8]}, {"w": weight(8, 8), "g": weight(8)})
    with pynn.compile(given, backend="tensorrt", precision="fp16", shapes={"batch": (1, 4, 8)}) as executable:
        for batch in (1, 3, 8):
            arrays = {"x": weight(batch, 8)}
            assert relative(executable.run(arrays)["y"], on_cpu(given, arrays)["y"]) <= 1e-2


def test_high_performance_means_fp16_and_default_what_the_graph_says() -> None:
    for preference, expected in (("high-performance", "fp16"), ("default", None)):
        with pynn.ML().create_context(power_preference=preference) as context:  # type: ignore[arg-type]
            b = context.create_graph_builder()
            x = b.input("x", [4, 64], "float32")
            graph = b.build({"y": b.matmul(x, b.constant(weight(64, 64)))})
            assert graph.executable.explain_precision().used == expected
