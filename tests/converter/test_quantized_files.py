"""ONNX files with quantised numbers on TensorRT: what it would refuse or crash on is rewritten, the rest stays."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from pynn.backends.base import BuildControl, CompileOptions
from pynn.backends.trt_build import build_plan
from pynn.converter.import_passes import settle_quantization
from pynn.converter.model import OnnxModel
from pynn.converter.passes import backend_passes
from pynn.converter.precision import Precision, apply_precision
from pynn.converter.precision.target import Target
from pynn.native import Library

from ..native.models import tiny
from .legal import passes_of
from .quantized_files import Array, activations_file, file_of, numbers, weights_file

PASSES = backend_passes("tensorrt", "1.6.1.120")
PRODUCTS = ("right", "gemm", "left", "left gemm", "left transposed")
LEFT = PRODUCTS[2:]
ZEROS = [("int4", None), ("int4", 2), ("uint4", 8), ("uint4", None), ("uint4", 3), ("uint8", 128), ("uint8", 3)]


def by_ort(model: OnnxModel, **arrays: Array) -> Array:
    """Unoptimised: as it is written."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return np.asarray(ort.InferenceSession(model.to_bytes(), options).run(None, arrays)[0])


def same(given: OnnxModel, made: OnnxModel, size: int = 5) -> None:
    """Bit for bit: scales are powers of two, so that nothing is rounded differently."""
    (spec,) = given.inputs
    dims = [size if not isinstance(d, int) else d for d in spec.shape]
    x = np.random.default_rng(0).standard_normal(dims).astype(spec.data_type)
    np.testing.assert_array_equal(by_ort(made, x=x), by_ort(given, x=x))


def stored(model: OnnxModel) -> set[str]:
    """The small types of constants."""
    types = {TensorProto.DataType.Name(one.data_type) for one in model.to_proto().graph.initializer}
    return types & {"INT4", "UINT4", "INT8", "UINT8"}


@pytest.mark.parametrize("product", PRODUCTS)
@pytest.mark.parametrize("block", [0, 32, 64, 128])
@pytest.mark.parametrize(("data_type", "zero"), ZEROS)
def test_weights_mean_the_same(data_type: str, zero: int | None, block: int, product: str) -> None:
    given = weights_file(data_type, zero, block, product)
    made = settle_quantization(given, PASSES)
    same(given, made)
    assert made.notes == ()
    symmetric = (data_type, zero) in (("int4", None), ("uint4", 8))
    assert "INT4" not in stored(made) if product in LEFT or not symmetric else stored(made) == {"INT4"}
    nodes = [node for node in made.to_proto().graph.node if node.op_type == "DequantizeLinear"]
    assert all(len(node.input) == 2 for node in nodes), "no zero points"


@pytest.mark.parametrize("scale_type", ["float32", "float16"])
@pytest.mark.parametrize("data_type", ["int4", "uint4"])
def test_named_dimensions_stay(data_type: str, scale_type: str) -> None:
    given = weights_file(data_type, None, 32, scale_type=scale_type, dims=("batch", 128))
    made = settle_quantization(given, PASSES)
    same(given, made)
    assert made.inputs == given.inputs and made.outputs == given.outputs


@pytest.mark.parametrize("opset", [12, 13, 19, 21])
@pytest.mark.parametrize("batch", [2, "n"])
@pytest.mark.parametrize(("data_type", "zero"), [("uint8", 3), ("uint8", 0), ("int8", 3), ("int8", 0), ("uint8", None)])
def test_activations_mean_the_same_in_every_opset(data_type: str, zero: int | None, batch: Any, opset: int) -> None:
    given = activations_file(data_type, opset, batch, zero)
    made = settle_quantization(given, PASSES)
    same(given, made)
    assert made.notes == ()
    small = [node for node in made.to_proto().graph.node if node.op_type == "Cast" and node.attribute[0].i in (2, 3)]
    assert not small, "TensorRT holds no uint8 between operators"


@pytest.mark.parametrize("model", [tiny(), weights_file("int4", None, 32), weights_file("int8", None, 0)])
def test_what_needs_nothing_stays_byte_for_byte(model: OnnxModel) -> None:
    for version in ("1.6.1.120", "10.9.0"):
        assert settle_quantization(model, backend_passes("tensorrt", version)) is model
    target = Target("tensorrt", "RTX", "1.6.1.120", (89,))
    assert apply_precision(model, Precision(), target, PASSES).proto is model.proto


def test_other_back_ends_take_files_as_they_are() -> None:
    given = weights_file("uint4", 3, 32)
    assert settle_quantization(given, backend_passes("onnxruntime", "1.32.0")) is given


def test_a_precision_does_both() -> None:
    given = weights_file("uint4", 8, 32, "left")
    target = Target("tensorrt", "RTX", "1.6.1.120", (89,))
    made = apply_precision(given, Precision("fp16"), target, PASSES)
    assert stored(made) == {"INT8"} and "decompose_quantization" in {record.name for record in made.rewrites}
    x = np.random.default_rng(0).standard_normal((64, 4)).astype(np.float32)
    np.testing.assert_allclose(by_ort(made, x=x), by_ort(given, x=x), rtol=2e-2, atol=2e-1)


def node(op_type: str, inputs: str, outputs: str, name: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op_type, inputs.split(), outputs.split(), name, **attributes)


def test_what_is_not_known_is_left_and_said() -> None:
    """Behind an operator of somebody else's domain no type or shape is known."""
    scale = {"s": np.array(0.5, np.float32), "z": np.array(1, np.uint8)}
    behind = [
        node("Anything", "x", "a", "other", domain="com.microsoft"),
        node("QuantizeLinear", "a s z", "q", "first"),
        node("DequantizeLinear", "q s z", "y", "second"),
    ]
    unknown = file_of(behind, {"x": [2, 4]}, {"y": ["n", 4]}, scale)
    made = settle_quantization(unknown, PASSES)
    assert made.proto is unknown.proto
    (note,) = made.notes
    assert "QuantizeLinear 'first'" in note and "'a' is not known" in note
    old = settle_quantization(activations_file("uint8", 10), PASSES)
    assert "opset is 10" in old.notes[0]


def test_operators_of_the_same_name_in_other_domains_are_left() -> None:
    nodes = [
        node("QuantizeLinear", "x s z", "q", "first", domain="com.microsoft"),
        node("DequantizeLinear", "q s z", "y", "second", domain="com.microsoft"),
    ]
    scale = {"s": np.array(0.5, np.float32), "z": np.array(1, np.uint8)}
    given = file_of(nodes, {"x": [2, 4]}, {"y": [2, 4]}, scale)
    assert settle_quantization(given, PASSES).proto is given.proto


def test_inner_graphs_are_named() -> None:
    inner = helper.make_graph(
        [node("QuantizeLinear", "x s z", "q", "a"), node("DequantizeLinear", "q s z", "b", "d")],
        "inner",
        [],
        [helper.make_tensor_value_info("b", TensorProto.FLOAT, [2, 4])],
    )
    nodes = [node("If", "c", "y", "choice", then_branch=inner, else_branch=inner)]
    constants = {"s": np.array(0.5, np.float32), "z": np.array(1, np.uint8), "c": np.array(True)}
    given = file_of(nodes, {"x": [2, 4]}, {"y": [2, 4]}, constants)
    made = settle_quantization(given, PASSES)
    assert made.proto is given.proto and "If: quantising operators inside of it" in made.notes[0]


def test_scales_that_do_not_fit_are_for_the_library_to_refuse() -> None:
    nodes = [node("DequantizeLinear", "q s", "w", "d", axis=1), node("MatMul", "x w", "y", "m")]
    constants = {"q": numbers("uint8", (8, 4)), "s": np.ones(3, np.float32)}
    given = file_of(nodes, {"x": [2, 8]}, {"y": [2, 4]}, constants)
    assert "does not fit" in settle_quantization(given, PASSES).notes[0]


@pytest.mark.parametrize(
    ("data_type", "size", "said"), [("float16", 4, True), ("float16", 1, False), ("float32", 4, False)]
)
def test_fp8_that_is_not_right_on_rtx_is_said(data_type: str, size: int, said: bool) -> None:
    nodes = [
        node("QuantizeLinear", "x s", "q", "first", output_dtype=TensorProto.FLOAT8E4M3FN),
        node("DequantizeLinear", "q s", "a", "second"),
        node("DequantizeLinear", "w t", "b", "third", axis=1),
        node("MatMul", "a b", "y", "product"),
    ]
    constants = {
        "s": np.array(0.5, data_type),
        "w": np.ones((8, 4), ml_dtypes.float8_e4m3fn),
        "t": np.ones(4, data_type) if size > 1 else np.array(1, data_type),
    }
    given = file_of(nodes, {"x": [2, 8]}, {"y": [2, 4]}, constants, data_type=data_type)
    made = settle_quantization(given, PASSES)
    assert made.proto is given.proto
    assert ["'third'" in note and "infinity" in note for note in made.notes] == [True] * said
    assert settle_quantization(given, backend_passes("tensorrt", "10.9.0")) is given


# -- the real libraries


@pytest.mark.trt
@pytest.mark.parametrize("product", PRODUCTS)
@pytest.mark.parametrize(("data_type", "zero"), [("int4", None), ("uint4", 8), ("uint4", 3), ("uint8", 3)])
def test_weights_build(newest_library: Library, data_type: str, zero: int | None, product: str) -> None:
    for block, capabilities in ((0, (89,)), (32, (86, 120)), (128, (89,))):
        made = settle_quantization(weights_file(data_type, zero, block, product), passes_of(newest_library))
        for capability in capabilities:
            assert build_plan(made, newest_library, compute_capabilities=(capability,)).notes == ()


@pytest.mark.trt
@pytest.mark.parametrize("trt_folder", ["1.6.1.120"], indirect=True)
@pytest.mark.parametrize("product", LEFT)
def test_four_bits_on_the_left_do_not_end_the_process(trt_library: Library, product: str) -> None:
    """In a process of its own, should it crash: TensorRT for RTX 1.6.1 does with the file as it is."""
    made = settle_quantization(weights_file("int4", None, 32, product), passes_of(trt_library))
    options = CompileOptions(control=BuildControl(isolate=True))
    assert build_plan(made, trt_library, options, compute_capabilities=(89,)).plan


@pytest.mark.trt
@pytest.mark.parametrize("zero", [None, 0, 3])
@pytest.mark.parametrize("data_type", ["uint8", "int8"])
def test_activations_build(trt_library: Library, data_type: str, zero: int | None) -> None:
    if trt_library.info.version.startswith("1.4"):
        pytest.skip("TensorRT for RTX 1.4 builds quantised weights for the GPU that is here only")
    made = settle_quantization(activations_file(data_type, zero=zero), passes_of(trt_library))
    assert build_plan(made, trt_library, compute_capabilities=(89,)).plan


@pytest.mark.trt
def test_an_engine_says_what_was_left(newest_library: Library) -> None:
    engine = build_plan(replace(tiny(), notes=("left",)), newest_library, compute_capabilities=(89,))
    assert engine.notes[-1] == "left"
