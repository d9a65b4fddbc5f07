"""``pynn.bench`` on ONNX Runtime and on fakes."""

from __future__ import annotations

import builtins
import json
import sys
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pynn
from pynn.benchmark import interleave, peers_ort, run
from pynn.benchmark.report import BenchReport, Entry, judge
from pynn.benchmark.summary import Summary
from pynn.errors import BackendUnavailableError, FeatureNotSupportedError, ValidationError

from . import fakes

pytestmark = [pytest.mark.ort, pytest.mark.filterwarnings("ignore::pynn.FallbackWarning")]


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interleave, "WARM_UP_SECONDS", 0)


@pytest.fixture
def graph() -> pynn.Graph:
    b = pynn.GraphBuilder()
    return b.finish({"y": b.relu(b.matmul(b.input("x", [4, 8], "float32"), b.constant(np.ones((8, 2), "f"))))})


def test_a_graph_is_timed_on_all_that_is_here(graph: pynn.Graph) -> None:
    report = pynn.bench(graph, iterations=20, backend="onnxruntime")
    names = [entry.name for entry in report.entries]
    assert names[:2] == ["pynn", "onnxruntime-cpu"]
    assert set(names) | set(report.skipped) >= set(run.BACKENDS)
    assert "no torch.nn.Module" in report.skipped["torch"]
    for entry in report.entries:
        assert entry.latency.count >= 20
        assert entry.throughput == pytest.approx(1e6 / entry.latency.mean)
        assert entry.seconds["ready"] > 0
    assert report["onnxruntime-cpu"].relative_error == 0
    assert report.inputs == {"x": "float32[4, 8]"}
    assert report.environment["numpy"] == np.__version__
    with pytest.raises(KeyError, match=r"no torch\.nn\.Module"):
        report["torch"]


def test_a_report_is_json_and_markdown(graph: pynn.Graph) -> None:
    report = pynn.bench(graph, iterations=5, backends=["pynn"], backend="onnxruntime")
    record = json.loads(json.dumps(report.to_dict()))
    assert record["entries"][0]["latency_us"]["count"] == report.entries[0].latency.count
    assert record["settings"]["iterations"] == 5
    assert record["settings"]["options"] == {"backend": "onnxruntime", "cache": "False"}
    text = report.to_markdown()
    assert str(report) == text
    assert "| pynn on ONNX Runtime CPU |" in text
    assert text.splitlines()[-1] == report.verdict


def test_given_inputs_shapes_and_peers(tmp_path: Path) -> None:
    b = pynn.GraphBuilder()
    x = b.input("x", [3], "float32")
    graph = b.finish({"y": b.add(x, x)})
    closed: list[str] = []

    class Peer:
        def __init__(self, executable: pynn.Executable) -> None:
            assert executable.backend == "onnxruntime"

        def __call__(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
            return {"y": inputs["x"] * 2.5}

        def close(self) -> None:
            closed.append("peer")

    def broken(executable: pynn.Executable) -> Any:
        raise RuntimeError("no luck")

    report = pynn.bench(
        graph,
        inputs={"x": np.ones(3, np.float32)},
        backends=["pynn"],
        backend="onnxruntime",
        iterations=3,
        peers={"by hand": Peer, "broken": broken},
    )
    assert report["by hand"].relative_error == pytest.approx(0.25)
    assert report.skipped["broken"] == "RuntimeError: no luck"
    assert closed == ["peer"]


def test_symbols_get_the_best_size_of_their_range(tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    spec = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in "xy"]
    proto = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", spec[:1], spec[1:])
    path = tmp_path / "relu.onnx"
    onnx.save(helper.make_model(proto, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
    report = pynn.bench(path, shapes={"n": (1, 4, 8)}, iterations=2, backend="onnxruntime")
    assert report.model == "relu.onnx"
    assert report.inputs == {"x": "float32[4, 2]"}
    assert report["onnxruntime-cpu"].relative_error == 0


@pytest.mark.parametrize("shapes", [{"batch": (1, 4, 8)}, [{"batch": (4, 4, 4)}, {"batch": (8, 8, 8)}]])
def test_named_dimensions_of_a_graph_get_the_best_of_the_first_profile(shapes: Any) -> None:
    b = pynn.GraphBuilder()
    graph = b.finish({"y": b.relu(b.input("x", ["batch", 2], "float32"))})
    report = pynn.bench(graph, shapes=shapes, iterations=2, backend="onnxruntime")
    assert report.inputs == {"x": "float32[4, 2]"}
    assert report["onnxruntime-cpu"].relative_error == 0


def test_an_executable_is_timed_and_left_open() -> None:
    executable = fakes.FakeExecutable()
    report = pynn.bench(executable, iterations=3)
    (entry,) = report.entries
    assert entry.title == "pynn on TensorRT for RTX 1.6.1"
    assert entry.seconds["context"] == 3.25
    assert "give the model itself" in report.skipped["onnxruntime-cpu"]
    json.dumps(report.to_dict())
    executable.run({"x": np.zeros(4, np.float32)})


def test_on_a_gpu_the_floor_and_map_are_beside(clock: fakes.Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "open_gpu", lambda index: fakes.Device(clock))
    with fakes.FakeExecutable(clock) as executable:
        report = pynn.bench(executable, iterations=3)
    (entry,) = report.entries
    assert set(entry.device) == {"enqueue", "h2d", "compute", "d2h", "floor", "mapped"}
    assert report.floor is not None and report.floor.median == pytest.approx(7)
    assert entry.device["h2d"].median == entry.device["d2h"].median == pytest.approx(2)
    assert entry.mapped_throughput is not None and entry.mapped_throughput > 0
    assert "7.0 compute, 4.0 copies" in report.verdict
    assert entry.gpu_memory_bytes == 256
    assert report.to_dict()["floor_us"]["median"] == pytest.approx(7)
    assert clock.open == 0


def test_options_of_a_compilation_are_refused_for_what_is_compiled() -> None:
    with pytest.raises(ValidationError, match="an Executable is compiled already; precision has no effect"):
        pynn.bench(fakes.FakeExecutable(), precision="fp16")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"backends": ["cpu"]}, "backends must be some of pynn, onnxruntime-cpu"),
        ({"backends": []}, "backends must be some of"),
        ({"seconds": 0}, "seconds must be a positive number"),
        ({"iterations": 0}, "iterations must be a positive integer"),
        ({"iterations": 1.5}, "iterations must be a positive integer"),
        ({"iterations": 1, "seconds": 1}, "seconds or iterations, not both"),
        ({"shapes": {"z": 1}}, "neither an input nor a symbolic dimension"),
        ({"shapes": "4"}, "shapes must map names to sizes"),
        ({"backend": "metal"}, "backend"),
    ],
)
def test_bad_arguments(graph: pynn.Graph, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        pynn.bench(graph, **arguments)


def test_nothing_to_time_is_an_error_with_every_reason(graph: pynn.Graph) -> None:
    with pytest.raises(BackendUnavailableError, match=r"torch: the model is no torch\.nn\.Module"):
        pynn.bench(graph, backends=["torch"])


@pytest.mark.parametrize(
    ("latency", "device", "verdict"),
    [
        (12.0, {"floor": 3.0, "h2d": 1.0, "d2h": 1.0}, "launch-bound: of 12.0 us, 3.0 compute, 2.0 copies, 7.0 launch"),
        (210.0, {"floor": 195.0, "h2d": 5.0, "d2h": 1.0}, "compute-bound: of 210.0 us, 195.0 compute, 6.0 copies"),
        (100.0, {"floor": 10.0, "h2d": 60.0, "d2h": 20.0}, "copy-bound: of 100.0 us, 10.0 compute, 80.0 copies"),
    ],
)
def test_the_verdict_names_what_takes_most(latency: float, device: dict[str, float], verdict: str) -> None:
    assert judge(latency, device).startswith(verdict)
    assert judge(latency, {}) == ""


def report_with_floor() -> BenchReport:
    device = {name: Summary.of([value]) for name, value in (("enqueue", 4), ("h2d", 5), ("compute", 196), ("d2h", 1))}
    device |= {"floor": Summary.of([195.0]), "mapped": Summary.of([198.0])}
    fast = Entry("pynn", "pynn on TensorRT", Summary.of([205.0, 207.0]), device, {"ready": 4.0, "context": 3.2})
    return BenchReport("net", {}, (fast, Entry("a", "A", Summary.of([400.0]))), {"b": "gone"}, {}, {})


def test_device_times_are_in_the_table() -> None:
    report = report_with_floor()
    assert report.floor is not None and report.floor.median == 195
    text = report.to_markdown()
    assert "| pynn on TensorRT | 4.0 | 5.0 | 196.0 | 1.0 | 195.0 | 198.0 |" in text
    assert report["pynn"].mapped_throughput == pytest.approx(1e6 / 198)
    assert "- skipped: b: gone" in text
    assert report.verdict.startswith("pynn on TensorRT: compute-bound: of 206.0 us")
    assert report.verdict.endswith("1.06 x the floor")


@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_plots(tmp_path: Path, suffix: str) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / f"plot.{suffix}"
    report_with_floor().plot(path)
    start = path.read_bytes()[:600]
    assert b"<svg" in start if suffix == "svg" else start.startswith(b"\x89PNG")


def test_a_plot_without_matplotlib_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def no_matplotlib(name: str, *arguments: Any) -> Any:
        if name.split(".")[0] == "matplotlib":
            raise ImportError("No module named 'matplotlib'")
        return real(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", no_matplotlib)
    with pytest.raises(FeatureNotSupportedError, match=r"pip install 'pynn\[bench\]'"):
        report_with_floor().plot(tmp_path / "plot.svg")
    with pytest.raises(ValidationError, match=r"\.svg, \.png, \.pdf"):
        report_with_floor().plot(tmp_path / "plot.gif")


# -- ONNX Runtime's plug-in provider, without one


class FakeOrt(types.SimpleNamespace):
    """Of onnxruntime, what plug-ins need; sessions run ``y = x``."""

    def __init__(self, refused: tuple[str, ...] = ()) -> None:
        super().__init__(__version__="1.30.0", SessionOptions=FakeSettings)
        self.registered: list[tuple[str, str]] = []
        self.refused = refused

    def register_execution_provider_library(self, name: str, path: str) -> None:
        self.registered.append((name, path))

    def get_ep_devices(self) -> list[Any]:
        return [types.SimpleNamespace(ep_name=name) for name, _ in self.registered]

    def InferenceSession(self, source: bytes, settings: FakeSettings) -> Any:  # noqa: N802
        assert settings.entries["session.disable_cpu_ep_fallback"] == "1"
        if set(settings.provider) & set(self.refused):
            raise RuntimeError(f"unknown option {self.refused}")
        return types.SimpleNamespace(
            run=lambda names, feed: list(feed.values()), get_providers=lambda: ["NvTensorRTRTXExecutionProvider"]
        )


class FakeSettings:
    def __init__(self) -> None:
        self.entries: dict[str, str] = {}
        self.provider: dict[str, str] = {}

    def add_session_config_entry(self, key: str, value: str) -> None:
        self.entries[key] = value

    def add_provider_for_devices(self, devices: list[Any], options: dict[str, str]) -> None:
        assert len(devices) == 1
        self.provider = options


@pytest.fixture
def identity() -> pynn.OnnxModel:
    b = pynn.GraphBuilder()
    return pynn.to_onnx(b.finish({"y": b.identity(b.input("x", [2], "float32"))}))


@pytest.mark.parametrize(("refused", "notes"), [((), ("enable_cuda_graph=1",)), (("enable_cuda_graph",), ())])
def test_the_plug_in_is_registered_once_and_options_it_lacks_are_left_out(
    identity: pynn.OnnxModel, monkeypatch: pytest.MonkeyPatch, refused: tuple[str, ...], notes: tuple[str, ...]
) -> None:
    ort = FakeOrt(refused)
    monkeypatch.setitem(sys.modules, "onnxruntime", ort)  # type: ignore[arg-type]
    monkeypatch.setenv(peers_ort.PLUGIN_VARIABLE, "/opt/libplugin.so")
    x = {"x": np.ones(2, np.float32)}
    for _ in range(2):
        contestant = peers_ort.contestant(peers_ort.RTX, identity, x, 0)
        assert contestant.notes == notes
        np.testing.assert_array_equal(contestant.call(x)["y"], x["x"])
    assert ort.registered == [("NvTensorRTRTXExecutionProvider", "/opt/libplugin.so")]
    with pytest.raises(BackendUnavailableError, match="there is no GPU 3"):
        peers_ort.contestant(peers_ort.RTX, identity, x, 3)


def test_a_plug_in_that_is_missing_says_where_it_was_looked_for(
    identity: pynn.OnnxModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", FakeOrt())  # type: ignore[arg-type]
    monkeypatch.delenv(peers_ort.PLUGIN_VARIABLE, raising=False)
    monkeypatch.setitem(sys.modules, "onnxruntime_ep_nv_tensorrt_rtx", None)
    with pytest.raises(BackendUnavailableError, match=r"pip install onnxruntime-ep-nv-tensorrt-rtx.*PYNN_ORT_EP"):
        peers_ort.contestant(peers_ort.RTX, identity, {"x": np.ones(2, np.float32)}, 0)
