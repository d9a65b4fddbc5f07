"""What the real libraries' parsers say without a GPU, and ``pynn inspect --partition``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

import pynn
from pynn.backends.partition_ask import ParserBackend, foresee_partition
from pynn.cli import main
from pynn.graph import Operand
from pynn.native import Library

from ..native.models import model_of, tiny
from .partition_fakes import graph_of

CODE = """
import pynn

def graph():
    b = pynn.GraphBuilder()
    x = b.input("x", [512, 512], "float32")
    y = b.reshape(b.sin(x, label="first"), [2, 4, 4, 4, 4, 8, 8, 2, 4], label="to nine")
    return b.finish({"y": b.cos(b.reshape(y, [512, 512], label="back"), label="last")})

def easy():
    b = pynn.GraphBuilder()
    return b.finish({"y": b.sin(b.input("x", [2], "float32"))})
"""


def refused_file() -> pynn.OnnxModel:
    nodes = [
        helper.make_node("Sin", ["x"], ["a"], name="fine"),
        helper.make_node("StringConcat", ["a", "a"], ["y"], name="strange"),
    ]
    return model_of(nodes, {"x": (TensorProto.FLOAT, [4])}, {"y": (TensorProto.FLOAT, [4])})


@pytest.mark.trt
def test_graphs(trt_library: Library) -> None:
    def build(b: pynn.GraphBuilder) -> dict[str, Operand]:
        x = b.sin(b.input("x", [512, 512], "float32"), label="first")
        table = b.constant(np.zeros((512, 512), np.float32))
        deep = b.reshape(b.add(x, table), [2, 4, 4, 4, 4, 8, 8, 2, 4], label="to nine")
        return {"y": deep, "z": b.matmul(x, table)}

    report = foresee_partition(graph_of(build), trt_library)
    assert [one.name for one in report.left_out] == ["reshape 'to nine'"]
    assert "Number of dimensions (9)" in report.left_out[0].reason or "dimensions" in report.left_out[0].reason
    assert [(part.backend, part.size) for part in report.parts] == [("tensorrt", 3), ("onnxruntime", 1)]
    easy = foresee_partition(graph_of(lambda b: {"y": b.sin(b.input("x", [2], "float32"))}), trt_library)
    assert str(easy) == "not partitioned: the whole runs on tensorrt"


@pytest.mark.trt
def test_files(trt_library: Library) -> None:
    assert foresee_partition(tiny(), trt_library).parts[0].backend == "tensorrt"
    report = foresee_partition(refused_file(), trt_library)
    assert not report.is_partitioned and report.parts[0].backend == "onnxruntime"
    assert [one.name for one in report.left_out] == ["StringConcat 'strange'"]
    assert report.left_out[0].reason
    assert "1 nodes are in parts that the parser takes" in report.note


@pytest.mark.trt
def test_the_parser_alone_runs_nothing(newest_library: Library) -> None:
    backend = ParserBackend(newest_library)
    assert backend.version() == newest_library.info.version
    with pytest.raises(pynn.FeatureNotSupportedError):
        backend.compile(tiny(), pynn.CompileOptions())


@pytest.fixture
def inspect(capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*arguments: object) -> tuple[int, str]:
        code = main(["inspect", *map(str, arguments)])
        return code, capsys.readouterr().out

    return run


def test_inspect_a_graph_in_python_code(tmp_path: Path, inspect: Any) -> None:
    (tmp_path / "model_a.py").write_text(CODE)
    code, out = inspect(f"{tmp_path / 'model_a.py'}:graph", "--json")
    record = json.loads(out)
    assert code == 0
    assert record["kind"] == "webnn"
    assert record["operators"] == {"reshape": 2, "sin": 1, "cos": 1}
    assert record["inputs"] == [{"name": "x", "data_type": "float32", "shape": [512, 512]}]
    assert "partition" not in record


@pytest.mark.trt
def test_inspect_names_what_is_left_out(tmp_path: Path, newest_folder: Path, inspect: Any) -> None:
    (tmp_path / "model_b.py").write_text(CODE)
    how = ("--partition", "--tensorrt-library", newest_folder)
    code, out = inspect(f"{tmp_path / 'model_b.py'}:graph", *how)
    assert code == 0
    for words in ("3 parts", "0 tensorrt: sin", "1 onnxruntime: 2xreshape", "left out: reshape 'to nine':", "'back'"):
        assert words in out
    code, out = inspect(f"{tmp_path / 'model_b.py'}:graph", *how, "--json")
    record = json.loads(out)["partition"]
    assert [part["backend"] for part in record["parts"]] == ["tensorrt", "onnxruntime", "tensorrt"]
    assert [one["label"] for one in record["left_out"]] == ["to nine", "back"]
    assert "the whole runs on tensorrt" in inspect(f"{tmp_path / 'model_b.py'}:easy", *how)[1]
    path = refused_file().save(tmp_path / "refused.onnx")
    code, out = inspect(path, *how)
    assert code == 0
    assert "left out: StringConcat 'strange':" in out and "ONNX files are not partitioned" in out


def test_inspect_without_a_library(tmp_path: Path, inspect: Any) -> None:
    code, out = inspect(tiny().save(tmp_path / "tiny.onnx"), "--partition", "--tensorrt-library", tmp_path, "--json")
    assert code != 0
    assert json.loads(out)["error"]["type"] == "LibraryNotFoundError"
