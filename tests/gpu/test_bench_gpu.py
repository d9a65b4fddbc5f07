"""``pynn bench`` on a real GPU: the times on the GPU, the floor, NVIDIA's binding and ONNX Runtime's provider beside.

python -m pytest tests/gpu --require=gpu
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pynn
from pynn.backends import cuda
from pynn.benchmark.device import QUANTITIES, DeviceTimer
from pynn.cli import main

pytestmark = pytest.mark.gpu

ROOT = Path(__file__).resolve().parents[2]


def graph(rows: int = 64, size: int = 512) -> pynn.Graph:
    random = np.random.default_rng(0)
    b = pynn.GraphBuilder()
    x = b.input("x", [rows, size], "float16")
    for _ in range(8):
        weight = random.standard_normal((size, size), np.float32) / np.sqrt(size)
        x = b.relu(b.matmul(x, b.constant(weight.astype(np.float16))))
    return b.finish({"y": x})


def test_a_report_has_the_floor_and_all_of_the_gpus_times() -> None:
    report = pynn.bench(graph(), backend="tensorrt", backends=["pynn", "onnxruntime-cpu"], seconds=0.3)
    entry = report["pynn"]
    assert set(entry.device) == {*QUANTITIES, "mapped"}
    assert entry.mapped_throughput is not None and entry.mapped_throughput > 0.5 * entry.throughput
    assert all(one.median > 0 for one in entry.device.values())
    assert report.floor is not None
    assert 1 < report.floor.median <= 1.1 * entry.latency.median
    assert any(word in entry.verdict for word in ("launch-bound", "copy-bound", "compute-bound"))
    assert entry.seconds["context"] > 0 and entry.seconds["build"] > 0
    assert entry.gpu_memory_bytes is not None
    assert entry.memory["weights"] > 0
    relative = report["onnxruntime-cpu"].relative_error
    assert relative is not None and relative < 2e-2
    json.dumps(report.to_dict())


def test_the_timer_sees_the_same_results_and_gives_all_back() -> None:
    x = {"x": np.random.default_rng(1).standard_normal((64, 512), np.float32).astype(np.float16)}
    with cuda.Device(cuda.discover().require(), 0) as device, pynn.compile(graph(), backend="tensorrt") as executable:
        want = executable.run(x)
        timer = DeviceTimer(executable, x, want)
        timer.close()
        before = device.free_memory()
        for _ in range(5):
            with DeviceTimer(executable, x, want) as timer:
                times = timer.sample(50)
        assert before - device.free_memory() < 4 << 20
        assert len(times["floor"]) == 1
        np.testing.assert_array_equal(executable.run(x)["y"], want["y"])


def test_an_engine_is_timed_alone() -> None:
    with pynn.compile(graph(), backend="tensorrt") as executable:
        engine = executable.engine_file  # type: ignore[attr-defined]
    report = pynn.bench(engine, seconds=0.2)
    assert [entry.name for entry in report.entries] == ["pynn"]
    assert report.floor is not None
    assert "give the model itself" in report.skipped["onnxruntime-cpu"]


def by_hand() -> Any:
    sys.path.insert(0, str(ROOT / "benchmarks" / "first_light"))
    try:
        import by_hand
    finally:
        sys.path.pop(0)
    return by_hand


@pytest.mark.parametrize("kind", ["copies", "graph", "mapped"])
def test_nvidias_binding_runs_pynns_engine(kind: str) -> None:
    if not any(importlib.util.find_spec(name) for name in ("tensorrt_rtx", "tensorrt_rtx_bindings")):
        pytest.skip("NVIDIA's Python binding of TensorRT for RTX is not installed")
    x = {"x": np.random.default_rng(1).standard_normal((64, 512), np.float32).astype(np.float16)}
    with pynn.compile(graph(), backend="tensorrt") as executable:
        want = executable.run(x)["y"]
        floor = by_hand().Floor(plan=bytes(executable.engine_file.plan), mapped=kind == "mapped")  # type: ignore[attr-defined]
        try:
            run = floor.run if kind == "copies" else floor.run_graph
            for _ in range(2):
                np.testing.assert_allclose(run(x)["y"].astype(np.float32), want.astype(np.float32), atol=2e-2)
        finally:
            floor.close()


def test_onnx_runtimes_provider_is_timed_or_named() -> None:
    report = pynn.bench(graph(), backend="tensorrt", backends=["pynn", "onnxruntime-rtx"], seconds=0.2)
    if "onnxruntime-rtx" in report.skipped:
        pytest.skip(report.skipped["onnxruntime-rtx"])
    error = report["onnxruntime-rtx"].relative_error
    assert error is not None and error < 2e-2


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = pynn.to_onnx(graph()).save(tmp_path / "net.onnx")
    arguments = ["--backend", "tensorrt", "--backends", "pynn", "--seconds", "0.2", "--json"]
    assert main(["bench", str(path), *arguments]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["floor_us"]["median"] > 1
    assert record["entries"][0]["device_us"]["compute"]["median"] > 1
    assert main(["bench", str(path), *arguments[:-1]]) == 0
    out = capsys.readouterr().out
    assert "on the GPU, medians in microseconds" in out
    assert "x the floor" in out.splitlines()[-1]
