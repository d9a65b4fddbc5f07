"""What the real libraries' parsers say without a GPU, and ``pynn inspect --partition``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from onnx import TensorProto, helper

import pynn
from pynn import EngineBuildError, UnsupportedModelError
from pynn.backends.partition_ask import ParserBackend, foresee_partition
from pynn.backends.partition_search import partition
from pynn.backends.trt import TensorRTBackend
from pynn.backends.trt_probe import Verdict, probe_cache
from pynn.cli import main
from pynn.graph import Operand
from pynn.native import Library

from ..native.models import model_of, tiny
from .partition_fakes import ORT, RealParser, agree, arrays_of, graph_of, in_parts, lower, run_whole
from .trt_fakes import FakeDevice

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


# -- partitioning by a real library that builds, and ONNX Runtime in the GPU's place


def deep_reshape(b: pynn.GraphBuilder) -> dict[str, Operand]:
    """Nine dimensions in the middle: TensorRT takes eight."""
    x = b.input("x", [2, 2, 2, 3, 32], "float32")
    y = b.sin(x, label="before")
    y = b.reshape(y, [2, 1, 2, 1, 2, 1, 3, 1, 32], label="to nine")
    y = b.transpose(y, permutation=[8, 7, 6, 5, 4, 3, 2, 1, 0], label="turn")
    y = b.reshape(y, [96, 8], label="back")
    return {"y": b.matmul(y, b.constant(np.eye(8, dtype=np.float32)), label="after")}


@pytest.mark.trt
def test_nine_dimensions_on_real_libraries(trt_library: Library) -> None:
    graph = graph_of(deep_reshape)
    made = in_parts(graph, RealParser(trt_library))
    assert [one.label for one in made.report.left_out] == ["to nine", "turn", "back"]
    assert [(part.backend, list(part.operators)) for part in made.report.parts] == [
        ("tensorrt", ["sin"]),
        ("onnxruntime", ["reshape", "transpose"]),
        ("tensorrt", ["matmul"]),
    ]
    assert "dimensions" in made.report.left_out[0].reason
    assert made.executable is not None
    agree(graph, made.executable)


@pytest.mark.trt
def test_nine_dimensions_at_the_entrance(newest_library: Library) -> None:
    """The library complains of an input and names no node; so does every part that begins with such a value."""

    def build(b: pynn.GraphBuilder) -> dict[str, Operand]:
        x = b.input("x", [1, 2, 1, 2, 1, 2, 1, 2, 3], "float32")
        y = b.sin(b.reshape(x, [4, 12], label="flat"))
        return {"y": b.cos(y), "z": b.reshape(y, [1, 2, 1, 2, 1, 2, 1, 2, 3], label="deep")}

    graph = graph_of(build)
    made = in_parts(graph, RealParser(newest_library))
    assert [one.label for one in made.report.left_out] == ["flat", "deep"]
    assert [list(part.operators) for part in made.report.parts] == [["reshape"], ["sin", "cos"], ["reshape"]]
    assert made.executable is not None
    agree(graph, made.executable)


def bare(backend: Any, graph: pynn.Graph) -> pynn.OnnxModel:
    """Without TensorRT's passes, so that there is something to refuse."""
    return pynn.to_onnx(graph) if backend.name == "tensorrt" else lower(backend, graph)


@pytest.mark.trt
def test_refusals_of_the_bare_library(trt_library: Library) -> None:
    """Without the passes there is much to refuse: each is found, though the parser stops at the first."""

    def build(b: pynn.GraphBuilder) -> dict[str, Operand]:
        x = b.input("x", [64], "float32")
        table = b.constant(np.random.default_rng(1).standard_normal((64, 64), np.float32))
        y = b.softmax(b.matmul(b.reshape(x, [1, 64]), table), 1, label="two dimensions")
        y = b.softmax(b.reshape(y, [64]), 0, label="one dimension")
        k = b.cast(b.relu(y), "uint8")
        return {"y": b.tanh(y), "k": b.add(k, k, label="bytes")}

    graph, backend = graph_of(build), RealParser(trt_library)
    with pytest.raises(UnsupportedModelError) as caught:
        backend.compile(bare(backend, graph), pynn.CompileOptions())
    made = partition(graph, backend, ORT, bare, pynn.CompileOptions(), caught.value, min_work=0)
    reasons = {one.label: one.reason for one in made.report.left_out}
    assert set(reasons) == {"one dimension", "bytes"}
    assert "at least 2 dimensions are required" in reasons["one dimension"]
    assert made.executable is not None
    assert [part.backend for part in made.report.parts] == ["tensorrt", "onnxruntime", "tensorrt", "onnxruntime"]
    agree(graph, made.executable)


@pytest.mark.trt
def test_refusals_of_the_builder(trt_library: Library) -> None:
    """The parser takes all of it. One error of the build names no node of pynn's, another one names the wrong one."""

    def build(b: pynn.GraphBuilder) -> dict[str, Operand]:
        rng = np.random.default_rng(0)
        wide = b.cast(b.sin(b.input("x", [5, 1, 8], "float16"), label="mentioned"), "float32", label="widen")
        weights = [b.constant(rng.standard_normal(shape, np.float32)) for shape in ((1, 12, 8), (1, 12, 4))]
        state = b.gru(wide, *weights, 5, 4, label="after a cast")[0]
        kernel = b.constant(np.ones((2, 3, 3, 3), np.float32))
        image = b.input("image", [1, 2, 6, 6], "float32")
        image = b.conv_transpose2d(image, kernel, strides=[2, 2], dilations=[2, 2], label="strided and dilated")
        return {"state": b.tanh(state), "image": b.relu(image)}

    graph, backend = graph_of(build), RealParser(trt_library)
    with pytest.raises(EngineBuildError) as caught:
        backend.compile(bare(backend, graph), pynn.CompileOptions())
    made = partition(graph, backend, ORT, bare, pynn.CompileOptions(), caught.value, min_work=0)
    assert [one.label for one in made.report.left_out] == ["after a cast", "strided and dilated"]
    assert "Deconv" in made.report.left_out[1].reason
    assert [list(part.operators) for part in made.report.parts] == [
        ["sin", "cast"],
        ["gru", "convTranspose2d"],
        ["tanh", "relu"],
    ]
    assert made.executable is not None
    arrays = arrays_of(graph.inputs)
    np.testing.assert_allclose(made.executable.run(arrays)["image"], run_whole(graph, arrays)["image"], rtol=1e-5)


@pytest.mark.trt
def test_the_back_end_asks_with_the_gpus_context_current(
    newest_library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered: list[int] = []

    class Device(FakeDevice):
        @contextmanager
        def current(self) -> Iterator[None]:
            entered.append(1)
            yield

    probe = pynn.Probe("tensorrt", "real", True, "here", details={"version": newest_library.info.version})
    verdict = Verdict(probe, newest_library, newest_library.info, cast(Any, Device()))
    monkeypatch.setattr(probe_cache, "verdicts", lambda directory, device, **_: (verdict,))
    backend, options = TensorRTBackend(), pynn.CompileOptions()
    backend.check(pynn.to_onnx(graph_of(lambda b: {"y": b.sin(b.input("x", [2], "float32"))})), options)
    with pytest.raises(UnsupportedModelError, match="dimensions") as caught:
        backend.check(pynn.to_onnx(graph_of(deep_reshape)), options)
    assert caught.value.node == "to nine/reshape_0/Reshape"
    assert entered == [1, 1]
    monkeypatch.setattr(probe_cache, "verdicts", lambda directory, device, **_: ())
    with pytest.raises(pynn.BackendUnavailableError):
        backend.check(tiny(), options)
