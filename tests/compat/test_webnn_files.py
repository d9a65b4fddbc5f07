"""webnn-graph files: both notations, weights beside them, every data type and operator, and damaged ones."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pynn.compat.webnn as webnn
from pynn.compat.webnn.graph_file import read_json, write_json
from pynn.compat.webnn.interchange import from_file, to_file
from pynn.compat.webnn.text import read_text, write_text
from pynn.graph import Graph
from pynn.types import DataType
from tests.conformance.case import build
from tests.conformance.vectors import OWN_FOLDER, Case, cases, shared_folder

pytestmark = pytest.mark.ort

F32 = np.float32
W = np.arange(6, dtype=F32).reshape(3, 2) / 7
X = np.array([[1, -2, 3]], F32)
ONES = [0, 0, 128, 63] * 2

HEAD = """
# a linear layer, as exporters write it
webnn_graph "head" v1 @quantized {
  inputs { x: f32[1, 3]; }
  consts {
    layer.W: f32[3, 2] @weights("layer.W");
    onnx::b: f32[2]    @bytes([0, 0, 128, 63, 0,0,0,64]);
    two: f32[] @scalar(2);
  }
  nodes {
    h0 = matmul(x, layer.W);   // a comment of the other kind
    h  = add(h0, onnx::b);
    [p] = softmax(h, axis=-1);
    q = p;
    [left, right] = split(q, splits=[1, 1], axis=1);
    scaled = mul(left, two);
  }
  outputs { scaled, right; }
}
"""


@pytest.fixture(scope="module")
def context() -> webnn.MLContext:
    return webnn.ML().create_context(accelerated=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """HEAD, with its weights in a blob under the exporter's names."""
    (tmp_path / "head.webnn").write_text(HEAD, encoding="utf-8")
    (tmp_path / "head.weights").write_bytes(b"\1\2\3\4\5" + W.tobytes())
    entry = {"dataType": "float32", "shape": [3, 2], "byteOffset": 5, "byteLength": W.nbytes, "layout": None}
    manifest = {"format": "wg-weights-manifest", "version": 1, "endianness": "little", "tensors": {"layer.W": entry}}
    (tmp_path / "head.manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return tmp_path


def safetensors_file(path: Path, dtype: str, shape: list[int], data: bytes) -> None:
    """With one tensor, byte by byte as the format says: numpy has no bfloat16."""
    header = json.dumps({"layer.W": {"dtype": dtype, "shape": shape, "data_offsets": [0, len(data)]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)


def check_head(context: webnn.MLContext, graph: webnn.MLGraph) -> None:
    logits = X @ W + np.array([1, 2], F32)
    p = np.exp(logits) / np.exp(logits).sum()
    results = context.compute(graph, {"x": X})
    np.testing.assert_allclose(results["scaled"], 2 * p[:, :1], rtol=1e-5)
    np.testing.assert_allclose(results["right"], p[:, 1:], rtol=1e-5)


def test_text_with_a_manifest(folder: Path, context: webnn.MLContext) -> None:
    graph = webnn.MLGraph.load(folder / "head.webnn")
    assert (graph.get_input_names(), graph.get_output_names()) == (["x"], ["scaled", "right"])
    check_head(context, graph)
    again = folder / "again.webnn"
    graph.save(again, format="text", weights="safetensors")
    assert "@quantized" in again.read_text("utf-8")
    assert (folder / "again.safetensors").exists()
    check_head(context, webnn.MLGraph.load(again))


def test_a_graph_can_be_saved_over_its_own_weights(folder: Path, context: webnn.MLContext) -> None:
    graph = webnn.MLGraph.load(folder / "head.webnn")
    graph.save(folder / "head.webnn", format="text", weights="manifest")
    for one in (graph, webnn.MLGraph.load(folder / "head.webnn")):
        check_head(context, one)


def test_weights_are_looked_for_where_they_are_said_to_be(folder: Path, context: webnn.MLContext) -> None:
    (folder / "deep").mkdir()
    (folder / "head.weights").rename(folder / "deep" / "blob.bin")
    (folder / "head.manifest.json").rename(folder / "deep" / "m.json")
    relative = webnn.MLGraph.load(folder / "head.webnn", "deep/m.json", "deep/blob.bin")
    check_head(context, relative)
    absolute = webnn.MLGraph.load(
        str(folder / "head.webnn"), manifest_path=folder / "deep" / "m.json", weights_path=str(folder / "deep/blob.bin")
    )
    check_head(context, absolute)


def test_bfloat16_in_safetensors_becomes_float32(folder: Path, context: webnn.MLContext) -> None:
    half = (W.view(np.uint32) >> 16).astype(np.uint16)
    safetensors_file(folder / "model.safetensors", "BF16", [3, 2], half.tobytes())
    b = context.create_graph_builder()
    x = b.input("x", [1, 3])
    wide = (half.astype(np.uint32) << 16).view(F32).reshape(3, 2)
    expected = context.compute(b.build({"y": b.matmul(x, b.constant(wide))}), {"x": X})["y"]
    text = HEAD[: HEAD.index("    h  = add")] + "  } outputs { h0; } }"
    (folder / "head.webnn").write_text(text, encoding="utf-8")
    assert (context.compute(webnn.MLGraph.load(folder / "head.webnn"), {"x": X})["h0"] == expected).all()


def test_options_as_other_writers_have_them(context: webnn.MLContext, tmp_path: Path) -> None:
    (tmp_path / "g.webnn").write_text(
        """webnn_graph "g" v 2 {
          inputs { x: f32[1, 2, 4, 4]; s: f32[2]; i: i64[1]; empty: f32[1] ; }
          consts { w: f32[3, 2, 3, 3] @scalar(0.5); b: f32[3] @scalar(-1e0); }
          nodes {
            conv = conv2d(x, w, b, padding=[1, 1, 1, 1], strides=[], dilations=null, groups=1,
                          inputLayout="", label="c");
            named = conv2d(x, w, bias=b, pads=[1, 1, 1, 1]);
            same = equal(conv, named);
            pool = globalAveragePool(x, layout="nchw");
            flat = squeeze(pool, axes=[-1, -2]);
            high = unsqueeze(flat, axes=[0]);
            norm = instanceNormalization(x, s, hasScale=false, hasBias=true);
            dims = shape(x);
            cast0 = cast(dims, to="float32");
            cast1 = cast(dims, dataType="int32");
            low = clamp(x, minValue="-Infinity", maxValue=0);
            any = logicalNot(x);
            mean = reduceMean(x, axes=[2, 3], keepDimensions=true);
            best = argMax(x, axis=1);
            flipped = transpose(s, permutation=[]);
            up = resample2d(x, sizes=[8, 8], scales=[], axes=[]);
            picked = gather(x, i, axis=-4, batchDimensions=0);
          }
          outputs { conv same; pool; high, norm; dims; cast0; cast1; low; any; mean; best; flipped; up; picked; }
        }""",
        encoding="utf-8",
    )
    graph = webnn.MLGraph.load(tmp_path / "g.webnn")
    assert graph.get_input_names() == ["x", "s", "i", "empty"]
    x = np.linspace(-1, 1, 32, dtype=F32).reshape(1, 2, 4, 4)
    r = context.compute(graph, {"x": x, "s": [1, 2], "i": [0]})
    assert r["same"].all() and r["same"].shape == (1, 3, 4, 4)
    assert r["high"].shape == (1, 1, 2)
    plain = (x - x.mean((2, 3), keepdims=True)) / np.sqrt(x.var((2, 3), keepdims=True) + F32(1e-5))
    np.testing.assert_allclose(r["norm"], plain + np.array([1, 2], F32)[:, None, None], rtol=1e-4)
    assert (r["dims"].tolist(), r["dims"].dtype) == ([1, 2, 4, 4], np.int64)
    assert (r["cast0"].dtype, r["cast1"].dtype, r["best"].dtype) == (F32, np.int32, np.int32)
    assert (r["low"] == np.minimum(x, 0)).all() and (r["picked"] == x).all()
    assert r["up"].shape == (1, 2, 8, 8) and r["flipped"].tolist() == [1, 2] and not r["any"].any()


def test_layer_normalization_without_axes(context: webnn.MLContext, tmp_path: Path) -> None:
    (tmp_path / "g.webnn").write_text(
        """webnn_graph "g" v1 {
          inputs { x: f32[2, 2, 3]; }
          consts { s: f32[3] @scalar(2); }
          nodes { last = layerNormalization(x, scale=s, epsilon=1e-05); rest = layerNormalization(x); }
          outputs { last; rest; }
        }""",
        encoding="utf-8",
    )
    x = np.arange(12, dtype=F32).reshape(2, 2, 3) ** 2
    results = context.compute(webnn.MLGraph.load(tmp_path / "g.webnn"), {"x": x})
    for name, axes, scale in (("last", (2,), 2), ("rest", (1, 2), 1)):
        plain = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + F32(1e-5))
        np.testing.assert_allclose(results[name], scale * plain, rtol=1e-4, atol=1e-6)


def test_json_of_pywebnn(context: webnn.MLContext, tmp_path: Path) -> None:
    record = {
        "format": "webnn-graph-json",
        "version": 1,
        "inputs": {"lhs": {"dataType": "float32", "shape": [2]}},
        "consts": {
            "operand_1": {"dataType": "float32", "shape": [2], "init": {"kind": "inlineBytes", "bytes": ONES}},
            "half": {"dataType": "float16", "shape": [2], "init": {"kind": "scalar", "value": 0.5}},
        },
        "nodes": [
            {"id": "op_0", "op": "add", "inputs": ["lhs", "operand_1"], "options": {"label": ""}, "outputs": ["sum"]},
            {"id": "wide", "op": "cast", "inputs": ["half"], "options": {"to": "float32"}},
            {
                "id": "op_2",
                "op": "batchNormalization",
                "inputs": ["sum", "operand_1", "wide"],
                "options": {"kind": "BatchNormalization", "axis": 0, "epsilon": 0.5, "scale": 1, "bias": None},
                "outputs": ["normal"],
            },
            {"id": "c", "op": "constant", "inputs": [], "options": {"dataType": "int8", "shape": [3], "data": "AQL/"}},
        ],
        "outputs": {"out": "normal", "again": "normal", "c": "c"},
    }  # fmt: skip
    (tmp_path / "g.json").write_text(json.dumps(record), encoding="utf-8")
    results = context.compute(webnn.MLGraph.load(tmp_path / "g.json"), {"lhs": [3, 5]})
    assert results["out"].tolist() == results["again"].tolist() == [3, 5]
    assert (results["c"].tolist(), results["c"].dtype) == ([1, 2, -1], np.int8)


# -- what is saved


@pytest.mark.parametrize("data_type", list(DataType))
@pytest.mark.parametrize("weights", ["inline", "manifest", "safetensors"])
@pytest.mark.parametrize("notation", ["json", "text"])
def test_every_data_type(data_type: DataType, weights: Any, notation: Any, context: Any, tmp_path: Path) -> None:
    path = tmp_path / "g.webnn"
    if data_type.bits < 8:
        array = np.arange(5, dtype=np.int8).reshape(1, 5) + (-3 if data_type is DataType.INT4 else 11)
        b = context.create_graph_builder()
        packed = b.constant(array, data_type=data_type.value)
        zero = b.constant(np.zeros((1, 1), np.int8), data_type=data_type.value)
        output = b.dequantize_linear(packed, b.constant(np.ones((1, 1), F32)), zero)
        expected, feeds = array.astype(F32), {}
    else:
        info: Any = np.finfo(data_type.numpy) if data_type.is_float else np.iinfo(data_type.numpy)
        array = np.array([[info.min, info.max, 1]], data_type.numpy)
        b = context.create_graph_builder()
        condition = b.input("condition", [1, 3], "uint8")
        output = b.where_(condition, b.constant(array), b.constant(np.zeros((1, 3), data_type.numpy)))
        expected, feeds = array * np.array([1, 1, 0], data_type.numpy), {"condition": np.array([[1, 1, 0]])}
    graph = b.build({"out": output})
    if data_type.bits < 8 and weights == "safetensors":
        with pytest.raises(OSError, match=f"cannot hold {data_type}"):
            graph.save(path, format=notation, weights=weights)
        return
    graph.save(path, format=notation, weights=weights)
    names = {"inline": set(), "manifest": {"g.weights", "g.manifest.json"}, "safetensors": {"g.safetensors"}}
    assert {entry.name for entry in tmp_path.iterdir()} == {"g.webnn"} | names[weights]
    result = context.compute(webnn.MLGraph.load(path), feeds)["out"]
    assert result.dtype == expected.dtype
    assert result.tobytes() == expected.tobytes()


def test_the_json_is_what_pywebnn_writes(context: webnn.MLContext, tmp_path: Path) -> None:
    b = context.create_graph_builder()
    x, bias = b.input("x", [1, 2, 4, 4]), b.constant(np.zeros(3, F32))
    y = b.conv2d(x, b.constant(np.ones((3, 2, 1, 1), F32)), bias=bias)
    b.build({"out": b.arg_max(y, 1), "x": x}).save(str(tmp_path / "g.webnn"), True)
    record = json.loads((tmp_path / "g.webnn").read_text("utf-8"))
    assert [record[key] for key in ("format", "version", "name", "quantized")] == ["webnn-graph-json", 2, "graph", True]
    assert record["inputs"] == {"x": {"dataType": "float32", "shape": [1, 2, 4, 4]}}
    init = {"kind": "inlineBytes", "bytes": [0] * 12}
    assert {"dataType": "float32", "shape": [3], "init": init} in record["consts"].values()
    conv, best = record["nodes"]
    assert (conv["op"], conv["inputs"][0], len(conv["inputs"])) == ("conv2d", "x", 2)
    assert conv["options"]["bias"] in record["consts"]
    assert conv["options"]["padding"] == [0, 0, 0, 0] and conv["options"]["inputLayout"] == "nchw"
    assert (best["op"], best["id"], best["options"]) == (
        "argMax", "out", {"axis": 1, "keepDimensions": False, "outputDataType": "int64"},
    )  # fmt: skip
    assert record["outputs"] == {"out": "out", "x": "x"}


def test_names_that_the_text_cannot_hold(context: webnn.MLContext, tmp_path: Path) -> None:
    for name in ("a b", "layer.0", "größe", "1st"):
        b = context.create_graph_builder()
        graph = b.build({"y": b.relu(b.input(name, [2]))})
        with pytest.raises(OSError, match="no identifier of the text notation"):
            graph.save(tmp_path / "g.webnn", format="text", weights="manifest")
        assert list(tmp_path.iterdir()) == []
        graph.save(tmp_path / "g.json")
        assert webnn.MLGraph.load(tmp_path / "g.json").get_input_names() == [name]
        (tmp_path / "g.json").unlink()
    b = context.create_graph_builder()
    graph = b.build({"x": b.relu(b.input("x", [2]))})  # a result under the name of an input
    with pytest.raises(OSError, match="one name for both"):
        graph.save(tmp_path / "g.webnn", format="text")
    graph.save(tmp_path / "g.json")
    assert context.compute(webnn.MLGraph.load(tmp_path / "g.json"), {"x": [-1, 2]})["x"].tolist() == [0, 2]
    with pytest.raises(ValueError, match="format is 'json' or 'text'"):
        graph.save(tmp_path / "g", format="yaml")  # type: ignore[arg-type]


def structure(graph: Graph) -> list[Any]:
    """Everything that a file must keep, with operands as numbers in order of appearance."""
    numbers: dict[int, int] = {}

    def key(value: Any) -> Any:
        return [key(v) for v in value] if isinstance(value, tuple) else numbers.setdefault(id(value), len(numbers))

    return [
        (
            node.op,
            {name: key(value) for name, value in node.inputs.items()},
            {name: repr(value) for name, value in node.attributes.items()},
            node.label,
            [(o.data_type, o.shape, key(o)) for o in node.outputs],
        )
        for node in graph.nodes
    ]


def round_trip(graph: Graph, write: Callable[[Any], str], read: Callable[[str], Any]) -> None:
    loaded, inputs, _ = from_file(read(write(to_file(graph, graph.inputs, {}))))
    assert structure(loaded) == structure(graph)
    assert (list(loaded.outputs), list(inputs)) == (list(graph.outputs), list(graph.inputs))
    for ours, theirs in zip(graph.constants, loaded.constants, strict=True):
        assert (ours.descriptor, ours._data.tobytes()) == (theirs.descriptor, theirs._data.tobytes())


def test_the_vectors_of_all_operators_survive_both_notations() -> None:
    folder = shared_folder() if shared_folder().is_dir() else OWN_FOLDER

    def size(case: Case) -> int:
        return sum(int(np.prod(spec["shape"])) for spec in case.test["graph"]["inputs"].values())

    found = [case for case in cases(folder) if size(case) < 100_000]
    for case in found:
        graph, _ = build(case.test)
        round_trip(graph, write_json, read_json)
        if all(re.fullmatch(r"[\w/]+", name, re.ASCII) for name in (*graph.inputs, *graph.outputs)):
            round_trip(graph, write_text, read_text)
    assert len(found) > (3700 if folder == shared_folder() else 50)


# -- damaged weights


def edit(folder: Path, **changes: Any) -> None:
    path = folder / "head.manifest.json"
    manifest = json.loads(path.read_text("utf-8"))
    manifest["tensors"]["layer.W"] |= changes
    path.write_text(json.dumps(manifest), encoding="utf-8")


def drop_tensor(folder: Path) -> None:
    path = folder / "head.manifest.json"
    path.write_text(path.read_text("utf-8").replace("layer.W", "other"), encoding="utf-8")


def big_endian(folder: Path) -> None:
    path = folder / "head.manifest.json"
    path.write_text(path.read_text("utf-8").replace('"little"', '"big"'), encoding="utf-8")


def two_alike(folder: Path) -> None:
    path = folder / "head.manifest.json"
    manifest = json.loads(path.read_text("utf-8"))
    entry = manifest["tensors"].pop("layer.W")
    manifest["tensors"] = {"layer.W.": entry, "layer::W": entry, "layer_W_": entry, "layer__W": entry}
    path.write_text(json.dumps(manifest), encoding="utf-8")


def wrong_safetensors(folder: Path, dtype: str, shape: list[int]) -> None:
    safetensors_file(folder / "head.safetensors", dtype, shape, bytes(24))


DAMAGE = {
    "no blob": (lambda f: (f / "head.weights").unlink(), r"no weights file \(model.safetensors, head.safetensors"),
    "no manifest": (lambda f: (f / "head.manifest.json").unlink(), "no manifest file .*; give manifest_path"),
    "short blob": (lambda f: (f / "head.weights").write_bytes(bytes(9)), "'layer_W': bytes 5..29.*has 9; trunc"),
    "empty blob": (lambda f: (f / "head.weights").write_bytes(b""), "has 0; truncated"),
    "broken manifest": (lambda f: (f / "head.manifest.json").write_text("{"), "no weights manifest: JSONDecodeError"),
    "no tensors": (lambda f: (f / "head.manifest.json").write_text("{}"), "is no weights manifest: KeyError"),
    "no tensor": (drop_tensor, "has no tensor 'layer.W'"),
    "big endian": (big_endian, "big-endian"),
    "shape": (lambda f: edit(f, shape=[2, 3]), "constant 'layer_W' is .*3, 2.* in the graph, .*2, 3"),
    "data type": (lambda f: edit(f, dataType="int32"), "constant 'layer_W' is .*float32.*int32"),
    "length": (lambda f: edit(f, byteLength=20), "20 bytes of data, but float32"),
    "offset": (lambda f: edit(f, byteOffset="x"), "tensor 'layer.W'"),
    "safetensors damaged": (lambda f: (f / "model.safetensors").write_bytes(b"12345"), "no safetensors file, or trunc"),
    "safetensors shape": (lambda f: wrong_safetensors(f, "F32", [2, 3]), r"shape \[3, 2\] in the graph"),
    "safetensors data type": (lambda f: wrong_safetensors(f, "I32", [3, 2]), "float32 in the graph, I32"),
}  # fmt: skip


@pytest.mark.parametrize(("damage", "words"), DAMAGE.values(), ids=DAMAGE)
def test_damaged_weights(damage: Callable[[Path], Any], words: str, folder: Path) -> None:
    damage(folder)
    with pytest.raises(OSError, match=words):
        webnn.MLGraph.load(folder / "head.webnn")


def test_files_that_are_not_there(folder: Path) -> None:
    with pytest.raises(FileNotFoundError):
        webnn.MLGraph.load(folder / "nothing.webnn")
    with pytest.raises(OSError, match=r"weights file .*absent.* does not exist"):
        webnn.MLGraph.load(folder / "head.webnn", weights_path="absent.weights")
    (folder / "binary.webnn").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(OSError, match="is no graph file"):
        webnn.MLGraph.load(folder / "binary.webnn")


def test_looking_inside_a_graph(folder: Path) -> None:
    graph = webnn.MLGraph.load(folder / "head.webnn")
    assert (graph.operand_count, graph.operation_count) == (10, 5)
    assert "f" in graph.debug_operand(0) and "not found" in graph.debug_operand(99)
    assert (graph.count_empty_shapes(), graph.count_scalar_constants(), graph.count_unknown_shapes()) == (1, 1, 0)
    assert graph.count_unknown_shapes_excluding_scalar_ops() == 0
    assert graph.debug_unknown_shapes() == graph.debug_unknown_shapes_structured() == []
    assert repr(graph) == "MLGraph(operands=10, operations=5)"
