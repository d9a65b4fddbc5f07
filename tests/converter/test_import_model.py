"""ONNX models as OnnxGraphs and back: nothing a user can see changes, and weights are not copied."""

from __future__ import annotations

import contextlib
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pynn.converter.import_model import import_model
from pynn.converter.model import OnnxModel
from pynn.converter.onnx_graph import OnnxGraph
from pynn.converter.serialize import to_model
from pynn.errors import ModelError

FLOAT = TensorProto.FLOAT


def value(name: str, shape: list[Any], kind: int = FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def model_of(graph: onnx.GraphProto, opset: int = 17, **more: Any) -> onnx.ModelProto:
    more.setdefault("opset_imports", [helper.make_opsetid("", opset)])
    return helper.make_model(graph, ir_version=8, **more)


def linear(weight: np.ndarray[Any, Any]) -> onnx.ModelProto:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], name="product"), helper.make_node("Relu", ["y"], ["z"])]
    inner = [numpy_helper.from_array(weight, "w")]
    rows, columns = weight.shape
    return model_of(
        helper.make_graph(nodes, "g", [value("x", ["batch", rows])], [value("z", ["batch", columns])], inner)
    )


def imported(proto: onnx.ModelProto) -> OnnxGraph:
    return import_model(OnnxModel.load(proto.SerializeToString()))


def run(model: OnnxModel, **arrays: Any) -> list[Any]:
    ort = pytest.importorskip("onnxruntime")
    session = ort.InferenceSession(model.to_bytes(), providers=["CPUExecutionProvider"])
    return list(session.run(None, arrays))


def same(proto: onnx.ModelProto, **arrays: Any) -> OnnxGraph:
    """The imported graph, after checking that it computes what the model does."""
    model = OnnxModel.load(proto.SerializeToString())
    graph = import_model(model)
    back = to_model(graph)
    assert [str(s) for s in back.inputs + back.outputs] == [str(s) for s in model.inputs + model.outputs]
    for ours, theirs in zip(run(back, **arrays), run(model, **arrays), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    return graph


def test_symbols_names_and_opset_stay() -> None:
    graph = same(linear(np.eye(4, 3, dtype="f")), x=np.ones((2, 4), "f"))
    assert graph.dims == {"x": ("batch", 4), "z": ("batch", 3)}
    assert graph.values["y"].data_type == "float32" and graph.values["y"].shape == (-1, 3)
    assert graph.opsets == {"": 17}
    assert to_model(graph).to_proto().ir_version == 8
    assert [node.name for node in graph.nodes] == ["product", "Relu_1"]


def test_large_weights_are_views_of_the_bytes() -> None:
    data = linear(np.arange(64 * 64, dtype="f").reshape(64, 64)).SerializeToString()
    model = OnnxModel.load(data)
    weight = import_model(model).initializers["w"]
    assert np.shares_memory(weight, np.frombuffer(model.proto, np.uint8))
    assert weight[0, 1] == 1


def test_a_model_of_pynn_comes_back() -> None:
    import pynn

    b = pynn.GraphBuilder()
    x = b.input("x", [2, 32], "float32")
    w = b.constant(np.ones((32, 32), "f"))
    model = pynn.to_onnx(b.finish({"x": b.matmul(x, w)}))
    graph = import_model(model)
    assert graph.inputs.keys() == {"x"} and graph.outputs.keys() == {"x"}
    assert np.shares_memory(graph.initializers["constant_0"], model.weights["constant_0"])


def test_external_data_is_mapped(tmp_path: Path) -> None:
    proto = linear(np.arange(64 * 64, dtype="f").reshape(64, 64))
    path = tmp_path / "m.onnx"
    onnx.save_model(proto, str(path), save_as_external_data=True, location="w.bin", size_threshold=0)
    graph = import_model(OnnxModel.load(path))
    assert not graph.initializers["w"].flags.writeable
    np.testing.assert_array_equal(graph.initializers["w"], np.arange(64 * 64, dtype="f").reshape(64, 64))
    (tmp_path / "w.bin").write_bytes(b"short")
    with pytest.raises(ModelError, match=r"'w' ends at byte 16,384"):
        import_model(OnnxModel.load(path))
    (tmp_path / "w.bin").unlink()
    with pytest.raises(ModelError, match="cannot be read"):
        import_model(OnnxModel.load(path))
    with pytest.raises(ModelError, match="without a path"):
        import_model(OnnxModel.load(path.read_bytes()))


def test_external_data_outside_the_folder_is_refused(tmp_path: Path) -> None:
    proto = linear(np.zeros((2, 2), "f"))
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")
    path = tmp_path / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(ModelError, match="not beside the model"):
        import_model(OnnxModel.load(path))


def test_graphs_in_attributes_stay_opaque_and_tell_what_they_read() -> None:
    then = helper.make_graph([helper.make_node("Add", ["x", "w"], ["t"])], "then", [], [value("t", [2])])
    other = helper.make_graph([helper.make_node("Neg", ["x"], ["e"])], "else", [], [value("e", [2])])
    node = helper.make_node("If", ["c"], ["y"], then_branch=then, else_branch=other)
    inputs = [value("x", [2]), value("c", [], TensorProto.BOOL)]
    weight = [numpy_helper.from_array(np.ones(2, "f"), "w")]
    proto = model_of(helper.make_graph([node], "g", inputs, [value("y", [2])], weight))
    graph = same(proto, x=np.ones(2, "f"), c=np.array(True))
    assert graph.nodes[0].captures == ("x", "w")
    assert graph.captured() == {"x", "w"}


def test_functions_are_inlined() -> None:
    body = [helper.make_node("Mul", ["a", "a"], ["b"])]
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("mine", 1)]
    function = helper.make_function("mine", "Square", ["a"], ["b"], body, imports[:1])
    node = helper.make_node("Square", ["x"], ["y"], domain="mine", name="s")
    graph = helper.make_graph([node], "g", [value("x", [2])], [value("y", [2])])
    proto = model_of(graph, opset_imports=imports, functions=[function])
    assert [node.op_type for node in same(proto, x=np.full(2, 3, "f")).nodes] == ["Mul"]


def test_constants_become_initializers_and_other_domains_stay_unknown() -> None:
    nodes = [
        helper.make_node("Constant", [], ["c"], value_float=2.0),
        helper.make_node("Gelu", ["x"], ["g"], domain="com.microsoft"),
        helper.make_node("Mul", ["g", "c"], ["y"]),
    ]
    graph = helper.make_graph(nodes, "g", [value("x", [2])], [value("y", [2])])
    imports = [helper.make_opsetid("ai.onnx", 17), helper.make_opsetid("com.microsoft", 1)]
    made = same(model_of(graph, opset_imports=imports), x=np.ones(2, "f"))
    assert made.initializers["c"] == 2
    assert made.values["g"].data_type == "" and "g" in made.unshaped
    assert made.opsets == {"": 17, "com.microsoft": 1}


@pytest.mark.parametrize("kind", ["int4", "uint4", "bfloat16", "float8_e4m3fn"])
@pytest.mark.parametrize("size", [3, 5000])
def test_weights_of_small_types(kind: str, size: int) -> None:
    import ml_dtypes

    numbers = (np.arange(size) % 15 - (7 if kind[0] != "u" else 0)).astype(getattr(ml_dtypes, kind))
    tensor = numpy_helper.from_array(numbers, "w")
    graph = helper.make_graph(
        [helper.make_node("Cast", ["w"], ["y"], to=FLOAT)], "g", [], [value("y", [size])], [tensor]
    )
    made = imported(model_of(graph, 21)).initializers["w"]
    assert made.dtype == numbers.dtype
    np.testing.assert_array_equal(made.astype("f"), numbers.astype("f"))


def test_what_is_not_valid_is_named() -> None:
    proto = linear(np.eye(2, dtype="f"))
    proto.graph.node[1].input[0] = "nowhere"
    with pytest.raises(ModelError, match="reads 'nowhere', which nothing before it computes"):
        imported(proto)
    proto = linear(np.zeros((64, 64), "f"))
    proto.graph.initializer[0].dims[0] = 63
    with pytest.raises(ModelError, match="initializer 'w' is damaged"):
        imported(proto)
    proto = linear(np.eye(2, dtype="f"))
    proto.graph.sparse_initializer.add().values.name = "thin"
    with pytest.raises(ModelError, match="'thin' is sparse"):
        imported(proto)


def test_a_model_cut_off_anywhere_is_an_error_or_what_onnx_makes_of_it() -> None:
    data = linear(np.arange(32 * 32, dtype="f").reshape(32, 32)).SerializeToString()
    for end in [*range(200), *range(200, len(data), 97), *range(len(data) - 200, len(data))]:
        part = data[:end]
        try:
            onnx.load_model_from_string(part)
        except Exception:
            with pytest.raises(ModelError):
                OnnxModel.load(part)
        else:
            with contextlib.suppress(ModelError):
                import_model(OnnxModel.load(part))
    with pytest.raises(ModelError):
        OnnxModel.load(b"\x80" * 100_000)


def test_loading_does_not_copy_weights() -> None:
    data = linear(np.zeros((2048, 2048), "f")).SerializeToString()
    tracemalloc.start()
    try:
        OnnxModel.load(data)
        assert tracemalloc.get_traced_memory()[1] < len(data) / 10
    finally:
        tracemalloc.stop()


def chain(nodes: int) -> onnx.ModelProto:
    """A net of blocks of five nodes: MatMul, Add, Softmax, Relu, residual Add."""
    made, weights, x = [], [], "x"
    for i in range(0, nodes, 5):
        weights += [numpy_helper.from_array(np.eye(8, dtype="f"), f"w{i}")]
        weights += [numpy_helper.from_array(np.ones(8, "f"), f"b{i}")]
        for op, ins, out in (
            ("MatMul", [x, f"w{i}"], f"m{i}"),
            ("Add", [f"m{i}", f"b{i}"], f"a{i}"),
            ("Softmax", [f"a{i}"], f"s{i}"),
            ("Relu", [f"s{i}"], f"r{i}"),
            ("Add", [f"r{i}", x], f"y{i}"),
        ):
            made.append(helper.make_node(op, ins, [out], name=f"{op}{out}"))
        x = f"y{i}"
    return model_of(helper.make_graph(made, "g", [value("x", ["n", 8])], [value(x, ["n", 8])], weights))


def test_ten_thousand_nodes_take_less_than_a_second() -> None:
    """0.2 s of the processor where this was written."""
    model = OnnxModel.load(chain(10_000).SerializeToString())
    times = []
    for _ in range(3):
        start = time.process_time()
        to_model(import_model(model))
        times.append(time.process_time() - start)
    assert min(times) < 1


def test_memory_is_less_than_the_weights() -> None:
    data = linear(np.zeros((2048, 2048), "f")).SerializeToString()
    model = OnnxModel.load(data)
    tracemalloc.start()
    try:
        to_model(import_model(model))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < len(data) / 10
