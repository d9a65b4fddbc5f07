"""Damaged graph files, in both notations: each error names the file, the place and what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import pynn.compat.webnn as webnn


def text(nodes: str = "y = relu(x);", rest: str = "outputs { y; } }") -> str:
    return f'webnn_graph "g" v2 {{\n inputs {{ x: f32[2, 3]; }}\n nodes {{\n {nodes}\n }}\n {rest}'


BAD_TEXT = {
    "empty": ("", "expected 'webnn_graph', got the end"),
    "no graph": ("hello", "line 1, column 1: expected 'webnn_graph', got 'hello'"),
    "truncated in a block": (text()[:40], "got the end of the file"),
    "truncated in a string": ('webnn_graph "g', "line 1, column 13: unexpected character"),
    "not closed": (text(rest="outputs { y; }"), "got the end of the file"),
    "more after the end": (text() + " }", "expected end"),
    "version": ('webnn_graph "g" v9 { }', "version 9"),
    "no version": ('webnn_graph "g" { }', "expected ident"),
    "wrong version": ('webnn_graph "g" version { }', "expected a version"),
    "block": ('webnn_graph "g" v1 { stuff { } }', "expected inputs, consts, nodes or outputs, got 'stuff'"),
    "data type": ('webnn_graph "g" v1 { inputs { x: f64[1]; } }', "unknown data type 'f64'; one of: f32"),
    "dimension": ('webnn_graph "g" v1 { inputs { x: f32[0]; } }', "column 37: input 'x'.*dimension 0"),
    "half a dimension": ('webnn_graph "g" v1 { inputs { x: f32[1.5]; } }', "expected an integer"),
    "dynamic": ('webnn_graph "g" v1 { inputs { x: f32[dyn("batch", 8), 2]; } }', "'batch' is dynamic"),
    "input twice": ('webnn_graph "g" v1 { inputs { x: f32[1]; x: f32[1]; } }', "input 'x' is declared twice"),
    "constant twice": ('webnn_graph "g" v1 { consts { x: f32[1]; x: f32[1]; } }', "constant 'x' is declared twice"),
    "annotation": ('webnn_graph "g" v1 { consts { c: f32[1] @magic(1); } }', "unknown annotation @magic"),
    "byte": ('webnn_graph "g" v1 { consts { c: u8[1] @bytes([256]); } }', "0..255"),
    "bytes without a comma": ('webnn_graph "g" v1 { consts { c: u8[2] @bytes([1 2]); } }', "commas between"),
    "too few bytes": (
        'webnn_graph "g" v1 { consts { c: f32[2] @bytes([1, 2]); } outputs { c; } }',
        "constant 'c': 2 bytes of data, but float32.2. takes 8",
    ),
    "unknown operator": (text("y = rellu(x);"), "line 4: node 'y' .rellu.: .* unknown; did you mean 'relu'"),
    "unknown option": (text("y = softmax(x, axes=1);"), "the option 'axes' is unknown; known: axis, label"),
    "missing argument": (text("y = reshape(x);"), "line 4: node 'y' .reshape.: newShape missing"),
    "no operand": (text("y = add(x);"), "1 operands given; it takes a, b"),
    "too many operands": (text("y = relu(x, x);"), "2 operands given; it takes input"),
    "number as operand": (text("y = add(x, 1);"), "line 4, column 13: add: expected an operand or name=value, got '1'"),
    "not declared": (text("y = add(x, later); later = relu(x);"), "operand 'later' is not declared before it"),
    "option not declared": (text("y = layerNormalization(x, scale=w);"), "scale: operand 'w' is not declared"),
    "name taken": (text("x = relu(x); y = relu(x);"), "the name 'x' is already taken"),
    "results": (text("[y, z] = relu(x);"), "has 1 results, but 2 names"),
    "refused by the builder": (text("y = softmax(x, axis=2);"), "line 4: node 'y' .softmax.: softmax: axis"),
    "axis too low": (text("y = softmax(x, axis=-3);"), "axis"),
    "wrong number": (text('y = clamp(x, minValue="low");'), "minValue: expected a number, got 'low'"),
    "no value": (text("y = softmax(x, axis=;);"), "expected a value, got ';'"),
    "character": (text("y = relu(x) & x;"), "line 4, column 14: unexpected character '&'"),
    "no outputs": (text(rest="}"), "the graph has no outputs"),
    "unknown output": (text(rest="outputs { z; } }"), "output 'z': operand 'z' is not declared"),
    "no name": (text("[] = relu(x);"), "needs a name"),
    "constant node": (text('y = constant(dataType="int8", shape=[1], data="!");'), "base64"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "words"), BAD_TEXT.values(), ids=BAD_TEXT)
def test_bad_text(content: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "bad.webnn").write_text(content, encoding="utf-8")
    with pytest.raises(OSError, match=words) as caught:
        webnn.MLGraph.load(tmp_path / "bad.webnn")
    assert str(caught.value).startswith("bad.webnn: ")


def good_json() -> dict[str, Any]:
    return {
        "format": "webnn-graph-json",
        "version": 2,
        "inputs": {"x": {"dataType": "float32", "shape": [2]}},
        "consts": {"c": {"dataType": "float32", "shape": [1], "init": {"kind": "scalar", "value": 1}}},
        "nodes": [{"id": "y", "op": "add", "inputs": ["x", "c"], "options": {}}],
        "outputs": {"y": "y"},
    }


def changed(path: str, value: Any) -> str:
    record = good_json()
    *way, last = path.split("/")
    place: Any = record
    for step in way:
        place = place[int(step) if step.isdecimal() else step]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return json.dumps(record)


BAD_JSON = {
    "truncated": (json.dumps(good_json())[:90], "not valid JSON, or truncated.*column"),
    "another format": (changed("format", "onnx"), '"format" must be'),
    "version": (changed("version", 3), "version 3"),
    "version type": (changed("version", "2"), "version must be of type int"),
    "no inputs": (changed("inputs", ...), "member inputs is missing"),
    "no nodes": (changed("nodes", ...), "member nodes is missing"),
    "nodes": (changed("nodes", {}), "nodes must be of type list"),
    "node": (changed("nodes", ["y"]), r"nodes\[0\] must be an object"),
    "no shape": (changed("inputs/x", {"dataType": "float32"}), "inputs.x.shape is missing"),
    "data type": (changed("inputs/x/dataType", "float99"), "inputs.x: unknown data type 'float99'"),
    "dynamic": (changed("inputs/x/shape", [{"name": "n", "maxSize": 2}]), "dimension 'n' is dynamic"),
    "init": (changed("consts/c/init/kind", "magic"), "kind 'magic' is unknown"),
    "null": (changed("consts/c/init", None), "consts.c.init is null"),
    "scalar": (changed("consts/c/init/value", [1]), "expected a number"),
    "bytes": (changed("consts/c/init", {"kind": "inlineBytes", "bytes": [1, 999]}), "0..255"),
    "few bytes": (changed("consts/c/init", {"kind": "inlineBytes", "bytes": [1, 2]}), "2 bytes of data"),
    "operator": (changed("nodes/0/op", "conv3d"), "node 'y' .conv3d.: the operator is unknown; did you mean 'conv2d'"),
    "names": (changed("nodes/0/inputs", ["x", 1]), r"nodes\[0\].inputs must be names"),
    "not declared": (changed("nodes/0/inputs", ["x", "z"]), "operand 'z' is not declared"),
    "outputs": (changed("outputs", {}), "no outputs"),
    "output": (changed("outputs", {"y": "z"}), "output 'y': operand 'z'"),
    "numbered operand": (
        changed("nodes", [{"id": "y", "op": "gemm", "inputs": ["x", "c"], "options": {"c": 7}}]),
        "c is operand number 7 of the program that saved the file",
    ),
    "no weights file": (changed("consts/c/init", {"kind": "weights", "ref": "c"}), "beside it is no weights file"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "words"), BAD_JSON.values(), ids=BAD_JSON)
def test_bad_json(content: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "bad.webnn").write_text(content, encoding="utf-8")
    with pytest.raises(OSError, match=words):
        webnn.MLGraph.load(tmp_path / "bad.webnn")
