"""Contexts, tensors, dispatch and the awaitable face, as code for pywebnn uses them."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import weakref
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pynn
import pynn.compat.webnn as webnn

pytestmark = pytest.mark.ort

F32 = np.float32
X = np.array([[1, 2, 3], [4, 5, 6]], F32)


@pytest.fixture
def context() -> webnn.MLContext:
    return webnn.ML().create_context(power_preference="default", accelerated=False)


def sum_graph(context: webnn.MLContext, data_type: str = "float32") -> webnn.MLGraph:
    """z = x + y, [2, 3]."""
    b = context.create_graph_builder()
    return b.build({"z": b.add(b.input("x", [2, 3], data_type), b.input("y", [2, 3], data_type))})


PROGRAM = """
import sys
sys.path.insert(0, {source!r})
import pynn.compat.webnn
sys.modules["webnn"] = pynn.compat.webnn

import numpy as np
import webnn
from webnn import MLGraph

ml = webnn.ML()
context = ml.create_context(device_type="cpu")
builder = context.create_graph_builder()
x = builder.input("x", [1, 4], "float32")
w = builder.constant(np.arange(8, dtype=np.float32).reshape(4, 2), [4, 2], "float32")
h = builder.relu(builder.add(builder.matmul(x, w), builder.constant(np.array([0.5, -100.0], dtype=np.float32))))
graph = builder.build({{"output": h}})
graph.save("graph.webnn")
again = MLGraph.load("graph.webnn")
for g in (graph, again):
    print(context.compute(g, {{"x": np.ones((1, 4), dtype=np.float32)}})["output"].tolist())
"""


def test_code_for_pywebnn_runs_unchanged(tmp_path: Path) -> None:
    program = PROGRAM.format(source=str(Path(pynn.__file__).parent.parent))
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.split("\n")[:2] == ["[[12.5, 0.0]]"] * 2


# -- contexts


def test_what_a_context_says(context: webnn.MLContext) -> None:
    assert (context.power_preference, context.accelerated) == ("default", False)
    info = context.backend_info()
    assert (info["backend"], info["name"]) == ("onnx", "onnxruntime")
    assert "onnxruntime" in repr(context)
    assert webnn.ML().create_context("low-power", False, "auto", "onnx").power_preference == "low-power"
    assert not webnn.ML().create_context(backend="onnx").accelerated


@pytest.mark.parametrize(
    "wishes", [{"device_type": "quantum"}, {"backend": "abacus"}, {"power_preference": "plenty", "device_type": "cpu"}]
)
def test_unknown_words_are_value_errors(wishes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wishes.values()))):
        webnn.ML().create_context(**wishes)


def test_back_ends_that_pynn_lacks_are_runtime_errors() -> None:
    with pytest.raises(RuntimeError, match="no back end 'coreml'"):
        webnn.ML().create_context(backend="coreml")


def test_limits_have_the_names_of_the_spec(context: webnn.MLContext) -> None:
    limits = context.op_support_limits()
    assert limits["preferredInputLayout"] in ("nchw", "nhwc")
    assert limits["maxTensorByteLength"] > 0
    for key in ("input", "constant", "output"):
        assert {"float32", "float16", "int64", "uint8"} <= set(limits[key]["dataTypes"])
        assert 0 == limits[key]["rankRange"]["min"] < limits[key]["rankRange"]["max"]
    for name, operands in {
        "add": ("a", "b", "output"),
        "convTranspose2d": ("input", "filter", "bias", "output"),
        "averagePool2d": ("input", "output"),
        "batchNormalization": ("input", "mean", "variance", "scale", "bias", "output"),
        "gatherND": ("input", "indices", "output"),
        "lstm": ("input", "weight", "recurrentWeight", "peepholeWeight"),
    }.items():
        assert set(operands) <= set(limits[name])
    assert "float16" in limits["relu"]["input"]["dataTypes"]


def test_a_graph_does_not_keep_its_context_nor_the_other_way_round() -> None:
    context = webnn.ML().create_context(accelerated=False)
    graph = sum_graph(context)
    gone = weakref.ref(graph)
    del graph
    gc.collect()
    assert gone() is None
    graph, gone_context = sum_graph(context), weakref.ref(context)
    del context
    gc.collect()
    assert gone_context() is None
    assert graph.get_output_names() == ["z"]


# -- compute


def test_inputs_are_converted_and_extra_ones_passed_over(context: webnn.MLContext) -> None:
    graph = sum_graph(context, "int64")
    results = context.compute(graph, {"x": [[1, 2, 3]] * 2, "y": np.full((2, 3), 2.0), "unknown": 3})
    assert results["z"].dtype == np.int64
    assert results["z"].tolist() == [[3, 4, 5]] * 2


def test_outputs_that_fit_are_filled(context: webnn.MLContext) -> None:
    graph = sum_graph(context)
    mine, wrong = np.zeros((2, 3), F32), np.zeros((6,), np.float64)
    assert context.compute(graph, {"x": X, "y": X}, {"z": mine})["z"] is mine
    assert (mine == 2 * X).all()
    assert (context.compute(graph, {"x": X, "y": X}, {"z": wrong})["z"] == 2 * X).all()
    assert not wrong.any()


@pytest.mark.parametrize(
    ("inputs", "words"),
    [({"x": X}, "y"), ({"x": X, "y": X[0]}, "y"), ({"x": X, "y": "words"}, "input 'y': .* no numbers")],
)
def test_wrong_inputs_are_value_errors(inputs: Any, words: str, context: webnn.MLContext) -> None:
    with pytest.raises(ValueError, match=words):
        context.compute(sum_graph(context), inputs)
    with pytest.raises(ValueError, match="expected an MLGraph"):
        context.compute(None, inputs)  # type: ignore[arg-type]


def test_a_graph_runs_in_any_context(context: webnn.MLContext) -> None:
    graph, other = sum_graph(context), webnn.ML().create_context(accelerated=False)
    assert (other.compute(graph, {"x": X, "y": X})["z"] == 2 * X).all()


def test_threads_share_one_compilation(context: webnn.MLContext) -> None:
    graph, other = sum_graph(context), webnn.ML().create_context(accelerated=False)
    results: list[Any] = []
    threads = [
        threading.Thread(target=lambda: results.append(other.compute(graph, {"x": X, "y": X})["z"])) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4 and all((result == 2 * X).all() for result in results)
    assert len(other._graphs) == 1


# -- tensors


def test_tensors(context: webnn.MLContext) -> None:
    tensor = context.create_tensor([2, 3], "int64")
    assert (tensor.shape, tensor.data_type, tensor.size) == ([2, 3], "int64", 6)
    assert (tensor.readable, tensor.writable, tensor.exportable_to_gpu) == (True, True, False)
    assert not context.read_tensor(tensor).any()
    context.write_tensor(tensor, [[1, 2, 3], [4, 5, 2**62]])
    assert context.read_tensor(tensor).tolist() == [[1, 2, 3], [4, 5, 2**62]]
    context.write_tensor(tensor, np.arange(6.0))
    assert context.read_tensor(tensor).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert "shape=[2, 3], dtype=int64" in repr(tensor)
    tensor.destroy()
    assert "destroyed" in repr(tensor)


def test_tensor_errors(context: webnn.MLContext) -> None:
    closed = context.create_tensor([2], "float32", readable=False, writable=False)
    with pytest.raises(RuntimeError, match="not readable"):
        context.read_tensor(closed)
    with pytest.raises(RuntimeError, match="not writable"):
        context.write_tensor(closed, [1, 2])
    opened = context.create_host_tensor([2], "float32")
    with pytest.raises(ValueError, match="Shape mismatch"):
        context.write_tensor(opened, [1, 2, 3])
    opened.destroy()
    with pytest.raises(RuntimeError, match="already destroyed"):
        opened.destroy()
    for action in (lambda: context.read_tensor(opened), lambda: context.write_tensor(opened, [1, 2])):
        with pytest.raises(RuntimeError, match="destroyed"):
            action()
    with pytest.raises(ValueError, match="unknown data type"):
        context.create_tensor([2], "bfloat16")
    with pytest.raises(ValueError, match="dimension"):
        context.create_tensor([0], "float32")


@pytest.mark.parametrize(("data_type", "low", "high"), [("int4", -8, 7), ("uint4", 0, 15)])
def test_four_bit_tensors(data_type: str, low: int, high: int, context: webnn.MLContext) -> None:
    tensor = context.create_host_tensor([3], data_type)
    context.write_tensor(tensor, [low, high, 1])
    found = context.read_tensor(tensor)
    assert (tensor.data_type, found.tolist(), found.dtype.itemsize) == (data_type, [low, high, 1], 1)
    for wrong in (low - 1, high + 1):
        with pytest.raises(ValueError, match=f"{data_type} values must be in"):
            context.write_tensor(tensor, np.array([wrong, 0, 0]))
    assert context.create_tensor([1], "int8", exportable_to_gpu=True).exportable_to_gpu


def test_resizing(context: webnn.MLContext) -> None:
    tensor = context.create_tensor([2, 2], "float32")
    context.set_tensor_capacity(tensor, [4, 2])
    context.resize_tensor(tensor, [3, 2])
    assert (tensor.shape, context.read_tensor(tensor).shape) == ([3, 2], (3, 2))
    with pytest.raises(ValueError, match="capacity"):
        context.resize_tensor(tensor, [5, 2])
    with pytest.raises(ValueError, match="less than"):
        context.set_tensor_capacity(tensor, [1, 1])


def test_dispatch(context: webnn.MLContext) -> None:
    graph = sum_graph(context)
    x, y, z = (context.create_tensor([2, 3], "float32") for _ in range(3))
    context.write_tensor(x, X)
    context.write_tensor(y, 10 * X)
    context.dispatch(graph, {"x": x, "y": y}, {"z": z})
    assert (context.read_tensor(z) == 11 * X).all()


def test_dispatch_takes_a_tensor_twice_and_in_place(context: webnn.MLContext) -> None:
    graph = sum_graph(context)
    x, z = (context.create_tensor([2, 3], "float32", readable=True) for _ in range(2))
    context.write_tensor(x, X)
    context.dispatch(graph, {"x": x, "y": x}, {"z": z})
    assert (context.read_tensor(z) == 2 * X).all()
    context.dispatch(graph, {"x": x, "y": z}, {"z": x})
    assert (context.read_tensor(x) == 3 * X).all()


def test_dispatch_passes_over_what_the_graph_does_not_need(context: webnn.MLContext) -> None:
    b = context.create_graph_builder()
    x, unused = b.input("x", [2, 3]), b.input("unused", [1])
    graph = b.build({"negative": b.neg(x), "double": b.add(x, x)})
    assert graph.get_input_names() == ["x", "unused"]
    assert unused.shape == [1]
    source, target = context.create_tensor([2, 3], "float32"), context.create_tensor([2, 3], "float32")
    context.write_tensor(source, X)
    context.dispatch(graph, {"x": source, "unused": context.create_tensor([1], "float32")}, {"double": target})
    assert (context.read_tensor(target) == 2 * X).all()


def test_dispatch_errors(context: webnn.MLContext) -> None:
    graph = sum_graph(context)
    good, small = context.create_tensor([2, 3], "float32"), context.create_tensor([2], "float32")
    with pytest.raises(ValueError, match="lack 'y'"):
        context.dispatch(graph, {"x": good}, {"z": context.create_tensor([2, 3], "float32")})
    with pytest.raises(ValueError, match="graph has float32"):
        context.dispatch(graph, {"x": good, "y": small}, {"z": context.create_tensor([2, 3], "float32")})
    with pytest.raises(ValueError, match="must be an MLTensor"):
        context.dispatch(graph, {"x": good, "y": X}, {})  # type: ignore[dict-item]
    small.destroy()
    with pytest.raises(RuntimeError, match=r"'y'.*destroyed"):
        context.dispatch(graph, {"x": good, "y": small}, {})


def test_device_tensors_of_older_pywebnn(context: webnn.MLContext) -> None:
    graph = sum_graph(context)
    x, z = (context.create_device_tensor(graph, [2, 3], "float32") for _ in range(2))
    x.write(X)
    for _ in range(3):  # the roles of the two change
        context.dispatch(graph, {"x": x, "y": x}, {"z": z})
        x, z = z, x
    assert (x.read() == 8 * X).all()
    assert x.device == "cpu"
    assert "MLDeviceTensor(shape" in repr(x)


# -- the awaitable face


def test_async_context(context: webnn.MLContext) -> None:
    async def use() -> Any:
        wrapped = webnn.AsyncMLContext(context)
        b = wrapped.create_graph_builder()
        graph = b.build({"y": b.neg(b.input("x", [2, 3]))})
        x, y = wrapped.create_tensor([2, 3], "float32"), wrapped.create_tensor([2, 3], "float32")
        await wrapped.write_tensor_async(x, X)
        await wrapped.dispatch(graph, {"x": x}, {"y": y})
        assert (wrapped.compute(graph, {"x": X})["y"] == -X).all()
        wrapped.write_tensor(x, X)
        assert (wrapped.read_tensor(x) == X).all()
        assert (wrapped.accelerated, wrapped.power_preference) == (False, "default")
        return await wrapped.read_tensor_async(y)

    assert (asyncio.run(use()) == -X).all()


# -- other formats and the hub


def test_onnx_is_written(context: webnn.MLContext, tmp_path: Path) -> None:
    context.convert_to_onnx(sum_graph(context), str(tmp_path / "sum.onnx"))
    assert (pynn.compile(tmp_path / "sum.onnx", backend="onnxruntime").run({"x": X, "y": X})["z"] == 2 * X).all()
    with pytest.raises(RuntimeError, match="Core ML"):
        context.convert_to_coreml(sum_graph(context), str(tmp_path / "sum.mlmodel"))


class _Server(BaseHTTPRequestHandler):
    files: dict[str, bytes]

    def do_GET(self) -> None:
        content = self.files.get(self.path.partition("?")[0])
        self.send_response(404 if content is None else 200)
        self.end_headers()
        self.wfile.write(content or b"")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (the name of the base class)
        pass


def test_hub(context: webnn.MLContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    b = context.create_graph_builder()
    graph = b.build({"y": b.add(b.input("x", [2, 3]), b.constant(X))})
    graph.save(tmp_path / "model.webnn", format="text", weights="manifest")
    folder = "/someone/model/resolve/main/"
    _Server.files = {
        folder + "model.webnn": (tmp_path / "model.webnn").read_bytes(),
        folder + "model.weights": (tmp_path / "model.weights").read_bytes(),
        folder + "manifest.json": (tmp_path / "model.manifest.json").read_bytes(),
    }
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        hub = webnn.Hub(tmp_path / "cache")
        found = hub.download_model("someone/model")
        loaded = webnn.MLGraph.load(found["graph"], found["manifest"], found["weights"])
        assert (context.compute(loaded, {"x": X})["y"] == 2 * X).all()
        _Server.files = {}
        assert hub.download_model("someone/model") == found
        with pytest.raises(RuntimeError, match="404"):
            hub.download_model("someone/model", force=True)
        assert hub.list_cached_models() == ["someone/model"]
        Path(found["graph"]).write_text("webnn_graph", encoding="utf-8")
        with pytest.raises(RuntimeError, match="damaged"):
            hub.download_model("someone/model")
        for wrong in ("model", "../x", "a/b/c", "a/.."):
            with pytest.raises(ValueError, match="no model's name"):
                hub.download_model(wrong)
        hub.clear_cache("someone/model")
        assert hub.list_cached_models() == []
        hub.clear_cache()
        assert hub.list_cached_models() == []
    finally:
        server.shutdown()
        server.server_close()
