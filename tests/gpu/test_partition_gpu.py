"""Partitioned graphs on a real GPU: what TensorRT refuses runs on ONNX Runtime, the rest on TensorRT; values compared.

python -m pytest tests/gpu --require=gpu
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pynn
from pynn import FallbackWarning, UnsupportedModelError
from pynn.backends.partition_executable import PARTITIONED
from pynn.graph import Graph, Operand

from ..backends.partition_fakes import arrays_of, run_whole

pytestmark = pytest.mark.gpu

WEIGHTS = (np.random.default_rng(3).standard_normal((256, 256), np.float32) / 16).astype(np.float16)


def deep(b: pynn.GraphBuilder) -> dict[str, Operand]:
    """Two products, between them nine dimensions where TensorRT takes eight; float16, so that TF32 plays no part."""
    x = b.input("x", [384, 256], "float16")
    before = b.relu(b.matmul(x, b.constant(WEIGHTS), label="first"), label="before")
    nine = b.reshape(before, [2, 3, 2, 4, 2, 4, 4, 4, 16], label="to nine")
    turned = b.transpose(nine, permutation=[0, 2, 1, 4, 3, 5, 7, 6, 8], label="turn")
    back = b.reshape(turned, [384, 256], label="back")
    count = b.input("count", [384, 256], "uint32")
    return {
        "y": b.matmul(back, b.constant(WEIGHTS), label="second"),
        "before": before,
        "larger": b.greater(back, before, label="compare"),
        "count": b.add(count, count, label="double"),
    }


def graph_of() -> Graph:
    builder = pynn.GraphBuilder()
    return builder.finish(deep(builder))


def agree(found: dict[str, np.ndarray[Any, Any]], arrays: dict[str, np.ndarray[Any, Any]]) -> None:
    expected = run_whole(graph_of(), arrays)
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        if name in ("y", "before"):
            np.testing.assert_allclose(found[name], array, rtol=2e-2, atol=1e-2)
    np.testing.assert_array_equal(found["count"], 2 * arrays["count"])
    back = found["before"].reshape(2, 3, 2, 4, 2, 4, 4, 4, 16).transpose(0, 2, 1, 4, 3, 5, 7, 6, 8).reshape(384, 256)
    np.testing.assert_array_equal(found["larger"], back > found["before"])


def test_a_graph_with_nine_dimensions_in_the_middle() -> None:
    with pytest.warns(FallbackWarning, match="reshape 'to nine'") as caught:
        executable = pynn.compile(graph_of())
    assert len(caught) == 1
    assert executable.backend == PARTITIONED
    report = executable.partition_report()
    assert [part.backend for part in report.parts] == ["tensorrt", "onnxruntime", "tensorrt"]
    assert [one.label for one in report.left_out] == ["to nine", "turn", "back"]
    with executable:
        for seed in range(5):
            arrays = arrays_of(graph_of().inputs, seed)
            agree(executable.run(arrays), arrays)
        parts = executable.stats["parts"]
        assert [part["stats"].get("runs") for part in parts if part["backend"] == "tensorrt"] == [5, 5]
        out = {"y": np.empty((384, 256), np.float16)}
        arrays = arrays_of(graph_of().inputs, 9)
        found = executable.run(arrays, out=out)
        assert found["y"] is out["y"]
        agree(found, arrays)


def test_tensors_of_a_context() -> None:
    with pynn.ML().create_context(backend="tensorrt") as context:
        builder = context.create_graph_builder()
        with pytest.warns(FallbackWarning, match="allow_partition=False"):
            graph = builder.build(deep(builder))
        arrays = arrays_of(graph.inputs, 1)
        inputs = {n: context.create_tensor(a.shape, a.dtype.name, writable=True) for n, a in arrays.items()}
        outputs = {n: context.create_tensor(d, readable=True) for n, d in graph.outputs.items()}
        for name, array in arrays.items():
            context.write_tensor(inputs[name], array)
        context.dispatch(graph, inputs, outputs)
        agree({name: context.read_tensor(tensor) for name, tensor in outputs.items()}, arrays)
        assert graph.backend == PARTITIONED


def test_not_allowed() -> None:
    with pytest.raises(
        UnsupportedModelError, match=r"TensorRT refuses reshape 'to nine', transpose 'turn', reshape 'back'"
    ):
        pynn.compile(graph_of(), backend="tensorrt", allow_partition=False)


def test_a_graph_that_is_taken_whole_stays_on_tensorrt_alone() -> None:
    builder = pynn.GraphBuilder()
    x = builder.input("x", [4, 4], "float32")
    executable = pynn.compile(builder.finish({"y": builder.softmax(x, 1)}))
    assert executable.backend == "tensorrt"
    assert not executable.partition_report().is_partitioned
