"""pynn.compile: every form of model, shapes, exact types, bad models, engines built ahead and loaded."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import pynn
from pynn import (
    InputError,
    InvalidStateError,
    ModelError,
    PlanError,
    UnsupportedModelError,
    ValidationError,
)

pytestmark = pytest.mark.ort

Shape = list[int | str | None]


def model(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, tuple[int, Shape]],
    outputs: dict[str, tuple[int, Shape]],
    initializers: dict[str, np.ndarray[Any, Any]] | None = None,
) -> onnx.ModelProto:
    def side(values: dict[str, tuple[int, Shape]]) -> list[onnx.ValueInfoProto]:
        return [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in values.items()]

    weights = [onnx.numpy_helper.from_array(array, name) for name, array in (initializers or {}).items()]
    graph = helper.make_graph(nodes, "g", side(inputs), side(outputs), weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def identity(kind: int, shape: Shape | None = None) -> onnx.ModelProto:
    shape = ["n"] if shape is None else shape
    return model([helper.make_node("Identity", ["x"], ["y"])], {"x": (kind, shape)}, {"y": (kind, shape)})


def add(a: Shape, b: Shape, out: Shape) -> onnx.ModelProto:
    kind = TensorProto.FLOAT
    return model([helper.make_node("Add", ["a", "b"], ["y"])], {"a": (kind, a), "b": (kind, b)}, {"y": (kind, out)})


def compile_cpu(source: Any, **options: Any) -> pynn.Executable:
    return pynn.compile(source, backend="onnxruntime", **options)


# -- forms of models


def test_path_bytes_proto_graph_and_onnx_model_run_alike(tmp_path: Path) -> None:
    b = pynn.GraphBuilder()
    x = b.input("x", [2], "float32")
    graph = b.finish({"y": b.add(x, x)})
    converted = pynn.to_onnx(graph)
    path = converted.save(tmp_path / "m.onnx")
    for source in (graph, converted, path, str(path), path.read_bytes(), bytearray(path.read_bytes()), onnx.load(path)):
        with compile_cpu(source) as executable:
            assert executable.backend == "onnxruntime"
            assert [str(spec) for spec in executable.inputs] == ["x: float32[2]"]
            assert [str(spec) for spec in executable.outputs] == ["y: float32[2]"]
            assert executable.report is not None
            assert executable.report.chosen == "onnxruntime"
            assert executable.stats["providers"] == ["CPUExecutionProvider"]
            assert executable.run({"x": np.array([1, 2], np.float32)})["y"].tolist() == [2, 4]


def test_large_weights_are_shared_not_copied_into_the_proto() -> None:
    b = pynn.GraphBuilder()
    w = np.random.default_rng(0).standard_normal((256, 256)).astype(np.float32)
    graph = b.finish({"y": b.matmul(b.input("x", [2, 256], "float32"), b.constant(w))})
    converted = pynn.to_onnx(graph)
    assert len(converted.proto) < 1000
    x = np.ones((2, 256), np.float32)
    np.testing.assert_allclose(compile_cpu(graph).run({"x": x})["y"], x @ w, rtol=1e-5)


def test_external_data_beside_a_file(tmp_path: Path) -> None:
    w = np.arange(1024, dtype=np.float32)
    kind = TensorProto.FLOAT
    proto = model([helper.make_node("Add", ["x", "w"], ["y"])], {"x": (kind, [1024])}, {"y": (kind, [1024])}, {"w": w})
    path = tmp_path / "m.onnx"
    onnx.save(proto, path, save_as_external_data=True, location="m.data", size_threshold=0)
    assert (tmp_path / "m.data").exists()
    y = compile_cpu(path).run({"x": np.ones(1024, np.float32)})["y"]
    np.testing.assert_array_equal(y, w + 1)


@pytest.mark.parametrize("source", [None, 5, [1], object()])
def test_other_types_are_no_models(source: Any) -> None:
    with pytest.raises(ValidationError, match="expected a path, bytes, a ModelProto, a Graph or an OnnxModel, got"):
        pynn.compile(source)


# -- models that are none


def test_files_that_are_no_models(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    with pytest.raises(FileNotFoundError):
        pynn.compile(path)
    for data in (b"", b"not ONNX at all", b"\x00" * 100, identity(TensorProto.FLOAT).SerializeToString()[:40]):
        path.write_bytes(data)
        with pytest.raises(ModelError, match=r"m\.onnx"):
            compile_cpu(path)
        with pytest.raises(ModelError):
            compile_cpu(data)


def test_a_model_that_contradicts_itself() -> None:
    broken = model(
        [helper.make_node("Add", ["x", "nowhere"], ["y"])],
        {"x": (TensorProto.FLOAT, [1])},
        {"y": (TensorProto.FLOAT, [1])},
    )
    with pytest.raises(ModelError, match="nowhere"):
        compile_cpu(broken)


def test_an_unknown_operator_is_named() -> None:
    unknown = model(
        [helper.make_node("Frobnicate", ["x"], ["y"], name="here")],
        {"x": (TensorProto.FLOAT, [1])},
        {"y": (TensorProto.FLOAT, [1])},
    )
    with pytest.raises(UnsupportedModelError, match="does not know operator Frobnicate") as caught:
        compile_cpu(unknown)
    assert caught.value.op_type == "Frobnicate"


def test_a_type_without_a_kernel_names_the_node() -> None:
    node = helper.make_node("Add", ["x", "x"], ["y"], name="here")
    kinds = {"x": (TensorProto.BFLOAT16, ["n"])}, {"y": (TensorProto.BFLOAT16, ["n"])}
    with pytest.raises(UnsupportedModelError, match="no kernel for Add") as caught:
        compile_cpu(model([node], *kinds))
    assert (caught.value.node, caught.value.op_type) == ("here", "Add")
    assert "precision='bf16' computes it in float32" in str(caught.value)
    with compile_cpu(model([node], *kinds), precision="bf16") as executable:
        y = executable.run({"x": np.full(2, 1.5, ml_dtypes.bfloat16)})["y"]
    assert y.dtype == ml_dtypes.bfloat16 and y.tolist() == [3.0, 3.0]


def test_sequences_are_refused_by_name() -> None:
    info = helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, [1])
    node = helper.make_node("SequenceLength", ["s"], ["y"])
    output = helper.make_tensor_value_info("y", TensorProto.INT64, [])
    proto = helper.make_model(helper.make_graph([node], "g", [info], [output]), ir_version=10)
    with pytest.raises(ModelError, match="'s' is not a tensor"):
        compile_cpu(proto)


# -- exact types


@pytest.mark.parametrize(
    ("kind", "array"),
    [
        (TensorProto.FLOAT, np.array([1.5, -2], np.float32)),
        (TensorProto.DOUBLE, np.array([1.5, -2])),
        (TensorProto.FLOAT16, np.array([1.5, -2], np.float16)),
        (TensorProto.BFLOAT16, np.array([1.5, -2], ml_dtypes.bfloat16)),
        (TensorProto.FLOAT8E4M3FN, np.array([1.5, -2], ml_dtypes.float8_e4m3fn)),
        (TensorProto.FLOAT8E5M2, np.array([1.5, -2], ml_dtypes.float8_e5m2)),
        (TensorProto.BOOL, np.array([True, False])),
        (TensorProto.INT8, np.array([-128, 127], np.int8)),
        (TensorProto.UINT8, np.array([0, 255], np.uint8)),
        (TensorProto.INT16, np.array([-1, 1], np.int16)),
        (TensorProto.UINT16, np.array([0, 65535], np.uint16)),
        (TensorProto.INT32, np.array([-(2**31), 2**31 - 1], np.int32)),
        (TensorProto.UINT32, np.array([0, 2**32 - 1], np.uint32)),
        (TensorProto.INT64, np.array([-(2**63), 2**63 - 1], np.int64)),
        (TensorProto.UINT64, np.array([0, 2**64 - 1], np.uint64)),
        (TensorProto.STRING, np.array(["a", "bé"], object)),
    ],
    ids=lambda value: value.dtype.name if isinstance(value, np.ndarray) else "",
)
def test_exact_types_in_and_out(kind: int, array: np.ndarray[Any, Any]) -> None:
    with compile_cpu(identity(kind)) as executable:
        result = executable.run({"x": array})["y"]
        assert result.dtype == array.dtype
        assert result.tolist() == array.tolist()
        out = np.empty_like(array)
        assert executable.run({"x": array}, out={"y": out})["y"] is out
        assert out.tolist() == array.tolist()


def test_strings_of_numpys_own_type() -> None:
    executable = compile_cpu(identity(TensorProto.STRING))
    assert executable.run({"x": np.array(["a", "bé"])})["y"].tolist() == ["a", "bé"]
    with pytest.raises(InputError, match="'x' is int64, expected string; pass str objects"):
        executable.run({"x": np.array([1])})


def test_results_outlive_the_executable() -> None:
    executable = compile_cpu(identity(TensorProto.FLOAT))
    result = executable.run({"x": np.arange(1000, dtype=np.float32)})["y"]
    executable.close()
    del executable
    np.testing.assert_array_equal(result, np.arange(1000))


# -- dynamic shapes


def test_dynamic_dimensions_without_shapes_are_free() -> None:
    executable = compile_cpu(add(["n", 3], ["n", 3], ["n", 3]))
    for n in (1, 5, 2):
        ones = np.ones((n, 3), np.float32)
        assert executable.run({"a": ones, "b": ones})["y"].shape == (n, 3)


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        ((2, 3), (4, 3), r"input 'b': dimension 0 \('n'\) is 4, but input 'a' has 2 there"),
        ((2, 4), (2, 3), r"input 'a' has shape \[2, 4\], expected a: float32\[n, 3\]"),
        ((2,), (2, 3), r"input 'a' has shape \[2\]"),
    ],
)
def test_shapes_that_contradict(a: tuple[int, ...], b: tuple[int, ...], words: str) -> None:
    executable = compile_cpu(add(["n", 3], ["n", 3], ["n", 3]))
    with pytest.raises(InputError, match=words):
        executable.run({"a": np.ones(a, np.float32), "b": np.ones(b, np.float32)})


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ({"n": (1, 2, 4)}, r"input 'a': dimension 0 \('n'\) is 5, outside the compiled 1..4"),
        ({"n": 4}, r"input 'a': dimension 0 \('n'\) is 5, outside the compiled 4"),
        ({"a": [(1, 2, 4), 3]}, r"input 'a': dimension 0 \('n'\) is 5, outside the compiled 1..4"),
    ],
)
def test_sizes_outside_the_range(shapes: Any, words: str) -> None:
    executable = compile_cpu(add(["n", 3], ["n", 3], ["n", 3]), shapes=shapes)
    good, bad = np.ones((4, 3), np.float32), np.ones((5, 3), np.float32)
    assert executable.run({"a": good, "b": good})["y"].shape == (4, 3)
    for _ in range(2):
        with pytest.raises(InputError, match=words) as caught:
            executable.run({"a": bad, "b": bad})
        assert caught.value.tensor == "a"


def test_unnamed_dimensions_are_ranged_by_input() -> None:
    executable = compile_cpu(add([None], [None], [None]), shapes={"a": [(2, 3, 4)]})
    executable.run({"a": np.ones(2, np.float32), "b": np.ones(1, np.float32)})
    with pytest.raises(InputError, match=r"input 'a': dimension 0 is 1, outside the compiled 2\.\.4"):
        executable.run({"a": np.ones(1, np.float32), "b": np.ones(1, np.float32)})


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ({"m": 2}, "'m', which is neither an input nor a symbolic dimension; inputs: a: float32.*dimensions: 'n'"),
        ({"n": 0}, r"shapes\['n'\] must be a size of at least 1"),
        ({"n": "2"}, r"shapes\['n'\] must be a size"),
        ({"n": True}, r"shapes\['n'\] must be a size"),
        ({"n": (1, 2)}, r"shapes\['n'\] must be a size of at least 1 or \(min, opt, max\)"),
        ({"n": (3, 2, 4)}, "is not in order min <= opt <= max"),
        ({"a": [2]}, r"shapes\['a'\] must be 2 sizes, one for each dimension of a: float32\[n, 3\]"),
        ({"a": [2, 4]}, r"shapes\['a'\]\[1\] is 4, but the model fixes that dimension to 3"),
        ({"a": [2, 3], "b": [4, 3]}, "gives dimension 'n' both 2 and 4"),
        ({"a": [2, 3], "n": 3}, "gives dimension 'n' both 2 and 3"),
    ],
)
def test_bad_shapes(shapes: Any, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        compile_cpu(add(["n", 3], ["n", 3], ["n", 3]), shapes=shapes)


def test_out_of_a_dynamic_result_must_fit() -> None:
    executable = compile_cpu(identity(TensorProto.FLOAT))
    x = np.ones(3, np.float32)
    out = np.zeros(3, np.float32)
    assert executable.run({"x": x}, out={"y": out})["y"] is out
    with pytest.raises(InputError, match=r"out 'y' has shape \[4\], but the result has \[3\]"):
        executable.run({"x": x}, out={"y": np.zeros(4, np.float32)})


# -- life


def test_close() -> None:
    executable = compile_cpu(identity(TensorProto.FLOAT))
    executable.close()
    executable.close()
    with pytest.raises(InvalidStateError, match="closed"):
        executable.run({"x": np.ones(1, np.float32)})


def test_a_failure_while_running_leaves_the_executable_usable() -> None:
    kind = TensorProto.FLOAT
    gather = model(
        [helper.make_node("Gather", ["x", "i"], ["y"])],
        {"x": (kind, [3]), "i": (TensorProto.INT64, [1])},
        {"y": (kind, [1])},
    )
    executable = compile_cpu(gather)
    x = np.array([1, 2, 3], np.float32)
    with pytest.raises(pynn.ExecutionError, match="ONNX Runtime failed while running"):
        executable.run({"x": x, "i": np.array([7])})
    assert executable.run({"x": x, "i": np.array([1])})["y"].tolist() == [2]


# -- engines


def tiny_graph() -> pynn.Graph:
    b = pynn.GraphBuilder()
    w = np.random.default_rng(0).standard_normal((64, 32)).astype(np.float32)
    return b.finish({"y": b.relu(b.matmul(b.input("x", [4, 64], "float32"), b.constant(w)))})


@pytest.mark.trt
def test_engine_ahead_of_time(newest_folder: Path, tmp_path: Path) -> None:
    phases: list[str] = []
    path = tmp_path / "tiny.engine"
    engine = pynn.build_engine(
        tiny_graph(),
        path,
        compute_capabilities=["8.6", (8, 9), 120],
        tensorrt_library=newest_folder,
        progress=lambda event: phases.append(event.phase),
    )
    assert engine.compute_capabilities == (86, 89, 120)
    assert phases
    loaded = pynn.EngineFile.load(path)
    assert [str(spec) for spec in loaded.inputs] == ["x: float32[4, 64]"]
    assert bytes(loaded.plan) == bytes(engine.plan)


@pytest.mark.trt
def test_an_engine_for_another_gpu(newest_folder: Path) -> None:
    engine = pynn.build_engine(tiny_graph(), compute_capabilities=["8.6"], tensorrt_library=newest_folder)
    with pytest.raises((PlanError, pynn.DeviceUnsupportedError), match=r"8\.6"):
        pynn.load_engine(engine, tensorrt_library=newest_folder)


@pytest.mark.trt
def test_a_foreign_plan(newest_folder: Path) -> None:
    with pytest.raises((PlanError, pynn.DeviceUnsupportedError)):
        pynn.load_engine(b"ftrt" + bytes(1000), tensorrt_library=newest_folder)


@pytest.mark.trt
def test_cancelled_builds_leave_nothing_behind(newest_folder: Path, tmp_path: Path) -> None:
    cancel = threading.Event()
    cancel.set()

    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    attempts: list[tuple[type[BaseException], dict[str, Any]]] = [
        (pynn.BuildCancelledError, {"cancel": cancel}),
        (KeyboardInterrupt, {"progress": interrupt}),
    ]
    for kind, how in attempts:
        with pytest.raises(kind):
            pynn.build_engine(tiny_graph(), tmp_path / "tiny.engine", tensorrt_library=newest_folder, **how)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.trt
def test_a_model_that_tensorrt_refuses(newest_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError):
        pynn.build_engine(identity(TensorProto.STRING, [2]), tmp_path / "s.engine", tensorrt_library=newest_folder)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("target", ["8", "86", "8.66", "a.b", 8.6, -86, 5, (8,), (8, "6"), None])
def test_bad_compute_capabilities(target: Any) -> None:
    with pytest.raises(ValidationError, match="is not a compute capability"):
        pynn.build_engine(tiny_graph(), compute_capabilities=[target])


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda data: b"", "is empty"),
        (lambda data: data[: len(data) // 2], "truncated"),
        (lambda data: data[:-1] + bytes([data[-1] ^ 1]), "damaged"),
        (lambda data: b"PK" + data, "neither a pynn engine nor a TensorRT plan"),
    ],
)
def test_damaged_engine_files(tmp_path: Path, damage: Callable[[bytes], bytes], words: str) -> None:
    engine = pynn.EngineFile(
        b"\0\0\0\0 not really a plan", flavor="RTX", version="1.6.1.120", compute_capabilities=(86,)
    )
    path = tmp_path / "e.engine"
    path.write_bytes(damage(engine.to_bytes()))
    with pytest.raises(PlanError, match=words):
        pynn.load_engine(path)


def test_missing_engine_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        pynn.load_engine(tmp_path / "none.engine")


@pytest.mark.parametrize(
    "start", [pynn.EngineFile(b"plan", version="1.6.1.120"), b"ptrt" + bytes(100)], ids=["pynn", "plan"]
)
def test_an_engine_is_no_model(start: Any, tmp_path: Path) -> None:
    path = tmp_path / "model.engine"
    path.write_bytes(start) if isinstance(start, bytes) else start.save(path)
    with pytest.raises(ModelError, match=r"model.engine is a TensorRT engine, not an ONNX model; pynn.load_engine"):
        compile_cpu(path)
