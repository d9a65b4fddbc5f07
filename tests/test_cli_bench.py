"""``pynn bench``: what it prints, its JSON, its plot, its errors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import pynn
from pynn.benchmark import interleave
from pynn.cli import main

pytestmark = pytest.mark.ort


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interleave, "WARM_UP_SECONDS", 0)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    b = pynn.GraphBuilder()
    x = b.input("x", [4, 8], "float32")
    return pynn.to_onnx(b.finish({"y": b.matmul(x, b.constant(np.ones((8, 2), "f")))})).save(tmp_path / "net.onnx")


def bench(model: Path, *arguments: object) -> int:
    return main(["bench", str(model), "--iterations", "5", "--backend", "onnxruntime", *map(str, arguments)])


def test_for_people(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(model) == 0
    out, err = capsys.readouterr()
    assert "pynn on ONNX Runtime CPU" in out
    assert "median" in out and "p99" in out
    assert "is the fastest" in out.splitlines()[-1]
    assert "skipped: torch: " in err


def test_json_and_plot(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    plot = tmp_path / "plot.svg"
    assert bench(model, "--json", "--plot", plot, "--backends", "pynn,onnxruntime-cpu") == 0
    out, err = capsys.readouterr()
    record = json.loads(out)
    assert err == ""
    assert record["model"] == "net.onnx"
    assert [entry["name"] for entry in record["entries"]] == ["pynn", "onnxruntime-cpu"]
    assert set(record["entries"][0]["latency_us"]) >= {"min", "median", "mean", "p90", "p95", "p99", "max"}
    assert record["environment"]["onnxruntime"]
    assert b"<svg" in plot.read_bytes()[:600]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--plot", "x.gif"), 2, "must end in .svg, .png, .pdf"),
        (("--backends", "cuda"), 2, "backends must be some of pynn"),
        (("--shapes", "n=3"), 2, "neither an input nor a symbolic dimension"),
        (("--backends", "torch"), 4, "nothing could be timed"),
    ],
)
def test_errors(
    model: Path, arguments: tuple[str, ...], code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench(model, *arguments) == code
    assert words in capsys.readouterr().err


def test_a_missing_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", str(tmp_path / "nowhere.onnx")]) == 2
    assert "nowhere.onnx" in capsys.readouterr().err
